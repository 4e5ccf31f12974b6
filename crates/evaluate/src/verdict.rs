//! The verdict on one run: every check, made on copied bytes, in the order of CONTRACT section 4.
//!
//! A [`Verdict`] can only be had from [`Verdict::reach`], which makes all its checks. Nothing here
//! trusts the worker: what it says about a tensor is compared with what the trusted worker said,
//! and the numbers come from the bytes.

use crusades_core::score::Work;
use crusades_core::{ErrorCode, Hparams};
use crusades_numerics::{
    CompareError, ValueComparison, WeightComparison, compare_values, compare_weights,
};

use crate::clock::Span;
use crate::failure;
use crate::layout::Layout;
use crate::protocol::{Answer, TensorForm, Trained};
use crate::report::{Check, CheckVerdict, Failure};

/// What the checks look at.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// The rules.
    pub hparams: &'a Hparams,
    /// Where the results lie.
    pub layout: &'a Layout,
    /// Number of trained parameters.
    pub parameters: u64,
    /// Number of tokens in the vocabulary.
    pub vocabulary: u64,
    /// Rows of the logits that were asked for.
    pub logit_rows: usize,
    /// The weights before the run, laid out as the results are.
    pub initial: &'a [u8],
    /// The reference's results.
    pub reference: &'a [u8],
    /// The reference's loss.
    pub reference_loss: f64,
    /// The submission's results.
    pub results: &'a [u8],
    /// What the worker said when training had ended.
    pub trained: &'a Trained,
    /// What it said when the results were written.
    pub answer: &'a Answer,
    /// The timed region by the host's clocks.
    pub span: Span,
    /// Dense peak of one device in TFLOP/s.
    pub peak_tflops: f64,
    /// Share of the machine's CPU time that went to other work.
    pub foreign_cpu_share: Option<f64>,
}

/// The outcome of all checks of one run.
#[derive(Clone, Debug)]
pub struct Verdict {
    checks: Vec<Check>,
    failure: Option<Failure>,
    disturbed: bool,
}

impl Verdict {
    /// Makes every check.
    ///
    /// # Errors
    /// [`CompareError`] if the regions do not have the layout's size, which is a fault of the host.
    pub fn reach(evidence: &Evidence<'_>) -> Result<Self, CompareError> {
        let mut checks = Checks::default();
        let shape_fits = check_logits_form(evidence, &mut checks);
        check_tokens(evidence, &mut checks);
        check_loss(evidence, &mut checks);
        check_logits(evidence, shape_fits, &mut checks)?;
        check_weights(evidence, &mut checks)?;
        check_time(evidence, &mut checks);
        let disturbed = check_disturbance(evidence, &mut checks);
        Ok(Self {
            checks: checks.made,
            failure: checks.failure,
            disturbed,
        })
    }

    /// Every check, in order.
    #[must_use]
    pub fn checks(&self) -> &[Check] {
        &self.checks
    }

    /// The first failure; none if every check passed.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// True if something else disturbed the machine, so that the run says nothing about speed.
    #[must_use]
    pub fn disturbed(&self) -> bool {
        self.disturbed
    }

    /// The checks and the first failure.
    #[must_use]
    pub fn into_parts(self) -> (Vec<Check>, Option<Failure>) {
        (self.checks, self.failure)
    }
}

/// Loss as the worker sent it.
#[must_use]
pub fn reported_loss(trained: &Trained) -> f64 {
    f64::from_bits(trained.loss_bits)
}

/// The checks made so far, and the first failure among them.
#[derive(Default)]
struct Checks {
    made: Vec<Check>,
    failure: Option<Failure>,
}

/// A value and how people read it.
struct Shown {
    value: Option<f64>,
    text: String,
}

impl Shown {
    fn number(value: f64, unit: &str) -> Self {
        Self {
            value: value.is_finite().then_some(value),
            text: format!("{}{unit}", failure::significant(value)),
        }
    }

    fn text(text: impl Into<String>) -> Self {
        Self {
            value: None,
            text: text.into(),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "counts below 2^53 are exact")]
    fn count(value: u64) -> Self {
        Self {
            value: Some(value as f64),
            text: failure::grouped(value),
        }
    }
}

