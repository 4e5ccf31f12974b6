//! What else the machine does while a run is timed.

use std::fs;

/// CPU time that the machine has spent since it started, in seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuLoad {
    busy: f64,
    total: f64,
}

/// Fields of the first line of `/proc/stat` (proc_stat(5)): user, nice, system, idle, iowait, irq,
/// softirq, steal. Time stolen by other virtual machines counts as busy; guest time is part of user.
const FIELDS: usize = 8;
const IDLE: [usize; 2] = [3, 4];

impl CpuLoad {
    /// The counters as they are now; none where `/proc/stat` cannot be read.
    #[must_use]
    pub(crate) fn now() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/stat").ok()?)
    }

    fn parse(stat: &str) -> Option<Self> {
        // Ticks of USER_HZ, which is 100 on every architecture that is supported here.
        let mut seconds = [0.0; FIELDS];
        let mut words = stat
            .lines()
            .next()?
            .strip_prefix("cpu ")?
            .split_whitespace();
        for value in &mut seconds {
            *value = words.next()?.parse::<f64>().ok()? / 100.0;
        }
        let total: f64 = seconds.iter().sum();
        let idle: f64 = IDLE.iter().map(|&field| seconds[field]).sum();
        Some(Self {
            busy: total - idle,
            total,
        })
    }

    /// Share of the machine's CPU time between two readings that went to anything but
    /// `own_seconds`. None if one reading is missing or no time has passed.
    #[must_use]
    pub(crate) fn foreign_share(
        before: Option<Self>,
        after: Option<Self>,
        own_seconds: Option<f64>,
    ) -> Option<f64> {
        let (before, after, own) = (before?, after?, own_seconds?);
        let total = after.total - before.total;
        if total <= 0.0 {
            return None;
        }
        Some(((after.busy - before.busy - own) / total).clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::CpuLoad;

    #[test]
    fn what_is_neither_idle_nor_our_own_is_foreign() {
        let before = CpuLoad::parse("cpu  100 0 100 1000 0 0 0 0 0 0\ncpu0 1").unwrap();
        let after = CpuLoad::parse("cpu  500 0 100 1200 0 0 0 200 0 0\n").unwrap();
        // 8 s in all: 2 s idle, 6 s busy.
        let share = |own| CpuLoad::foreign_share(Some(before), Some(after), own).unwrap();
        assert!((share(Some(4.0)) - 0.25).abs() < 1e-12);
        assert!(share(Some(6.0)).abs() < 1e-12);
        assert!(share(Some(7.0)).abs() < 1e-12);
        assert!(CpuLoad::foreign_share(Some(before), Some(before), Some(0.0)).is_none());
        assert!(CpuLoad::foreign_share(Some(before), Some(after), None).is_none());
    }

    #[test]
    fn text_that_is_no_stat_is_not_understood() {
        assert!(CpuLoad::parse("").is_none());
        assert!(CpuLoad::parse("cpu  1 2 3").is_none());
        assert!(CpuLoad::parse("intr 1 2 3 4 5 6 7 8").is_none());
        assert!(CpuLoad::now().is_some());
    }
}
