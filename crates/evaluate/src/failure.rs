//! What a submission's author is told: a headline, the numbers, and what usually brings it about.
//!
//! The form is that of the tournament's miner guide.

use crusades_core::ErrorCode;
use crusades_numerics::ValueComparison;

use crate::clock::Span;
use crate::protocol::TensorForm;
use crate::report::{Failure, Statistic};

/// A failure without numbers.
#[must_use]
pub(crate) fn plain(code: ErrorCode, headline: impl Into<String>, causes: &[&str]) -> Failure {
    new(code, headline, "", Vec::new(), causes)
}

fn new(
    code: ErrorCode,
    headline: impl Into<String>,
    subject: &str,
    statistics: Vec<(&str, String)>,
    causes: &[&str],
) -> Failure {
    Failure {
        code,
        reason: None,
        fault: code.fault(),
        headline: headline.into(),
        subject: subject.to_owned(),
        statistics: statistics
            .into_iter()
            .map(|(label, value)| Statistic {
                label: label.to_owned(),
                value,
            })
            .collect(),
        causes: causes.iter().map(|&cause| cause.to_owned()).collect(),
        traceback: None,
        run: None,
    }
}

pub(crate) fn missing_logits() -> Failure {
    plain(
        ErrorCode::MissingLogits,
        "There are no output logits.",
        &[
            "final_logits is None or was never set",
            "The loop over the steps did not run",
        ],
    )
}

pub(crate) fn logits_shape(found: &TensorForm, expected: &[u64; 3]) -> Failure {
    new(
        ErrorCode::InvalidLogitsShape,
        "Output logits have the wrong shape or dtype.",
        "Logits",
        vec![
            ("Expected", form("a floating dtype", expected)),
            ("Actual", form(&found.dtype, &found.shape)),
        ],
        &[
            "The logits were flattened and not shaped back to (batch, seq_len - 1, vocabulary)",
            "Only the last micro-batch's logits were returned",
            "The loss was returned in place of the logits",
        ],
    )
}

pub(crate) fn truncated(expected: u64, actual: u64) -> Failure {
    new(
        ErrorCode::SequenceTruncation,
        "Output logits do not cover the whole sequence.",
        "Positions",
        difference_in_counts(expected, actual),
        &[
            "The input was truncated",
            "The model was called with the whole batch, and not with batch[:, :-1]",
            "Only some positions' logits were kept",
        ],
    )
}

pub(crate) fn token_count(expected: u64, actual: u64) -> Failure {
    new(
        ErrorCode::TokenCountMismatch,
        "Token count mismatch.",
        "Token counts",
        difference_in_counts(expected, actual),
        &[
            "Skipping batches in the training loop",
            "Counting the inputs (seq_len - 1) and not the batch",
            "Early termination",
        ],
    )
}

pub(crate) fn loss(expected: f64, actual: f64) -> Failure {
    let difference = (actual - expected).abs();
    new(
        ErrorCode::LossMismatch,
        "Loss value mismatch.",
        "Loss values",
        vec![
            ("Expected", format!("{expected:.6}")),
            ("Actual", format!("{actual:.6}")),
            (
                "Difference",
                format!("{difference:.6} ({:.2}%)", 100.0 * difference / expected),
            ),
        ],
        &[
            "Modified loss function",
            "Incorrect gradient accumulation (the mean over micro-batches is the loss)",
            "Precision issues",
        ],
    )
}

pub(crate) fn logits(comparison: &ValueComparison, atol: f64, rtol: f64) -> Failure {
    new(
        ErrorCode::LogitsMismatch,
        "Output logits don't match expected values.",
        "Statistics",
        vec![
            (
                "Max difference",
                format!("{:.6}", comparison.max_abs_difference),
            ),
            (
                "Mean difference",
                format!("{:.6}", comparison.mean_abs_difference),
            ),
            ("Tolerance", format!("{atol:.6} + {rtol:.6} * |expected|")),
            ("Beyond it", of(comparison.violations, comparison.elements)),
            ("Not finite", grouped(comparison.non_finite)),
        ],
        &[
            "Using different precision (fp16 vs bf16 vs fp32)",
            "Non-deterministic operations",
            "Incorrect forward pass implementation",
        ],
    )
}