impl Checks {
    /// Records a check with a limit. `explain` makes the failure, and is called for the first
    /// failed check only.
    fn limit(
        &mut self,
        name: &str,
        code: ErrorCode,
        measured: Shown,
        limit: Shown,
        passed: bool,
        explain: impl FnOnce() -> Failure,
    ) {
        if !passed && self.failure.is_none() {
            self.failure = Some(explain());
        }
        let verdict = if passed {
            CheckVerdict::Passed
        } else {
            CheckVerdict::Failed
        };
        self.record(name, Some(code), measured, limit, verdict);
    }

    /// Records a measured value for which no limit is set.
    fn not_required(&mut self, name: &str, measured: Shown) {
        self.record(
            name,
            None,
            measured,
            Shown::text("none set"),
            CheckVerdict::NotRequired,
        );
    }

    /// Records a check that an earlier finding made impossible.
    fn not_made(&mut self, name: &str, code: ErrorCode, why: &str) {
        self.record(
            name,
            Some(code),
            Shown::text(why),
            Shown::text(""),
            CheckVerdict::NotMade,
        );
    }

    fn record(
        &mut self,
        name: &str,
        error_code: Option<ErrorCode>,
        measured: Shown,
        limit: Shown,
        verdict: CheckVerdict,
    ) {
        self.made.push(Check {
            name: name.to_owned(),
            measured: measured.value,
            measured_text: measured.text,
            limit: limit.value,
            limit_text: limit.text,
            verdict,
            error_code,
        });
    }
}

/// Logits present, 3-D with the right batch size and vocabulary, and not cut short. True if all of
/// that holds.
fn check_logits_form(evidence: &Evidence<'_>, checks: &mut Checks) -> bool {
    let hparams = evidence.hparams;
    let expected = [
        u64::from(hparams.benchmark_batch_size),
        u64::from(hparams.benchmark_sequence_length) - 1,
        evidence.vocabulary,
    ];
    let form = evidence.trained.logits.as_ref();
    checks.limit(
        "logits_present",
        ErrorCode::MissingLogits,
        Shown::text(if form.is_some() { "a tensor" } else { "None" }),
        Shown::text("a tensor"),
        form.is_some(),
        failure::missing_logits,
    );
    let Some(form) = form else {
        for (name, code) in [
            ("logits_shape", ErrorCode::InvalidLogitsShape),
            ("sequence_length", ErrorCode::SequenceTruncation),
        ] {
            checks.not_made(name, code, "no logits");
        }
        return false;
    };
    let floating = matches!(
        form.dtype.as_str(),
        "float32" | "bfloat16" | "float16" | "torch.float64"
    );
    let shape_fits = floating
        && matches!(form.shape[..], [batch, _, vocabulary] if batch == expected[0] && vocabulary == expected[2]);
    checks.limit(
        "logits_shape",
        ErrorCode::InvalidLogitsShape,
        Shown::text(failure::form(&form.dtype, &form.shape)),
        Shown::text(format!("{} x any x {}", expected[0], expected[2])),
        shape_fits,
        || failure::logits_shape(form, &expected),
    );
    let Some(&length) = form.shape.get(1) else {
        checks.not_made(
            "sequence_length",
            ErrorCode::SequenceTruncation,
            "no second dimension",
        );
        return false;
    };
    let length_fits = length == expected[1];
    checks.limit(
        "sequence_length",
        ErrorCode::SequenceTruncation,
        Shown::count(length),
        Shown::count(expected[1]),
        length_fits,
        || failure::truncated(expected[1], length),
    );
    shape_fits && length_fits
}

fn check_tokens(evidence: &Evidence<'_>, checks: &mut Checks) {
    let expected = evidence.hparams.unique_tokens();
    let actual = evidence.trained.total_tokens;
    checks.limit(
        "token_count",
        ErrorCode::TokenCountMismatch,
        Shown::count(actual),
        Shown::count(expected),
        actual == expected,
        || failure::token_count(expected, actual),
    );
}

