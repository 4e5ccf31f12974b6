//! What a payload can reach: every attack with a harmless twin that must work, in every tier.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on must fail"
)]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

use crusades_sandbox::{EmbeddedFile, ExitCause, Mount, SystemCallPolicy, Tier};
use support::{
    in_each_tier, in_tiers, open_folder, open_to_all, output, python, run, shell, start, write_open,
};

#[test]
fn all_of_this_holds_for_an_ordinary_user_too() {
    support::run_again_as_ordinary_user();
}

#[test]
fn the_host_cannot_be_reached_by_network_but_the_own_loopback_can() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let port = listener.local_addr().expect("address").port();
    let script = format!(
        "import socket\n\
         def attempt(port):\n\
         \x20   try: socket.create_connection(('127.0.0.1', port), 2); return 'connected'\n\
         \x20   except OSError as error: return error.strerror\n\
         print('host', attempt({port}))\n\
         try:\n\
         \x20   own = socket.create_server(('127.0.0.1', 0)); print('own', attempt(own.getsockname()[1]))\n\
         except OSError as error: print('own', error.strerror)\n"
    );
    in_each_tier(|tier| {
        let Some(request) = python(tier, &script) else {
            return;
        };
        let expected = if tier == Tier::Three {
            "host Operation not permitted\nown Operation not permitted\n"
        } else {
            "host Connection refused\nown connected\n"
        };
        assert_eq!(output(request), expected);
    });
    listener.set_nonblocking(true).expect("non-blocking");
    assert!(listener.accept().is_err(), "someone connected");
}

