//! Whether the final weights are those of the training that was asked for: complete, of the model's
//! form, finite, trained, moved as the reference's were, and by every step.

use crusades_core::ErrorCode;
use crusades_numerics::{Attribution, Obstacle, TensorBytes, WeightComparison, compare_weights};

use crate::checks::{Checks, Shown};
use crate::failure::{self, PartShare};
use crate::protocol::TensorForm;
use crate::report::{StepShare, TensorRecord, WeightsRecord};
use crate::verdict::{Evidence, VerdictError};

/// What an incomplete or misshapen state leaves unmade.
const MISFIT: &str = "the final state does not fit";

/// Makes the checks of the final weights, and returns what was measured of them, if they fit.
pub(crate) fn check_weights(
    evidence: &Evidence<'_>,
    checks: &mut Checks,
) -> Result<Option<WeightsRecord>, VerdictError> {
    if !check_form(evidence, checks) {
        checks.not_made("final_state_finite", ErrorCode::WeightNan, MISFIT);
        check_trainable(evidence, checks);
        for (name, code) in [
            ("params_changed", ErrorCode::InsufficientParamsChanged),
            ("weight_relative_error", ErrorCode::WeightMismatch),
            ("update_relative_error", ErrorCode::UpdateMismatch),
            ("tensor_update_error", ErrorCode::UpdateMismatch),
            ("step_coefficients", ErrorCode::UpdateMismatch),
            ("sketch_update_error", ErrorCode::UpdateMismatch),
            ("sketch_step_coefficients", ErrorCode::UpdateMismatch),
        ] {
            checks.not_made(name, code, MISFIT);
        }
        return Ok(None);
    }
    let measured = Measured::of(evidence)?;
    checks.limit(
        "final_state_finite",
        ErrorCode::WeightNan,
        Shown::text(match measured.non_finite {
            0 => "all finite".to_owned(),
            count => format!("{} are not", failure::grouped(count)),
        }),
        Shown::text("all finite"),
        measured.non_finite == 0,
        || failure::not_finite(measured.non_finite, measured.elements),
    );
    if let Some(agrees) = measured.dump_agrees {
        let shown = if agrees {
            "as answered"
        } else {
            "something else"
        };
        checks.limit(
            "dump_agrees",
            ErrorCode::WeightMismatch,
            Shown::text(shown),
            Shown::text("as answered"),
            agrees,
            failure::dump_differs,
        );
    }
    check_trainable(evidence, checks);
    check_changed(evidence, &measured, checks);
    check_errors(evidence, &measured, checks);
    check_tensors(evidence, &measured, checks);
    check_steps(evidence, &measured, checks);
    check_sketches(evidence, &measured, checks);
    Ok(Some(measured.into_record(evidence)))
}

/// The final state: every tensor is there, with the dtype and shape of the model's.
fn check_form(evidence: &Evidence<'_>, checks: &mut Checks) -> bool {
    let slots = evidence.layout.slots();
    let found = &evidence.answer.tensors;
    let missing: Vec<&str> = slots
        .iter()
        .enumerate()
        .filter(|(index, _)| found.get(*index).is_none_or(Option::is_none))
        .map(|(_, slot)| slot.name.as_str())
        .collect();
    checks.limit(
        "final_state_complete",
        ErrorCode::IncompleteFinalState,
        Shown::text(format!(
            "{} of {} tensors",
            slots.len() - missing.len(),
            slots.len()
        )),
        Shown::text("all"),
        missing.is_empty(),
        || failure::incomplete_state(&missing, slots.len()),
    );
    let misfits: Vec<(&str, &TensorForm, String)> = slots
        .iter()
        .zip(found)
        .filter_map(|(slot, form)| Some((slot, form.as_ref()?)))
        .filter(|(slot, form)| form.dtype != slot.dtype || form.shape != slot.shape)
        .map(|(slot, form)| {
            (
                slot.name.as_str(),
                form,
                failure::form(&slot.dtype, &slot.shape),
            )
        })
        .collect();
    checks.limit(
        "final_state_form",
        ErrorCode::InvalidFinalStateShape,
        Shown::text(if misfits.is_empty() {
            "as the model's".to_owned()
        } else {
            format!("{} differ", misfits.len())
        }),
        Shown::text("as the model's"),
        misfits.is_empty(),
        || failure::state_form(&misfits),
    );
    missing.is_empty() && misfits.is_empty()
}

