//! Numbers of the kernel that a policy states by name. Each kind has one table; a name that is not in
//! it is refused when a policy is read.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use super::call_table;

/// A system call by its name and its number on this architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(into = "String")]
pub struct SystemCall {
    /// The name without prefix, such as `ptrace`.
    pub name: &'static str,
    /// The number on the architecture that this program was built for.
    pub number: i64,
}

impl SystemCall {
    /// The call of this name; `None` if this architecture has none.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        call_table::all().find(|call| call.name == name).copied()
    }

    /// The call of this number, where it has a name here.
    #[must_use]
    pub fn numbered(number: i64) -> Option<Self> {
        call_table::all()
            .find(|call| call.number == number)
            .copied()
    }
}

impl TryFrom<String> for SystemCall {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        Self::named(&name)
            .ok_or_else(|| format!("this architecture has no system call named {name:?}"))
    }
}

impl From<SystemCall> for String {
    fn from(call: SystemCall) -> Self {
        call.name.into()
    }
}

/// Reads a name. Not derived, because serde would take the field for one that borrows from the text.
macro_rules! read_by_name {
    ($type:ident) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::try_from(String::deserialize(deserializer)?).map_err(D::Error::custom)
            }
        }
    };
}

read_by_name!(SystemCall);

/// A type whose values are the rows of a table of names and numbers.
macro_rules! named {
    ($(#[$doc:meta])* $type:ident, $what:literal, [$(($name:literal, $number:expr)),* $(,)?]) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
        #[serde(into = "String")]
        pub struct $type {
            /// The name in a policy.
            pub name: &'static str,
            /// The kernel's number.
            pub number: u64,
        }

        impl $type {
            /// All that have a name.
            pub const ALL: &[Self] = &[$(Self { name: $name, number: $number }),*];

            /// The one of this name.
            #[must_use]
            pub fn named(name: &str) -> Option<Self> {
                Self::ALL.iter().find(|one| one.name == name).copied()
            }
        }

        impl TryFrom<String> for $type {
            type Error = String;

            fn try_from(name: String) -> Result<Self, String> {
                Self::named(&name).ok_or_else(|| {
                    let known: Vec<_> = Self::ALL.iter().map(|one| one.name).collect();
                    format!("{name:?} is no {}; there are {}", $what, known.join(", "))
                })
            }
        }

        read_by_name!($type);

        impl From<$type> for String {
            fn from(one: $type) -> Self {
                one.name.into()
            }
        }
    };
}

/// A number of the C library's, none of which is negative, as the kernel compares it.
const fn unsigned(number: libc::c_int) -> u64 {
    number.unsigned_abs() as u64
}

named!(
    /// A kind of namespace. The time namespace shares its bit with the exit signal of `clone`, can
    /// only be made by `clone3` and `unshare`, and changes nothing that a payload could misuse.
    Namespace,
    "namespace",
    [
        ("user", unsigned(libc::CLONE_NEWUSER)),
        ("mount", unsigned(libc::CLONE_NEWNS)),
        ("process", unsigned(libc::CLONE_NEWPID)),
        ("network", unsigned(libc::CLONE_NEWNET)),
        ("ipc", unsigned(libc::CLONE_NEWIPC)),
        ("uts", unsigned(libc::CLONE_NEWUTS)),
        ("cgroup", unsigned(libc::CLONE_NEWCGROUP)),
    ]
);

named!(
    /// A family of sockets.
    SocketFamily,
    "socket family",
    [
        ("unix", unsigned(libc::AF_UNIX)),
        ("inet", unsigned(libc::AF_INET)),
        ("inet6", unsigned(libc::AF_INET6)),
        ("netlink", unsigned(libc::AF_NETLINK)),
        ("packet", unsigned(libc::AF_PACKET)),
        ("vsock", unsigned(libc::AF_VSOCK)),
    ]
);

named!(
    /// A protocol of netlink sockets.
    NetlinkProtocol,
    "netlink protocol",
    [
        ("route", unsigned(libc::NETLINK_ROUTE)),
        ("sock_diag", unsigned(libc::NETLINK_SOCK_DIAG)),
        ("kobject_uevent", unsigned(libc::NETLINK_KOBJECT_UEVENT)),
        ("generic", unsigned(libc::NETLINK_GENERIC)),
    ]
);

named!(
    /// A protocol of internet sockets.
    InternetProtocol,
    "internet protocol",
    [
        ("default", unsigned(libc::IPPROTO_IP)),
        ("tcp", unsigned(libc::IPPROTO_TCP)),
        ("udp", unsigned(libc::IPPROTO_UDP)),
        ("icmp", unsigned(libc::IPPROTO_ICMP)),
        ("icmpv6", unsigned(libc::IPPROTO_ICMPV6)),
        ("sctp", unsigned(libc::IPPROTO_SCTP)),
    ]
);

/// `TIOCLINUX`, which pastes into a console; the C library does not name it.
const TIOCLINUX: u64 = 0x541C;

named!(
    /// A command of `ioctl`.
    IoctlCommand,
    "ioctl command",
    [
        ("TIOCSTI", libc::TIOCSTI),
        ("TIOCLINUX", TIOCLINUX),
        ("TIOCSETD", libc::TIOCSETD),
    ]
);

#[cfg(test)]
mod tests {
    use super::{SocketFamily, SystemCall, call_table};
    use std::collections::HashSet;

    #[test]
    fn no_call_of_the_table_is_there_twice() {
        let names: HashSet<_> = call_table::all().map(|call| call.name).collect();
        let numbers: HashSet<_> = call_table::all().map(|call| call.number).collect();
        assert_eq!(names.len(), call_table::all().count());
        assert_eq!(numbers.len(), call_table::all().count());
    }

    #[test]
    fn a_call_is_found_by_name_and_by_number_and_a_misspelt_one_is_not() {
        let found = SystemCall::named("ptrace").expect("found");
        assert_eq!(found.number, libc::SYS_ptrace);
        assert_eq!(SystemCall::numbered(found.number), Some(found));
        assert_eq!(SystemCall::named("ptraze"), None);
        let error = SocketFamily::try_from("unx".to_owned()).expect_err("refused");
        assert!(error.contains("unix, inet"), "{error}");
    }
}