#[test]
fn abstract_sockets_of_the_host_cannot_be_reached_but_own_ones_can() {
    let name = format!("crusades-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("address");
    let _listener = UnixListener::bind_addr(&address).expect("listen");
    UnixStream::connect_addr(&address).expect("the host can connect");
    let script = format!(
        "import socket\n\
         try: socket.socket(socket.AF_UNIX).connect('\\0{name}'); print('connected')\n\
         except OSError: print('refused')\n\
         a = socket.socket(socket.AF_UNIX); a.bind('\\0mine'); a.listen()\n\
         socket.socket(socket.AF_UNIX).connect('\\0mine'); print('own')\n"
    );
    in_tiers(&[Tier::One, Tier::Two], |tier| {
        let Some(request) = python(tier, &script) else {
            return;
        };
        assert_eq!(output(request), "refused\nown\n");
    });
}

#[test]
fn files_of_the_host_are_unreadable_but_mounted_ones_are_readable() {
    let folder = open_folder();
    let (secret, shown) = (folder.path().join("secret"), folder.path().join("shown"));
    for path in [&secret, &shown] {
        fs::create_dir(path).expect("make a folder");
        open_to_all(path, 0o755);
        write_open(&path.join("file"), "contents");
    }
    let (secret, shown) = (secret.join("file"), shown);
    in_each_tier(|tier| {
        let mut request = shell(
            tier,
            &format!(
                "cat {} 2>/dev/null || echo no; cat {}/file; (echo x > {}/file) 2>/dev/null || echo no",
                secret.display(),
                shown.display(),
                shown.display()
            ),
        );
        request.mounts.push(Mount::in_place(&shown));
        assert_eq!(output(request), "no\ncontentsno\n");
    });
    in_each_tier(|tier| {
        for command in [
            "head -c 1 /etc/shadow",
            "head -c 1 /etc/hostname",
            "ls /root/.",
            "ls /var/.",
            "ls /home/.",
            "ls /sys/kernel/.",
        ] {
            assert_ne!(
                run(shell(tier, command)).0,
                ExitCause::Exited(0),
                "{command}"
            );
        }
    });
}

#[test]
fn a_folder_below_a_private_one_can_be_mounted_without_opening_the_private_one() {
    let private = tempfile::tempdir().expect("make a folder");
    open_to_all(private.path(), 0o700);
    let shown = private.path().join("shown");
    fs::create_dir(&shown).expect("make a folder");
    open_to_all(&shown, 0o755);
    write_open(&shown.join("file"), "contents");
    write_open(&private.path().join("secret"), "secret");
    in_tiers(&[Tier::One, Tier::Two], |tier| {
        let mut request = shell(tier, "cat \"$1\"/file; ls \"$1\"/..");
        request
            .arguments
            .extend(["sh".into(), shown.clone().into_os_string()]);
        request.mounts.push(Mount::in_place(&shown));
        assert_eq!(output(request), "contentsshown\n");
        let mut elsewhere = shell(tier, "cat /opt/deep/place/file");
        elsewhere.mounts.push(Mount {
            source: shown.clone(),
            target: "/opt/deep/place".into(),
        });
        assert_eq!(output(elsewhere), "contents");
    });
}

#[test]
fn a_file_by_value_is_there_and_cannot_be_changed() {
    in_each_tier(|tier| {
        let mut request = shell(
            tier,
            "cat \"$1\"; (echo x > \"$1\") 2>/dev/null || echo no; rm -f \"$1\" 2>/dev/null; cat \"$1\"",
        );
        request
            .arguments
            .extend(["sh".into(), "/worker/main.py".into()]);
        request.embedded.push(EmbeddedFile {
            target: "/worker/main.py".into(),
            contents: b"by value\n".to_vec(),
        });
        assert_eq!(output(request), "by value\nno\nby value\n");
    });
}

#[test]
fn only_the_own_folders_can_be_written() {
    let attempt = "for p in / /usr /bin /etc /dev /proc /opt /var /root; do \
                   (echo x > $p/file) 2>/dev/null && echo $p; done; ";
    in_tiers(&[Tier::One, Tier::Two], |tier| {
        let twin = "for p in . /scratch /tmp /dev/shm; do echo x > $p/file && echo $p; done";
        let printed = output(shell(tier, &format!("{attempt}{twin}")));
        assert_eq!(printed, ".\n/scratch\n/tmp\n/dev/shm\n");
        let compiled = "cp /bin/true /tmp/program && /tmp/program && echo runs";
        assert_eq!(output(shell(tier, compiled)), "runs\n");
    });
    in_tiers(&[Tier::Three], |tier| {
        let printed = output(shell(
            tier,
            &format!(
                "{attempt}for p in . /tmp /dev/shm; do (echo x > $p/file) 2>/dev/null && echo $p; done; echo x > /dev/null; echo end"
            ),
        ));
        assert_eq!(printed, "end\n");
    });
}

#[test]
fn the_environment_is_exactly_the_requested_one() {
    in_each_tier(|tier| {
        let mut request = support::request(tier, "/usr/bin/env");
        request.environment = vec![("ONLY".into(), "this = that".into())];
        assert_eq!(output(request), "ONLY=this = that\n");
        let hidden = shell(
            tier,
            "cat /proc/1/environ /proc/$PPID/environ 2>/dev/null || echo no",
        );
        assert_eq!(output(hidden), "no\n");
    });
}

#[test]
fn a_given_descriptor_works_and_all_others_are_closed() {
    // A careless descriptor of the host that would survive `execve`.
    // SAFETY: duplicating standard error touches no memory.
    let careless = unsafe { OwnedFd::from_raw_fd(libc::dup(2)) };
    assert!(careless.as_raw_fd() > 2);
    in_each_tier(|tier| {
        for number in [3, 9, 200] {
            let (mut ours, theirs) = UnixStream::pair().expect("socket pair");
            let script = format!(
                "import os\n\
                 def is_open(number):\n\
                 \x20   try: os.fstat(number); return True\n\
                 \x20   except OSError: return False\n\
                 print([number for number in range(1000) if is_open(number)])\n\
                 line = os.read({number}, 100); os.write({number}, b'got ' + line)\n"
            );
            let Some(mut request) = python(tier, &script) else {
                return;
            };
            request.inherit = vec![(theirs.into(), number)];
            let sandbox = start(request);
            ours.write_all(b"word").expect("write");
            let mut answer = String::new();
            ours.read_to_string(&mut answer).expect("read");
            assert_eq!(answer, "got word");
            support::end_of(&sandbox);
            assert_eq!(sandbox.log().to_text(), format!("[0, 1, 2, {number}]\n"));
        }
    });
}

#[test]
fn several_descriptors_come_at_their_numbers_whatever_these_are() {
    in_each_tier(|tier| {
        let mut request = shell(tier, "cat <&3; cat <&4; cat <&5");
        for (number, text) in [(5, "five"), (3, "three"), (4, "four")] {
            let (reader, mut writer) = std::io::pipe().expect("pipe");
            writer.write_all(text.as_bytes()).expect("write");
            request.inherit.push((reader.into(), number));
        }
        assert_eq!(output(request), "threefourfive");
    });
}

#[test]
fn other_processes_can_be_neither_seen_nor_signalled_but_own_ones_can() {
    let host = std::process::id();
    in_tiers(&[Tier::One, Tier::Two], |tier| {
        let script = format!(
            "kill -0 {host} 2>/dev/null && echo reached; ls -d /proc/{host} 2>/dev/null; \
             sleep 60 & kill $! && echo own"
        );
        assert_eq!(output(shell(tier, &script)), "own\n");
    });
    in_tiers(&[Tier::Three], |tier| {
        let script = format!(
            "kill -0 {host} 2>/dev/null && echo reached; cat /proc/{host}/environ 2>/dev/null; \
             sleep 60 & kill $! && echo own"
        );
        assert_eq!(output(shell(tier, &script)), "own\n");
    });
}

#[test]
fn the_payload_has_no_privileges_and_can_gain_none() {
    in_each_tier(|tier| {
        let status = output(shell(tier, "cat /proc/self/status"));
        for line in [
            "CapInh:\t0000000000000000",
            "CapPrm:\t0000000000000000",
            "CapEff:\t0000000000000000",
            "CapAmb:\t0000000000000000",
            "NoNewPrivs:\t1",
            "Seccomp:\t2",
        ] {
            assert!(status.contains(line), "{line} is missing in {status}");
        }
        assert!(!status.contains("\nUid:\t0"), "{status}");
    });
}

/// Makes each call with arguments of zero in a child of its own and prints how it ended.
const CALL_EACH: &str = "
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
for number in CALLS:
    pid = os.fork()
    if pid == 0:
        result = libc.syscall(ctypes.c_long(number), 0, 0, 0, 0, 0, 0)
        os._exit(ctypes.get_errno() if result == -1 else 0)
    status = os.waitpid(pid, 0)[1]
    print(number, -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))
