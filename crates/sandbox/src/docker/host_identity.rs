//! Which process something belongs to, in a form that survives it: its number, when it was started, and
//! where that number counts. A number alone is used again; what belongs to a process that cannot be
//! seen from here is never taken for abandoned.

use std::fs;

use crate::native::start_ticks;

/// A process that has, or had, sandboxes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostIdentity {
    pub(crate) pid: u32,
    /// In clock ticks since the machine was started; zero if it had ended before it was asked.
    pub(crate) start_ticks: u64,
    /// The process namespace in which the number counts, and the start of the machine.
    pub(crate) scope: String,
}

impl HostIdentity {
    /// The process with this number here.
    pub(crate) fn of(pid: u32) -> Self {
        Self {
            pid,
            start_ticks: start_ticks(pid).unwrap_or(0),
            scope: own_scope(),
        }
    }

    /// The identity that [`Self::to_text`] has written.
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let mut fields = text.splitn(3, '-');
        Some(Self {
            pid: fields.next()?.parse().ok()?,
            start_ticks: fields.next()?.parse().ok()?,
            scope: fields.next()?.to_owned(),
        })
    }

    /// Digits, hexadecimal digits and dashes.
    pub(crate) fn to_text(&self) -> String {
        format!("{}-{}-{}", self.pid, self.start_ticks, self.scope)
    }

    /// Whether this process is known to have ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.scope == own_scope() && start_ticks(self.pid) != Some(self.start_ticks)
    }
}

/// The process namespace of this process and the start of the machine, as `123.0123abcd`.
fn own_scope() -> String {
    let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let number: String = namespace
        .to_string_lossy()
        .chars()
        .filter(char::is_ascii_digit)
        .collect();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let boot = boot.split('-').next().unwrap_or_default();
    format!("{number}.{boot}")
}

#[cfg(test)]
mod tests {
    use super::HostIdentity;

    #[test]
    fn a_process_that_ended_or_whose_number_was_used_again_is_known_and_a_living_one_is_not() {
        let own = HostIdentity::of(std::process::id());
        assert!(!own.has_ended());
        let earlier = HostIdentity {
            start_ticks: own.start_ticks - 1,
            ..own.clone()
        };
        assert!(earlier.has_ended());
        let mut child = std::process::Command::new("/bin/true")
            .spawn()
            .expect("start");
        let ended = HostIdentity::of(child.id());
        child.wait().expect("reap");
        assert!(ended.has_ended());
    }

    #[test]
    fn a_process_of_elsewhere_is_not_taken_for_ended() {
        let elsewhere = HostIdentity {
            scope: "1.0".into(),
            start_ticks: 0,
            ..HostIdentity::of(std::process::id())
        };
        assert!(!elsewhere.has_ended());
    }

    #[test]
    fn the_text_is_read_again_and_another_is_not() {
        let own = HostIdentity::of(std::process::id());
        assert_eq!(HostIdentity::from_text(&own.to_text()), Some(own));
        for text in ["", "1", "1-2", "x-2-3.4"] {
            assert_eq!(HostIdentity::from_text(text), None, "{text}");
        }
    }
}
