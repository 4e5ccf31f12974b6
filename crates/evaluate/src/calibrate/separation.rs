//! Limits from what was measured: above all that honest runs came to, and as far below the cheats as
//! they allow. Pure: the same runs give the same limits.

use std::collections::BTreeMap;

use crusades_core::hparams::VerificationHparams;

use crate::calibration::{CalibratedLimits, Kind, Margins, MeasuredRun, WeakestCheat};

/// How many times the largest honest value a limit is at least: the honest runs of another machine,
/// another version of PyTorch or other data come to more than those that were measured.
pub const SAFETY: f64 = 3.0;

/// Honest values below this count as this much. Weights of 0.02 that move by 1e-3 in float32 are
/// rounded by 1e-6 of that: a variant that agrees bit for bit here does not do so everywhere.
pub const HONEST_FLOOR: f64 = 1e-6;

/// What the measured runs say.
#[derive(Clone, Debug, PartialEq)]
pub struct Separation {
    /// The limits.
    pub limits: CalibratedLimits,
    /// How far they are from either side.
    pub margins: Margins,
    /// Cheats that are within all limits in some run.
    pub not_found: Vec<String>,
}

/// Draws the limits between honest runs and cheats.
///
/// For each metric the limit is [`SAFETY`] times the largest honest value, or, if that is more, the
/// geometric mean of the largest honest value and of the weakest cheat that is beyond it in every run.
/// Where the steps could not be told apart in any honest run, their limit is the default of the
/// hparams. A cheat counts as found if some metric is beyond its limit in every run.
#[must_use]
pub fn separate(runs: &[MeasuredRun]) -> Separation {
    let update = Limit::of(runs, |run| Some(run.update_error));
    let coefficient = Limit::of(runs, |run| run.coefficient_deviation);
    let limits = CalibratedLimits {
        update_relative_error_max: update.map_or(SAFETY * HONEST_FLOOR, |limit| limit.limit),
        step_coefficient_max_deviation: coefficient
            .map_or_else(default_deviation, |limit| limit.limit),
    };
    let mut not_found = Vec::new();
    let mut weakest_cheat: Option<WeakestCheat> = None;
    for (variant, runs) in by_variant(runs, Kind::Cheat) {
        let over_limit = smallest(runs.iter().map(|run| over_limit(run, &limits)));
        if over_limit <= 1.0 {
            not_found.push(variant.to_owned());
            continue;
        }
        if weakest_cheat
            .as_ref()
            .is_none_or(|weakest| over_limit < weakest.over_limit)
        {
            weakest_cheat = Some(WeakestCheat {
                variant: variant.to_owned(),
                over_limit,
            });
        }
    }
    Separation {
        margins: Margins {
            update_error_over_honest: update.map_or(SAFETY, |limit| limit.over_honest()),
            coefficient_over_honest: coefficient.map(|limit| limit.over_honest()),
            weakest_cheat,
        },
        limits,
        not_found,
    }
}

/// One metric's limit and the largest honest value that it comes from.
#[derive(Clone, Copy, Debug)]
struct Limit {
    limit: f64,
    honest: f64,
}

impl Limit {
    /// The limit of a metric, unless no honest run has it.
    fn of(runs: &[MeasuredRun], metric: impl Fn(&MeasuredRun) -> Option<f64>) -> Option<Self> {
        let honest = runs
            .iter()
            .filter(|run| run.kind == Kind::Honest)
            .filter_map(&metric)
            .reduce(f64::max)?
            .max(HONEST_FLOOR);
        let base = SAFETY * honest;
        let weakest = by_variant(runs, Kind::Cheat)
            .into_values()
            // A run in which the metric could not be had shows nothing.
            .map(|runs| smallest(runs.iter().map(|run| metric(run).unwrap_or(0.0))))
            .filter(|value| *value > base)
            .reduce(f64::min);
        let between = weakest.map_or(base, |weakest| (honest * weakest).sqrt());
        Some(Self {
            limit: base.max(between),
            honest,
        })
    }

