//! The records that go into the store and come out of it.
//!
//! What is written is typed so that a refused submission always has a reason and an accepted one
//! always a score; nothing here touches the database.

use std::time::{SystemTime, UNIX_EPOCH};

use crusades_core::{ErrorCode, Metric, SubmissionStatus};

/// An instant: microseconds since 1970-01-01 UTC, leap seconds not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMicros(pub i64);

impl From<SystemTime> for UnixMicros {
    /// Instants beyond the years of an `i64` (290,000 years) become the farthest one.
    fn from(time: SystemTime) -> Self {
        let micros = match time.duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |it| -it),
        };
        Self(micros)
    }
}

/// A submission as it arrives, before anything is known about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The identity of the submission.
    pub submission_id: String,
    /// What its submitter calls it, such as the name of the file.
    pub name: String,
    /// The hotkey of the miner, where there is one.
    pub miner_hotkey: Option<String>,
    /// The miner's number in the subnet, where there is one.
    pub miner_uid: Option<u16>,
    /// The bytes that were handed in.
    pub code: Vec<u8>,
    /// What its score will measure.
    pub metric: Metric,
    /// When it arrived.
    pub created_at: UnixMicros,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The kind.
    pub code: ErrorCode,
    /// What exactly, for a person.
    pub message: String,
}

/// How a submission came out of its evaluation.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It has a score.
    Finished {
        /// In the unit of the metric: percent for MFU, tokens per second for TPS.
        final_score: f64,
    },
    /// Its code was refused before any of it ran.
    FailedValidation(Failure),
    /// It ran, and failed or was refused by a check.
    FailedEvaluation(Failure),
    /// The evaluation could not be carried out, through no fault of the submitter.
    Error(Failure),
}

impl Outcome {
    /// The status that a submission has with this outcome.
    #[must_use]
    pub fn status(&self) -> SubmissionStatus {
        match self {
            Self::Finished { .. } => SubmissionStatus::Finished,
            Self::FailedValidation(_) => SubmissionStatus::FailedValidation,
            Self::FailedEvaluation(_) => SubmissionStatus::FailedEvaluation,
            Self::Error(_) => SubmissionStatus::Error,
        }
    }

    /// The score, if there is one.
    #[must_use]
    pub fn final_score(&self) -> Option<f64> {
        match self {
            Self::Finished { final_score } => Some(*final_score),
            Self::FailedValidation(_) | Self::FailedEvaluation(_) | Self::Error(_) => None,
        }
    }

    /// The reason, where there is no score.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Finished { .. } => None,
            Self::FailedValidation(failure)
            | Self::FailedEvaluation(failure)
            | Self::Error(failure) => Some(failure),
        }
    }
}

/// All that one judgement leaves behind.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// What was judged.
    pub arrival: Arrival,
    /// How it came out.
    pub outcome: Outcome,
    /// Runs that passed every check.
    pub successful_runs: u32,
    /// Runs that count towards the share of successful ones.
    pub runs: u32,
    /// The runs that were made; none where the code was refused before it ran.
    pub evaluations: Vec<JudgedRun>,
    /// The whole report, as JSON.
    pub report: String,
    /// When the judgement was made.
    pub judged_at: UnixMicros,
}

/// One run with its checks.
#[derive(Clone, Debug, PartialEq)]
pub struct JudgedRun {
    /// The run.
    pub evaluation: Evaluation,
    /// Its checks, in the order in which they were made.
    pub checks: Vec<Check>,
}

/// One run of a submission.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// The identity of the run, unlike that of any other.
    pub evaluation_id: String,
    /// The place of the run among those of its submission, from 1.
    pub run: u32,
    /// The 256-bit seed: 64 lowercase hex digits.
    pub seed: String,
    /// Model FLOPs utilisation in percent, where it was measured.
    pub mfu: Option<f64>,
    /// Tokens per second, where they were measured.
    pub tokens_per_second: Option<f64>,
    /// Tokens that were trained on.
    pub total_tokens: Option<u64>,
    /// Seconds of the timed region.
    pub wall_time_seconds: Option<f64>,
    /// What went wrong; `None` for a successful run.
    pub failure: Option<Failure>,
    /// When the run was made.
    pub created_at: UnixMicros,
}

/// How one check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckVerdict {
    /// The measured value is within the limit.
    Passed,
    /// It is beyond the limit.
    Failed,
    /// No limit is set; the measured value is for information.
    NotRequired,
    /// The check could not be made, because of what an earlier one found.
    NotMade,
}

/// One check of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// The name of the check.
    pub name: String,
    /// The measured value as a number, where it is one. NaN comes back as `None`.
    pub measured: Option<f64>,
    /// The measured value as people read it.
    pub measured_text: String,
    /// The limit as a number, where it is one.
    pub limit: Option<f64>,
    /// The limit as people read it.
    pub limit_text: String,
    /// How it came out.
    pub verdict: CheckVerdict,
    /// The code that a failure of this check gives; a failed check has one.
    pub error_code: Option<ErrorCode>,
}

/// A submission as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Submission {
    /// The identity of the submission.
    pub submission_id: String,
    /// What its submitter calls it.
    pub name: String,
    /// The hotkey of the miner, where there is one.
    pub miner_hotkey: Option<String>,
    /// The miner's number in the subnet, where there is one.
    pub miner_uid: Option<u16>,
    /// SHA-256 of the code, in lowercase hex.
    pub code_hash: String,
    /// Where it stands.
    pub status: SubmissionStatus,
    /// What its score measures.
    pub metric: Metric,
    /// The score, once it has one.
    pub final_score: Option<f64>,
    /// Why it has none, once that is decided.
    pub failure: Option<Failure>,
    /// Runs that passed every check.
    pub successful_runs: u32,
    /// Runs that count towards the share of successful ones.
    pub runs: u32,
    /// When it arrived.
    pub created_at: UnixMicros,
    /// When the record last changed.
    pub updated_at: UnixMicros,
}

/// One line of the leaderboard.
#[derive(Clone, Debug, PartialEq)]
pub struct LeaderboardEntry {
    /// The place, from 1.
    pub rank: u32,
    /// The submission.
    pub submission_id: String,
    /// What its submitter calls it.
    pub name: String,
    /// The score, in the unit of the metric.
    pub final_score: f64,
    /// What the score measures.
    pub metric: Metric,
    /// Runs that passed every check.
    pub successful_runs: u32,
    /// Runs that count towards the share of successful ones.
    pub runs: u32,
    /// (largest - smallest) / lower median of the metric over the successful runs; `None` for fewer
    /// than two of them.
    pub spread: Option<f64>,
    /// When the submission arrived.
    pub created_at: UnixMicros,
}

/// A submission that was refused, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The submission.
    pub submission_id: String,
    /// What its submitter calls it.
    pub name: String,
    /// [`SubmissionStatus::FailedValidation`] or [`SubmissionStatus::FailedEvaluation`].
    pub status: SubmissionStatus,
    /// Why.
    pub failure: Failure,
    /// When the submission arrived.
    pub created_at: UnixMicros,
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::UnixMicros;

    #[test]
    fn instants_are_counted_from_1970_in_both_directions() {
        let second = Duration::from_secs(1);
        assert_eq!(UnixMicros::from(UNIX_EPOCH + second), UnixMicros(1_000_000));
        assert_eq!(
            UnixMicros::from(UNIX_EPOCH - second),
            UnixMicros(-1_000_000)
        );
    }
}
