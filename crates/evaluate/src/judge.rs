//! Judging one submission in a round: scan, worker, warm-up, timed runs, verdicts, score.

use std::fmt::Write as _;
use std::time::Instant as Timer;

use crusades_core::hparams::Metric;
use crusades_core::score::submission_score;
use crusades_core::{ErrorCode, Fault};
use crusades_sandbox::{ExitCause, LogSnapshot, Tier};
use crusades_scan::{Finding, Policy, ScanOptions, ScanReport};

use crate::failure;
use crate::plan::RunPlan;
use crate::protocol::FailedKind;
use crate::report::{
    Failure, LogRecord, MachineRecord, Outcome, Phase, Report, RunRecord, SCHEMA_VERSION,
    SubmissionRecord, Usage,
};
use crate::round::{Observer, Phases, Round, sha256};
use crate::verdict::{Evidence, Verdict, reported_loss};
use crate::worker::{RunOutput, Worker, WorkerError};

/// A submission as it arrives.
#[derive(Clone, Copy, Debug)]
pub struct Submission<'a> {
    /// Name of the file, for messages.
    pub file: &'a str,
    /// Its contents, or as much of them as shows that it is too long.
    pub source: &'a [u8],
    /// Its length in bytes.
    pub length: u64,
}

/// Where in an evaluation something failed; decides which code it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Before any submitted code ran.
    Start,
    /// While the submission was loaded or warmed up.
    WarmUp,
    /// In the timed region.
    Timed,
}

/// The scan of a submission, which stands on its own: nothing is run.
#[must_use]
pub fn scan(submission: Submission<'_>, policy: &Policy, num_gpus: u32) -> ScanReport {
    let options = ScanOptions {
        file_name: submission.file.to_owned(),
        num_gpus,
    };
    crusades_scan::scan(submission.source, policy, &options)
}

/// The code of a submission that may run.
#[derive(Clone, Debug)]
pub struct Admitted {
    source: String,
    /// Seconds of the scan; none if it was left out.
    scan_seconds: Option<f64>,
}

/// Scans a submission: what was found, and either the code as the scan left it or the report on a
/// submission that it refused.
pub fn admit(
    submission: Submission<'_>,
    policy: &Policy,
    num_gpus: u32,
) -> (ScanReport, Result<Admitted, Box<Report>>) {
    let began = Timer::now();
    let scanned = scan(submission, policy, num_gpus);
    let seconds = began.elapsed().as_secs_f64();
    let admitted = match scanned.error_code() {
        None => Ok(Admitted {
            // An accepted scan has it.
            source: scanned.runnable_source.clone().unwrap_or_default(),
            scan_seconds: Some(seconds),
        }),
        Some(code) => Err(Box::new(refusal(submission, &scanned, code, seconds))),
    };
    (scanned, admitted)
}

impl Admitted {
    /// The code as it is, for tests of what is behind the scan. Its report says that it was not
    /// scanned.
    ///
    /// # Errors
    /// The report, if it is too long or not UTF-8.
    pub fn unscanned(submission: Submission<'_>) -> Result<Self, Box<Report>> {
        let refuse = |headline: String| {
            let mut report = empty_report(submission);
            report.outcome = Outcome::RefusedByScan;
            report.summary.clone_from(&headline);
            report.failure = Some(failure::plain(ErrorCode::SyntaxError, headline, &[]));
            Err(Box::new(report))
        };
        if submission.source.len() as u64 != submission.length {
            return refuse(format!("{} bytes are too many.", submission.length));
        }
        match str::from_utf8(submission.source) {
            Ok(source) => Ok(Self {
                source: source.to_owned(),
                scan_seconds: None,
            }),
            Err(error) => refuse(format!("The file is not UTF-8: {error}.")),
        }
    }

    /// What runs.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Seconds that the scan took; none if it was left out.
    #[must_use]
    pub fn scan_seconds(&self) -> Option<f64> {
        self.scan_seconds
    }
}

