//! The report of one judgement: what was judged, how, with what result, and enough to repeat it.
//!
//! The JSON form is public (`schema/report.json`); [`Report::schema_version`] changes with it.

use crusades_core::{ErrorCode, Fault, Score};
use crusades_scan::Finding;
use schemars::JsonSchema;
use serde::Serialize;

/// Version of the JSON form.
pub const SCHEMA_VERSION: u32 = 2;

/// How a judgement ended. Each has an exit code of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It trained as asked, and has a score.
    Accepted,
    /// The scan refused it; nothing of it ran.
    RefusedByScan,
    /// A check refused what it computed.
    RefusedByVerification,
    /// It could not be run to its end.
    FailedInExecution,
    /// The machine failed, and the submission was not judged.
    InfrastructureFault,
}

/// One number with its label in a failure report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Statistic {
    /// What it is.
    pub label: String,
    /// Its value, formatted.
    pub value: String,
}

/// Why a submission, or one run of it, failed, for its author.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Failure {
    /// The fixed name of the failure.
    pub code: ErrorCode,
    /// A finer distinction where the code has several, such as `process_exited`.
    pub reason: Option<String>,
    /// Who has to act.
    pub fault: Fault,
    /// One sentence.
    pub headline: String,
    /// What the statistics are about.
    pub subject: String,
    /// The numbers.
    pub statistics: Vec<Statistic>,
    /// What usually brings this about.
    pub causes: Vec<String>,
    /// The submission's traceback, where it raised.
    pub traceback: Option<String>,
    /// The run in which it happened, from 1; none outside the runs.
    pub run: Option<u32>,
}

/// What a check came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckVerdict {
    /// Within the limit.
    Passed,
    /// Beyond it.
    Failed,
    /// No limit is set; the measured value is for information.
    NotRequired,
    /// It could not be made: what was measured says why.
    NotMade,
}

/// One check of one run.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Check {
    /// A fixed name, such as `update_relative_error`.
    pub name: String,
    /// The measured value, where it is a finite number.
    pub measured: Option<f64>,
    /// The measured value, for people.
    pub measured_text: String,
    /// The limit, where it is a number.
    pub limit: Option<f64>,
    /// The limit, for people.
    pub limit_text: String,
    /// What it came to.
    pub verdict: CheckVerdict,
    /// The code that a failure of this check gives.
    pub error_code: Option<ErrorCode>,
}

/// What was measured of the final weights of one run.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct WeightsRecord {
    /// Number of elements that were looked at.
    pub elements: u64,
    /// True if these are all elements, false if they are a secret sample.
    pub all: bool,
    /// ‖Δw - Δw_ref‖ / ‖Δw_ref‖; none where it is infinite.
    pub update_error: Option<f64>,
    /// ‖w - w_ref‖ / ‖w_ref‖; none where it is infinite.
    pub weight_error: Option<f64>,
    /// Changed elements as a share of those that the reference changed, at most 1.
    pub changed_share: f64,
    /// What the reference's steps, each taken with its share, leave of the update, relative to
    /// ‖Δw_ref‖; none where the steps cannot be told apart.
    pub residual: Option<f64>,
    /// The update error as sketches of whole tensors show it; none where all elements are in the
    /// sample, or it is infinite.
    pub sketch_update_error: Option<f64>,
    /// How much of each step's update is in the submission's; empty where they cannot be told apart.
    pub steps: Vec<StepShare>,
    /// Each tensor by itself.
    pub tensors: Vec<TensorRecord>,
}

/// How much of the reference's update in some steps a submission made.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct StepShare {
    /// The first of the steps, from 1.
    pub first: u32,
    /// The last of them.
    pub last: u32,
    /// 1 for all of their update, 0 for none.
    pub share: f64,
}

/// What was measured of one tensor.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct TensorRecord {
    /// Its name.
    pub name: String,
    /// ‖Δw - Δw_ref‖ / ‖Δw_ref‖; none where it is infinite.
    pub update_error: Option<f64>,
}

/// The time that one part of the judgement took.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Phase {
    /// What was done.
    pub name: String,
    /// Seconds.
    pub seconds: f64,
}

/// The submission, identified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SubmissionRecord {
    /// The name of the file.
    pub file: String,
    /// SHA-256 of the file, in hexadecimal; none if it was too long to be read.
    pub code_hash: Option<String>,
    /// Its size.
    pub bytes: u64,
}

