//! The error codes of an evaluation, and what each means for the submission.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who has to act on a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The submitted code is the cause; the submission fails.
    Submitter,
    /// The evaluating machine is the cause; the submission goes back to the queue.
    Infrastructure,
}

macro_rules! error_codes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $fault:ident, $fatal:literal;)*) => {
        /// Why an evaluation, or one run of it, did not succeed.
        ///
        /// The names are fixed: stores, HTTP clients and miners' scripts match on them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum ErrorCode {
            $($(#[$doc])* #[serde(rename = $name)] $variant,)*
        }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The fixed name of the code.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Who has to act.
            #[must_use]
            pub fn fault(self) -> Fault {
                match self { $(Self::$variant => Fault::$fault,)* }
            }

            /// True where one occurrence decides the submission, so that its remaining runs are
            /// skipped: the code cannot run, or a check has shown that it did not train as asked.
            #[must_use]
            pub fn is_fatal(self) -> bool {
                match self { $(Self::$variant => $fatal,)* }
            }
        }
    };
}

error_codes! {
    /// The submission is empty.
    NoCode = "no_code", Submitter, true;
    /// The source is not valid Python, or not UTF-8.
    SyntaxError = "syntax_error", Submitter, true;
    /// The scan found something that the policy refuses.
    SecurityViolation = "security_violation", Submitter, true;
    /// There is no usable `inner_steps` at module level.
    MissingInnerSteps = "missing_inner_steps", Submitter, true;
    /// `inner_steps` returned something without the attributes of an `InnerStepsResult`.
    InvalidReturnType = "invalid_return_type", Submitter, true;
    /// The untimed warm-up run failed.
    WarmupFailed = "warmup_failed", Submitter, true;
    /// The timed run raised, exited, or broke the protocol.
    ExecutionFailed = "execution_failed", Submitter, false;
    /// More memory was asked for than the sandbox has.
    OutOfMemory = "out_of_memory", Submitter, false;
    /// A phase took longer than `eval_timeout`.
    Timeout = "timeout", Submitter, false;
    /// The sandbox could not be started, frozen or emptied.
    SandboxFailed = "sandbox_failed", Infrastructure, false;
    /// The model could not be loaded in a worker, before any submitted code ran.
    ModelLoadFailed = "model_load_failed", Infrastructure, false;
    /// The corpus could not be loaded.
    DataLoadFailed = "data_load_failed", Infrastructure, false;
    /// The trusted reference run failed.
    ReferenceFailed = "reference_failed", Infrastructure, false;
    /// `final_logits` is absent or `None`.
    MissingLogits = "missing_logits", Submitter, true;
    /// `final_logits` is not 3-D, or its batch size or vocabulary is wrong.
    InvalidLogitsShape = "invalid_logits_shape", Submitter, true;
    /// `final_logits` has fewer or more positions than the batch.
    SequenceTruncation = "sequence_truncation", Submitter, true;
    /// `total_tokens` is not the number of tokens that were handed out.
    TokenCountMismatch = "token_count_mismatch", Submitter, true;
    /// The loss is not finite, not positive, or too far from the reference.
    LossMismatch = "loss_mismatch", Submitter, true;
    /// The logits of the last step are too far from the reference.
    LogitsMismatch = "logits_mismatch", Submitter, true;
    /// A tensor of the model is missing from the final state.
    IncompleteFinalState = "incomplete_final_state", Submitter, true;
    /// A tensor of the final state has another shape or dtype than the model's.
    InvalidFinalStateShape = "invalid_final_state_shape", Submitter, true;
    /// The final state holds NaN or infinite values.
    WeightNan = "weight_nan", Submitter, true;
    /// Parameters were frozen.
    InsufficientTrainableParams = "insufficient_trainable_params", Submitter, true;
    /// Too few elements of the weights changed.
    InsufficientParamsChanged = "insufficient_params_changed", Submitter, true;
    /// The final weights are too far from the reference's.
    WeightMismatch = "weight_mismatch", Submitter, true;
    /// The update of the weights is too far from the reference's update.
    UpdateMismatch = "update_mismatch", Submitter, true;
    /// The host's own clocks disagree about the run. No submission can reach them, so the machine
    /// is to blame.
    TimerTampering = "timer_tampering", Infrastructure, false;
    /// The speed is beyond what the hardware can do.
    ImplausibleMfu = "implausible_mfu", Submitter, false;
    /// The speed is below the competition's floor.
    InsufficientMfu = "insufficient_mfu", Submitter, false;
}

impl ErrorCode {
    /// The code with this name, if there is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == name)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::{ErrorCode, Fault};

    #[test]
    fn every_code_is_found_by_its_name_and_serialises_to_it() {
        for &code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_name(code.as_str()), Some(code));
            assert_eq!(serde_json::to_string(&code).unwrap(), format!("\"{code}\""));
        }
        assert_eq!(ErrorCode::from_name("oops"), None);
    }

    #[test]
    fn an_infrastructure_fault_never_decides_a_submission() {
        for &code in ErrorCode::ALL {
            if code.fault() == Fault::Infrastructure {
                assert!(!code.is_fatal(), "{code}");
            }
        }
        assert!(ErrorCode::UpdateMismatch.is_fatal());
    }
}
