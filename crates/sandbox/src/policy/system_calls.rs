//! The part of the policy for system calls: which are refused, and how. Everything that is not named is
//! allowed, because frameworks and drivers use a long and changing list; what is named is what
//! opens the kernel, other processes, or the machine.

use serde::{Deserialize, Serialize};

use super::names::{
    InternetProtocol, IoctlCommand, Namespace, NetlinkProtocol, SocketFamily, SystemCall,
};

/// What system calls a payload may not make. A call that is in several lists gets the sternest answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SystemCallPolicy {
    /// Calls that only an attack makes: the process is killed by SIGSYS.
    pub fatal: Vec<SystemCall>,
    /// Calls that a library may try and do without: the answer is EPERM.
    pub refused: Vec<SystemCall>,
    /// Calls that a library replaces by an older one: the answer is ENOSYS.
    pub absent: Vec<SystemCall>,
    /// Calls whose first argument names a process: EPERM unless it is 0, the caller.
    pub own_process_only: Vec<SystemCall>,
    /// `clone` with the flag of any of these is refused with EPERM.
    pub refused_namespaces: Vec<Namespace>,
    /// `socket` for any other family is refused with EPERM.
    pub socket_families: Vec<SocketFamily>,
    /// `socketpair` for any other family is refused with EPERM.
    pub socket_pair_families: Vec<SocketFamily>,
    /// Netlink sockets of any other protocol are refused with EPERM.
    pub netlink_protocols: Vec<NetlinkProtocol>,
    /// Internet sockets of any other protocol are refused with EPERM.
    pub internet_protocols: Vec<InternetProtocol>,
    /// `ioctl` with any of these commands is refused with EPERM.
    pub refused_ioctls: Vec<IoctlCommand>,
}

/// What is refused besides, where another wall is missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StricterCalls {
    /// As in [`SystemCallPolicy::refused`].
    pub refused: Vec<SystemCall>,
    /// As in [`SystemCallPolicy::absent`].
    pub absent: Vec<SystemCall>,
    /// As in [`SystemCallPolicy::own_process_only`].
    pub own_process_only: Vec<SystemCall>,
    /// Whether `socket` is allowed at all.
    pub sockets: bool,
}

/// What the filter does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// The kernel carries it out, or refuses it for a reason of its own.
    Allowed,
    /// EPERM.
    Refused,
    /// ENOSYS.
    Absent,
    /// SIGSYS.
    Killed,
}

impl SystemCallPolicy {
    /// The standard policy of tier 1.
    #[must_use]
    pub fn strongest() -> Self {
        Self {
            fatal: named(FATAL),
            refused: named(REFUSED),
            absent: named(&["clone3"]),
            own_process_only: Vec::new(),
            refused_namespaces: Namespace::ALL.to_vec(),
            socket_families: known(SocketFamily::named, &["unix", "inet", "inet6", "netlink"]),
            socket_pair_families: known(SocketFamily::named, &["unix"]),
            netlink_protocols: known(NetlinkProtocol::named, &["route"]),
            internet_protocols: known(InternetProtocol::named, &["default", "tcp", "udp"]),
            refused_ioctls: IoctlCommand::ALL.to_vec(),
        }
    }

    /// No restriction but on kinds of sockets that have no name here. A sandbox with it is of tier 3
    /// at best; it shows in tests what the restrictions do.
    #[must_use]
    pub fn unrestricted() -> Self {
        Self {
            fatal: Vec::new(),
            refused: Vec::new(),
            absent: Vec::new(),
            own_process_only: Vec::new(),
            refused_namespaces: Vec::new(),
            socket_families: SocketFamily::ALL.to_vec(),
            socket_pair_families: SocketFamily::ALL.to_vec(),
            netlink_protocols: NetlinkProtocol::ALL.to_vec(),
            internet_protocols: InternetProtocol::ALL.to_vec(),
            refused_ioctls: Vec::new(),
        }
    }