/// The report on a submission that the scan refused.
fn refusal(
    submission: Submission<'_>,
    scanned: &ScanReport,
    code: &str,
    scan_seconds: f64,
) -> Report {
    let code = ErrorCode::from_name(code).unwrap_or(ErrorCode::SecurityViolation);
    let headline = scanned.findings.first().map_or_else(
        || "The scan refused the submission.".to_owned(),
        |finding| describe_finding(submission.file, finding),
    );
    let mut report = empty_report(submission);
    let summary = match scanned.findings.len() {
        0 | 1 => headline.clone(),
        count => format!("{headline} (and {} more findings)", count - 1),
    };
    report.summary = format!("Refused by the scan: {summary}");
    report.outcome = Outcome::RefusedByScan;
    report.scanned = true;
    report.findings.clone_from(&scanned.findings);
    report.failure = Some(failure::plain(code, headline, &[]));
    report.phases.push(scan_phase(scan_seconds));
    report
}

fn scan_phase(seconds: f64) -> Phase {
    Phase {
        name: "Scanned".to_owned(),
        seconds,
    }
}

fn describe_finding(file: &str, finding: &Finding) -> String {
    format!(
        "{file}:{}:{}: {} {}",
        finding.line, finding.column, finding.rule, finding.message
    )
}

fn empty_report(submission: Submission<'_>) -> Report {
    Report {
        schema_version: SCHEMA_VERSION,
        program_version: env!("CARGO_PKG_VERSION").to_owned(),
        submission: SubmissionRecord {
            file: submission.file.to_owned(),
            code_hash: (submission.source.len() as u64 == submission.length)
                .then(|| sha256(submission.source)),
            bytes: submission.length,
        },
        outcome: Outcome::InfrastructureFault,
        summary: String::new(),
        score: None,
        failure: None,
        scanned: false,
        findings: Vec::new(),
        plan: None,
        machine: None,
        runs: Vec::new(),
        phases: Vec::new(),
        log: LogRecord::default(),
    }
}

impl Round {
    /// Judges one submission. Every outcome is a report, a fault of this machine too.
    #[must_use]
    pub fn judge(
        &self,
        submission: Submission<'_>,
        admitted: &Admitted,
        observer: Observer<'_>,
    ) -> Report {
        let mut judgement = Judgement {
            round: self,
            admitted,
            worker: None,
            phases: Phases::default(),
            log: LogRecord::default(),
            tier: None,
        };
        let scan = admitted.scan_seconds().map(scan_phase);
        judgement.phases.list.extend(scan);
        let mut runs = Vec::new();
        for plan in &self.benchmark.plan.runs {
            let (record, next) = judgement.run(plan, observer);
            runs.push(record);
            if next == Next::Stop {
                break;
            }
        }
        judgement.finish(submission, runs)
    }
}

/// Whether there is a point in further runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Run,
    Stop,
}

struct Judgement<'a> {
    round: &'a Round,
    admitted: &'a Admitted,
    worker: Option<Worker>,
    phases: Phases,
    log: LogRecord,
    tier: Option<Tier>,
}