pub(crate) fn incomplete_state(missing: &[&str], total: usize) -> Failure {
    new(
        ErrorCode::IncompleteFinalState,
        "The final state lacks tensors of the model.",
        "Tensors",
        vec![
            ("Missing", of(missing.len() as u64, total as u64)),
            ("Such as", some_of(missing)),
        ],
        &[
            "final_state is not a full state dict of the model",
            "The model's modules were replaced or renamed in place",
            "A tensor of the state is not a plain torch.Tensor",
        ],
    )
}

pub(crate) fn state_form(misfits: &[(&str, &TensorForm, String)]) -> Failure {
    let statistics = misfits
        .first()
        .map(|(name, found, expected)| {
            vec![
                ("Tensor", (*name).to_owned()),
                ("Expected", expected.clone()),
                ("Actual", form(&found.dtype, &found.shape)),
                ("Tensors that differ", grouped(misfits.len() as u64)),
            ]
        })
        .unwrap_or_default();
    new(
        ErrorCode::InvalidFinalStateShape,
        "Tensors of the final state have another shape or dtype than the model's.",
        "First of them",
        statistics,
        &[
            "The model was cast (model.half(), model.to(dtype)) and not cast back",
            "Weights were sharded and not gathered",
            "Weights were fused or transposed in place",
        ],
    )
}

pub(crate) fn not_finite(count: u64, elements: u64) -> Failure {
    new(
        ErrorCode::WeightNan,
        "The final weights hold NaN or infinite values.",
        "Elements",
        vec![("Not finite", of(count, elements))],
        &[
            "Overflow in a lower precision (fp16 without loss scaling)",
            "A division by zero in a custom kernel",
            "Memory that was never written",
        ],
    )
}

pub(crate) fn frozen(expected: u64, actual: u64) -> Failure {
    new(
        ErrorCode::InsufficientTrainableParams,
        "Not all parameters are trainable.",
        "Trainable parameters",
        difference_in_counts(expected, actual),
        &[
            "requires_grad was set to False",
            "Layers were frozen or detached",
        ],
    )
}

pub(crate) fn unchanged(changed: f64, reference_changed: f64, limit: f64) -> Failure {
    let share = |share: f64| format!("{:.2}% of all", 100.0 * share);
    new(
        ErrorCode::InsufficientParamsChanged,
        "Too few elements of the weights changed.",
        "Elements",
        vec![
            ("Changed", share(changed)),
            ("Changed by the reference", share(reference_changed)),
            ("Needed", share(limit * reference_changed)),
        ],
        &[
            "optimizer.step() was not called",
            "Layers were frozen or detached",
            "The final state is not the trained one",
        ],
    )
}

pub(crate) fn dump_differs() -> Failure {
    plain(
        ErrorCode::WeightMismatch,
        "All final weights, given after the timed region, are not those that were answered within it.",
        &["Something trains on, or exchanges weights, after inner_steps has returned"],
    )
}

pub(crate) fn weights(error: f64, limit: f64) -> Failure {
    new(
        ErrorCode::WeightMismatch,
        "Final weights don't match the reference's.",
        "Statistics",
        vec![
            ("Relative error", significant(error)),
            ("Tolerance", significant(limit)),
        ],
        WEIGHT_CAUSES,
    )
}

/// A part of the training and what is wrong with its share, in words: `step 5 of 5`, 0.01.
pub(crate) type PartShare = (String, f64);

/// What each of these parts contributed, as statistics.
fn contributions(parts: &[PartShare]) -> impl Iterator<Item = (&str, String)> {
    parts.iter().map(|(part, share)| {
        let contributed = format!("contributed {} of its update", share_text(*share));
        (part.as_str(), contributed)
    })
}