    /// The same, and what is stricter.
    pub(crate) fn and(mut self, stricter: &StricterCalls) -> Self {
        self.refused.extend(&stricter.refused);
        self.absent.extend(&stricter.absent);
        self.own_process_only.extend(&stricter.own_process_only);
        if !stricter.sockets {
            self.socket_families.clear();
        }
        self
    }

    /// What the filter answers to a call of this architecture.
    #[must_use]
    pub fn answer(&self, number: i64, arguments: [u64; 6]) -> Answer {
        let lists = |calls: &[SystemCall]| calls.iter().any(|call| call.number == number);
        if lists(&self.fatal) {
            Answer::Killed
        } else if lists(&self.refused) || self.refuses_arguments(number, arguments) {
            Answer::Refused
        } else if lists(&self.absent) {
            Answer::Absent
        } else {
            Answer::Allowed
        }
    }

    fn refuses_arguments(&self, number: i64, arguments: [u64; 6]) -> bool {
        let [first, second, third, ..] = arguments;
        // The kernel takes these arguments as 32 bits, and so does the filter.
        let low = |argument: u64| argument & u64::from(u32::MAX);
        let own_only = self
            .own_process_only
            .iter()
            .any(|call| call.number == number);
        if own_only && low(first) != 0 {
            return true;
        }
        match number {
            libc::SYS_clone => self
                .refused_namespaces
                .iter()
                .any(|one| first & one.number != 0),
            libc::SYS_socket => {
                let family = self
                    .socket_families
                    .iter()
                    .find(|one| one.number == low(first));
                let protocol = low(third);
                match family.map(|family| family.name) {
                    None => true,
                    Some("netlink") => !self
                        .netlink_protocols
                        .iter()
                        .any(|one| one.number == protocol),
                    Some("inet" | "inet6") => !self
                        .internet_protocols
                        .iter()
                        .any(|one| one.number == protocol),
                    Some(_) => false,
                }
            }
            libc::SYS_socketpair => !self
                .socket_pair_families
                .iter()
                .any(|one| one.number == low(first)),
            libc::SYS_ioctl => self
                .refused_ioctls
                .iter()
                .any(|one| one.number == low(second)),
            _ => false,
        }
    }

    /// Whether everything that `other` refuses is refused here too, in whatever way.
    pub(crate) fn is_as_strict_as(&self, other: &Self) -> bool {
        fn within<T: PartialEq>(few: &[T], many: &[T]) -> bool {
            few.iter().all(|one| many.contains(one))
        }
        let named = |policy: &Self| -> Vec<SystemCall> {
            [&policy.fatal, &policy.refused, &policy.absent]
                .into_iter()
                .flatten()
                .copied()
                .collect()
        };
        let mine = named(self);
        let own_only = [mine.as_slice(), &self.own_process_only].concat();
        within(&named(other), &mine)
            && within(&other.own_process_only, &own_only)
            && within(&other.refused_namespaces, &self.refused_namespaces)
            && within(&self.socket_families, &other.socket_families)
            && within(&self.socket_pair_families, &other.socket_pair_families)
            && within(&self.netlink_protocols, &other.netlink_protocols)
            && within(&self.internet_protocols, &other.internet_protocols)
            && within(&other.refused_ioctls, &self.refused_ioctls)
    }
}

impl StricterCalls {
    /// Without namespaces the host's network, its sockets, its System V names and, for an ordinary
    /// user, the limits and priorities of that user's other processes would be in reach.
    pub(super) fn without_namespaces() -> Self {
        Self {
            refused: named(&[
                "shmget",
                "shmat",
                "shmctl",
                "semget",
                "semop",
                "semtimedop",
                "semctl",
                "msgget",
                "msgsnd",
                "msgrcv",
                "msgctl",
                "mq_open",
                "mq_unlink",
                "setpriority",
                "ioprio_set",
            ]),
            absent: Vec::new(),
            own_process_only: named(&[
                "prlimit64",
                "sched_setaffinity",
                "sched_setattr",
                "sched_setparam",
                "sched_setscheduler",
            ]),
            sockets: false,
        }
    }

