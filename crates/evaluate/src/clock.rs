//! The host's clocks. No submission can reach them.

use rustix::time::{ClockId, Timespec, clock_gettime};

/// A point in time on two clocks of the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Instant {
    monotonic: Timespec,
    raw: Timespec,
}

impl Instant {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        Self {
            monotonic: clock_gettime(ClockId::Monotonic),
            raw: clock_gettime(ClockId::MonotonicRaw),
        }
    }

    /// From this point until `end`.
    #[must_use]
    pub fn until(self, end: Self) -> Span {
        Span {
            monotonic_seconds: seconds_between(self.monotonic, end.monotonic),
            raw_seconds: seconds_between(self.raw, end.raw),
        }
    }
}

/// A length of time on two clocks: CLOCK_MONOTONIC, which time servers may slew by at most 0.05 %,
/// and CLOCK_MONOTONIC_RAW, which nothing adjusts. A larger difference means that the machine's
/// time cannot be relied on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    monotonic_seconds: f64,
    raw_seconds: f64,
}

impl Span {
    /// Seconds, by CLOCK_MONOTONIC.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.monotonic_seconds
    }

    /// Seconds, by CLOCK_MONOTONIC_RAW.
    #[must_use]
    pub fn raw_seconds(&self) -> f64 {
        self.raw_seconds
    }

    /// Relative difference of the two clocks; 0 for an empty span.
    #[must_use]
    pub fn divergence(&self) -> f64 {
        let longer = self.monotonic_seconds.max(self.raw_seconds);
        if longer <= 0.0 {
            return 0.0;
        }
        (self.monotonic_seconds - self.raw_seconds).abs() / longer
    }

    /// A span with these lengths.
    #[cfg(test)]
    pub(crate) fn new(monotonic_seconds: f64, raw_seconds: f64) -> Self {
        Self {
            monotonic_seconds,
            raw_seconds,
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "seconds of uptime and nanoseconds are below 2^53"
)]
fn seconds_between(start: Timespec, end: Timespec) -> f64 {
    (end.tv_sec - start.tv_sec) as f64 + (end.tv_nsec - start.tv_nsec) as f64 * 1e-9
}

#[cfg(test)]
mod tests {
    use super::{Instant, Span};

    #[test]
    fn two_clocks_of_a_sound_machine_agree() {
        let start = Instant::now();
        std::thread::sleep(std::time::Duration::from_millis(50));
        let span = start.until(Instant::now());
        assert!((0.05..5.0).contains(&span.seconds()));
        assert!(span.divergence() < 0.005, "{span:?}");
    }

    #[test]
    fn clocks_that_differ_by_a_hundredth_diverge_by_a_hundredth() {
        assert!((Span::new(1.0, 0.99).divergence() - 0.01).abs() < 1e-12);
        assert!((Span::new(0.99, 1.0).divergence() - 0.01).abs() < 1e-12);
        assert!(Span::new(0.0, 0.0).divergence() < 1e-12);
    }
}