impl Judgement<'_> {
    /// One run, with a worker from the run before if it still lives.
    fn run(&mut self, plan: &RunPlan, observer: Observer<'_>) -> (RunRecord, Next) {
        let mut record = RunRecord::planned(plan);
        let mut next = Next::Run;
        let started = match self.worker {
            Some(_) => Ok(()),
            None => self.start(plan, observer),
        };
        match started {
            Ok(()) => self.repeat_until_quiet(plan, &mut record, observer),
            Err(failure) => {
                // What fails before the timed region fails in every run.
                next = Next::Stop;
                record.failure = Some(*failure);
            }
        }
        if let Some(failure) = &mut record.failure {
            failure.run = Some(record.run);
            if failure.code.is_fatal() || failure.fault == Fault::Infrastructure {
                next = Next::Stop;
            }
            self.drop_worker();
        }
        (record, next)
    }

    /// Starts a worker, loads the code and warms it up.
    fn start(&mut self, plan: &RunPlan, observer: Observer<'_>) -> Result<(), Box<Failure>> {
        let benchmark = &self.round.benchmark;
        let worker = self
            .phases
            .time("Started the submission's worker", observer, |_| {
                benchmark.start_submission()
            })
            .map_err(|error| Box::new(failure_of(&error, Stage::Start)))?;
        self.tier = Some(worker.tier());
        // Kept even if what follows fails, for its log.
        let worker = self.worker.insert(worker);
        let source = self.admitted.source();
        let failed = |error: WorkerError| Box::new(failure_of(&error, Stage::WarmUp));
        self.phases
            .time("Loaded its code", observer, |_| worker.load_code(source))
            .map_err(failed)?;
        self.phases
            .time("Warmed up", observer, |_| benchmark.warm_up(worker, plan))
            .map(|_| ())
            .map_err(failed)
    }

    fn repeat_until_quiet(
        &mut self,
        plan: &RunPlan,
        record: &mut RunRecord,
        observer: Observer<'_>,
    ) {
        let benchmark = &self.round.benchmark;
        let runs = benchmark.plan.runs.len();
        let most = benchmark.hparams.disturbance.max_repeats;
        let mut own_phases = Phases::default();
        for attempt in 0..=most {
            record.repeats = attempt;
            let name = format!("Judged run {} of {runs}", record.run);
            let Some(worker) = &mut self.worker else {
                return;
            };
            let outcome = own_phases.time(&name, observer, |_| {
                benchmark
                    .timed(worker, plan, attempt)
                    .map_err(|error| Box::new(failure_of(&error, Stage::Timed)))
                    .and_then(|output| self.round.decide(plan, output, record))
            });
            match outcome {
                Ok(Decision::Stands) => return,
                Ok(Decision::Disturbed) if attempt == most => {
                    record.success = false;
                    record.failure = Some(disturbed(most));
                }
                Ok(Decision::Disturbed) => {
                    // Another worker: this one has seen the batches, and could remember the results.
                    self.drop_worker();
                    if let Err(failure) = self.start(plan, observer) {
                        record.failure = Some(*failure);
                        return;
                    }
                }
                Err(failure) => {
                    record.failure = Some(*failure);
                    return;
                }
            }
        }
    }

    /// Why the sandbox was not of the strongest tier.
    fn sandbox_remarks(&self, tier: Tier) -> Vec<String> {
        if tier == Tier::One {
            return Vec::new();
        }
        let mut remarks = crusades_sandbox::probe().reasons;
        if self.round.benchmark.settings.force_tier.is_some() {
            remarks.push(format!("{tier} was asked for"));
        }
        remarks
    }

    /// Ends the worker and keeps what it printed.
    fn drop_worker(&mut self) {
        let Some(worker) = self.worker.take() else {
            return;
        };
        let log = worker.log();
        if let Err(error) = worker.stop() {
            // The sandbox tries again when it is dropped; the report says that it was not easy.
            self.phases.list.push(Phase {
                name: format!("Not ended at once: {error}"),
                seconds: 0.0,
            });
        }
        self.log = log_record(&self.log, &log);
    }

    fn finish(mut self, submission: Submission<'_>, runs: Vec<RunRecord>) -> Report {
        self.drop_worker();
        let benchmark = &self.round.benchmark;
        let hparams = &benchmark.hparams;
        let metric = hparams.metric;
        let values: Vec<f64> = runs
            .iter()
            .filter(|run| run.success)
            .filter_map(|run| match metric {
                Metric::Mfu => run.mfu,
                Metric::Tps => run.tokens_per_second,
            })
            .collect();
        let failure = deciding_failure(&runs).cloned();
        let decisive = failure
            .as_ref()
            .is_some_and(|failure| failure.code.is_fatal());
        let planned = hparams.evaluation_runs;
        let score = submission_score(metric, &values, planned, hparams.min_success_rate);

        let mut report = empty_report(submission);
        report.scanned = self.admitted.scan_seconds().is_some();
        match (score, failure) {
            (Ok(score), _) if !decisive => {
                report.outcome = Outcome::Accepted;
                let runs = match score.successful_runs {
                    1 => "one run".to_owned(),
                    several => format!("lower median of {several} runs"),
                };
                report.summary = format!("Accepted: {:.2} {}, {runs}", score.value, metric.unit());
                report.score = Some(score);
            }
            (score, Some(failure)) => {
                report.outcome = outcome_of(failure.code);
                report.summary = summary_of(&failure, report.outcome);
                if let (Err(error), false) = (score, decisive) {
                    let _ = write!(report.summary, " ({error})");
                }
                report.failure = Some(failure);
            }
            (_, None) => {
                // No run failed, and yet there is no score: there were no runs.
                report.summary = "Not judged: no run was made".to_owned();
            }
        }
        report.plan = Some(self.round.record.clone());
        report.machine = self.tier.map(|tier| MachineRecord {
            device: benchmark.device.clone(),
            threads: benchmark.settings.threads,
            python: benchmark.versions.python.clone(),
            torch: benchmark.versions.torch.clone(),
            transformers: benchmark.versions.transformers.clone(),
            sandbox_tier: tier.number(),
            sandbox_remarks: self.sandbox_remarks(tier),
        });
        report.runs = runs;
        report.phases = self.phases.list;
        report.log = self.log;
        report
    }
}

