//! The table of attacks. Each row names what it attacks, how it must be refused, and a harmless twin that
//! must succeed in the same place, so that a refusal is never a mere failure.

use std::fs::File;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::scene::{Bait, GIVEN_VARIABLE, MEMORY, VOICE};
use super::touch::{
    HIDDEN as HIDDEN_PROCESSES, WRITERS, address, call_of_another_architecture, clone,
    connect_to_abstract_socket, connect_to_named_socket, connect_to_port, create_in,
    find_descriptor, full_pipe, hide, keep_writing, list, made, make_files_without_end, overwrite,
    pipe_is_readable, print_without_end, raise_capabilities, read, run, socket, socket_pair,
    store_without_end, take_loopback_down, talk_to_oneself, wait_for_ever, write_at_home,
};
use crate::docker::RUN_SOCKET;
use crate::outcome::ExitCause;

/// Something that an attacker does.
pub(super) type Act = fn(&Bait) -> io::Result<()>;

/// One attack.
pub(super) struct Attack {
    pub(super) name: &'static str,
    /// What it attacks.
    pub(super) target: &'static str,
    pub(super) expected: Expected,
    pub(super) attempt: Act,
    pub(super) control: Control,
    /// Why it cannot be made here, if it cannot.
    pub(super) missing: Option<fn(&Bait) -> Option<&'static str>>,
}

impl Attack {
    /// Why it cannot be made here, if it cannot.
    pub(super) fn cannot_be_made(&self, bait: &Bait) -> Option<&'static str> {
        self.missing.and_then(|missing| missing(bait))
    }
}

/// How an attack must end.
#[derive(Clone, Copy)]
pub(super) enum Expected {
    /// By SIGSYS, at the call itself.
    Killed,
    /// With one of these errors.
    Errors(&'static [i32]),
    /// So.
    Ends(ExitCause),
    /// With every process gone at this moment, after so many have told that they are ready.
    Dies(Moment, usize),
    /// With shared memory unchanged while frozen, after so many have told that they write it.
    Freezes(usize),
}

impl Expected {
    /// Whether an attempt that ends so was refused as it must be. What cannot be told by an end alone is
    /// never allowed.
    pub(super) fn allows(self, end: ExitCause) -> bool {
        match self {
            Self::Killed => end == ExitCause::Signaled(libc::SIGSYS),
            Self::Errors(errors) => {
                matches!(end, ExitCause::Exited(code) if errors.contains(&code))
            }
            Self::Ends(wanted) => end == wanted,
            Self::Dies(..) | Self::Freezes(_) => false,
        }
    }
}

/// When processes must be gone.
#[derive(Clone, Copy)]
pub(super) enum Moment {
    /// When the payload has ended by itself.
    End,
    /// When it was killed.
    Kill,
    /// When it was frozen and killed.
    FrozenKill,
}

/// The harmless twin of an attack.
#[derive(Clone, Copy)]
pub(super) enum Control {
    /// What the payload can do in the same sandbox.
    Inside(Act),
    /// What the host can do: the same that the payload cannot.
    Outside(Act),
    /// The attack itself worked until the sandbox was ended or frozen.
    SeenBefore,
}

/// The path is not there, or closed.
const HIDDEN: &[i32] = &[libc::ENOENT, libc::EACCES];

/// The process is not there, or closed.
const OUT_OF_REACH: &[i32] = &[libc::ENOENT, libc::ESRCH, libc::EACCES, libc::EPERM];

/// The place is not there, or not to be written.
const UNWRITABLE: &[i32] = &[libc::ENOENT, libc::EROFS, libc::EACCES, libc::EPERM];

/// There is no more room, or none at all.
const FULL: &[i32] = &[libc::ENOSPC, libc::EROFS, libc::EACCES];

/// Nobody is there, or there are no sockets.
const NO_NETWORK: &[i32] = &[libc::ECONNREFUSED, libc::EPERM];

/// Attacks on what no backend has: name, target, reason.
pub(super) const NOT_APPLICABLE: &[(&str, &str, &str)] = &[(
    "malformed-frames",
    "worker protocol",
    "the sandbox reads nothing from its payload: its protocol is tested where it is spoken",
)];

/// A path that leads to another by way of the root.
fn dotted(path: &Path) -> PathBuf {
    let below = path.strip_prefix("/").unwrap_or(path);
    Path::new("../../../../../../../..").join(below)
}

/// Looks for a variable of the host in the own environment.
fn find_variable(bait: &Bait) -> io::Result<()> {
    let mut names = bait.variables.iter();
    match names.find(|name| *name != GIVEN_VARIABLE && std::env::var_os(name).is_some()) {
        Some(_) => Ok(()),
        None => Err(io::Error::from_raw_os_error(libc::ENOENT)),
    }
}

fn variable(name: &str) -> io::Result<()> {
    std::env::var_os(name)
        .map(drop)
        .ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))
}

/// Reading at address zero of one's own memory is allowed, and finds nothing there.
fn ignore_unmapped(error: io::Error) -> io::Result<()> {
    if error.raw_os_error() == Some(libc::EIO) {
        Ok(())
    } else {
        Err(error)
    }
}

fn without_run_folder(bait: &Bait) -> Option<&'static str> {
    (!bait.container).then_some(
        "the native backend has none: nothing of a sandbox has a path on the host's file systems",
    )
}