    /// Memory that belongs to no mapping is seen by no watchdog.
    pub(super) fn without_counted_memory() -> Self {
        Self {
            refused: Vec::new(),
            absent: named(&["memfd_create", "shmget"]),
            own_process_only: Vec::new(),
            sockets: true,
        }
    }

    /// No further restriction.
    #[must_use]
    pub fn none() -> Self {
        Self {
            refused: Vec::new(),
            absent: Vec::new(),
            own_process_only: Vec::new(),
            sockets: true,
        }
    }
}

/// The calls of these names that this architecture has.
fn named(names: &[&str]) -> Vec<SystemCall> {
    known(SystemCall::named, names)
}

fn known<T>(find: impl Fn(&str) -> Option<T>, names: &[&str]) -> Vec<T> {
    names.iter().filter_map(|name| find(name)).collect()
}

/// Calls that only an attack makes.
const FATAL: &[&str] = &[
    // Other processes.
    "ptrace",
    "process_vm_writev",
    "process_madvise",
    // Kernel code, other kernels, the machine.
    "bpf",
    "init_module",
    "finit_module",
    "delete_module",
    "kexec_load",
    "kexec_file_load",
    "reboot",
    "swapon",
    "swapoff",
    "acct",
    "syslog",
    "quotactl",
    "quotactl_fd",
    "vhangup",
    "nfsservctl",
    // Other roots, mounts and namespaces.
    "mount",
    "umount2",
    "pivot_root",
    "chroot",
    "setns",
    "open_tree",
    "open_tree_attr",
    "move_mount",
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "mount_setattr",
    "open_by_handle_at",
    // Keys.
    "add_key",
    "request_key",
    "keyctl",
    // Other people's file events.
    "fanotify_init",
    "fanotify_mark",
    // Clocks and names of the machine.
    "settimeofday",
    "clock_settime",
    "sethostname",
    "setdomainname",
    // The old ways into a PC's hardware and kernel.
    "iopl",
    "ioperm",
    "modify_ldt",
    "uselib",
    "_sysctl",
];

/// Calls that a library may try and do without.
const REFUSED: &[&str] = &[
    "process_vm_readv",
    "kcmp",
    "pidfd_getfd",
    "perf_event_open",
    "userfaultfd",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    "unshare",
    "name_to_handle_at",
    "personality",
    "vmsplice",
    "memfd_secret",
    "adjtimex",
    "clock_adjtime",
    "lookup_dcookie",
    "migrate_pages",
    "move_pages",
    "ustat",
    "sysfs",
];

#[cfg(test)]
mod tests {
    use super::{Answer, FATAL, REFUSED, StricterCalls, SystemCallPolicy};
    use crate::policy::names::SystemCall;

    const MINUS_ONE: [u64; 6] = [u64::MAX; 6];