/// The failure that stands for all: a fatal one, which decides the submission, before any other.
fn deciding_failure(runs: &[RunRecord]) -> Option<&Failure> {
    let failures = || runs.iter().filter_map(|run| run.failure.as_ref());
    failures()
        .find(|failure| failure.code.is_fatal())
        .or_else(|| failures().next())
}

impl RunRecord {
    /// The record of a run before anything has happened.
    fn planned(plan: &RunPlan) -> Self {
        Self {
            run: plan.index + 1,
            seed: plan.seed.to_hex(),
            success: false,
            repeats: 0,
            wall_seconds: None,
            tokens_per_second: None,
            mfu: None,
            loss: None,
            reference_loss: None,
            outputs_digest: None,
            checks: Vec::new(),
            weights: None,
            usage: None,
            phases: Vec::new(),
            failure: None,
        }
    }
}

enum Decision {
    /// The run counts, as a success or as a failure.
    Stands,
    /// Something else disturbed the machine.
    Disturbed,
}

impl Round {
    /// Makes the checks of one run and fills in its record.
    fn decide(
        &self,
        plan: &RunPlan,
        output: RunOutput,
        record: &mut RunRecord,
    ) -> Result<Decision, Box<Failure>> {
        let began = Timer::now();
        let benchmark = &self.benchmark;
        let reference = &self.references[plan.index as usize];
        let evidence = Evidence {
            hparams: &benchmark.hparams,
            limits: &benchmark.limits,
            layout: &benchmark.layout,
            question: &benchmark.question,
            parameters: benchmark.parameters,
            vocabulary: benchmark.vocabulary,
            logit_rows: plan.logit_rows.len(),
            initial: benchmark.initial.as_slice(),
            reference,
            results: &output.results,
            dump: output.dump.as_deref(),
            trained: &output.trained,
            answer: &output.answer,
            span: output.span,
            peak_tflops: benchmark.peak_tflops,
            foreign_cpu_share: output.foreign_cpu_share,
        };
        let verdict = Verdict::reach(&evidence).map_err(|error| {
            Box::new(failure::plain(
                ErrorCode::ReferenceFailed,
                format!("The run could not be judged: {}.", chain(&error)),
                &[],
            ))
        })?;
        let work = evidence.work();
        let loss = reported_loss(&output.trained);
        record.wall_seconds = Some(work.wall_seconds);
        record.tokens_per_second = Some(work.tokens_per_second());
        record.mfu = Some(work.mfu(benchmark.peak_tflops));
        record.loss = loss.is_finite().then_some(loss);
        record.reference_loss = Some(reference.loss);
        record.outputs_digest = Some(sha256(&output.results));
        record.usage = Some(Usage {
            cpu_seconds: output.cpu_seconds,
            peak_memory_bytes: output.trained.peak_memory_bytes,
            foreign_cpu_share: output.foreign_cpu_share,
        });
        let disturbed = verdict.disturbed();
        let (checks, failure, weights) = verdict.into_parts();
        record.checks = checks;
        record.weights = weights;
        record.phases = output.phases;
        record.phases.push(Phase {
            name: "check".to_owned(),
            seconds: began.elapsed().as_secs_f64(),
        });
        if let Some(failure) = failure {
            return Err(Box::new(failure));
        }
        record.success = !disturbed;
        Ok(if disturbed {
            Decision::Disturbed
        } else {
            Decision::Stands
        })
    }
}

