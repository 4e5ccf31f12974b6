//! The verdict on one run: every check, made on copied bytes, in the order of CONTRACT section 4.
//!
//! A [`Verdict`] can only be had from [`Verdict::reach`], which makes all its checks. Nothing here
//! trusts the worker: what it says about a tensor is compared with what the trusted worker said,
//! and the numbers come from the bytes.

use crusades_core::score::Work;
use crusades_core::{ErrorCode, Hparams};
use crusades_numerics::{AttributionError, CompareError, ValueComparison, compare_values};
use thiserror::Error;

use crate::checks::{Checks, Shown};
use crate::clock::Span;
use crate::failure;
use crate::layout::Layout;
use crate::limits::Limits;
use crate::protocol::{Answer, Trained};
use crate::question::QuestionShape;
use crate::report::{Check, CheckVerdict, Failure, WeightsRecord};
use crate::round::ReferenceRun;
use crate::weights::check_weights;

/// What the checks look at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evidence<'a> {
    /// The rules.
    pub(crate) hparams: &'a Hparams,
    /// How far weights may be off.
    pub(crate) limits: &'a Limits,
    /// Where tensors lie in a whole state.
    pub(crate) layout: &'a Layout,
    /// What was asked of the weights, and where the answer lies.
    pub(crate) question: &'a QuestionShape,
    /// Number of trained parameters.
    pub(crate) parameters: u64,
    /// Number of tokens in the vocabulary.
    pub(crate) vocabulary: u64,
    /// Rows of the logits that were asked for.
    pub(crate) logit_rows: usize,
    /// All weights before the run.
    pub(crate) initial: &'a [u8],
    /// The reference's run on the same batches.
    pub(crate) reference: &'a ReferenceRun,
    /// The submission's answer.
    pub(crate) results: &'a [u8],
    /// All its final weights, where they are compared.
    pub(crate) dump: Option<&'a [u8]>,
    /// What the worker said when training had ended.
    pub(crate) trained: &'a Trained,
    /// What it said when the answer was written.
    pub(crate) answer: &'a Answer,
    /// The timed region by the host's clocks.
    pub(crate) span: Span,
    /// Dense peak of one device in TFLOP/s.
    pub(crate) peak_tflops: f64,
    /// Share of the machine's CPU time that went to other work.
    pub(crate) foreign_cpu_share: Option<f64>,
}

/// Why checks could not be made: a fault of the host.
#[derive(Debug, Error)]
pub(crate) enum VerdictError {
    /// Tensors do not fit each other.
    #[error("the results could not be compared with the reference's")]
    Compare(#[from] CompareError),
    /// The record of the reference's steps does not fit the results.
    #[error("the update could not be attributed to steps")]
    Attribution(#[from] AttributionError),
}

/// The outcome of all checks of one run.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    checks: Vec<Check>,
    failure: Option<Failure>,
    weights: Option<WeightsRecord>,
    disturbed: bool,
}

impl Verdict {
    /// Makes every check.
    ///
    /// # Errors
    /// [`VerdictError`] if the regions do not have their layout's size, which is a fault of the host.
    pub(crate) fn reach(evidence: &Evidence<'_>) -> Result<Self, VerdictError> {
        let mut checks = Checks::default();
        let shape_fits = check_logits_form(evidence, &mut checks);
        check_tokens(evidence, &mut checks);
        check_loss(evidence, &mut checks);
        check_logits(evidence, shape_fits, &mut checks)?;
        let weights = check_weights(evidence, &mut checks)?;
        check_time(evidence, &mut checks);
        let disturbed = check_disturbance(evidence, &mut checks);
        Ok(Self {
            checks: checks.made,
            failure: checks.failure,
            weights,
            disturbed,
        })
    }

    /// True if something else disturbed the machine, so that the run says nothing about speed.
    pub(crate) fn disturbed(&self) -> bool {
        self.disturbed
    }

    /// Every check in order, the first failure, and what was measured of the weights.
    pub(crate) fn into_parts(self) -> (Vec<Check>, Option<Failure>, Option<WeightsRecord>) {
        (self.checks, self.failure, self.weights)
    }
}

/// Loss as the worker sent it.
#[must_use]
pub(crate) fn reported_loss(trained: &Trained) -> f64 {
    f64::from_bits(trained.loss_bits)
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
    let expected = evidence.reference.loss;
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
        evidence
            .question
            .layout()
            .logits(&evidence.reference.results),
        evidence.question.layout().logits(evidence.results),
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
    pub(crate) fn work(&self) -> Work {
        Work {
            parameters: self.parameters,
            unique_tokens: self.hparams.unique_tokens(),
            wall_seconds: self.span.seconds(),
            num_gpus: self.hparams.docker.num_gpus,
        }
    }
}

#[cfg(test)]
mod tests {
    use crusades_core::{ErrorCode, Hparams};

    use crusades_numerics::{SampledTensor, StepBasis};