fn share_text(share: f64) -> String {
    // Not the digits of noise: 0.01, and not 1.3e-5.
    format!("{share:.2}").replace("-0.00", "0.00")
}

pub(crate) fn update(error: f64, limit: f64, parts: &[PartShare]) -> Failure {
    let mut statistics = vec![
        ("Relative error", significant(error)),
        ("Tolerance", significant(limit)),
    ];
    statistics.extend(contributions(parts));
    new(
        ErrorCode::UpdateMismatch,
        "The weights did not move as training on this data moves them.",
        "Update of the weights (final - initial)",
        statistics,
        WEIGHT_CAUSES,
    )
}

pub(crate) fn sketch(error: f64, limit: f64) -> Failure {
    new(
        ErrorCode::UpdateMismatch,
        "The weights, taken as a whole, did not move as training on this data moves them.",
        "Update of the weights (final - initial), by secret products of whole tensors",
        vec![
            ("Relative error", significant(error)),
            ("Tolerance", significant(limit)),
        ],
        WEIGHT_CAUSES,
    )
}

pub(crate) fn tensor_update(name: &str, error: f64, limit: f64) -> Failure {
    new(
        ErrorCode::UpdateMismatch,
        format!("The tensor {name} did not move as training on this data moves it."),
        "Update of the tensor (final - initial)",
        vec![
            ("Relative error", significant(error)),
            ("Tolerance", significant(limit)),
        ],
        WEIGHT_CAUSES,
    )
}

pub(crate) fn steps(part: &str, share: f64, limit: f64, parts: &[PartShare]) -> Failure {
    let headline = format!(
        "{}{} contributed {} of its update.",
        part[..1].to_uppercase(),
        &part[1..],
        share_text(share)
    );
    let mut statistics: Vec<_> = contributions(parts).collect();
    statistics.push(("Tolerance", format!("1 ± {}", significant(limit))));
    new(
        ErrorCode::UpdateMismatch,
        headline,
        "Update of the weights (final - initial)",
        statistics,
        WEIGHT_CAUSES,
    )
}

const WEIGHT_CAUSES: &[&str] = &[
    "A step was skipped, or optimizer.step() was not called for each batch",
    "Part of a batch or of the sequence was left out",
    "Gradients were not averaged over micro-batches, or not cleared between steps",
    "Another optimizer or other hyper-parameters than the given ones",
    "Much lower precision than the reference's",
];

pub(crate) fn timers(span: &Span, limit: f64) -> Failure {
    new(
        ErrorCode::TimerTampering,
        "Two clocks of the validator's machine disagree.",
        "Seconds",
        vec![
            ("CLOCK_MONOTONIC", format!("{:.6}", span.seconds())),
            ("CLOCK_MONOTONIC_RAW", format!("{:.6}", span.raw_seconds())),
            ("Difference", format!("{:.3}%", 100.0 * span.divergence())),
            ("Tolerance", format!("{:.3}%", 100.0 * limit)),
        ],
        &[
            "The machine's clock was being adjusted",
            "The virtual machine was paused or migrated",
        ],
    )
}

pub(crate) fn implausible(mfu: f64, limit: f64, peak_tflops: f64) -> Failure {
    new(
        ErrorCode::ImplausibleMfu,
        "The run was faster than the hardware can be.",
        "MFU",
        vec![
            ("Measured", format!("{mfu:.2}%")),
            ("Largest that is believed", format!("{limit:.2}%")),
            ("Peak", format!("{} TFLOP/s", significant(peak_tflops))),
        ],
        &["mfu.gpu_peak_tflops does not belong to this machine"],
    )
}

