//! Which vector instructions the comparisons are compiled for, and the choice among them when
//! they run.
//!
//! The same source is compiled once for each set, so all of them make the same operations in the
//! same order: Rust neither reorders floating-point additions nor fuses them with
//! multiplications, whatever the processor could do. A wider set changes the speed and no bit.

/// A piece of work that is compiled for each set of instructions. `run`, and all that it calls
/// in its loops, must be `#[inline(always)]`: what is not inlined stays compiled for the baseline.
pub(crate) trait Kernel {
    type Output;

    fn run(self) -> Self::Output;
}

/// A set of vector instructions that this processor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instructions(Set);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    /// What every processor of the compilation's target has.
    Baseline,
    /// 256 bits: x86-64 since 2013.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// 512 bits.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Instructions {
    /// The widest set that this processor has.
    pub(crate) fn widest() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if has_avx512() {
                return Self(Set::Avx512);
            }
            if has_avx2() {
                return Self(Set::Avx2);
            }
        }
        Self(Set::Baseline)
    }

    /// Every set that this processor has, the baseline first.
    #[cfg(test)]
    pub(crate) fn available() -> Vec<Self> {
        let mut sets = vec![Self(Set::Baseline)];
        #[cfg(target_arch = "x86_64")]
        {
            if has_avx2() {
                sets.push(Self(Set::Avx2));
            }
            if has_avx512() {
                sets.push(Self(Set::Avx512));
            }
        }
        sets
    }

    /// Runs `kernel` as it was compiled for this set.
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self.0 {
            Set::Baseline => kernel.run(),
            // SAFETY: the value exists only where `has_avx2` found these instructions.
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => unsafe { run_with_avx2(kernel) },
            // SAFETY: the value exists only where `has_avx512` found these instructions.
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => unsafe { run_with_avx512(kernel) },
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2")
}

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    has_avx2()
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn run_with_avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl")]
fn run_with_avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run()
}
