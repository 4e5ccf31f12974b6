//! The declared policy for system calls: which are refused, and how. Everything that is not named is
//! allowed, because frameworks and drivers use a long and changing list; what is named is what
//! opens the kernel, other processes, or the machine.

use serde::Serialize;

/// A system call by its name and its number on this architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SystemCall {
    /// The name without prefix, such as `ptrace`.
    pub name: &'static str,
    /// The number on the architecture that this program was built for.
    pub number: i64,
}

/// What system calls a payload may not make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SystemCallPolicy {
    /// Calls that only an attack makes: the process is killed by SIGSYS.
    pub fatal: Vec<SystemCall>,
    /// Calls that a library may try and do without: the answer is EPERM.
    pub refused: Vec<SystemCall>,
    /// Calls that a library replaces by an older one: the answer is ENOSYS.
    pub absent: Vec<SystemCall>,
    /// `clone` with any of these flags is refused with EPERM.
    pub clone_flags: u64,
    /// `socket` for any other address family is refused with EPERM.
    pub socket_families: Vec<u64>,
    /// `ioctl` with any of these commands is refused with EPERM.
    pub ioctl_commands: Vec<u64>,
}

/// Whether something besides the system calls stands between the payload and these things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Surroundings {
    /// The payload has a network stack and a System V name space of its own.
    pub(crate) namespaces: bool,
    /// All memory is counted, mapped or not.
    pub(crate) counted_memory: bool,
}