fn check_loss(evidence: &Evidence<'_>, checks: &mut Checks) {
    let loss = reported_loss(evidence.trained);
    let expected = evidence.reference_loss;
    let sane = loss.is_finite() && loss > 0.0;
    checks.limit(
        "loss_positive",
        ErrorCode::LossMismatch,
        Shown::number(loss, ""),
        Shown::text("finite, > 0"),
        sane,
        || failure::loss(expected, loss),
    );
    let difference = (loss - expected).abs();
    let limits = &evidence.hparams.verification;
    let limit = match (limits.max_loss_difference, limits.loss_tolerance) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
    match limit {
        Some(limit) => checks.limit(
            "loss_difference",
            ErrorCode::LossMismatch,
            Shown::number(difference, ""),
            Shown::number(limit, ""),
            // False for NaN.
            difference <= limit,
            || failure::loss(expected, loss),
        ),
        None => checks.not_required("loss_difference", Shown::number(difference, "")),
    }
}

fn check_logits(
    evidence: &Evidence<'_>,
    form_fits: bool,
    checks: &mut Checks,
) -> Result<(), CompareError> {
    const NAME: &str = "logits_difference";
    let limits = &evidence.hparams.verification;
    let limit = match (limits.logits_atol, limits.logits_rtol) {
        (None, None) => None,
        (atol, rtol) => Some((atol.unwrap_or(0.0), rtol.unwrap_or(0.0))),
    };
    let all_rows = evidence.answer.logit_rows == evidence.logit_rows as u64;
    if !form_fits || !all_rows {
        checks.not_made(NAME, ErrorCode::LogitsMismatch, "the logits do not fit");
        if form_fits && limit.is_some() && checks.failure.is_none() {
            // The worker says that the form fits, and yet wrote no rows.
            checks.failure = Some(failure::missing_logits());
        }
        return Ok(());
    }
    let (atol, rtol) = limit.unwrap_or((0.0, 0.0));
    let comparison = compare_values(
        evidence.layout.logits(evidence.reference),
        evidence.layout.logits(evidence.results),
        atol,
        rtol,
    )?;
    let measured = logits_measured(&comparison);
    if limit.is_none() {
        checks.not_required(NAME, measured);
    } else {
        checks.limit(
            NAME,
            ErrorCode::LogitsMismatch,
            measured,
            Shown {
                value: Some(atol),
                text: format!(
                    "{} + {} * |expected|",
                    failure::significant(atol),
                    failure::significant(rtol)
                ),
            },
            comparison.within_tolerance(),
            || failure::logits(&comparison, atol, rtol),
        );
    }
    Ok(())
}

fn logits_measured(comparison: &ValueComparison) -> Shown {
    if comparison.non_finite > 0 {
        return Shown::text(format!(
            "{} values are not finite",
            failure::grouped(comparison.non_finite)
        ));
    }
    Shown {
        value: Some(comparison.max_abs_difference),
        text: format!(
            "{} at most",
            failure::significant(comparison.max_abs_difference)
        ),
    }
}

/// The final state: complete, of the right form, finite, trained, changed, and close to the
/// reference's.
fn check_weights(evidence: &Evidence<'_>, checks: &mut Checks) -> Result<(), CompareError> {
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
    let comparison = if missing.is_empty() && misfits.is_empty() {
        Some(compare_states(evidence)?)
    } else {
        None
    };
    let trainable = evidence.answer.trainable_parameters;
    let check_trainable = |checks: &mut Checks| {
        checks.limit(
            "trainable_parameters",
            ErrorCode::InsufficientTrainableParams,
            Shown::number(percent(trainable, evidence.parameters), " %"),
            Shown::number(100.0, " %"),
            trainable == evidence.parameters,
            || failure::frozen(evidence.parameters, trainable),
        );
    };
    let Some((weights, worst)) = comparison else {
        const WHY: &str = "the final state does not fit";
        checks.not_made("final_state_finite", ErrorCode::WeightNan, WHY);
        check_trainable(checks);
        for (name, code) in [
            ("params_changed", ErrorCode::InsufficientParamsChanged),
            ("weight_relative_error", ErrorCode::WeightMismatch),
            ("update_relative_error", ErrorCode::UpdateMismatch),
        ] {
            checks.not_made(name, code, WHY);
        }
        return Ok(());
    };
    checks.limit(
        "final_state_finite",
        ErrorCode::WeightNan,
        Shown::text(match weights.non_finite {
            0 => "all finite".to_owned(),
            count => format!("{} are not", failure::grouped(count)),
        }),
        Shown::text("all finite"),
        weights.non_finite == 0,
        || failure::not_finite(weights.non_finite, weights.elements),
    );
    check_trainable(checks);
    check_distances(evidence, &weights, &worst, checks);
    Ok(())
}