fn disturbed(repeats: u32) -> Failure {
    let mut failure = failure::plain(
        ErrorCode::SandboxFailed,
        format!(
            "Other work disturbed the machine in each of {} tries.",
            repeats + 1
        ),
        &["Something else runs on the validator's machine"],
    );
    failure.reason = Some("machine_disturbed".to_owned());
    failure
}

/// How a judgement with this failure ended.
fn outcome_of(code: ErrorCode) -> Outcome {
    use ErrorCode as Code;
    if code.fault() == Fault::Infrastructure {
        return Outcome::InfrastructureFault;
    }
    match code {
        Code::NoCode | Code::SecurityViolation => Outcome::RefusedByScan,
        // The scan finds both; what it accepted and the worker refuses has failed in execution.
        Code::SyntaxError
        | Code::MissingInnerSteps
        | Code::InvalidReturnType
        | Code::WarmupFailed
        | Code::ExecutionFailed
        | Code::OutOfMemory
        | Code::Timeout => Outcome::FailedInExecution,
        _ => Outcome::RefusedByVerification,
    }
}

fn summary_of(failure: &Failure, outcome: Outcome) -> String {
    let verb = match outcome {
        Outcome::FailedInExecution => "Failed",
        Outcome::InfrastructureFault => "Not judged",
        _ => "Refused",
    };
    let run = failure
        .run
        .map_or_else(String::new, |run| format!(" in run {run}"));
    format!("{verb}{run}: {} [{}]", failure.headline, failure.code)
}

/// What a worker's failure means for the submission.
fn failure_of(error: &WorkerError, stage: Stage) -> Failure {
    let general = match stage {
        Stage::Start => ErrorCode::ModelLoadFailed,
        Stage::WarmUp => ErrorCode::WarmupFailed,
        Stage::Timed => ErrorCode::ExecutionFailed,
    };
    let when = match stage {
        Stage::Start => "while the worker started",
        Stage::WarmUp => "in the warm-up",
        Stage::Timed => "in the timed run",
    };
    match error {
        WorkerError::Start(_)
        | WorkerError::Resources { .. }
        | WorkerError::Archive(_)
        | WorkerError::Control(_)
        | WorkerError::Channel(_) => failure::plain(
            ErrorCode::SandboxFailed,
            format!("The sandbox failed: {}.", chain(error)),
            &["A fault of the validator's machine"],
        ),
        WorkerError::Timeout(limit) => reasoned(
            if stage == Stage::Start {
                general
            } else {
                ErrorCode::Timeout
            },
            "no_reply",
            format!("There was no reply within {} s {when}.", limit.as_secs()),
            &[
                "An endless loop, or a deadlock",
                "Compilation that takes longer than eval_timeout",
                "Much slower than the baseline",
            ],
        ),
        WorkerError::Ended(exit) => ended(exit.cause, general, when),
        WorkerError::Disconnected => reasoned(
            general,
            "connection_closed",
            format!("The control socket was closed {when}."),
            &["Descriptors that the submission did not open were closed"],
        ),
        WorkerError::Protocol(what) => reasoned(
            general,
            "protocol_violation",
            format!("The worker broke the protocol {when}: {what}."),
            &["Something was written to the control socket"],
        ),
        WorkerError::Failed(failed) => {
            let (code, reason) = match failed.kind {
                FailedKind::Raised => (general, Some("raised")),
                FailedKind::OutOfMemory => (ErrorCode::OutOfMemory, Some("raised")),
                FailedKind::SyntaxError => (ErrorCode::SyntaxError, None),
                FailedKind::MissingInnerSteps => (ErrorCode::MissingInnerSteps, None),
                FailedKind::InvalidReturnType => (ErrorCode::InvalidReturnType, None),
                FailedKind::TokenCountMismatch => (ErrorCode::TokenCountMismatch, None),
                FailedKind::Model | FailedKind::Protocol => (general, None),
            };
            let mut failure = failure::plain(
                code,
                format!("{} ({when})", failed.message),
                match code {
                    ErrorCode::InvalidReturnType => RETURN_CAUSES,
                    ErrorCode::OutOfMemory => MEMORY_CAUSES,
                    _ => &[],
                },
            );
            failure.reason = reason.map(str::to_owned);
            failure.traceback = (!failed.traceback.is_empty()).then(|| failed.traceback.clone());
            failure
        }
    }
}