    use super::{Evidence, Verdict};
    use crate::calibration::tests::calibration;
    use crate::clock::Span;
    use crate::layout::Layout;
    use crate::limits::Limits;
    use crate::plan::Seed;
    use crate::protocol::{Answer, TensorDescription, TensorForm, Trained};
    use crate::question::QuestionShape;
    use crate::report::{CheckVerdict, Failure};
    use crate::round::ReferenceRun;

    const VOCABULARY: u64 = 16;
    const ROWS: usize = 3;

    /// Elements of tensor "a", which is sampled whole, as "b" is.
    const ELEMENTS: usize = 40;

    const STEPS: u16 = 3;

    /// One honest run of a model with two tensors; each case spoils something in it.
    struct Case {
        hparams: Hparams,
        limits: Limits,
        layout: Layout,
        question: QuestionShape,
        /// The weights before the first step and after each.
        states: Vec<Vec<u8>>,
        /// The reference's answer.
        reference: Vec<u8>,
        results: Vec<u8>,
        dump: Option<Vec<u8>>,
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
            let layout = Layout::new(&tensors, 0, 0).unwrap();
            let question = QuestionShape::new(&tensors, &layout, ROWS, VOCABULARY).unwrap();
            let states: Vec<Vec<u8>> = (0..=STEPS)
                .map(|step| Self::state(&question, step))
                .collect();
            let reference = states[usize::from(STEPS)].clone();
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
                dump: None,
                span: Span::new(1.0, 1.0),
                foreign_cpu_share: Some(0.1),
                limits: Limits::new(&hparams.verification, None, std::iter::empty()).unwrap(),
                hparams,
                layout,
                question,
                states,
                reference,
            }
        }

        /// Weights and logits after `step` steps, each of which moves every element by about
        /// 0.001, and no two elements or steps alike.
        fn state(question: &QuestionShape, step: u16) -> Vec<u8> {
            (0..question.layout().bytes() / 4)
                .flat_map(|element| {
                    let element = f32::from(u16::try_from(element).unwrap());
                    let moved: f32 = (0..step)
                        .map(|step| (element * (1.3 + f32::from(step))).sin().mul_add(0.4, 1.0))
                        .sum();
                    (element / 100.0 + 1.0 + 0.001 * moved).to_le_bytes()
                })
                .collect()
        }

        fn reference_run(&self) -> ReferenceRun {
            let layout = self.question.layout();
            let tensors: Vec<SampledTensor<'_>> = (0..2)
                .map(|index| SampledTensor {
                    population: self.question.populations()[index],
                    attributed: true,
                    states: self
                        .states
                        .iter()
                        .map(|state| layout.tensor(state, index))
                        .collect(),
                })
                .collect();
            ReferenceRun {
                loss: 2.5,
                results: self.reference.clone(),
                question: self.question.draw(Seed::from_bytes([1; 32])),
                after_steps: (0..=u32::from(STEPS)).collect(),
                // 51 elements bear less noise than a real model's.
                basis: StepBasis::new(&tensors, 1e-3).unwrap(),
                // Both tensors are in the sample whole.
                sketch_basis: None,
                dump: self.dump.as_ref().map(|_| self.whole(&self.reference)),
            }
        }

        /// A whole state: here all elements are in the sample, in order.
        fn whole(&self, sampled: &[u8]) -> Vec<u8> {
            sampled[..self.layout.bytes()].to_vec()
        }

        fn verdict(&self) -> Verdict {
            Verdict::reach(&Evidence {
                hparams: &self.hparams,
                limits: &self.limits,
                layout: &self.layout,
                question: &self.question,
                parameters: 51,
                vocabulary: VOCABULARY,
                logit_rows: ROWS,
                initial: &self.whole(&self.states[0]),
                reference: &self.reference_run(),
                results: &self.results,
                dump: self.dump.as_deref(),
                trained: &self.trained,
                answer: &self.answer,
                span: self.span,
                peak_tflops: 1.0,
                foreign_cpu_share: self.foreign_cpu_share,
            })
            .unwrap()
        }

        fn failure(&self) -> Option<Failure> {
            self.verdict().failure
        }

        fn code(&self) -> Option<ErrorCode> {
            self.failure().map(|failure| failure.code)
        }

        /// Element `index` of tensor "a".
        fn weight(&mut self, index: usize) -> &mut [u8] {
            &mut self.results[4 * index..4 * index + 4]
        }

