//! What a payload can use up: each bomb ends with its name in bounded time, its small twin succeeds.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on must fail"
)]

mod support;

use std::time::{Duration, Instant};

use crusades_sandbox::{ExitCause, KEPT_BYTES, Tier};
use support::{in_each_tier, in_tiers, output, python, run, shell};

#[test]
fn all_of_this_holds_for_an_ordinary_user_too() {
    support::run_again_as_ordinary_user();
}

#[test]
fn a_fork_bomb_is_bounded_and_a_few_processes_are_not() {
    in_each_tier(|tier| {
        if tier == Tier::Three && !rustix::process::geteuid().is_root() {
            println!(
                "skipped: without namespaces a user's limit counts all of that user's processes"
            );
            return;
        }
        let script = "
import os, time
children = []
try:
    while True:
        pid = os.fork()
        if pid == 0:
            time.sleep(60)
            os._exit(0)
        children.append(pid)
except OSError as error:
    print(error.strerror, 10 < len(children) <= 40)
";
        let Some(mut request) = python(tier, script) else {
            return;
        };
        request.limits.processes = 40;
        assert_eq!(output(request), "Resource temporarily unavailable True\n");
        let mut few = shell(
            tier,
            "for i in 1 2 3 4 5; do /bin/true & done; wait; echo done",
        );
        few.limits.processes = 40;
        assert_eq!(output(few), "done\n");
    });
}

#[test]
fn a_memory_bomb_ends_as_out_of_memory_and_modest_use_does_not() {
    in_each_tier(|tier| {
        let script = "
kept = []
while True: kept.append(bytearray(b'x') * (8 << 20))
";
        let Some(mut request) = python(tier, script) else {
            return;
        };
        request.limits.memory_bytes = 200 << 20;
        assert_eq!(run(request).0, ExitCause::OutOfMemory);
        let Some(mut modest) = python(tier, "print(len(bytearray(b'x') * (64 << 20)))") else {
            return;
        };
        modest.limits.memory_bytes = 200 << 20;
        assert_eq!(output(modest), format!("{}\n", 64 << 20));
    });
}

#[test]
fn a_memory_bomb_in_a_child_counts_too() {
    in_each_tier(|tier| {
        let script = "
import os, time
for i in range(4):
    if os.fork() == 0:
        kept = bytearray(b'x') * (80 << 20)
        time.sleep(60)
time.sleep(60)
";
        let Some(mut request) = python(tier, script) else {
            return;
        };
        request.limits.memory_bytes = 200 << 20;
        assert_eq!(run(request).0, ExitCause::OutOfMemory);
    });
}

#[test]
fn memory_that_no_process_maps_cannot_hide_where_only_mapped_memory_is_seen() {
    in_tiers(&[Tier::Two], |tier| {
        let Some(request) = python(
            tier,
            "import os\ntry: os.memfd_create('x')\nexcept OSError as e: print(e.strerror)",
        ) else {
            return;
        };
        assert_eq!(output(request), "Function not implemented\n");
    });
    in_tiers(&[Tier::One], |tier| {
        let script = "import os\nf = os.memfd_create('x')\nprint('made', flush=True)\n\
                      while True: os.write(f, b'x' * (1 << 20))";
        let Some(mut request) = python(tier, script) else {
            return;
        };
        request.limits.memory_bytes = 100 << 20;
        let (cause, log) = run(request);
        assert_eq!(
            (cause, log.to_text().as_str()),
            (ExitCause::OutOfMemory, "made\n")
        );
    });
}

#[test]
fn a_log_flood_ends_as_such_and_keeps_its_two_ends() {
    in_each_tier(|tier| {
        let mut request = shell(tier, "echo first; yes the same line again and again");
        request.limits.log_bytes = 8 << 20;
        let (cause, log) = run(request);
        assert_eq!(cause, ExitCause::LogFlood);
        assert!(log.head.starts_with(b"first\nthe same"));
        assert_eq!((log.head.len(), log.tail.len()), (KEPT_BYTES, KEPT_BYTES));
        assert!(log.total_bytes > 8 << 20);
        assert!(log.total_bytes < 64 << 20, "{} bytes", log.total_bytes);
    });
}

#[test]
fn a_flood_that_ends_by_itself_is_still_a_flood() {
    in_each_tier(|tier| {
        let mut request = shell(tier, "head -c 100001 /dev/zero; exit 0");
        request.limits.log_bytes = 100_000;
        assert_eq!(run(request).0, ExitCause::LogFlood);
        let mut twin = shell(tier, "head -c 100000 /dev/zero; exit 0");
        twin.limits.log_bytes = 100_000;
        assert_eq!(run(twin).0, ExitCause::Exited(0));
    });
}

#[test]
fn a_modest_log_of_both_streams_is_kept_whole_and_in_order() {
    in_each_tier(|tier| {
        let script =
            "i=0; while [ $i -lt 1000 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done";
        let expected: String = (0..1000).map(|i| format!("out {i}\nerr {i}\n")).collect();
        assert_eq!(output(shell(tier, script)), expected);
    });
}

#[test]
fn the_log_can_be_opened_by_its_name() {
    in_tiers(&[Tier::One, Tier::Two], |tier| {
        let script = "echo one > /dev/stdout; echo two > /dev/stderr; echo three > /proc/self/fd/2";
        assert_eq!(output(shell(tier, script)), "one\ntwo\nthree\n");
    });
}