fn in_open_root(bait: &Bait) -> Option<&'static str> {
    bait.open_root
        .then_some("what is there is the image's, and without Landlock it can be read")
}

/// Changes names in the folder that a container shares with its supervisor.
fn race_in_run_folder() -> io::Result<()> {
    let folder = Path::new(RUN_SOCKET).parent().unwrap_or(Path::new("/"));
    std::os::unix::fs::symlink("/etc", folder.join("link"))
        .or_else(|_| std::fs::rename(RUN_SOCKET, folder.join("other")))
        .or_else(|_| std::fs::rename(folder, "/.crusades/other"))
        .or_else(|_| create_in(&[folder]))
}

fn without_setuid_program(bait: &Bait) -> Option<&'static str> {
    (!bait.setuid).then_some("only root can make a program that would make its caller root")
}

fn without_other_architectures(_: &Bait) -> Option<&'static str> {
    (!cfg!(target_arch = "x86_64")).then_some("this architecture has no second calling convention")
}

/// All attacks.
pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        name: "read-host-file",
        target: "host files",
        expected: Expected::Errors(HIDDEN),
        attempt: |bait| read(&bait.secret),
        control: Control::Inside(|bait| read(bait.shown.join("file"))),
        missing: None,
    },
    Attack {
        name: "read-password-file",
        target: "host files",
        expected: Expected::Errors(HIDDEN),
        attempt: |_| read("/etc/shadow"),
        control: Control::Inside(|bait| read(bait.shown.join("file"))),
        missing: Some(in_open_root),
    },
    Attack {
        name: "list-home-folders",
        target: "host files",
        expected: Expected::Errors(HIDDEN),
        attempt: |_| list("/root").or_else(|_| list("/home")),
        control: Control::Inside(|bait| list(&bait.shown)),
        missing: Some(in_open_root),
    },
    Attack {
        name: "list-sys",
        target: "host files",
        expected: Expected::Errors(HIDDEN),
        attempt: |_| list("/sys/kernel"),
        control: Control::Inside(|_| list("/usr")),
        missing: None,
    },
    Attack {
        name: "climb-out-by-dots",
        target: "host files",
        expected: Expected::Errors(HIDDEN),
        attempt: |bait| read(dotted(&bait.secret)),
        control: Control::Inside(|bait| read(dotted(&bait.shown.join("file")))),
        missing: None,
    },
    Attack {
        name: "climb-out-by-link",
        target: "host files",
        expected: Expected::Errors(UNWRITABLE),
        attempt: |bait| {
            std::os::unix::fs::symlink(&bait.secret, "link")?;
            read("link")
        },
        control: Control::Inside(|bait| {
            read(Path::new("/proc/self/cwd").join(dotted(&bait.shown.join("file"))))
        }),
        missing: None,
    },
    Attack {
        name: "climb-out-by-proc-root",
        target: "host files",
        expected: Expected::Errors(OUT_OF_REACH),
        attempt: |bait| read(format!("/proc/1/root{}", bait.secret.display())),
        control: Control::Inside(|_| list("/proc/self/root/usr")),
        missing: None,
    },
    Attack {
        name: "open-by-handle",
        target: "host files",
        expected: Expected::Killed,
        attempt: |_| made(libc::SYS_open_by_handle_at, &[libc::AT_FDCWD.into(), 0, 0]),
        control: Control::Inside(|bait| read(bait.shown.join("file"))),
        missing: None,
    },
    Attack {
        name: "name-to-handle",
        target: "host files",
        expected: Expected::Errors(&[libc::EPERM]),
        attempt: |_| {
            made(
                libc::SYS_name_to_handle_at,
                &[libc::AT_FDCWD.into(), address(c"/"), 0, 0, 0],
            )
        },
        control: Control::Inside(|bait| read(bait.shown.join("file"))),
        missing: None,
    },
    Attack {
        name: "own-environment",
        target: "secrets in the environment",
        expected: Expected::Errors(&[libc::ENOENT]),
        attempt: find_variable,
        control: Control::Inside(|_| variable(GIVEN_VARIABLE)),
        missing: None,
    },
    Attack {
        name: "environment-of-host-process",
        target: "secrets in the environment",
        expected: Expected::Errors(OUT_OF_REACH),
        attempt: |bait| read(format!("/proc/{}/environ", bait.victim)),
        control: Control::Inside(|_| read("/proc/self/environ")),
        missing: None,
    },
    Attack {
        name: "environment-of-first-process",
        target: "secrets in the environment",
        expected: Expected::Errors(OUT_OF_REACH),
        attempt: |_| read("/proc/1/environ"),
        control: Control::Inside(|_| read("/proc/self/environ")),
        missing: None,
    },
    Attack {
        name: "ptrace",
        target: "other processes",
        expected: Expected::Killed,
        attempt: |bait| {
            made(
                libc::SYS_ptrace,
                &[libc::PTRACE_ATTACH.into(), bait.victim.into(), 0, 0],
            )
        },
        control: Control::Inside(|_| clone(0)),
        missing: None,
    },
    Attack {
        name: "process-vm-readv",
        target: "other processes",
        expected: Expected::Errors(&[libc::EPERM]),
        attempt: |bait| {
            made(
                libc::SYS_process_vm_readv,
                &[bait.victim.into(), 0, 0, 0, 0, 0],
            )
        },
        control: Control::Inside(|_| read("/proc/self/mem").or_else(ignore_unmapped)),
        missing: None,
    },
    Attack {
        name: "process-vm-writev",
        target: "other processes",
        expected: Expected::Killed,
        attempt: |bait| {
            made(
                libc::SYS_process_vm_writev,
                &[bait.victim.into(), 0, 0, 0, 0, 0],
            )
        },
        control: Control::Inside(|_| read("/proc/self/mem").or_else(ignore_unmapped)),
        missing: None,
    },
    Attack {
        name: "process-madvise",
        target: "other processes",
        expected: Expected::Killed,
        attempt: |_| made(libc::SYS_process_madvise, &[]),
        control: Control::Inside(|_| read("/proc/self/mem").or_else(ignore_unmapped)),
        missing: None,
    },
    Attack {
        name: "memory-of-host-process",
        target: "other processes",
        expected: Expected::Errors(OUT_OF_REACH),
        attempt: |bait| File::open(format!("/proc/{}/mem", bait.victim)).map(drop),
        control: Control::Inside(|_| read("/proc/self/mem").or_else(ignore_unmapped)),
        missing: None,
    },
    Attack {
        name: "memory-of-first-process",
        target: "other processes",
        expected: Expected::Errors(OUT_OF_REACH),
        attempt: |_| File::open("/proc/1/mem").map(drop),
        control: Control::Inside(|_| read("/proc/self/mem").or_else(ignore_unmapped)),
        missing: None,
    },
    Attack {
        name: "descriptors-of-host-process",
        target: "other processes",
        expected: Expected::Errors(OUT_OF_REACH),
        attempt: |bait| read(format!("/proc/{}/fd/0", bait.victim)),
        control: Control::Inside(|_| read("/proc/self/fd/0")),
        missing: None,
    },
    Attack {
        name: "pidfd-getfd",
        target: "other processes",
        expected: Expected::Errors(&[libc::EPERM]),
        attempt: |_| made(libc::SYS_pidfd_getfd, &[0, 0, 0]),
        control: Control::Inside(|_| made(libc::SYS_pidfd_open, &[std::process::id().into(), 0])),
        missing: None,
    },
    Attack {
        name: "kcmp",
        target: "other processes",
        expected: Expected::Errors(&[libc::EPERM]),
        attempt: |_| {
            made(
                libc::SYS_kcmp,
                &[
                    std::process::id().into(),
                    std::process::id().into(),
                    0,
                    0,
                    1,
                ],
            )
        },
        control: Control::Inside(|_| made(libc::SYS_getpid, &[])),
        missing: None,
    },
    Attack {
        name: "signal-host-process",
        target: "other processes",
        expected: Expected::Errors(OUT_OF_REACH),
        attempt: |bait| made(libc::SYS_kill, &[bait.victim.into(), libc::SIGKILL.into()]),
        control: Control::Inside(|_| made(libc::SYS_kill, &[std::process::id().into(), 0])),
        missing: None,
    },
    Attack {
        name: "limit-host-process",
        target: "other processes",
        expected: Expected::Errors(OUT_OF_REACH),
        attempt: |bait| {
            made(
                libc::SYS_prlimit64,
                &[
                    bait.victim.into(),
                    libc::RLIMIT_CORE.into(),
                    address(&[0u64; 2]),
                    0,
                ],
            )
        },
        control: Control::Inside(|_| {
            made(
                libc::SYS_prlimit64,
                &[0, libc::RLIMIT_CORE.into(), address(&[0u64; 2]), 0],
            )
        }),
        missing: None,
    },
    Attack {
        name: "reprioritise-host-process",
        target: "other processes",
        expected: Expected::Errors(OUT_OF_REACH),
        attempt: |bait| {
            made(
                libc::SYS_setpriority,
                &[libc::PRIO_PROCESS.into(), bait.victim.into(), 1],
            )
        },
        control: Control::Inside(|_| made(libc::SYS_getpriority, &[libc::PRIO_PROCESS.into(), 0])),
        missing: None,
    },
    Attack {
        name: "move-host-process",
        target: "other processes",
        expected: Expected::Errors(OUT_OF_REACH),
        attempt: |bait| {
            made(
                libc::SYS_sched_setaffinity,
                &[bait.victim.into(), 8, address(&1u64)],
            )
        },
        control: Control::Inside(|_| {
            made(
                libc::SYS_sched_setaffinity,
                &[0, 128, address(&[u64::MAX; 16])],
            )
        }),
        missing: None,
    },
    Attack {
        name: "real-time-priority",
        target: "other processes",
        expected: Expected::Errors(&[libc::EPERM]),
        attempt: |_| {
            made(
                libc::SYS_sched_setscheduler,
                &[0, libc::SCHED_FIFO.into(), address(&1i32)],
            )
        },
        control: Control::Inside(|_| made(libc::SYS_sched_yield, &[])),
        missing: None,
    },
    Attack {
        name: "connect-to-host-loopback",
        target: "host network",
        expected: Expected::Errors(NO_NETWORK),
        attempt: connect_to_port,
        control: Control::Outside(connect_to_port),
        missing: None,
    },
    Attack {
        name: "connect-to-abstract-socket",
        target: "host network",
        expected: Expected::Errors(NO_NETWORK),
        attempt: connect_to_abstract_socket,
        control: Control::Outside(connect_to_abstract_socket),
        missing: None,
    },
    Attack {
        name: "connect-to-named-socket",
        target: "host network",
        expected: Expected::Errors(&[libc::ENOENT, libc::EACCES, libc::EPERM]),
        attempt: connect_to_named_socket,
        control: Control::Outside(connect_to_named_socket),
        missing: None,
    },
    Attack {
        name: "vsock",
        target: "host network",
        expected: Expected::Errors(&[libc::EPERM]),
        attempt: |_| socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0),
        control: Control::Inside(talk_to_oneself),
        missing: None,
    },
    Attack {
        name: "raw-socket",
        target: "host network",
        expected: Expected::Errors(&[libc::EPERM]),
        attempt: |_| socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP),
        control: Control::Inside(talk_to_oneself),
        missing: None,
    },
    Attack {
        name: "raw-socket-of-any-protocol",
        target: "host network",
        expected: Expected::Errors(&[libc::EPERM]),
        attempt: |_| socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_TCP),
        control: Control::Inside(talk_to_oneself),
        missing: None,
    },
    Attack {
        name: "packet-socket",
        target: "host network",
        expected: Expected::Errors(&[libc::EPERM]),
        attempt: |_| socket(libc::AF_PACKET, libc::SOCK_RAW, 0),
        control: Control::Inside(talk_to_oneself),
        missing: None,
    },
    Attack {
        name: "key-socket",
        target: "host network",
        expected: Expected::Errors(&[libc::EPERM]),
        attempt: |_| socket(libc::AF_KEY, libc::SOCK_RAW, 2),
        control: Control::Inside(talk_to_oneself),
        missing: None,
    },
    Attack {
        name: "crypto-socket",
        target: "host network",
        expected: Expected::Errors(&[libc::EPERM]),
        attempt: |_| socket(libc::AF_ALG, libc::SOCK_SEQPACKET, 0),
        control: Control::Inside(talk_to_oneself),
        missing: None,
    },
    Attack {
        name: "sctp-socket",
        target: "host network",
        expected: Expected::Errors(&[libc::EPERM]),
        attempt: |_| socket(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_SCTP),
        control: Control::Inside(talk_to_oneself),
        missing: None,
    },
    Attack {
        name: "multipath-socket",
        target: "host network",
        expected: Expected::Errors(&[libc::EPERM]),
        attempt: |_| socket(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP),
        control: Control::Inside(talk_to_oneself),
        missing: None,
    },
    Attack {
        name: "socket-pair-of-odd-family",
        target: "host network",
        expected: Expected::Errors(&[libc::EPERM]),
        attempt: |_| socket_pair(libc::AF_TIPC),
        control: Control::Inside(|_| socket_pair(libc::AF_UNIX)),
        missing: None,
    },
    Attack {
        name: "netlink-route-change",
        target: "host network",
        expected: Expected::Errors(&[libc::EPERM]),
        attempt: |_| take_loopback_down(),
        control: Control::Inside(talk_to_oneself),
        missing: None,
    },
    Attack {
        name: "netlink-netfilter",
        target: "host network",
        expected: Expected::Errors(&[libc::EPERM]),
        attempt: |_| socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_NETFILTER),
        control: Control::Inside(talk_to_oneself),
        missing: None,
    },
    Attack {
        name: "netlink-socket-diagnosis",
        target: "host network",
        expected: Expected::Errors(&[libc::EPERM]),
        attempt: |_| socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_SOCK_DIAG),
        control: Control::Inside(talk_to_oneself),
        missing: None,
    },
    Attack {
        name: "add-key",
        target: "keyrings",
        expected: Expected::Killed,
        attempt: |_| made(libc::SYS_add_key, &[]),
        control: Control::Inside(|_| made(libc::SYS_getpid, &[])),
        missing: None,
    },
    Attack {
        name: "request-key",
        target: "keyrings",
        expected: Expected::Killed,
        attempt: |_| made(libc::SYS_request_key, &[]),
        control: Control::Inside(|_| made(libc::SYS_getpid, &[])),
        missing: None,
    },
    Attack {
        name: "keyctl",
        target: "keyrings",
        expected: Expected::Killed,
        attempt: |_| made(libc::SYS_keyctl, &[]),
        control: Control::Inside(|_| made(libc::SYS_getpid, &[])),
        missing: None,
    },
    Attack {
        name: "bpf",
        target: "kernel",
        expected: Expected::Killed,
        attempt: |_| made(libc::SYS_bpf, &[]),
        control: Control::Inside(|_| made(libc::SYS_getpid, &[])),
        missing: None,
    },
    Attack {
        name: "perf-event-open",
        target: "kernel",
        expected: Expected::Errors(&[libc::EPERM]),
        attempt: |_| made(libc::SYS_perf_event_open, &[]),
        control: Control::Inside(|_| made(libc::SYS_getpid, &[])),
        missing: None,
    },
    Attack {
        name: "io-uring",
        target: "kernel",
        expected: Expected::Errors(&[libc::EPERM]),
        attempt: |_| made(libc::SYS_io_uring_setup, &[1, address(&[0u64; 15])]),
        control: Control::Inside(|_| full_pipe().map(drop)),
        missing: None,
    },
    Attack {
        name: "userfaultfd",
        target: "kernel",
        expected: Expected::Errors(&[libc::EPERM]),
        attempt: |_| made(libc::SYS_userfaultfd, &[1]),
        control: Control::Inside(|_| made(libc::SYS_eventfd2, &[0, 0])),
        missing: None,
    },
    Attack {
        name: "personality",
        target: "kernel",
        expected: Expected::Errors(&[libc::EPERM]),
        attempt: |_| made(libc::SYS_personality, &[0x0040_0000]),
        control: Control::Inside(|_| made(libc::SYS_getpid, &[])),
        missing: None,
    },
    Attack {
        name: "vmsplice",
        target: "kernel",
        expected: Expected::Errors(&[libc::EPERM]),
        attempt: |_| made(libc::SYS_vmsplice, &[1, 0, 0, 0]),
        control: Control::Inside(|_| full_pipe().map(drop)),
        missing: None,
    },
    Attack {
        name: "init-module",
        target: "machine",
        expected: Expected::Killed,
        attempt: |_| made(libc::SYS_init_module, &[]),
        control: Control::Inside(|_| made(libc::SYS_getpid, &[])),
        missing: None,
    },
    Attack {
        name: "finit-module",
        target: "machine",
        expected: Expected::Killed,
        attempt: |_| made(libc::SYS_finit_module, &[]),
        control: Control::Inside(|_| made(libc::SYS_getpid, &[])),
        missing: None,
    },
    Attack {
        name: "delete-module",
        target: "machine",
        expected: Expected::Killed,
        attempt: |_| made(libc::SYS_delete_module, &[]),
        control: Control::Inside(|_| made(libc::SYS_getpid, &[])),
        missing: None,
    },
    Attack {
        name: "kexec-load",
        target: "machine",
        expected: Expected::Killed,
        attempt: |_| made(libc::SYS_kexec_load, &[]),
        control: Control::Inside(|_| made(libc::SYS_getpid, &[])),
        missing: None,
    },
    Attack {
        name: "reboot",
        target: "machine",
        expected: Expected::Killed,
        attempt: |_| made(libc::SYS_reboot, &[]),
        control: Control::Inside(|_| made(libc::SYS_getpid, &[])),
        missing: None,
    },
    Attack {
        name: "swapon",
        target: "machine",
        expected: Expected::Killed,
        attempt: |_| made(libc::SYS_swapon, &[]),
        control: Control::Inside(|_| made(libc::SYS_getpid, &[])),
        missing: None,
    },
    Attack {
        name: "syslog",
        target: "machine",
        expected: Expected::Killed,
        attempt: |_| made(libc::SYS_syslog, &[]),
        control: Control::Inside(|_| made(libc::SYS_getpid, &[])),
        missing: None,
    },
    Attack {
        name: "clock-settime",
        target: "machine",
        expected: Expected::Killed,
        attempt: |_| made(libc::SYS_clock_settime, &[]),
        control: Control::Inside(|_| made(libc::SYS_getpid, &[])),
        missing: None,
    },
    Attack {
        name: "sethostname",
        target: "machine",
        expected: Expected::Killed,
        attempt: |_| made(libc::SYS_sethostname, &[]),
        control: Control::Inside(|_| made(libc::SYS_getpid, &[])),
        missing: None,
    },
    Attack {
        name: "acct",
        target: "machine",
        expected: Expected::Killed,
        attempt: |_| made(libc::SYS_acct, &[]),
        control: Control::Inside(|_| made(libc::SYS_getpid, &[])),
        missing: None,
    },
    Attack {
        name: "call-of-another-architecture",
        target: "kernel",
        expected: Expected::Killed,
        attempt: |_| call_of_another_architecture(),
        control: Control::Inside(|_| made(libc::SYS_getpid, &[])),
        missing: Some(without_other_architectures),
    },
    Attack {
        name: "call-of-x32",
        target: "kernel",
        expected: Expected::Killed,
        attempt: |_| made(0x4000_0000 + libc::SYS_getpid, &[]),
        control: Control::Inside(|_| made(libc::SYS_getpid, &[])),
        missing: Some(without_other_architectures),
    },
    Attack {
        name: "loosen-filter",
        target: "kernel",
        expected: Expected::Errors(&[libc::EINVAL]),
        attempt: |_| made(libc::SYS_prctl, &[libc::PR_SET_SECCOMP.into(), 0]),
        control: Control::Inside(|_| made(libc::SYS_prctl, &[libc::PR_GET_SECCOMP.into()])),
        missing: None,
    },
    Attack {
        name: "clone-user-namespace",
        target: "namespaces",
        expected: Expected::Errors(&[libc::EPERM]),
        attempt: |_| clone(libc::CLONE_NEWUSER),
        control: Control::Inside(|_| clone(0)),
        missing: None,
    },
    Attack {
        name: "unshare-user-namespace",
        target: "namespaces",
        expected: Expected::Errors(&[libc::EPERM]),
        attempt: |_| made(libc::SYS_unshare, &[libc::CLONE_NEWUSER.into()]),
        control: Control::Inside(|_| clone(0)),
        missing: None,
    },
    Attack {
        name: "clone-mount-namespace",
        target: "namespaces",
        expected: Expected::Errors(&[libc::EPERM]),
        attempt: |_| clone(libc::CLONE_NEWNS),
        control: Control::Inside(|_| clone(0)),
        missing: None,
    },
    Attack {
        name: "unshare-mount-namespace",
        target: "namespaces",
        expected: Expected::Errors(&[libc::EPERM]),
        attempt: |_| made(libc::SYS_unshare, &[libc::CLONE_NEWNS.into()]),
        control: Control::Inside(|_| clone(0)),
        missing: None,
    },
    Attack {
        name: "clone-process-namespace",
        target: "namespaces",
        expected: Expected::Errors(&[libc::EPERM]),
        attempt: |_| clone(libc::CLONE_NEWPID),
        control: Control::Inside(|_| clone(0)),
        missing: None,
    },
    Attack {
        name: "unshare-process-namespace",
        target: "namespaces",
        expected: Expected::Errors(&[libc::EPERM]),
        attempt: |_| made(libc::SYS_unshare, &[libc::CLONE_NEWPID.into()]),
        control: Control::Inside(|_| clone(0)),
        missing: None,
    },
    Attack {
        name: "clone-network-namespace",
        target: "namespaces",
        expected: Expected::Errors(&[libc::EPERM]),
        attempt: |_| clone(libc::CLONE_NEWNET),
        control: Control::Inside(|_| clone(0)),
        missing: None,
    },
    Attack {
        name: "unshare-network-namespace",
        target: "namespaces",
        expected: Expected::Errors(&[libc::EPERM]),
        attempt: |_| made(libc::SYS_unshare, &[libc::CLONE_NEWNET.into()]),
        control: Control::Inside(|_| clone(0)),
        missing: None,
    },
    Attack {
        name: "clone-ipc-namespace",
        target: "namespaces",
        expected: Expected::Errors(&[libc::EPERM]),
        attempt: |_| clone(libc::CLONE_NEWIPC),
        control: Control::Inside(|_| clone(0)),
        missing: None,
    },
    Attack {
        name: "unshare-ipc-namespace",
        target: "namespaces",
        expected: Expected::Errors(&[libc::EPERM]),
        attempt: |_| made(libc::SYS_unshare, &[libc::CLONE_NEWIPC.into()]),
        control: Control::Inside(|_| clone(0)),
        missing: None,
    },
    Attack {
        name: "clone-uts-namespace",
        target: "namespaces",
        expected: Expected::Errors(&[libc::EPERM]),
        attempt: |_| clone(libc::CLONE_NEWUTS),
        control: Control::Inside(|_| clone(0)),
        missing: None,
    },
    Attack {
        name: "unshare-uts-namespace",
        target: "namespaces",
        expected: Expected::Errors(&[libc::EPERM]),
        attempt: |_| made(libc::SYS_unshare, &[libc::CLONE_NEWUTS.into()]),
        control: Control::Inside(|_| clone(0)),
        missing: None,
    },
    Attack {
        name: "clone-cgroup-namespace",
        target: "namespaces",
        expected: Expected::Errors(&[libc::EPERM]),
        attempt: |_| clone(libc::CLONE_NEWCGROUP),
        control: Control::Inside(|_| clone(0)),
        missing: None,
    },
    Attack {
        name: "unshare-cgroup-namespace",
        target: "namespaces",
        expected: Expected::Errors(&[libc::EPERM]),
        attempt: |_| made(libc::SYS_unshare, &[libc::CLONE_NEWCGROUP.into()]),
        control: Control::Inside(|_| clone(0)),
        missing: None,
    },
    Attack {
        name: "unshare-time-namespace",
        target: "namespaces",
        expected: Expected::Errors(&[libc::EPERM]),
        attempt: |_| made(libc::SYS_unshare, &[0x80]),
        control: Control::Inside(|_| clone(0)),
        missing: None,
    },
    Attack {
        name: "clone3",
        target: "namespaces",
        expected: Expected::Errors(&[libc::ENOSYS]),
        attempt: |_| made(libc::SYS_clone3, &[]),
        control: Control::Inside(|_| clone(0)),
        missing: None,
    },
    Attack {
        name: "setns",
        target: "namespaces",
        expected: Expected::Killed,
        attempt: |_| made(libc::SYS_setns, &[0, 0]),
        control: Control::Inside(|_| clone(0)),
        missing: None,
    },
    Attack {
        name: "mount",
        target: "mounts and roots",
        expected: Expected::Killed,
        attempt: |_| made(libc::SYS_mount, &[]),
        control: Control::Inside(|_| list("/usr")),
        missing: None,
    },
    Attack {
        name: "umount2",
        target: "mounts and roots",
        expected: Expected::Killed,
        attempt: |_| made(libc::SYS_umount2, &[]),
        control: Control::Inside(|_| list("/usr")),
        missing: None,
    },
    Attack {
        name: "pivot-root",
        target: "mounts and roots",
        expected: Expected::Killed,
        attempt: |_| made(libc::SYS_pivot_root, &[]),
        control: Control::Inside(|_| list("/usr")),
        missing: None,
    },
    Attack {
        name: "chroot",
        target: "mounts and roots",
        expected: Expected::Killed,
        attempt: |_| made(libc::SYS_chroot, &[]),
        control: Control::Inside(|_| list("/usr")),
        missing: None,
    },
    Attack {
        name: "open-tree",
        target: "mounts and roots",
        expected: Expected::Killed,
        attempt: |_| made(libc::SYS_open_tree, &[]),
        control: Control::Inside(|_| list("/usr")),
        missing: None,
    },
    Attack {
        name: "move-mount",
        target: "mounts and roots",
        expected: Expected::Killed,
        attempt: |_| made(libc::SYS_move_mount, &[]),
        control: Control::Inside(|_| list("/usr")),
        missing: None,
    },
    Attack {
        name: "fsopen",
        target: "mounts and roots",
        expected: Expected::Killed,
        attempt: |_| made(libc::SYS_fsopen, &[]),
        control: Control::Inside(|_| list("/usr")),
        missing: None,
    },
    Attack {
        name: "fsconfig",
        target: "mounts and roots",
        expected: Expected::Killed,
        attempt: |_| made(libc::SYS_fsconfig, &[]),
        control: Control::Inside(|_| list("/usr")),
        missing: None,
    },
    Attack {
        name: "fsmount",
        target: "mounts and roots",
        expected: Expected::Killed,
        attempt: |_| made(libc::SYS_fsmount, &[]),
        control: Control::Inside(|_| list("/usr")),
        missing: None,
    },
    Attack {
        name: "fspick",
        target: "mounts and roots",
        expected: Expected::Killed,
        attempt: |_| made(libc::SYS_fspick, &[]),
        control: Control::Inside(|_| list("/usr")),
        missing: None,
    },
    Attack {
        name: "mount-setattr",
        target: "mounts and roots",
        expected: Expected::Killed,
        attempt: |_| made(libc::SYS_mount_setattr, &[]),
        control: Control::Inside(|_| list("/usr")),
        missing: None,
    },
    Attack {
        name: "setuid-program",
        target: "privileges",
        expected: Expected::Errors(&[libc::EPERM]),
        attempt: |bait| run(&bait.shown.join("cat"), &bait.shown.join("private")),
        control: Control::Inside(|bait| run(&bait.shown.join("cat"), &bait.shown.join("file"))),
        missing: Some(without_setuid_program),
    },
    Attack {
        name: "become-root",
        target: "privileges",
        expected: Expected::Errors(&[libc::EINVAL, libc::EPERM]),
        attempt: |_| made(libc::SYS_setuid, &[0]),
        control: Control::Inside(|_| made(libc::SYS_getuid, &[])),
        missing: None,
    },
    Attack {
        name: "raise-capabilities",
        target: "privileges",
        expected: Expected::Errors(&[libc::EPERM]),
        attempt: |_| raise_capabilities(),
        control: Control::Inside(|_| made(libc::SYS_getpid, &[])),
        missing: None,
    },
    Attack {
        name: "allow-new-privileges",
        target: "privileges",
        expected: Expected::Errors(&[libc::EINVAL]),
        attempt: |_| made(libc::SYS_prctl, &[libc::PR_SET_NO_NEW_PRIVS.into(), 0]),
        control: Control::Inside(|_| made(libc::SYS_getpid, &[])),
        missing: None,
    },
    Attack {
        name: "make-device-node",
        target: "privileges",
        expected: Expected::Errors(UNWRITABLE),
        attempt: |_| {
            made(
                libc::SYS_mknodat,
                &[
                    libc::AT_FDCWD.into(),
                    address(c"device"),
                    i64::from(libc::S_IFCHR | 0o666),
                    0x0101,
                    0,
                ],
            )
        },
        control: Control::Inside(write_at_home),
        missing: None,
    },
    Attack {
        name: "tiocsti",
        target: "terminals",
        expected: Expected::Errors(&[libc::EPERM]),
        attempt: |_| made(libc::SYS_ioctl, &[0, 0x5412, address(&b'x')]),
        control: Control::Inside(pipe_is_readable),
        missing: None,
    },
    Attack {
        name: "tioclinux",
        target: "terminals",
        expected: Expected::Errors(&[libc::EPERM]),
        attempt: |_| made(libc::SYS_ioctl, &[0, 0x541C, address(&3u8)]),
        control: Control::Inside(pipe_is_readable),
        missing: None,
    },
    Attack {
        name: "write-in-system-folders",
        target: "writing outside",
        expected: Expected::Errors(UNWRITABLE),
        attempt: |_| {
            create_in(
                &[
                    "/", "/usr", "/usr/bin", "/etc", "/lib", "/var", "/root", "/opt", "/home",
                ]
                .map(Path::new),
            )
        },
        control: Control::Inside(write_at_home),
        missing: None,
    },
    Attack {
        name: "write-in-shown-folder",
        target: "writing outside",
        expected: Expected::Errors(UNWRITABLE),
        attempt: |bait| create_in(&[&bait.shown]),
        control: Control::Inside(write_at_home),
        missing: None,
    },
    Attack {
        name: "overwrite-shown-file",
        target: "writing outside",
        expected: Expected::Errors(UNWRITABLE),
        attempt: |bait| overwrite(bait.shown.join("file")),
        control: Control::Inside(|bait| read(bait.shown.join("file"))),
        missing: None,
    },
    Attack {
        name: "overwrite-host-file",
        target: "writing outside",
        expected: Expected::Errors(UNWRITABLE),
        attempt: |bait| overwrite(&bait.secret),
        control: Control::Inside(write_at_home),
        missing: None,
    },
    Attack {
        name: "write-in-dev",
        target: "writing outside",
        expected: Expected::Errors(UNWRITABLE),
        attempt: |_| create_in(&["/dev"].map(Path::new)),
        control: Control::Inside(|_| overwrite("/dev/null")),
        missing: None,
    },
    Attack {
        name: "write-kernel-settings",
        target: "writing outside",
        expected: Expected::Errors(UNWRITABLE),
        attempt: |_| {
            overwrite("/proc/sys/kernel/core_pattern").or_else(|_| overwrite("/proc/sysrq-trigger"))
        },
        control: Control::Inside(|_| read("/proc/sys/kernel/pid_max")),
        missing: None,
    },
    Attack {
        name: "write-own-user-map",
        target: "writing outside",
        expected: Expected::Errors(UNWRITABLE),
        attempt: |_| overwrite("/proc/self/uid_map"),
        control: Control::Inside(|_| read("/proc/self/uid_map")),
        missing: None,
    },
    Attack {
        name: "write-control-groups",
        target: "writing outside",
        expected: Expected::Errors(UNWRITABLE),
        attempt: |_| overwrite("/sys/fs/cgroup/cgroup.procs"),
        control: Control::Inside(|_| read("/proc/self/cgroup")),
        missing: None,
    },
    Attack {
        name: "fill-storage",
        target: "filling up",
        expected: Expected::Errors(FULL),
        attempt: |_| store_without_end(),
        control: Control::Inside(write_at_home),
        missing: None,
    },
    Attack {
        name: "fill-storage-with-files",
        target: "filling up",
        expected: Expected::Errors(FULL),
        attempt: |_| make_files_without_end(),
        control: Control::Inside(write_at_home),
        missing: None,
    },
    Attack {
        name: "flood-log",
        target: "filling up",
        expected: Expected::Ends(ExitCause::LogFlood),
        attempt: |_| print_without_end(),
        control: Control::Inside(|_| {
            println!("modest");
            Ok(())
        }),
        missing: None,
    },
    Attack {
        name: "races-in-run-folder",
        target: "run folder",
        expected: Expected::Errors(UNWRITABLE),
        attempt: |_| race_in_run_folder(),
        control: Control::Inside(write_at_home),
        missing: Some(without_run_folder),
    },
    Attack {
        name: "connect-to-supervisor",
        target: "run folder",
        expected: Expected::Errors(&[libc::ENOENT, libc::EACCES, libc::ECONNREFUSED]),
        attempt: |_| UnixStream::connect(RUN_SOCKET).map(drop),
        control: Control::Inside(talk_to_oneself),
        missing: Some(without_run_folder),
    },
    Attack {
        name: "inherited-descriptors",
        target: "inherited descriptors",
        expected: Expected::Errors(&[libc::EBADF]),
        attempt: |_| find_descriptor(VOICE + 1),
        control: Control::Inside(|_| find_descriptor(MEMORY)),
        missing: None,
    },
    Attack {
        name: "survive-kill",
        target: "surviving the end",
        expected: Expected::Dies(Moment::Kill, HIDDEN_PROCESSES),
        attempt: |_| {
            hide()?;
            wait_for_ever()
        },
        control: Control::SeenBefore,
        missing: None,
    },
    Attack {
        name: "survive-end",
        target: "surviving the end",
        expected: Expected::Dies(Moment::End, HIDDEN_PROCESSES),
        attempt: |_| hide(),
        control: Control::SeenBefore,
        missing: None,
    },
    Attack {
        name: "survive-kill-while-frozen",
        target: "surviving the end",
        expected: Expected::Dies(Moment::FrozenKill, HIDDEN_PROCESSES),
        attempt: |_| {
            hide()?;
            wait_for_ever()
        },
        control: Control::SeenBefore,
        missing: None,
    },
    Attack {
        name: "write-while-frozen",
        target: "shared memory",
        expected: Expected::Freezes(WRITERS),
        attempt: |_| keep_writing(),
        control: Control::SeenBefore,
        missing: None,
    },
    Attack {
        name: "shrink-shared-memory",
        target: "shared memory",
        expected: Expected::Errors(&[libc::EPERM]),
        attempt: |_| made(libc::SYS_ftruncate, &[MEMORY.into(), 0]),
        control: Control::Inside(|_| {
            overwrite(format!("/proc/self/fd/{MEMORY}"))
                .or_else(|_| made(libc::SYS_pwrite64, &[MEMORY.into(), address(&1u8), 1, 0]))
        }),
        missing: None,
    },
    Attack {
        name: "grow-shared-memory",
        target: "shared memory",
        expected: Expected::Errors(&[libc::EPERM]),
        attempt: |_| made(libc::SYS_ftruncate, &[MEMORY.into(), 1 << 30]),
        control: Control::Inside(|_| {
            made(libc::SYS_pwrite64, &[MEMORY.into(), address(&1u8), 1, 0])
        }),
        missing: None,
    },
    Attack {
        name: "seal-shared-memory",
        target: "shared memory",
        expected: Expected::Errors(&[libc::EPERM]),
        attempt: |_| {
            made(
                libc::SYS_fcntl,
                &[
                    MEMORY.into(),
                    libc::F_ADD_SEALS.into(),
                    libc::F_SEAL_WRITE.into(),
                ],
            )
        },
        control: Control::Inside(|_| {
            made(libc::SYS_fcntl, &[MEMORY.into(), libc::F_GET_SEALS.into()])
        }),
        missing: None,
    },
];