    fn over_honest(self) -> f64 {
        self.limit / self.honest
    }
}

/// What a run came to relative to its limit, for the metric that is farthest beyond.
fn over_limit(run: &MeasuredRun, limits: &CalibratedLimits) -> f64 {
    let update = run.update_error / limits.update_relative_error_max;
    let coefficient = run.coefficient_deviation.unwrap_or(0.0);
    update
        .max(coefficient / limits.step_coefficient_max_deviation)
        .max(run.tensor_error_over_limit.unwrap_or(0.0))
}

/// The runs of each variant of this kind.
fn by_variant(runs: &[MeasuredRun], kind: Kind) -> BTreeMap<&str, Vec<&MeasuredRun>> {
    let mut variants: BTreeMap<&str, Vec<&MeasuredRun>> = BTreeMap::new();
    for run in runs.iter().filter(|run| run.kind == kind) {
        variants.entry(&run.variant).or_default().push(run);
    }
    variants
}

fn smallest(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(f64::INFINITY, f64::min)
}

fn default_deviation() -> f64 {
    VerificationHparams::default()
        .step_coefficient_max_deviation
        .unwrap_or(f64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, prop_assert, prop_assert_eq, proptest};

    use super::{HONEST_FLOOR, SAFETY, Separation, separate};
    use crate::calibration::{Kind, MeasuredRun};

    fn run(variant: &str, kind: Kind, update: f64, coefficient: Option<f64>) -> MeasuredRun {
        MeasuredRun {
            variant: variant.to_owned(),
            kind,
            run: 1,
            update_error: update,
            coefficient_deviation: coefficient,
            tensor_error_over_limit: None,
            weight_error: 0.0,
            loss_difference: 0.0,
            logits_difference: None,
            changed_share: 1.0,
        }
    }

    fn honest(update: f64, coefficient: f64) -> MeasuredRun {
        run("honest", Kind::Honest, update, Some(coefficient))
    }

    fn cheat(name: &str, update: f64, coefficient: f64) -> MeasuredRun {
        run(name, Kind::Cheat, update, Some(coefficient))
    }

    #[track_caller]
    fn close(found: f64, expected: f64) {
        assert!((found / expected - 1.0).abs() < 1e-9, "{found} {expected}");
    }

    #[test]
    fn limits_lie_in_the_middle_where_there_is_room() {
        let found = separate(&[
            honest(1e-5, 1e-4),
            honest(2e-6, 4e-5),
            cheat("one", 0.1, 1.0),
            cheat("one", 0.2, 0.9),
            cheat("two", 1e-3, 0.5),
        ]);
        close(found.limits.update_relative_error_max, 1e-4);
        close(
            found.limits.step_coefficient_max_deviation,
            (1e-4_f64 * 0.5).sqrt(),
        );
        close(found.margins.update_error_over_honest, 10.0);
        close(
            found.margins.coefficient_over_honest.unwrap(),
            5000_f64.sqrt(),
        );
        assert!(found.not_found.is_empty());
        // By its steps, which show it best.
        let weakest = found.margins.weakest_cheat.unwrap();
        assert_eq!(weakest.variant, "two");
        close(weakest.over_limit, 0.5 / (1e-4_f64 * 0.5).sqrt());
    }

    #[test]
    fn a_limit_is_never_nearer_to_honest_runs_than_is_safe() {
        // Five times the honest value: the mean would be 2.2 times.
        let found = separate(&[honest(0.01, 0.02), cheat("near", 0.05, 0.1)]);
        close(found.limits.update_relative_error_max, SAFETY * 0.01);
        close(found.margins.update_error_over_honest, SAFETY);
        assert!(found.not_found.is_empty());
        close(
            found.margins.weakest_cheat.unwrap().over_limit,
            5.0 / SAFETY,
        );
    }

    #[test]
    fn a_cheat_that_cannot_be_told_from_honest_runs_is_named_and_moves_no_limit() {
        let apart = [honest(0.01, 0.02), cheat("clear", 0.9, 0.9)];
        let with = |other: MeasuredRun| {
            let mut runs = apart.to_vec();
            runs.push(other);
            separate(&runs)
        };
        let Separation { limits, .. } = separate(&apart);
        let found = with(cheat("hidden", 0.02, 0.03));
        assert_eq!(found.not_found, ["hidden"]);
        assert_eq!(found.limits, limits);
        assert_eq!(found.margins.weakest_cheat.unwrap().variant, "clear");
        // Its twin gives itself away by one tensor.
        let mut by_tensor = cheat("hidden", 0.02, 0.03);
        by_tensor.tensor_error_over_limit = Some(1.5);
        let found = with(by_tensor);
        assert!(found.not_found.is_empty());
        close(found.margins.weakest_cheat.unwrap().over_limit, 1.5);
    }

    #[test]
    fn one_run_within_the_limits_is_enough_not_to_be_found() {
        let twice = |second: MeasuredRun| {
            separate(&[honest(0.01, 0.02), cheat("sometimes", 0.5, 0.5), second])
        };
        assert_eq!(
            twice(cheat("sometimes", 0.01, 0.01)).not_found,
            ["sometimes"]
        );
        assert!(twice(cheat("sometimes", 0.5, 0.01)).not_found.is_empty());
        // By another metric in each run: it is refused all the same.
        let found = separate(&[
            honest(0.01, 0.02),
            cheat("turns", 0.5, 0.0),
            cheat("turns", 0.0, 0.5),
        ]);
        assert!(found.not_found.is_empty());
    }

    #[test]
    fn honest_runs_that_agree_bit_for_bit_leave_room_for_those_that_do_not() {
        let found = separate(&[honest(0.0, 0.0)]);
        close(
            found.limits.update_relative_error_max,
            SAFETY * HONEST_FLOOR,
        );
        close(
            found.limits.step_coefficient_max_deviation,
            SAFETY * HONEST_FLOOR,
        );
        assert_eq!(found.margins.weakest_cheat, None);
    }

    #[test]
    fn steps_that_are_not_told_apart_give_no_limit_of_their_own() {
        let blind = |kind, update| run("blind", kind, update, None);
        let found = separate(&[blind(Kind::Honest, 0.01), cheat("clear", 0.9, 0.9)]);
        assert_eq!(found.margins.coefficient_over_honest, None);
        close(found.limits.step_coefficient_max_deviation, 0.05);
        // A cheat that hides them is found by its update alone, and moves no limit of the steps.
        let found = separate(&[honest(0.01, 0.02), blind(Kind::Cheat, 0.9)]);
        close(found.limits.step_coefficient_max_deviation, SAFETY * 0.02);
        assert!(found.not_found.is_empty());
    }

    proptest! {
        #[test]
        fn no_honest_run_is_ever_beyond_a_limit(
            values in proptest::collection::vec(
                (0..6_usize, 0.0..1.0_f64, proptest::option::of(0.0..1.0_f64)), 1..40)
            .prop_map(|values| values.into_iter().map(|(name, update, coefficient)| {
                let kind = if name < 3 { Kind::Honest } else { Kind::Cheat };
                run(&name.to_string(), kind, update.powi(6), coefficient.map(|c| c.powi(6)))
            }).collect::<Vec<_>>())
        ) {
            let found = separate(&values);
            prop_assert_eq!(&found, &separate(&values));
            let limits = found.limits;
            for run in &values {
                if run.kind == Kind::Honest {
                    prop_assert!(SAFETY * run.update_error <= limits.update_relative_error_max * (1.0 + 1e-12));
                    prop_assert!(run.coefficient_deviation.unwrap_or(0.0)
                        <= limits.step_coefficient_max_deviation);
                }
            }
            for limit in [limits.update_relative_error_max, limits.step_coefficient_max_deviation] {
                prop_assert!(limit.is_finite() && limit > 0.0);
            }
        }
    }
}