/// The tensor with the largest error relative to its own update.
struct WorstTensor {
    name: String,
    error: f64,
}

fn compare_states(
    evidence: &Evidence<'_>,
) -> Result<(WeightComparison, WorstTensor), CompareError> {
    let mut total = WeightComparison::default();
    let mut worst = WorstTensor {
        name: String::new(),
        error: -1.0,
    };
    for (index, slot) in evidence.layout.slots().iter().enumerate() {
        let comparison = compare_weights(
            evidence.layout.tensor(evidence.initial, index),
            evidence.layout.tensor(evidence.reference, index),
            evidence.layout.tensor(evidence.results, index),
        )?;
        let error = comparison.update_relative_error();
        if error > worst.error {
            worst = WorstTensor {
                name: slot.name.clone(),
                error,
            };
        }
        total = total.merge(comparison);
    }
    Ok((total, worst))
}

fn check_distances(
    evidence: &Evidence<'_>,
    weights: &WeightComparison,
    worst: &WorstTensor,
    checks: &mut Checks,
) {
    let limits = &evidence.hparams.verification;
    let changed = weights.changed_ratio();
    match limits.min_params_changed_ratio {
        Some(limit) => checks.limit(
            "params_changed",
            ErrorCode::InsufficientParamsChanged,
            Shown::number(100.0 * changed, " %"),
            Shown::number(100.0 * limit, " % at least"),
            changed >= limit,
            || failure::unchanged(weights, limit),
        ),
        None => checks.not_required("params_changed", Shown::number(100.0 * changed, " %")),
    }
    let weight_error = weights.weight_relative_error();
    match limits.weight_relative_error_max {
        Some(limit) => checks.limit(
            "weight_relative_error",
            ErrorCode::WeightMismatch,
            Shown::number(weight_error, ""),
            Shown::number(limit, ""),
            weight_error <= limit,
            || failure::weights(weight_error, limit, weights),
        ),
        None => checks.not_required("weight_relative_error", Shown::number(weight_error, "")),
    }
    let update_error = weights.update_relative_error();
    match limits.update_relative_error_max {
        Some(limit) => checks.limit(
            "update_relative_error",
            ErrorCode::UpdateMismatch,
            Shown::number(update_error, ""),
            Shown::number(limit, ""),
            update_error <= limit,
            || failure::update(update_error, limit, weights, &worst.name, worst.error),
        ),
        None => checks.not_required("update_relative_error", Shown::number(update_error, "")),
    }
}

fn check_time(evidence: &Evidence<'_>, checks: &mut Checks) {
    let hparams = evidence.hparams;
    let divergence = evidence.span.divergence();
    match hparams.verification.timer_divergence_threshold {
        Some(limit) => checks.limit(
            "timers_agree",
            ErrorCode::TimerTampering,
            Shown::number(divergence, ""),
            Shown::number(limit, ""),
            divergence <= limit,
            || failure::timers(&evidence.span, limit),
        ),
        None => checks.not_required("timers_agree", Shown::number(divergence, "")),
    }
    let mfu = evidence.work().mfu(evidence.peak_tflops);
    match hparams.mfu.max_plausible_mfu {
        Some(limit) => checks.limit(
            "plausible_mfu",
            ErrorCode::ImplausibleMfu,
            Shown::number(mfu, " %"),
            Shown::number(limit, " %"),
            mfu <= limit,
            || failure::implausible(mfu, limit, evidence.peak_tflops),
        ),
        None => checks.not_required("plausible_mfu", Shown::number(mfu, " %")),
    }
    if hparams.mfu.min_mfu > 0.0 {
        let limit = hparams.mfu.min_mfu;
        checks.limit(
            "mfu_floor",
            ErrorCode::InsufficientMfu,
            Shown::number(mfu, " %"),
            Shown::number(limit, " % at least"),
            mfu >= limit,
            || failure::too_slow(mfu, limit),
        );
    } else {
        checks.not_required("mfu_floor", Shown::number(mfu, " %"));
    }
}