#[test]
fn full_storage_is_an_error_of_the_writer_only() {
    in_tiers(&[Tier::One, Tier::Two], |tier| {
        for folder in ["/scratch", "/tmp", "/dev/shm"] {
            let script = format!(
                "head -c 4194304 /dev/zero > {folder}/fits && echo fits; \
                 head -c 8388608 /dev/zero > {folder}/bomb || echo full"
            );
            let mut request = shell(tier, &script);
            request.limits.storage_bytes = 8 << 20;
            let printed = output(request);
            assert!(printed.starts_with("fits\n"), "{printed}");
            assert!(printed.contains("No space left on device"), "{printed}");
            assert!(printed.ends_with("full\n"), "{printed}");
        }
        let script =
            "i=0; while [ $i -lt 70000 ] && true > /tmp/$i; do i=$((i+1)); done; [ $i -lt 70000 ]";
        assert!(output(shell(tier, script)).contains("No space left on device"));
    });
}

#[test]
fn open_files_are_bounded() {
    in_each_tier(|tier| {
        let script = "
kept = []
try:
    while True: kept.append(open('/dev/null'))
except OSError as error: print(error.strerror, len(kept) < 100)
";
        let Some(mut request) = python(tier, script) else {
            return;
        };
        request.limits.open_files = 100;
        assert_eq!(output(request), "Too many open files True\n");
    });
}

/// Fills the buffers of sockets and pipes in several processes: memory that no process maps.
const BUFFER_BOMB: &str = "
import os, socket, time
print('made', flush=True)
for _ in range(3):
    if os.fork() == 0: break
kept = []
try:
    while True:
        pair = socket.socketpair()
        kept.append(pair)
        for end in pair:
            end.setblocking(False)
            try:
                while True: end.send(b'x' * 32768)
            except BlockingIOError: pass
except OSError as error: print(error.strerror, flush=True)
time.sleep(60)
";

#[test]
fn memory_in_buffers_of_sockets_counts_too_and_a_few_sockets_do_no_harm() {
    in_tiers(&[Tier::One, Tier::Two], |tier| {
        let Some(mut request) = python(tier, BUFFER_BOMB) else {
            return;
        };
        request.limits.memory_bytes = 200 << 20;
        assert_eq!(run(request).0, ExitCause::OutOfMemory);
        let few = "
import socket, time
kept = [socket.socketpair() for _ in range(50)]
for one, other in kept: one.send(b'x' * 10000)
time.sleep(0.3)
print(sum(len(other.recv(10000)) for one, other in kept))
";
        let Some(mut request) = python(tier, few) else {
            return;
        };
        request.limits.memory_bytes = 200 << 20;
        assert_eq!(output(request), "500000\n");
    });
}

#[test]
fn ten_thousand_threads_are_bounded_and_a_few_are_not() {
    in_each_tier(|tier| {
        if tier == Tier::Three && !rustix::process::geteuid().is_root() {
            println!(
                "skipped: without namespaces a user's limit counts all of that user's processes"
            );
            return;
        }
        let script = "
import threading, time
threading.stack_size(65536)
kept = 0
try:
    for _ in range(WANTED):
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        kept += 1
    print('all')
except RuntimeError: print('bounded', 50 < kept <= 200)
import os
os._exit(0)
";
        for (wanted, expected) in [("10000", "bounded True\n"), ("50", "all\n")] {
            let Some(mut request) = python(tier, &script.replace("WANTED", wanted)) else {
                return;
            };
            request.limits.processes = 200;
            assert_eq!(run_flushed(request), expected);
        }
    });
}

/// Runs a script that ends without flushing what it printed.
fn run_flushed(mut request: crusades_sandbox::SandboxRequest) -> String {
    request.arguments.insert(0, "-u".into());
    output(request)
}

#[test]
fn a_hundred_thousand_open_files_are_bounded_and_hundreds_are_not() {
    in_each_tier(|tier| {
        let script = "
kept = []
try:
    for _ in range(WANTED): kept.append(open('/dev/null'))
    print('all')
except OSError as error: print(error.strerror, len(kept) < 4096)
";
        for (wanted, expected) in [("100000", "Too many open files True\n"), ("500", "all\n")] {
            let Some(request) = python(tier, &script.replace("WANTED", wanted)) else {
                return;
            };
            assert_eq!(output(request), expected);
        }
    });
}

#[test]
fn what_hogs_every_processor_is_ended_in_bounded_time_and_the_host_is_as_before() {
    in_each_tier(|tier| {
        let mark = format!("hog-{}-{}", tier.number(), std::process::id());
        let script = format!(
            "for i in 1 2 3 4 5 6 7 8; do (while :; do :; done; : {mark}) & done; \
             echo burning; while :; do :; done"
        );
        let before = resident_bytes();
        let sandbox = support::start(shell(tier, &script));
        support::await_text(&sandbox, "burning");
        support::eventually("all of it runs", || {
            support::processes_with(&mark).len() >= 9
        });
        let burnt = || sandbox.usage(support::PATIENCE).cpu_time.expect("cpu time");
        let much = Duration::from_millis(100);
        support::eventually("it has used the processors", || burnt() >= much);
        let begin = Instant::now();
        sandbox.kill(support::PATIENCE).expect("kill");
        let took = begin.elapsed();
        assert!(took < Duration::from_secs(5), "{took:?}");
        // What was used is known after the end too.
        assert!(burnt() >= much, "{:?}", burnt());
        assert_eq!(support::processes_with(&mark), [0; 0]);
        drop(sandbox);
        let grown = resident_bytes().saturating_sub(before);
        assert!(grown < 16 << 20, "the host grew by {grown} bytes");
    });
}

/// What this process holds in memory.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.expect("a number") * 1024
}