macro_rules! calls {
    ($($(#[$meta:meta])* $name:ident),* $(,)?) => {
        vec![$($(#[$meta])* SystemCall {
            name: stringify!($name).trim_start_matches("SYS_"),
            number: libc::$name,
        }),*]
    };
}

/// `open_tree_attr` (Linux 6.15), which the C library's table does not have yet.
const OPEN_TREE_ATTR: SystemCall = SystemCall {
    name: "open_tree_attr",
    number: 467,
};

impl SystemCallPolicy {
    /// The policy for a payload that stands in these surroundings.
    pub(crate) fn standard(surroundings: Surroundings) -> Self {
        use libc::{AF_INET, AF_INET6, AF_NETLINK, AF_UNIX};
        let mut policy = Self {
            fatal: fatal(),
            refused: refused(),
            absent: calls![SYS_clone3],
            clone_flags: NAMESPACE_FLAGS,
            socket_families: [AF_UNIX, AF_INET, AF_INET6, AF_NETLINK]
                .map(|family| u64::from(family.unsigned_abs()))
                .to_vec(),
            ioctl_commands: vec![libc::TIOCSTI, TIOCLINUX],
        };
        if !surroundings.namespaces {
            // The host's network, its abstract and its named sockets would be in reach.
            policy.socket_families.clear();
            policy.refused.extend(calls![
                SYS_shmget,
                SYS_shmat,
                SYS_shmctl,
                SYS_semget,
                SYS_msgget,
                SYS_mq_open
            ]);
        }
        if !surroundings.counted_memory {
            // Memory that belongs to no mapping is seen by no watchdog.
            policy.absent.extend(calls![SYS_memfd_create]);
            if surroundings.namespaces {
                policy.absent.extend(calls![SYS_shmget]);
            }
        }
        policy
    }

    /// The policy of tier 1, for documents and tests.
    #[must_use]
    pub fn strongest() -> Self {
        Self::standard(Surroundings {
            namespaces: true,
            counted_memory: true,
        })
    }
}

/// `TIOCLINUX`, which pastes into a console; the C library does not name it.
const TIOCLINUX: u64 = 0x541C;

/// Every flag of `clone` that makes a namespace. The time namespace shares its bit with the exit
/// signal of `clone` and can only be made by `clone3` and `unshare`.
const NAMESPACE_FLAGS: u64 = (libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP)
    .unsigned_abs() as u64;

fn fatal() -> Vec<SystemCall> {
    let mut calls = calls![
        // Other processes.
        SYS_ptrace,
        SYS_process_vm_writev,
        SYS_process_madvise,
        // Kernel code, other kernels, the machine.
        SYS_bpf,
        SYS_init_module,
        SYS_finit_module,
        SYS_delete_module,
        SYS_kexec_load,
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        SYS_kexec_file_load,
        SYS_reboot,
        SYS_swapon,
        SYS_swapoff,
        SYS_acct,
        SYS_syslog,
        SYS_quotactl,
        SYS_quotactl_fd,
        SYS_vhangup,
        SYS_nfsservctl,
        // Other roots, mounts and namespaces.
        SYS_mount,
        SYS_umount2,
        SYS_pivot_root,
        SYS_chroot,
        SYS_setns,
        SYS_open_tree,
        SYS_move_mount,
        SYS_fsopen,
        SYS_fsconfig,
        SYS_fsmount,
        SYS_fspick,
        SYS_mount_setattr,
        SYS_open_by_handle_at,
        // Keys.
        SYS_add_key,
        SYS_request_key,
        SYS_keyctl,
        // Other people's file events.
        SYS_fanotify_init,
        SYS_fanotify_mark,
        // Clocks and names of the machine.
        SYS_settimeofday,
        SYS_clock_settime,
        SYS_sethostname,
        SYS_setdomainname,
        #[cfg(target_arch = "x86_64")]
        SYS_iopl,
        #[cfg(target_arch = "x86_64")]
        SYS_ioperm,
        #[cfg(target_arch = "x86_64")]
        SYS_modify_ldt,
        #[cfg(target_arch = "x86_64")]
        SYS_uselib,
        #[cfg(target_arch = "x86_64")]
        SYS__sysctl,
    ];
    calls.push(OPEN_TREE_ATTR);
    calls
}

fn refused() -> Vec<SystemCall> {
    calls![
        SYS_process_vm_readv,
        SYS_kcmp,
        SYS_pidfd_getfd,
        SYS_perf_event_open,
        SYS_userfaultfd,
        SYS_io_uring_setup,
        SYS_io_uring_enter,
        SYS_io_uring_register,
        SYS_unshare,
        SYS_name_to_handle_at,
        SYS_personality,
        SYS_vmsplice,
        SYS_memfd_secret,
        SYS_adjtimex,
        SYS_clock_adjtime,
        SYS_lookup_dcookie,
        SYS_migrate_pages,
        SYS_move_pages,
        #[cfg(target_arch = "x86_64")]
        SYS_ustat,
        #[cfg(target_arch = "x86_64")]
        SYS_sysfs,
    ]
}

#[cfg(test)]
mod tests {
    use super::{Surroundings, SystemCallPolicy};
    use std::collections::HashSet;

    #[test]
    fn no_call_is_listed_twice() {
        for namespaces in [true, false] {
            for counted_memory in [true, false] {
                let policy = SystemCallPolicy::standard(Surroundings {
                    namespaces,
                    counted_memory,
                });
                let all: Vec<_> = [&policy.fatal, &policy.refused, &policy.absent]
                    .into_iter()
                    .flatten()
                    .collect();
                let names: HashSet<_> = all.iter().map(|call| call.name).collect();
                let numbers: HashSet<_> = all.iter().map(|call| call.number).collect();
                assert_eq!(names.len(), all.len());
                assert_eq!(numbers.len(), all.len());
            }
        }
    }

    #[test]
    fn names_have_no_prefix() {
        let policy = SystemCallPolicy::strongest();
        assert!(policy.fatal.iter().any(|call| call.name == "ptrace"));
        assert!(
            policy
                .fatal
                .iter()
                .all(|call| !call.name.starts_with("SYS_"))
        );
    }

    #[test]
    fn calls_that_every_program_makes_are_not_listed() {
        let policy = SystemCallPolicy::strongest();
        for needed in [
            libc::SYS_read,
            libc::SYS_clone,
            libc::SYS_mmap,
            libc::SYS_execve,
        ] {
            let listed = [&policy.fatal, &policy.refused, &policy.absent]
                .into_iter()
                .flatten()
                .any(|call| call.number == needed);
            assert!(!listed, "{needed}");
        }
    }
}