    #[test]
    fn no_call_is_listed_twice() {
        let names: std::collections::HashSet<_> = FATAL.iter().chain(REFUSED).collect();
        assert_eq!(names.len(), FATAL.len() + REFUSED.len());
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn every_name_is_one_of_a_call() {
        for name in FATAL.iter().chain(REFUSED) {
            assert!(SystemCall::named(name).is_some(), "{name}");
        }
        let policy = SystemCallPolicy::strongest();
        assert_eq!(policy.fatal.len(), FATAL.len());
        assert_eq!(policy.refused.len(), REFUSED.len());
        assert_eq!(StricterCalls::without_namespaces().refused.len(), 15);
        assert_eq!(
            StricterCalls::without_namespaces().own_process_only.len(),
            5
        );
    }

    #[test]
    fn calls_that_every_program_makes_are_allowed() {
        let policy = SystemCallPolicy::strongest();
        for needed in [libc::SYS_read, libc::SYS_mmap, libc::SYS_execve] {
            assert_eq!(policy.answer(needed, MINUS_ONE), Answer::Allowed);
        }
        let threads = libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND;
        let flags = u64::from(threads.unsigned_abs());
        let answer = policy.answer(libc::SYS_clone, [flags, 0, 0, 0, 0, 0]);
        assert_eq!(answer, Answer::Allowed);
    }

    #[test]
    fn sockets_are_judged_by_family_and_protocol() {
        let policy = SystemCallPolicy::strongest();
        let ask = |call, family: i32, protocol: u64| {
            let family = u64::from(family.unsigned_abs());
            policy.answer(call, [family, 1, protocol, 0, 0, 0])
        };
        let socket = libc::SYS_socket;
        assert_eq!(ask(socket, libc::AF_INET, 6), Answer::Allowed);
        assert_eq!(ask(socket, libc::AF_INET, 132), Answer::Refused);
        assert_eq!(ask(socket, libc::AF_NETLINK, 0), Answer::Allowed);
        assert_eq!(ask(socket, libc::AF_NETLINK, 12), Answer::Refused);
        assert_eq!(ask(socket, libc::AF_UNIX, 99), Answer::Allowed);
        assert_eq!(ask(socket, libc::AF_VSOCK, 0), Answer::Refused);
        let pair = libc::SYS_socketpair;
        assert_eq!(ask(pair, libc::AF_UNIX, 0), Answer::Allowed);
        assert_eq!(ask(pair, libc::AF_TIPC, 0), Answer::Refused);
    }

    #[test]
    fn where_walls_are_missing_more_is_refused() {
        let standard = SystemCallPolicy::strongest();
        let weak = standard
            .clone()
            .and(&StricterCalls::without_namespaces())
            .and(&StricterCalls::without_counted_memory());
        let unix = [1, 1, 0, 0, 0, 0];
        assert_eq!(standard.answer(libc::SYS_socket, unix), Answer::Allowed);
        assert_eq!(weak.answer(libc::SYS_socket, unix), Answer::Refused);
        let (own, other) = ([0; 6], [7, 0, 0, 0, 0, 0]);
        assert_eq!(weak.answer(libc::SYS_prlimit64, own), Answer::Allowed);
        assert_eq!(weak.answer(libc::SYS_prlimit64, other), Answer::Refused);
        assert_eq!(standard.answer(libc::SYS_prlimit64, other), Answer::Allowed);
        // In both lists: the sterner answer.
        assert_eq!(weak.answer(libc::SYS_shmget, own), Answer::Refused);
        assert_eq!(weak.answer(libc::SYS_memfd_create, own), Answer::Absent);
        assert!(weak.is_as_strict_as(&standard));
        assert!(!standard.is_as_strict_as(&weak));
    }

    #[test]
    fn rules_for_the_same_call_add_up() {
        let mut policy = SystemCallPolicy::strongest();
        policy.own_process_only.extend(SystemCall::named("socket"));
        let ask = |first| policy.answer(libc::SYS_socket, [first, 1, 0, 0, 0, 0]);
        assert_eq!(ask(1), Answer::Refused);
        policy.own_process_only.clear();
        policy.own_process_only.extend(SystemCall::named("clone"));
        let user = u64::from(libc::CLONE_NEWUSER.unsigned_abs());
        for (flags, answer) in [(0, Answer::Allowed), (user, Answer::Refused)] {
            assert_eq!(policy.answer(libc::SYS_clone, [flags; 6]), answer);
        }
    }

    #[test]
    fn a_policy_without_one_call_is_less_strict() {
        let standard = SystemCallPolicy::strongest();
        assert!(standard.is_as_strict_as(&standard));
        let mut weaker = standard.clone();
        weaker.refused.retain(|call| call.name != "io_uring_setup");
        assert!(!weaker.is_as_strict_as(&standard));
        let mut moved = weaker;
        moved.absent.extend(SystemCall::named("io_uring_setup"));
        assert!(moved.is_as_strict_as(&standard));
        assert!(!SystemCallPolicy::unrestricted().is_as_strict_as(&standard));
    }
}