/// What was asked of the submission. Together with the submission and the environment it allows the
/// judgement to be repeated.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct PlanRecord {
    /// The seed of the round, in hexadecimal.
    pub seed: String,
    /// SHA-256 of the hparams as they were used, in hexadecimal.
    pub hparams_digest: String,
    /// The model's name in the hparams.
    pub model: String,
    /// Number of its trained parameters.
    pub parameters: u64,
    /// SHA-256 of the initial weights, in hexadecimal.
    pub initial_state_digest: String,
    /// The corpus' name in the hparams.
    pub dataset: String,
    /// SHA-256 of the tokenised corpus, in hexadecimal.
    pub data_digest: String,
    /// Training steps of a run.
    pub steps: u32,
    /// Rows per batch.
    pub batch_size: u32,
    /// Tokens per row.
    pub sequence_length: u32,
    /// Dense peak of one device in TFLOP/s that MFU is relative to.
    pub peak_tflops: f64,
    /// True if the peak was measured on this machine rather than given.
    pub peak_measured: bool,
}

/// What the submission ran on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct MachineRecord {
    /// `cpu`, or the name of the accelerator.
    pub device: String,
    /// CPU threads of the worker.
    pub threads: u32,
    /// Version of Python.
    pub python: String,
    /// Version of PyTorch.
    pub torch: String,
    /// Version of transformers.
    pub transformers: String,
    /// How well the submission was isolated: 1 (best) to 3.
    pub sandbox_tier: u8,
    /// Why the tier is not 1.
    pub sandbox_remarks: Vec<String>,
}

/// What the operating system counted during a timed run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Usage {
    /// CPU time of the sandbox in the timed region.
    pub cpu_seconds: Option<f64>,
    /// Peak memory of the run as the worker reported it (device memory on CUDA). For information.
    pub peak_memory_bytes: u64,
    /// Share of the machine's CPU time that other work took.
    pub foreign_cpu_share: Option<f64>,
}

/// One run of the submission.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct RunRecord {
    /// From 1.
    pub run: u32,
    /// The run's seed, in hexadecimal.
    pub seed: String,
    /// True if every check passed.
    pub success: bool,
    /// How often it was repeated because something else disturbed the machine.
    pub repeats: u32,
    /// Seconds of the timed region by the host's clock.
    pub wall_seconds: Option<f64>,
    /// Tokens per second.
    pub tokens_per_second: Option<f64>,
    /// Model FLOPs utilisation in percent.
    pub mfu: Option<f64>,
    /// Reported loss of the last step.
    pub loss: Option<f64>,
    /// The reference's.
    pub reference_loss: Option<f64>,
    /// SHA-256 of the results that were verified, in hexadecimal.
    pub outputs_digest: Option<String>,
    /// Every check, in order.
    pub checks: Vec<Check>,
    /// What was measured of the final weights; none if they do not fit the model.
    pub weights: Option<WeightsRecord>,
    /// What it used.
    pub usage: Option<Usage>,
    /// Times, in order.
    pub phases: Vec<Phase>,
    /// Why it failed.
    pub failure: Option<Failure>,
}

/// The submission's output, as much of it as was kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LogRecord {
    /// Bytes that were written.
    pub total_bytes: u64,
    /// Bytes of these that were not kept.
    pub dropped_bytes: u64,
    /// The kept text; where bytes were dropped, a line says so.
    pub text: String,
}

/// The whole of one judgement.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Report {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Version of this program.
    pub program_version: String,
    /// What was judged.
    pub submission: SubmissionRecord,
    /// How it ended.
    pub outcome: Outcome,
    /// One sentence for people.
    pub summary: String,
    /// The score of an accepted submission.
    pub score: Option<Score>,
    /// The first failure, which names the error code.
    pub failure: Option<Failure>,
    /// False if the scan was left out, which is for tests of the verification alone.
    pub scanned: bool,
    /// What the scan found.
    pub findings: Vec<Finding>,
    /// What was asked; none if the scan refused.
    pub plan: Option<PlanRecord>,
    /// What it ran on; none if nothing ran.
    pub machine: Option<MachineRecord>,
    /// The runs, in order.
    pub runs: Vec<RunRecord>,
    /// Times outside the runs, in order.
    pub phases: Vec<Phase>,
    /// The submission's output.
    pub log: LogRecord,
}

impl Report {
    /// Seconds of all phases together, the timed regions included.
    #[must_use]
    pub fn total_seconds(&self) -> f64 {
        let runs = self.runs.iter().flat_map(|run| &run.phases);
        self.phases
            .iter()
            .chain(runs)
            .map(|phase| phase.seconds)
            .sum()
    }
}

/// The JSON schema of [`Report`], pretty-printed, with a final newline.
///
/// # Errors
/// The error of the JSON writer.
pub fn schema_json() -> Result<String, serde_json::Error> {
    let schema = schemars::schema_for!(Report);
    serde_json::to_string_pretty(&schema).map(|text| text + "\n")
}
