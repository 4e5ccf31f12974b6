//! The states that a submission passes through, under the names that the HTTP API shows.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a submission stands between its arrival and its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SubmissionStatus {
    /// Known, and nothing has been done with it.
    Pending,
    /// Its code is being fetched and scanned.
    Validating,
    /// It waits for, or is in, its evaluation runs.
    Evaluating,
    /// It has a score.
    Finished,
    /// Its code was refused before any of it ran.
    FailedValidation,
    /// It ran, and failed or was refused by a check.
    FailedEvaluation,
    /// The evaluation could not be carried out, through no fault of the submitter.
    Error,
}

impl SubmissionStatus {
    /// Every status, in the order in which a submission can pass through them.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Validating,
        Self::Evaluating,
        Self::Finished,
        Self::FailedValidation,
        Self::FailedEvaluation,
        Self::Error,
    ];

    /// The name that the store and the HTTP API use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Validating => "validating",
            Self::Evaluating => "evaluating",
            Self::Finished => "finished",
            Self::FailedValidation => "failed_validation",
            Self::FailedEvaluation => "failed_evaluation",
            Self::Error => "error",
        }
    }

    /// The status with this name, if there is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::SubmissionStatus;

    #[test]
    fn every_status_is_found_by_its_name_and_serialises_to_it() {
        for status in SubmissionStatus::ALL {
            assert_eq!(SubmissionStatus::from_name(status.as_str()), Some(status));
            assert_eq!(
                serde_json::to_string(&status).unwrap(),
                format!("\"{}\"", status.as_str())
            );
        }
        assert_eq!(SubmissionStatus::from_name("done"), None);
    }
}