fn check_trainable(evidence: &Evidence<'_>, checks: &mut Checks) {
    let trainable = evidence.answer.trainable_parameters;
    checks.limit(
        "trainable_parameters",
        ErrorCode::InsufficientTrainableParams,
        Shown::number(percent(trainable, evidence.parameters), " %"),
        Shown::number(100.0, " %"),
        trainable == evidence.parameters,
        || failure::frozen(evidence.parameters, trainable),
    );
}

/// What was measured of weights that fit: of the sample, or of all where all are there.
#[derive(Debug)]
pub(crate) struct Measured {
    /// Elements that were looked at.
    elements: u64,
    /// Those of them that are NaN or infinite.
    non_finite: u64,
    /// Share of elements that the submission changed.
    changed: f64,
    /// Share of elements that the reference changed.
    reference_changed: f64,
    /// ‖w - w_ref‖ / ‖w_ref‖.
    weight_error: f64,
    /// ‖Δw - Δw_ref‖ / ‖Δw_ref‖.
    update_error: f64,
    /// Of each tensor its update error, and whether the reference moved it at all.
    tensors: Vec<(f64, bool)>,
    /// What the sample says of the steps.
    attribution: Attribution,
    /// What the sketches say of steps and errors.
    sketch: Option<Attribution>,
    /// Whether all weights, where they are there, agree with the answer.
    dump_agrees: Option<bool>,
}

impl Measured {
    fn of(evidence: &Evidence<'_>) -> Result<Self, VerdictError> {
        let layout = evidence.question.layout();
        let all: Vec<TensorBytes<'_>> = (0..layout.slots().len())
            .map(|place| layout.tensor(evidence.results, place))
            .collect();
        let (answered, sketches) = all.split_at(evidence.question.populations().len());
        let attribution = evidence.reference.basis.attribute(answered)?;
        let basis = evidence.reference.sketch_basis.as_ref();
        let sketch = basis.map(|basis| basis.attribute(sketches)).transpose()?;
        let non_finite_sketch = sketch.as_ref().map_or(0, |sketch| sketch.non_finite);
        let (Some(dump), Some(reference)) = (evidence.dump, evidence.reference.dump.as_deref())
        else {
            return Ok(Self {
                elements: evidence.question.elements(),
                non_finite: attribution.non_finite + non_finite_sketch,
                changed: attribution.changed_ratio,
                reference_changed: attribution.reference_changed_ratio,
                weight_error: attribution.weight_error,
                update_error: attribution.update_error,
                tensors: attribution
                    .tensors
                    .iter()
                    .map(|tensor| (tensor.update_error, tensor.reference_changed_ratio > 0.0))
                    .collect(),
                attribution,
                sketch,
                dump_agrees: None,
            });
        };
        let again = evidence
            .reference
            .question
            .gather(evidence.layout, dump, layout);
        let agrees = answered
            .iter()
            .enumerate()
            .all(|(index, answered)| answered.bytes == layout.tensor(&again, index).bytes);
        let mut total = WeightComparison::default();
        // Without the tensors whose update is noise alone.
        let mut attributed = WeightComparison::default();
        let mut tensors = Vec::with_capacity(answered.len());
        for index in 0..answered.len() {
            let comparison = compare_weights(
                evidence.layout.tensor(evidence.initial, index),
                evidence.layout.tensor(reference, index),
                evidence.layout.tensor(dump, index),
            )?;
            tensors.push((
                comparison.update_relative_error(),
                comparison.reference_changed > 0,
            ));
            total = total.merge(comparison);
            if evidence.limits.attributed(index) {
                attributed = attributed.merge(comparison);
            }
        }
        Ok(Self {
            elements: total.elements,
            non_finite: total.non_finite + attribution.non_finite + non_finite_sketch,
            changed: total.changed_ratio(),
            reference_changed: total.reference_changed_ratio(),
            weight_error: attributed.weight_relative_error(),
            update_error: attributed.update_relative_error(),
            tensors,
            attribution,
            sketch,
            dump_agrees: Some(agrees),
        })
    }

    /// Changed elements, as a share of those that the reference changed.
    fn changed_share(&self) -> f64 {
        if self.changed >= self.reference_changed {
            1.0
        } else {
            self.changed / self.reference_changed
        }
    }

