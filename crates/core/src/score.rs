//! From the time of a run to the score of a submission.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::hparams::Metric;

/// What one run computed, and how long that took by the host's clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// Number of trained parameters of the model.
    pub parameters: u64,
    /// Tokens that were trained on: batch size * sequence length * steps * data-parallel size.
    pub unique_tokens: u64,
    /// Seconds between the release of the first batch and the stop.
    pub wall_seconds: f64,
    /// Number of accelerators (1 on a CPU).
    pub num_gpus: u32,
}

impl Work {
    /// Tokens per second.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts below 2^53 are exact")]
    pub fn tokens_per_second(&self) -> f64 {
        self.unique_tokens as f64 / self.wall_seconds
    }

    /// Model FLOPs utilisation in percent of `peak_tflops` (dense TFLOP/s of one device), with
    /// 6 FLOPs per parameter and token: 2 in the forward and 4 in the backward pass (Kaplan et
    /// al. 2020, arXiv:2001.08361, section 2.1; attention is left out).
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts below 2^53 are exact")]
    pub fn mfu(&self, peak_tflops: f64) -> f64 {
        let flops = 6.0 * self.parameters as f64 * self.unique_tokens as f64;
        100.0 * flops / (self.wall_seconds * peak_tflops * 1e12 * f64::from(self.num_gpus))
    }
}

/// The score of a submission by one validator.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Score {
    /// What is measured.
    pub metric: Metric,
    /// The lower median over the successful runs: percent for MFU, tokens per second for TPS.
    pub value: f64,
    /// Runs that passed every check.
    pub successful_runs: u32,
    /// Runs that were made.
    pub runs: u32,
}

/// Why a submission has no score.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
pub enum ScoreError {
    /// Too many runs failed.
    #[error("{successes} of {runs} runs succeeded, and at least {needed:.0} % must")]
    SuccessRate {
        /// Runs that passed every check.
        successes: u32,
        /// Runs that were made.
        runs: u32,
        /// The needed share in percent.
        needed: f64,
    },
}

/// The lower median: of an even number of values the smaller of the two in the middle, so that the
/// score is always one that was measured. `None` for no values; NaN sorts last.
#[must_use]
pub fn lower_median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().checked_sub(1)? / 2).copied()
}

/// The score from the values of the successful runs out of `runs` planned ones.
///
/// # Errors
/// [`ScoreError::SuccessRate`] if no run, or a smaller share than `min_success_rate`, succeeded.
pub fn submission_score(
    metric: Metric,
    successful: &[f64],
    runs: u32,
    min_success_rate: f64,
) -> Result<Score, ScoreError> {
    let successes = u32::try_from(successful.len()).unwrap_or(u32::MAX);
    let enough = f64::from(successes) >= min_success_rate * f64::from(runs);
    match lower_median(successful) {
        Some(value) if enough => Ok(Score {
            metric,
            value,
            successful_runs: successes,
            runs,
        }),
        _ => Err(ScoreError::SuccessRate {
            successes,
            runs,
            needed: 100.0 * min_success_rate,
        }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Work, lower_median, submission_score};
    use crate::hparams::Metric;

    #[test]
    fn mfu_is_the_share_of_the_peak() {
        // 10^9 parameters on 10^6 tokens are 6 * 10^15 FLOPs; in 10 s on 4 devices of 300 TFLOP/s
        // (1.2 * 10^16 FLOPs) that is one half.
        let work = Work {
            parameters: 1_000_000_000,
            unique_tokens: 1_000_000,
            wall_seconds: 10.0,
            num_gpus: 4,
        };
        assert!((work.mfu(300.0) - 50.0).abs() < 1e-12);
        assert!((work.tokens_per_second() - 100_000.0).abs() < 1e-9);
    }

    #[test]
    fn the_lower_median_is_a_measured_value() {
        assert_eq!(lower_median(&[]), None);
        assert_eq!(lower_median(&[3.0]), Some(3.0));
        assert_eq!(lower_median(&[4.0, 1.0]), Some(1.0));
        assert_eq!(lower_median(&[5.0, 1.0, 4.0, 2.0]), Some(2.0));
        assert_eq!(lower_median(&[5.0, 1.0, 4.0]), Some(4.0));
    }

    #[test]
    fn half_of_the_runs_suffices_and_fewer_do_not() {
        let score = submission_score(Metric::Mfu, &[40.0, 42.0], 4, 0.5).unwrap();
        assert_eq!((score.value, score.successful_runs), (40.0, 2));
        assert!(submission_score(Metric::Mfu, &[40.0, 42.0], 5, 0.5).is_err());
        assert!(submission_score(Metric::Mfu, &[], 5, 0.0).is_err());
    }

    proptest! {
        #[test]
        fn the_lower_median_has_at_least_half_of_the_values_at_or_above(values in prop::collection::vec(-1e9..1e9_f64, 1..40)) {
            let median = lower_median(&values).unwrap();
            let at_or_above = values.iter().filter(|value| **value >= median).count();
            prop_assert!(values.contains(&median));
            prop_assert!(2 * at_or_above >= values.len());
        }
    }
}
