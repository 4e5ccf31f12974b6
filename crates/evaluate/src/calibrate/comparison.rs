//! The fixed limits of some hparams against the honest runs of a calibration: which of them would
//! refuse honest work. Decides nothing about a submission.

use crusades_core::hparams::VerificationHparams;
use serde::Serialize;

use crate::calibration::{Kind, MeasuredRun};

/// One limit and what honest runs came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LimitComparison {
    /// The key in `verification`.
    pub key: &'static str,
    /// Its value.
    pub limit: f64,
    /// What the honest run came to that is nearest to it, or farthest beyond; none where it was not
    /// measured.
    pub worst_honest: Option<f64>,
    /// The variants with a run beyond it, in the order in which they were run.
    pub beyond: Vec<String>,
}

/// Every limit that is set, against all honest runs. Of the logits only the absolute tolerance is
/// compared: a relative one beside it lets large logits differ by more.
#[must_use]
pub fn compare(limits: &VerificationHparams, runs: &[MeasuredRun]) -> Vec<LimitComparison> {
    type Metric = fn(&MeasuredRun) -> Option<f64>;
    let upper: [(&str, Option<f64>, Metric); 6] = [
        ("max_loss_difference", limits.max_loss_difference, |run| {
            Some(run.loss_difference)
        }),
        ("loss_tolerance", limits.loss_tolerance, |run| {
            Some(run.loss_difference)
        }),
        ("logits_atol", limits.logits_atol, |run| {
            run.logits_difference
        }),
        (
            "weight_relative_error_max",
            limits.weight_relative_error_max,
            |run| Some(run.weight_error),
        ),
        (
            "update_relative_error_max",
            limits.update_relative_error_max,
            |run| Some(run.update_error),
        ),
        (
            "step_coefficient_max_deviation",
            limits.step_coefficient_max_deviation,
            |run| run.coefficient_deviation,
        ),
    ];
    let mut compared: Vec<LimitComparison> = upper
        .into_iter()
        .filter_map(|(key, limit, metric)| {
            let limit = limit?;
            Some(against(key, limit, runs, metric, f64::max, |value| {
                value > limit
            }))
        })
        .collect();
    compared.extend(limits.min_params_changed_ratio.map(|limit| {
        against(
            "min_params_changed_ratio",
            limit,
            runs,
            |run| Some(run.changed_share),
            f64::min,
            |value| value < limit,
        )
    }));
    compared
}

fn against(
    key: &'static str,
    limit: f64,
    runs: &[MeasuredRun],
    metric: fn(&MeasuredRun) -> Option<f64>,
    worse: fn(f64, f64) -> f64,
    is_beyond: impl Fn(f64) -> bool,
) -> LimitComparison {
    let honest = || runs.iter().filter(|run| run.kind == Kind::Honest);
    let mut beyond: Vec<String> = Vec::new();
    for run in honest().filter(|run| metric(run).is_some_and(&is_beyond)) {
        if !beyond.contains(&run.variant) {
            beyond.push(run.variant.clone());
        }
    }
    LimitComparison {
        key,
        limit,
        worst_honest: honest().filter_map(metric).reduce(worse),
        beyond,
    }
}

#[cfg(test)]
mod tests {
    use crusades_core::hparams::{Profile, VerificationHparams};

    use super::{LimitComparison, compare};
    use crate::calibration::{Kind, MeasuredRun};

    fn run(variant: &str, kind: Kind) -> MeasuredRun {
        MeasuredRun {
            variant: variant.to_owned(),
            kind,
            run: 1,
            update_error: 0.04,
            coefficient_deviation: Some(0.02),
            tensor_error_over_limit: None,
            weight_error: 0.0006,
            loss_difference: 0.03,
            logits_difference: Some(0.008),
            changed_share: 0.99,
        }
    }

    fn beyond(compared: &[LimitComparison]) -> Vec<(&str, usize)> {
        compared
            .iter()
            .filter(|limit| !limit.beyond.is_empty())
            .map(|limit| (limit.key, limit.beyond.len()))
            .collect()
    }

    #[test]
    fn each_profile_shows_which_of_its_limits_honest_runs_would_break() {
        let mut forgetful = run("b", Kind::Honest);
        forgetful.changed_share = 0.6;
        let mut gone = run("cheat", Kind::Cheat);
        gone.update_error = 1.0;
        let runs = [
            run("a", Kind::Honest),
            run("a", Kind::Honest),
            forgetful,
            gone,
        ];
        let crusades = compare(&VerificationHparams::of(Profile::Crusades), &runs);
        assert_eq!(beyond(&crusades), [("min_params_changed_ratio", 1)]);
        let update = crusades
            .iter()
            .find(|limit| limit.key == "update_relative_error_max")
            .unwrap();
        assert_eq!((update.limit, update.worst_honest), (0.05, Some(0.04)));
        let tournament = compare(&VerificationHparams::of(Profile::Tournament), &runs);
        assert_eq!(
            beyond(&tournament),
            [("loss_tolerance", 2), ("logits_atol", 2)]
        );
        assert_eq!(tournament.len(), 4);
    }
}