/// Records how quiet the machine was. True if it was not; that is no failure of the submission.
fn check_disturbance(evidence: &Evidence<'_>, checks: &mut Checks) -> bool {
    const NAME: &str = "machine_quiet";
    let measured = evidence.foreign_cpu_share.map_or_else(
        || Shown::text("not measured"),
        |share| Shown::number(100.0 * share, " % other work"),
    );
    match (
        evidence.hparams.disturbance.max_foreign_cpu_share,
        evidence.foreign_cpu_share,
    ) {
        (Some(limit), Some(share)) => {
            let quiet = share <= limit;
            let verdict = if quiet {
                CheckVerdict::Passed
            } else {
                CheckVerdict::Failed
            };
            checks.record(
                NAME,
                None,
                measured,
                Shown::number(100.0 * limit, " %"),
                verdict,
            );
            !quiet
        }
        _ => {
            checks.not_required(NAME, measured);
            false
        }
    }
}

impl Evidence<'_> {
    /// What the run computed, and in which time.
    #[must_use]
    pub fn work(&self) -> Work {
        Work {
            parameters: self.parameters,
            unique_tokens: self.hparams.unique_tokens(),
            wall_seconds: self.span.seconds(),
            num_gpus: self.hparams.docker.num_gpus,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a percentage for people")]
fn percent(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / whole as f64
}

#[cfg(test)]
mod tests {
    use crusades_core::{ErrorCode, Hparams};

    use super::{Evidence, Verdict};
    use crate::clock::Span;
    use crate::layout::Layout;
    use crate::protocol::{Answer, TensorDescription, TensorForm, Trained};
    use crate::report::CheckVerdict;

    const VOCABULARY: u64 = 16;
    const ROWS: usize = 3;

    /// One honest run of a model with two tensors; each case spoils something in it.
    struct Case {
        hparams: Hparams,
        layout: Layout,
        initial: Vec<u8>,
        reference: Vec<u8>,
        results: Vec<u8>,
        trained: Trained,
        answer: Answer,
        span: Span,
        foreign_cpu_share: Option<f64>,
    }

    impl Case {
        fn honest() -> Self {
            let hparams = Hparams::parse(
                r#"{"benchmark_sequence_length": 9, "benchmark_batch_size": 2, "eval_steps": 3,
                    "mfu": {"gpu_peak_tflops": 1.0}}"#,
            )
            .unwrap()
            .hparams;
            let tensors =
                [("a", vec![8, 5]), ("b", vec![11])].map(|(name, shape)| TensorDescription {
                    name: name.to_owned(),
                    dtype: "float32".to_owned(),
                    shape,
                    parameter: true,
                });
            let layout = Layout::new(&tensors, ROWS, VOCABULARY).unwrap();
            let mut initial = Vec::new();
            let mut reference = Vec::new();
            for element in 0..layout.bytes() / 4 {
                let weight = f32::from(u16::try_from(element).unwrap()) / 100.0 + 1.0;
                initial.extend_from_slice(&weight.to_le_bytes());
                reference.extend_from_slice(&(weight + 0.001).to_le_bytes());
            }
            let form = |shape: &[u64]| TensorForm {
                dtype: "float32".to_owned(),
                shape: shape.to_vec(),
            };
            Self {
                trained: Trained {
                    nonce: String::new(),
                    loss_bits: 2.5_f64.to_bits(),
                    total_tokens: hparams.unique_tokens(),
                    logits: Some(form(&[2, 8, VOCABULARY])),
                    seconds: 1.0,
                    peak_memory_bytes: 0,
                },
                answer: Answer {
                    nonce: String::new(),
                    logit_rows: ROWS as u64,
                    tensors: vec![Some(form(&[8, 5])), Some(form(&[11]))],
                    trainable_parameters: 51,
                },
                results: reference.clone(),
                span: Span::new(1.0, 1.0),
                foreign_cpu_share: Some(0.1),
                hparams,
                layout,
                initial,
                reference,
            }
        }

        fn verdict(&self) -> Verdict {
            Verdict::reach(&Evidence {
                hparams: &self.hparams,
                layout: &self.layout,
                parameters: 51,
                vocabulary: VOCABULARY,
                logit_rows: ROWS,
                initial: &self.initial,
                reference: &self.reference,
                reference_loss: 2.5,
                results: &self.results,
                trained: &self.trained,
                answer: &self.answer,
                span: self.span,
                peak_tflops: 1.0,
                foreign_cpu_share: self.foreign_cpu_share,
            })
            .unwrap()
        }

        fn code(&self) -> Option<ErrorCode> {
            self.verdict().failure().map(|failure| failure.code)
        }

        /// Element `index` of tensor "a".
        fn weight(&mut self, index: usize) -> &mut [u8] {
            let start = usize::try_from(self.layout.slots()[0].offset).unwrap() + 4 * index;
            &mut self.results[start..start + 4]
        }

        fn logits_form(&mut self) -> &mut TensorForm {
            self.trained.logits.as_mut().unwrap()
        }
    }

    /// The code that a run gets when `spoil` has been at it.
    #[track_caller]
    fn check(spoil: impl FnOnce(&mut Case), expected: Option<ErrorCode>) {
        let mut case = Case::honest();
        spoil(&mut case);
        assert_eq!(case.code(), expected);
    }

    #[test]
    fn an_honest_run_passes_every_check() {
        let verdict = Case::honest().verdict();
        assert!(verdict.failure().is_none());
        assert!(!verdict.disturbed());
        for check in verdict.checks() {
            assert!(
                matches!(
                    check.verdict,
                    CheckVerdict::Passed | CheckVerdict::NotRequired
                ),
                "{check:?}"
            );
        }
    }

    #[test]
    fn logits_must_be_there_whole() {
        check(
            |case| case.trained.logits = None,
            Some(ErrorCode::MissingLogits),
        );
        let wrong_shapes: [&[u64]; 5] = [&[16, 16], &[2, 8, 15], &[3, 8, 16], &[], &[2, 8, 16, 1]];
        for shape in wrong_shapes {
            check(
                |case| case.logits_form().shape = shape.to_vec(),
                Some(ErrorCode::InvalidLogitsShape),
            );
        }
        check(
            |case| case.logits_form().dtype = "torch.int64".to_owned(),
            Some(ErrorCode::InvalidLogitsShape),
        );
        check(
            |case| case.logits_form().dtype = "bfloat16".to_owned(),
            None,
        );
        for length in [7, 9] {
            check(
                |case| case.logits_form().shape[1] = length,
                Some(ErrorCode::SequenceTruncation),
            );
        }
    }

    #[test]
    fn one_token_more_or_less_is_too_much() {
        check(
            |case| case.trained.total_tokens += 1,
            Some(ErrorCode::TokenCountMismatch),
        );
        check(
            |case| case.trained.total_tokens -= 1,
            Some(ErrorCode::TokenCountMismatch),
        );
    }

    #[test]
    fn the_loss_must_be_sane_and_close() {
        for wrong in [f64::NAN, f64::INFINITY, 0.0, -2.5, 2.81, 2.19] {
            check(
                |case| case.trained.loss_bits = wrong.to_bits(),
                Some(ErrorCode::LossMismatch),
            );
        }
        check(|case| case.trained.loss_bits = 2.79_f64.to_bits(), None);
        // The smaller of the two limits holds.
        check(
            |case| {
                case.hparams.verification.loss_tolerance = Some(1e-3);
                case.trained.loss_bits = 2.51_f64.to_bits();
            },
            Some(ErrorCode::LossMismatch),
        );
    }

    #[test]
    fn logits_are_compared_where_a_tolerance_is_set() {
        let shift = |case: &mut Case, by: f32| {
            let value = f32::from_le_bytes(case.results[..4].try_into().unwrap()) + by;
            case.results[..4].copy_from_slice(&value.to_le_bytes());
        };
        let tournament = |case: &mut Case| {
            case.hparams.verification.logits_atol = Some(1e-3);
            case.hparams.verification.logits_rtol = Some(1e-3);
        };
        check(|case| shift(case, 1.0), None);
        check(
            |case| {
                tournament(case);
                shift(case, 1e-3);
            },
            None,
        );
        for by in [1.0, f32::NAN] {
            check(
                |case| {
                    tournament(case);
                    shift(case, by);
                },
                Some(ErrorCode::LogitsMismatch),
            );
        }
        // A worker that says that the logits are fine, and writes none.
        check(
            |case| {
                tournament(case);
                case.answer.logit_rows = 0;
            },
            Some(ErrorCode::MissingLogits),
        );
    }

    #[test]
    fn the_final_state_must_be_complete_and_of_the_models_form() {
        check(
            |case| case.answer.tensors[1] = None,
            Some(ErrorCode::IncompleteFinalState),
        );
        check(
            |case| case.answer.tensors.truncate(1),
            Some(ErrorCode::IncompleteFinalState),
        );
        for spoil in [
            |form: &mut TensorForm| form.dtype = "float16".to_owned(),
            |form: &mut TensorForm| form.shape = vec![5, 8],
        ] {
            check(
                |case| spoil(case.answer.tensors[0].as_mut().unwrap()),
                Some(ErrorCode::InvalidFinalStateShape),
            );
        }
        let mut case = Case::honest();
        case.answer.tensors[1] = None;
        let verdict = case.verdict();
        let update = verdict
            .checks()
            .iter()
            .find(|check| check.name == "update_relative_error")
            .unwrap();
        assert_eq!(update.verdict, CheckVerdict::NotMade);
    }

    #[test]
    fn one_weight_that_is_not_finite_is_refused() {
        for value in [f32::NAN, f32::INFINITY] {
            check(
                |case| case.weight(7).copy_from_slice(&value.to_le_bytes()),
                Some(ErrorCode::WeightNan),
            );
        }
    }

    #[test]
    fn frozen_parameters_are_refused() {
        for wrong in [0, 50, 52] {
            check(
                |case| case.answer.trainable_parameters = wrong,
                Some(ErrorCode::InsufficientTrainableParams),
            );
        }
    }

    #[test]
    fn weights_must_have_moved_as_the_references_did() {
        check(
            |case| case.results = case.initial.clone(),
            Some(ErrorCode::InsufficientParamsChanged),
        );
        // Every tenth element left where it was: too little for the share, enough for the update.
        let skip_some = |case: &mut Case| {
            for index in (0..40).step_by(10) {
                let initial = case.initial.clone();
                let start = usize::try_from(case.layout.slots()[0].offset).unwrap() + 4 * index;
                case.weight(index)
                    .copy_from_slice(&initial[start..start + 4]);
            }
        };
        check(skip_some, Some(ErrorCode::UpdateMismatch));
        check(
            |case| {
                skip_some(case);
                case.hparams.verification.update_relative_error_max = None;
            },
            None,
        );
        check(
            |case| {
                skip_some(case);
                case.hparams.verification.weight_relative_error_max = Some(1e-5);
            },
            Some(ErrorCode::WeightMismatch),
        );
    }

    #[test]
    fn the_hosts_clocks_must_agree_and_that_is_no_fault_of_the_submission() {
        let mut case = Case::honest();
        case.span = Span::new(1.0, 1.01);
        let verdict = case.verdict();
        let failure = verdict.failure().unwrap();
        assert_eq!(failure.code, ErrorCode::TimerTampering);
        assert_eq!(failure.fault, crusades_core::Fault::Infrastructure);
        check(|case| case.span = Span::new(1.0, 1.004), None);
    }

    #[test]
    fn speed_has_a_floor_and_a_ceiling() {
        // 6 * 51 * 54 FLOPs of a peak of 1e12 per second.
        check(
            |case| case.span = Span::new(1e-8, 1e-8),
            Some(ErrorCode::ImplausibleMfu),
        );
        check(
            |case| {
                case.span = Span::new(1e-8, 1e-8);
                case.hparams.mfu.max_plausible_mfu = None;
            },
            None,
        );
        check(
            |case| case.hparams.mfu.min_mfu = 50.0,
            Some(ErrorCode::InsufficientMfu),
        );
    }

    #[test]
    fn a_disturbed_run_is_no_failure_of_the_submission() {
        let mut case = Case::honest();
        case.hparams.disturbance.max_foreign_cpu_share = Some(0.05);
        let verdict = case.verdict();
        assert!(verdict.disturbed());
        assert!(verdict.failure().is_none());
        case.foreign_cpu_share = Some(0.04);
        assert!(!case.verdict().disturbed());
    }

    #[test]
    fn the_first_failure_in_the_contracts_order_names_the_code() {
        check(
            |case| {
                case.results = case.initial.clone();
                case.trained.total_tokens = 0;
                case.trained.loss_bits = f64::NAN.to_bits();
            },
            Some(ErrorCode::TokenCountMismatch),
        );
    }
}