pub(crate) fn too_slow(mfu: f64, limit: f64) -> Failure {
    new(
        ErrorCode::InsufficientMfu,
        "The run was slower than the competition's floor.",
        "MFU",
        vec![
            ("Measured", format!("{mfu:.2}%")),
            ("Floor", format!("{limit:.2}%")),
        ],
        &["The submission is slower than mfu.min_mfu asks for"],
    )
}

/// Expected, actual, and the signed difference with its share.
#[expect(clippy::cast_precision_loss, reason = "a percentage for people")]
fn difference_in_counts(expected: u64, actual: u64) -> Vec<(&'static str, String)> {
    let (sign, difference) = if actual < expected {
        ("-", expected - actual)
    } else {
        ("+", actual - expected)
    };
    let share = 100.0 * difference as f64 / expected as f64;
    vec![
        ("Expected", grouped(expected)),
        ("Actual", grouped(actual)),
        (
            "Difference",
            format!("{sign}{} ({sign}{share:.2}%)", grouped(difference)),
        ),
    ]
}

#[expect(clippy::cast_precision_loss, reason = "a percentage for people")]
fn of(part: u64, whole: u64) -> String {
    let share = if whole == 0 {
        0.0
    } else {
        100.0 * part as f64 / whole as f64
    };
    format!("{} of {} ({share:.2}%)", grouped(part), grouped(whole))
}

fn some_of(names: &[&str]) -> String {
    const SHOWN: usize = 3;
    let listed = names[..names.len().min(SHOWN)].join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => listed,
        more => format!("{listed} and {more} more"),
    }
}

/// A tensor's dtype and shape, as `float32 8 x 127 x 4096`.
pub(crate) fn form(dtype: &str, shape: &[u64]) -> String {
    let extents: Vec<_> = shape.iter().map(u64::to_string).collect();
    if extents.is_empty() {
        return format!("{dtype} scalar");
    }
    format!("{dtype} {}", extents.join(" x "))
}

/// A count with its digits in groups of three: `819,200`.
pub(crate) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number with about four significant digits: `0.01234`, `61.38`, `3.2e-5`.
pub(crate) fn significant(value: f64) -> String {
    let magnitude = value.abs();
    if value == 0.0 {
        "0".to_owned()
    } else if !magnitude.is_finite() {
        format!("{value}")
    } else if !(1e-3..1e6).contains(&magnitude) {
        let text = format!("{value:.1e}");
        text.replace(".0e", "e")
    } else {
        let decimals = match magnitude {
            m if m < 0.01 => 5,
            m if m < 0.1 => 4,
            m if m < 10.0 => 3,
            m if m < 1000.0 => 2,
            _ => 0,
        };
        let text = format!("{value:.decimals$}");
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{difference_in_counts, form, grouped, significant, some_of};

    #[test]
    fn counts_are_grouped_as_the_miner_guide_does() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(819_200), "819,200");
        assert_eq!(grouped(1_000_000), "1,000,000");
        let difference = difference_in_counts(819_200, 802_816);
        assert_eq!(difference[2].1, "-16,384 (-2.00%)");
        assert_eq!(difference_in_counts(100, 150)[2].1, "+50 (+50.00%)");
    }

    #[test]
    fn numbers_keep_about_four_digits() {
        for (value, text) in [
            (0.0, "0"),
            (1e-5, "1e-5"),
            (3.24e-5, "3.2e-5"),
            (0.008, "0.008"),
            (0.012_345, "0.0123"),
            (0.3, "0.3"),
            (61.384, "61.38"),
            (100.0, "100"),
            (75.0, "75"),
            (4321.4, "4321"),
            (1e9, "1e9"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(significant(value), text);
        }
    }

    #[test]
    fn forms_and_lists_are_short() {
        assert_eq!(form("float32", &[8, 127, 4096]), "float32 8 x 127 x 4096");
        assert_eq!(form("float32", &[]), "float32 scalar");
        assert_eq!(some_of(&["a", "b"]), "a, b");
        assert_eq!(some_of(&["a", "b", "c", "d"]), "a, b, c and 1 more");
    }
}
