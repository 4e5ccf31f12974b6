//! Who the payload is: the user and group it runs as, seen from the host and from inside, and the
//! capabilities that it does not have.

use std::fs;
use std::os::fd::OwnedFd;

use rustix::process::{Gid, Pid, Uid};
use rustix::thread::CapabilitySet;

use crate::error::{During, Fault};

/// The user and group inside every sandbox (`nobody`).
pub(crate) const INSIDE: u32 = 65534;

/// The first host user of sandboxes; the process number of the supervisor is added, so that no two
/// living sandboxes share one. Lies in a range that systemd's list of user ranges leaves unused.
const FIRST_OUTSIDE: u32 = 1_900_000_000;

/// The same where a container maps only the first 65536 users.
const FIRST_OUTSIDE_OF_FEW: u32 = 61_000;

/// How many numbers are used from [`FIRST_OUTSIDE_OF_FEW`] on.
const FEW: u32 = 4_000;

/// The user and group of one sandbox as the host sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// A number that no one else has. Needs a privileged supervisor.
    Separate(u32),
    /// The user who runs the host.
    Caller { user: u32, group: u32 },
}

impl Identity {
    /// The best identity that the supervisor, this process, can give.
    pub(crate) fn choose() -> Self {
        let own = Self::Caller {
            user: rustix::process::geteuid().as_raw(),
            group: rustix::process::getegid().as_raw(),
        };
        if !has_capabilities(CapabilitySet::SETUID | CapabilitySet::SETGID) {
            return own;
        }
        let pid = rustix::process::getpid()
            .as_raw_nonzero()
            .get()
            .unsigned_abs();
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let (users, groups) = (read("/proc/self/uid_map"), read("/proc/self/gid_map"));
        [
            FIRST_OUTSIDE.saturating_add(pid),
            FIRST_OUTSIDE_OF_FEW + pid % FEW,
        ]
        .into_iter()
        .find(|number| is_mapped(&users, *number) && is_mapped(&groups, *number))
        .map_or(own, Self::Separate)
    }

    /// Tells the kernel which host user the single user of a new user namespace is.
    pub(crate) fn map_into(self, init: Pid) -> Result<(), Fault> {
        let write = |file: &str, value: String| {
            let path = format!("/proc/{init}/{file}");
            fs::write(&path, &value).during(|| format!("write \"{value}\" to {path}"))
        };
        let (user, group) = match self {
            Self::Separate(number) => (number, number),
            Self::Caller { user, group } => {
                // Demanded by the kernel of a caller without privileges.
                write("setgroups", "deny".into())?;
                (user, group)
            }
        };
        write("uid_map", format!("{INSIDE} {user} 1"))?;
        write("gid_map", format!("{INSIDE} {group} 1"))
    }

    /// Gives the payload's user a pipe, so that `/dev/stdout` and its like can be opened anew.
    pub(crate) fn give(self, pipe: &OwnedFd) -> Result<(), Fault> {
        match self {
            Self::Separate(number) => {
                let (user, group) = (Uid::from_raw(number), Gid::from_raw(number));
                rustix::fs::fchown(pipe, Some(user), Some(group))
                    .during(|| "give the log to the payload's user")
            }
            Self::Caller { .. } => Ok(()),
        }
    }

    /// Becomes the user of a sandbox that has a user namespace, keeping the capabilities in it.
    pub(crate) fn assume_inside(self) -> Result<(), Fault> {
        if matches!(self, Self::Separate(_)) {
            rustix::thread::set_thread_groups(&[]).during(|| "drop the supplementary groups")?;
        }
        assume(INSIDE)
    }

    /// Becomes the user of a sandbox that has no user namespace.
    pub(crate) fn assume_outside(self) -> Result<(), Fault> {
        match self {
            Self::Separate(number) => {
                rustix::thread::set_thread_groups(&[])
                    .during(|| "drop the supplementary groups")?;
                assume(number)
            }
            Self::Caller { .. } => Ok(()),
        }
    }
}

fn assume(number: u32) -> Result<(), Fault> {
    let (user, group) = (Uid::from_raw(number), Gid::from_raw(number));
    rustix::thread::set_thread_res_gid(group, group, group)
        .during(|| format!("become group {number}"))?;
    rustix::thread::set_thread_res_uid(user, user, user).during(|| format!("become user {number}"))
}

/// Whether a line of a map (`inside outside length`) covers `number`.
fn is_mapped(map: &str, number: u32) -> bool {
    map.lines().any(|line| {
        let mut fields = line.split_whitespace().map(str::parse::<u64>);
        let (Some(Ok(first)), Some(Ok(length))) = (fields.next(), fields.nth(1)) else {
            return false;
        };
        (first..first + length).contains(&u64::from(number))
    })
}

/// Whether this process has all these capabilities.
pub(crate) fn has_capabilities(wanted: CapabilitySet) -> bool {
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(wanted))
}

/// Gives up every capability, and the means to get one back by executing a file.
pub(crate) fn drop_capabilities() -> Result<(), Fault> {
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // Above the last capability that this kernel knows.
            Err(rustix::io::Errno::INVAL) => break,
            // Only a privileged process can; for another `no_new_privs` has the same effect.
            Err(rustix::io::Errno::PERM) if !has_capabilities(CapabilitySet::SETPCAP) => break,
            Err(error) => return Err(error).during(|| format!("drop capability {bit}")),
        }
    }
    rustix::thread::clear_ambient_capability_set().during(|| "clear the ambient capabilities")?;
    let none = rustix::thread::CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, none).during(|| "drop all capabilities")
}

#[cfg(test)]
mod tests {
    use super::{FIRST_OUTSIDE, FIRST_OUTSIDE_OF_FEW, is_mapped};

    #[test]
    fn a_number_is_used_only_where_it_is_mapped() {
        let whole = "         0          0 4294967295\n";
        assert!(is_mapped(whole, FIRST_OUTSIDE));
        let container = "0 100000 65536\n";
        assert!(!is_mapped(container, FIRST_OUTSIDE));
        assert!(is_mapped(container, FIRST_OUTSIDE_OF_FEW));
        assert!(!is_mapped("0 1000 1\n", FIRST_OUTSIDE_OF_FEW));
        assert!(!is_mapped("", 0));
    }
}