    fn into_record(self, evidence: &Evidence<'_>) -> WeightsRecord {
        let finite = |value: f64| value.is_finite().then_some(value);
        let after = &evidence.reference.after_steps;
        WeightsRecord {
            elements: self.elements,
            all: self.dump_agrees.is_some(),
            update_error: finite(self.update_error),
            weight_error: finite(self.weight_error),
            changed_share: self.changed_share(),
            residual: finite(self.attribution.residual),
            sketch_update_error: self
                .sketch
                .as_ref()
                .and_then(|sketch| finite(sketch.update_error)),
            steps: self
                .attribution
                .coefficients
                .iter()
                .flatten()
                .zip(after.windows(2))
                .map(|(share, bounds)| StepShare {
                    first: bounds[0] + 1,
                    last: bounds[1],
                    share: *share,
                })
                .collect(),
            tensors: evidence
                .layout
                .slots()
                .iter()
                .zip(&self.tensors)
                .map(|(slot, (error, _))| TensorRecord {
                    name: slot.name.clone(),
                    update_error: finite(*error),
                })
                .collect(),
        }
    }
}

fn check_changed(evidence: &Evidence<'_>, measured: &Measured, checks: &mut Checks) {
    let share = measured.changed_share();
    let shown = Shown::number(100.0 * share, " % of the reference's");
    match evidence.hparams.verification.min_params_changed_ratio {
        Some(limit) => checks.limit(
            "params_changed",
            ErrorCode::InsufficientParamsChanged,
            shown,
            Shown::number(100.0 * limit, " % at least"),
            share >= limit,
            || failure::unchanged(measured.changed, measured.reference_changed, limit),
        ),
        None => checks.not_required("params_changed", shown),
    }
}

fn check_errors(evidence: &Evidence<'_>, measured: &Measured, checks: &mut Checks) {
    let weight_error = measured.weight_error;
    match evidence.hparams.verification.weight_relative_error_max {
        Some(limit) => checks.limit(
            "weight_relative_error",
            ErrorCode::WeightMismatch,
            Shown::number(weight_error, ""),
            Shown::number(limit, ""),
            weight_error <= limit,
            || failure::weights(weight_error, limit),
        ),
        None => checks.not_required("weight_relative_error", Shown::number(weight_error, "")),
    }
    let update_error = measured.update_error;
    match evidence.limits.update_error {
        Some(limit) => checks.limit(
            "update_relative_error",
            ErrorCode::UpdateMismatch,
            Shown::number(update_error, ""),
            Shown::number(limit, ""),
            update_error <= limit,
            || failure::update(update_error, limit, &steps_in_words(evidence, measured)),
        ),
        None => checks.not_required("update_relative_error", Shown::number(update_error, "")),
    }
}

/// The update of each tensor by itself, where a calibration says what noise it has. A tensor that the
/// reference left where it was has no error of its own: any rounding would be infinitely much of
/// nothing. It counts in the error of all.
fn check_tensors(evidence: &Evidence<'_>, measured: &Measured, checks: &mut Checks) {
    const NAME: &str = "tensor_update_error";
    let slots = evidence.layout.slots();
    let worst = measured
        .tensors
        .iter()
        .enumerate()
        .filter(|(_, (_, moved))| *moved)
        .filter_map(|(index, (error, _))| {
            Some((index, *error, evidence.limits.tensor_error(index)?))
        })
        .max_by(|(_, left, left_limit), (_, right, right_limit)| {
            (left / left_limit).total_cmp(&(right / right_limit))
        });
    let Some((index, error, limit)) = worst else {
        checks.not_required(NAME, Shown::text("no calibration"));
        return;
    };
    let name = slots[index].name.as_str();
    checks.limit(
        NAME,
        ErrorCode::UpdateMismatch,
        Shown {
            value: error.is_finite().then_some(error),
            text: format!("{} ({name})", failure::significant(error)),
        },
        Shown::number(limit, ""),
        error <= limit,
        || failure::tensor_update(name, error, limit),
    );
}

/// What each step of the reference has contributed to the submission's update.
fn check_steps(evidence: &Evidence<'_>, measured: &Measured, checks: &mut Checks) {
    let limit = evidence.limits.coefficient_deviation;
    let parts = || steps_in_words(evidence, measured);
    check_coefficients(
        evidence,
        "step_coefficients",
        &measured.attribution,
        limit,
        parts,
        checks,
    );
}

/// Sketches show about the error that they stand for. An honest run is three times below the limit of
/// the update error, and would have to show six times its own.
const SKETCH_SLACK: f64 = 2.0;

/// Coefficients from sketches are off by a tenth at most, or are not given; those of a step that was
/// left out, but for what nobody could know would be asked, by 1.
const SKETCH_COEFFICIENT_DEVIATION: f64 = 0.5;