const RETURN_CAUSES: &[&str] = &[
    "inner_steps has no return statement on some path",
    "A tensor was returned where a number is asked for: use .item()",
    "final_logits is not a plain torch.Tensor",
];

const MEMORY_CAUSES: &[&str] = &[
    "Activations or graphs of several steps are kept (loss without .item(), logits without .detach())",
    "A batch that does not fit: use micro-batches or checkpointing",
];

fn ended(cause: ExitCause, general: ErrorCode, when: &str) -> Failure {
    match cause {
        ExitCause::OutOfMemory => reasoned(
            ErrorCode::OutOfMemory,
            "memory_limit",
            format!("The memory limit of the sandbox was reached {when}."),
            MEMORY_CAUSES,
        ),
        ExitCause::LogFlood => reasoned(
            general,
            "log_flood",
            format!("More was printed than the log limit allows {when}."),
            &["Printing in a loop"],
        ),
        ExitCause::Exited(status) => reasoned(
            general,
            "process_exited",
            format!("The process exited with status {status} {when}."),
            &[
                "exit() or os._exit() was called",
                "A library ended the process",
            ],
        ),
        ExitCause::Signaled(signal) => reasoned(
            general,
            "process_killed",
            format!("The process was ended by signal {signal} {when}."),
            &[
                "A crash in native code (signal 11: invalid memory access)",
                "A system call that the sandbox forbids (signal 31)",
            ],
        ),
        ExitCause::Killed | ExitCause::SupervisorLost => reasoned(
            ErrorCode::SandboxFailed,
            "sandbox_ended",
            format!("The sandbox was ended from outside {when}."),
            &["A fault of the validator's machine"],
        ),
    }
}

fn reasoned(code: ErrorCode, reason: &str, headline: String, causes: &[&str]) -> Failure {
    let mut failure = failure::plain(code, headline, causes);
    failure.reason = Some(reason.to_owned());
    failure
}

/// An error and its sources on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}

/// What was kept of two workers' output, one after the other.
fn log_record(before: &LogRecord, log: &LogSnapshot) -> LogRecord {
    let mut text = before.text.clone();
    text.push_str(&log.to_text());
    LogRecord {
        total_bytes: before.total_bytes + log.total_bytes,
        dropped_bytes: before.dropped_bytes + log.dropped_bytes,
        text,
    }
}

#[cfg(test)]
mod tests {
    use crusades_core::ErrorCode;

    use super::deciding_failure;
    use crate::failure;
    use crate::plan::{Plan, PlanShape, Seed};
    use crate::report::RunRecord;

    /// Three runs that ended with these codes, or well.
    fn runs(codes: [Option<ErrorCode>; 3]) -> Vec<RunRecord> {
        let shape = PlanShape {
            corpus_rows: 100,
            steps: 1,
            batch_size: 1,
            sequence_length: 2,
            runs: 3,
        };
        let plan = Plan::new(Seed::from_bytes([1; 32]), shape).unwrap();
        let planned = plan.runs.iter().map(RunRecord::planned);
        planned
            .zip(codes)
            .map(|(mut record, code)| {
                record.failure = code.map(|code| failure::plain(code, "", &[]));
                record
            })
            .collect()
    }

    #[test]
    fn a_refused_run_decides_whatever_failed_before_it() {
        let decided = |codes| deciding_failure(&runs(codes)).map(|failure| failure.code);
        let timeout = Some(ErrorCode::Timeout);
        let mismatch = Some(ErrorCode::UpdateMismatch);
        assert_eq!(decided([timeout, None, mismatch]), mismatch);
        assert_eq!(decided([timeout, None, None]), timeout);
        assert_eq!(decided([None, None, None]), None);
    }
}
