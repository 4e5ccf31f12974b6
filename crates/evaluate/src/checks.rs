//! The list of checks of one run while it is being made.

use crusades_core::ErrorCode;

use crate::failure;
use crate::report::{Check, CheckVerdict, Failure};

/// The checks made so far, and the first failure among them.
#[derive(Default)]
pub(crate) struct Checks {
    pub(crate) made: Vec<Check>,
    pub(crate) failure: Option<Failure>,
}

/// A value and how people read it.
pub(crate) struct Shown {
    pub(crate) value: Option<f64>,
    pub(crate) text: String,
}

impl Shown {
    pub(crate) fn number(value: f64, unit: &str) -> Self {
        Self {
            value: value.is_finite().then_some(value),
            text: format!("{}{unit}", failure::significant(value)),
        }
    }

    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self {
            value: None,
            text: text.into(),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "counts below 2^53 are exact")]
    pub(crate) fn count(value: u64) -> Self {
        Self {
            value: Some(value as f64),
            text: failure::grouped(value),
        }
    }
}

impl Checks {
    /// Records a check with a limit. `explain` makes the failure, and is called for the first
    /// failed check only.
    pub(crate) fn limit(
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
    pub(crate) fn not_required(&mut self, name: &str, measured: Shown) {
        self.record(
            name,
            None,
            measured,
            Shown::text("none set"),
            CheckVerdict::NotRequired,
        );
    }

    /// Records a check that could not be made.
    pub(crate) fn not_made(&mut self, name: &str, code: ErrorCode, why: &str) {
        self.record(
            name,
            Some(code),
            Shown::text(why),
            Shown::text(""),
            CheckVerdict::NotMade,
        );
    }

    pub(crate) fn record(
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