/// The same errors and shares as of the sample, as the sketches of whole tensors show them.
fn check_sketches(evidence: &Evidence<'_>, measured: &Measured, checks: &mut Checks) {
    const NAME: &str = "sketch_update_error";
    let Some(sketch) = &measured.sketch else {
        checks.not_required(NAME, Shown::text("the sample is whole"));
        checks.not_required(
            "sketch_step_coefficients",
            Shown::text("the sample is whole"),
        );
        return;
    };
    let error = sketch.update_error;
    match evidence.limits.update_error {
        Some(limit) => {
            let limit = SKETCH_SLACK * limit;
            checks.limit(
                NAME,
                ErrorCode::UpdateMismatch,
                Shown::number(error, ""),
                Shown::number(limit, ""),
                error <= limit,
                || failure::sketch(error, limit),
            );
        }
        None => checks.not_required(NAME, Shown::number(error, "")),
    }
    let limit = evidence.limits.coefficient_deviation;
    check_coefficients(
        evidence,
        "sketch_step_coefficients",
        sketch,
        limit.map(|limit| limit.max(SKETCH_COEFFICIENT_DEVIATION)),
        Vec::new,
        checks,
    );
}

/// The coefficient that is farthest from 1, with the index of its part.
fn worst_coefficient(attribution: &Attribution) -> Option<(usize, f64)> {
    let coefficients = attribution.coefficients.as_ref()?;
    coefficients
        .iter()
        .copied()
        .enumerate()
        .max_by(|(_, left), (_, right)| (left - 1.0).abs().total_cmp(&(right - 1.0).abs()))
}

/// That every step has contributed its part, by one of the two ways to tell; `parts` lists those that
/// have not.
fn check_coefficients(
    evidence: &Evidence<'_>,
    name: &str,
    attribution: &Attribution,
    limit: Option<f64>,
    parts: impl FnOnce() -> Vec<PartShare>,
    checks: &mut Checks,
) {
    let Some((index, coefficient)) = worst_coefficient(attribution) else {
        let why = match attribution.conditioning.obstacles().next() {
            Some((index, obstacle)) => format!(
                "{} cannot be told apart: {}",
                steps(evidence, index),
                match obstacle {
                    Obstacle::NoUpdate => "the reference did not move",
                    Obstacle::Collinear => "it moves as others do",
                    Obstacle::LostInNoise => "its update is too small",
                }
            ),
            None => "not all weights are finite".to_owned(),
        };
        checks.not_made(name, ErrorCode::UpdateMismatch, &why);
        return;
    };
    let deviation = (coefficient - 1.0).abs();
    let shown = Shown {
        value: Some(deviation),
        text: format!(
            "{} ({}: {})",
            failure::significant(deviation),
            steps(evidence, index),
            failure::significant(coefficient)
        ),
    };
    match limit {
        Some(limit) => checks.limit(
            name,
            ErrorCode::UpdateMismatch,
            shown,
            Shown::number(limit, ""),
            deviation <= limit,
            || failure::steps(&steps(evidence, index), coefficient, limit, &parts()),
        ),
        None => checks.not_required(name, shown),
    }
}

/// Which steps part number `index` of the training is, such as "step 17 of 20".
fn steps(evidence: &Evidence<'_>, index: usize) -> String {
    let after = &evidence.reference.after_steps;
    let (Some(before), Some(last)) = (after.get(index), after.get(index + 1)) else {
        return "a step".to_owned();
    };
    let all = evidence.hparams.eval_steps;
    if before + 1 == *last {
        format!("step {last} of {all}")
    } else {
        format!("steps {} to {last} of {all}", before + 1)
    }
}

/// Most steps that are listed in a failure.
const MOST_LISTED: usize = 5;

/// The parts that contributed too little or too much, those that are farthest off, in order.
fn steps_in_words(evidence: &Evidence<'_>, measured: &Measured) -> Vec<PartShare> {
    let limit = evidence.limits.coefficient_deviation.unwrap_or(0.0);
    let deviation = |share: f64| (share - 1.0).abs();
    let coefficients = measured.attribution.coefficients.iter().flatten();
    let mut parts: Vec<(usize, f64)> = coefficients
        .copied()
        .enumerate()
        .filter(|(_, share)| deviation(*share) > limit)
        .collect();
    parts.sort_by(|(_, left), (_, right)| deviation(*right).total_cmp(&deviation(*left)));
    parts.truncate(MOST_LISTED);
    parts.sort_by_key(|(index, _)| *index);
    parts
        .into_iter()
        .map(|(index, share)| (steps(evidence, index), share))
        .collect()
}

#[expect(clippy::cast_precision_loss, reason = "a percentage for people")]
fn percent(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / whole as f64
}