";

fn call_each(tier: Tier, numbers: &[i64]) -> Option<Vec<(i64, i32)>> {
    let script = CALL_EACH.replace("CALLS", &format!("{numbers:?}"));
    let printed = output(python(tier, &script)?);
    let parse = |line: &str| {
        let (number, outcome) = line.split_once(' ').expect("two numbers");
        (
            number.parse().expect("number"),
            outcome.parse().expect("number"),
        )
    };
    Some(printed.lines().map(parse).collect())
}

#[test]
fn every_call_of_the_policy_is_answered_as_declared() {
    let policy = SystemCallPolicy::strongest();
    let groups = [
        (&policy.fatal, -libc::SIGSYS),
        (&policy.refused, libc::EPERM),
        (&policy.absent, libc::ENOSYS),
    ];
    in_each_tier(|tier| {
        for (calls, expected) in groups {
            let numbers: Vec<i64> = calls.iter().map(|call| call.number).collect();
            let Some(found) = call_each(tier, &numbers) else {
                return;
            };
            for (call, (number, outcome)) in calls.iter().zip(found) {
                assert_eq!((number, outcome), (call.number, expected), "{}", call.name);
            }
        }
        let harmless = [libc::SYS_getpid, libc::SYS_sched_yield, libc::SYS_getuid];
        let found = call_each(tier, &harmless).expect("python is there");
        assert!(found.iter().all(|(_, outcome)| *outcome == 0), "{found:?}");
    });
}

#[cfg(target_arch = "x86_64")]
#[test]
fn calls_by_other_conventions_are_fatal() {
    const X32_GETPID: i64 = 0x4000_0000 + libc::SYS_getpid;
    in_each_tier(|tier| {
        if let Some(found) = call_each(tier, &[X32_GETPID]) {
            assert_eq!(found, [(X32_GETPID, -libc::SIGSYS)]);
        }
    });
}

#[test]
fn arguments_of_calls_are_filtered_where_the_call_itself_is_needed() {
    let script = "
import ctypes, errno, os, socket
libc = ctypes.CDLL(None, use_errno=True)
def attempt(name, *arguments):
    number = {'clone': CLONE, 'socket': SOCKET, 'ioctl': IOCTL}[name]
    result = libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments))
    if name == 'clone' and result == 0: os._exit(0)
    return errno.errorcode[ctypes.get_errno()] if result == -1 else 'allowed'
for flag in [0x10000000, 0x20000, 0x20000000, 0x40000000, 0x8000000, 0x4000000, 0x2000000]:
    print(attempt('clone', flag | 17, 0, 0, 0, 0), end=' ')
print(attempt('clone', 17, 0, 0, 0, 0))
for family in [17, 40, 38, 44, 15]: print(attempt('socket', family, 2, 0), end=' ')
print(attempt('socket', 1, 1, 0))
print(attempt('ioctl', 0, 0x5412, 0), attempt('ioctl', 0, 0x541C, 0), attempt('ioctl', 0, 0x5401, 0))
";
    let script = script
        .replace("CLONE", &libc::SYS_clone.to_string())
        .replace("SOCKET", &libc::SYS_socket.to_string())
        .replace("IOCTL", &libc::SYS_ioctl.to_string());
    in_tiers(&[Tier::One, Tier::Two], |tier| {
        if let Some(request) = python(tier, &script) {
            assert_eq!(
                output(request),
                "EPERM EPERM EPERM EPERM EPERM EPERM EPERM allowed\n\
                 EPERM EPERM EPERM EPERM EPERM allowed\n\
                 EPERM EPERM ENOTTY\n"
            );
        }
    });
}