        /// A run that left out the update of one step, counted from 0.
        fn skip(&mut self, skipped: usize) {
            for element in 0..self.layout.bytes() / 4 {
                let value = |bytes: &[u8]| {
                    f32::from_le_bytes(bytes[4 * element..4 * element + 4].try_into().unwrap())
                };
                let update = value(&self.states[skipped + 1]) - value(&self.states[skipped]);
                let left = value(&self.results) - update;
                self.results[4 * element..4 * element + 4].copy_from_slice(&left.to_le_bytes());
            }
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
        assert!(verdict.failure.is_none());
        assert!(!verdict.disturbed());
        for check in &verdict.checks {
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
            let place = case.question.layout().tensor_bytes();
            let logit = &mut case.results[place..place + 4];
            let value = f32::from_le_bytes(logit.try_into().unwrap()) + by;
            logit.copy_from_slice(&value.to_le_bytes());
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
        assert_eq!(verdict.weights, None);
        let update = verdict
            .checks
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
            |case| case.results = case.states[0].clone(),
            Some(ErrorCode::InsufficientParamsChanged),
        );
        // Every tenth element left where it was: too little for the share, enough for the update.
        let skip_some = |case: &mut Case| {
            for index in (0..ELEMENTS).step_by(10) {
                let initial = case.states[0][4 * index..4 * index + 4].to_vec();
                case.weight(index).copy_from_slice(&initial);
            }
        };
        check(skip_some, Some(ErrorCode::UpdateMismatch));
        check(
            |case| {
                skip_some(case);
                case.limits.update_error = None;
                case.limits.coefficient_deviation = None;
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
    fn the_share_of_changed_elements_is_measured_against_the_references_own() {
        // Half of the elements never move, in the reference neither.
        let half = |case: &mut Case| {
            let initial = case.states[0].clone();
            for state in case.states.iter_mut().chain([&mut case.reference]) {
                state[..case.layout.bytes() / 2]
                    .copy_from_slice(&initial[..case.layout.bytes() / 2]);
            }
            case.results = case.reference.clone();
        };
        check(half, None);
        check(
            |case| {
                half(case);
                let initial = case.states[0].clone();
                let end = case.layout.bytes() * 3 / 4;
                case.results[..end].copy_from_slice(&initial[..end]);
            },
            Some(ErrorCode::InsufficientParamsChanged),
        );
    }

    #[test]
    fn a_step_that_was_left_out_is_named() {
        for skipped in 0..usize::from(STEPS) {
            let mut case = Case::honest();
            // The update error alone would find it too; here the steps have to.
            case.limits.update_error = None;
            case.skip(skipped);
            let failure = case.failure().unwrap();
            assert_eq!(failure.code, ErrorCode::UpdateMismatch);
            let expected = format!("Step {} of 3 contributed 0.00 of its update.", skipped + 1);
            assert_eq!(failure.headline, expected);
            let weights = case.verdict().weights.unwrap();
            for (step, share) in weights.steps.iter().enumerate() {
                let expected = if step == skipped { 0.0 } else { 1.0 };
                assert!((share.share - expected).abs() < 1e-2, "{weights:?}");
            }
        }
        check(|case| case.limits.update_error = None, None);
    }

    #[test]
    fn a_tensor_has_a_limit_of_its_own_where_its_noise_is_known() {
        let spoil = |case: &mut Case| {
            // "b" is a fifth of the elements; here one of them moves by half as much again.
            let start = case.question.layout().offset(1);
            let [from, to] = [0, usize::from(STEPS)].map(|state| {
                let bytes = &case.states[state][start..start + 4];
                f32::from_le_bytes(bytes.try_into().unwrap())
            });
            case.results[start..start + 4].copy_from_slice(&(to + 0.5 * (to - from)).to_le_bytes());
            case.limits.update_error = Some(0.5);
            case.limits.coefficient_deviation = None;
        };
        check(spoil, None);
        let calibrated = |case: &mut Case, noise: f64| {
            let calibration = calibration(&[("a", 0.01), ("b", noise)]);
            let names = ["a", "b"].into_iter();
            let limits = &case.hparams.verification;
            case.limits = Limits::new(limits, Some(&calibration), names).unwrap();
            spoil(case);
        };
        let mut case = Case::honest();
        calibrated(&mut case, 0.01);
        let failure = case.failure().unwrap();
        assert_eq!(failure.code, ErrorCode::UpdateMismatch);
        assert!(failure.headline.contains("tensor b "), "{failure:?}");
        check(|case| calibrated(case, 0.2), None);
    }

    #[test]
    fn all_weights_must_be_those_that_were_answered() {
        let full = |case: &mut Case| case.dump = Some(case.whole(&case.results));
        check(full, None);
        check(
            |case| {
                full(case);
                // Too little for any other check.
                let dump = case.dump.as_mut().unwrap();
                dump[0] ^= 1;
            },
            Some(ErrorCode::WeightMismatch),
        );
        check(
            |case| {
                full(case);
                let value = f32::NAN.to_le_bytes();
                case.dump.as_mut().unwrap()[..4].copy_from_slice(&value);
            },
            Some(ErrorCode::WeightNan),
        );
    }

    #[test]
    fn the_hosts_clocks_must_agree_and_that_is_no_fault_of_the_submission() {
        let mut case = Case::honest();
        case.span = Span::new(1.0, 1.01);
        let verdict = case.verdict();
        let failure = verdict.failure.unwrap();
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
        assert!(verdict.failure.is_none());
        case.foreign_cpu_share = Some(0.04);
        assert!(!case.verdict().disturbed());
    }

    #[test]
    fn the_first_failure_in_the_contracts_order_names_the_code() {
        check(
            |case| {
                case.results = case.states[0].clone();
                case.trained.total_tokens = 0;
                case.trained.loss_bits = f64::NAN.to_bits();
            },
            Some(ErrorCode::TokenCountMismatch),
        );
    }
}
