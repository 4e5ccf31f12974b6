//! Speed alone, without a verdict: the submission against the baseline, in turns.
//!
//! Both workers live through the whole comparison, and the one whose turn it is not is frozen: what
//! disturbs the machine for a while disturbs both.

use crusades_core::score::{Work, lower_median};
use schemars::JsonSchema;
use serde::Serialize;
use thiserror::Error;

use crate::report::Phase;
use crate::round::{Benchmark, Observer, Phases, RoundError, Settings, Task};
use crate::worker::{RunOutput, Worker, WorkerError};

/// Why there is no comparison.
#[derive(Debug, Error)]
pub enum BenchError {
    /// The benchmark could not be prepared.
    #[error(transparent)]
    Round(#[from] RoundError),
    /// The baseline failed.
    #[error("the baseline failed")]
    Baseline(#[source] WorkerError),
    /// The submission failed.
    #[error("the submission failed {0}")]
    Submission(&'static str, #[source] WorkerError),
}

/// One side of a comparison.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Side {
    /// Seconds of each timed region, in order.
    pub wall_seconds: Vec<f64>,
    /// Tokens per second, at the lower median of the times.
    pub tokens_per_second: f64,
    /// Model FLOPs utilisation in percent, at the lower median of the times.
    pub mfu: f64,
    /// Largest peak memory of a run, as the worker reported it.
    pub peak_memory_bytes: u64,
    /// Median time of each part of a run.
    pub phases: Vec<Phase>,
}

/// A submission's speed against the baseline's.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Comparison {
    /// The baseline.
    pub baseline: Side,
    /// The submission.
    pub submission: Side,
    /// Speed of the submission relative to the baseline's run just before it, pair by pair.
    pub ratios: Vec<f64>,
    /// Lower median of the ratios: above 1 is faster.
    pub ratio: f64,
    /// (largest - smallest ratio) / median.
    pub ratio_spread: f64,
    /// Number of trained parameters.
    pub parameters: u64,
    /// Tokens per run.
    pub tokens: u64,
    /// Dense peak of one device in TFLOP/s that MFU is relative to.
    pub peak_tflops: f64,
}

/// Compares `source` (as the scan left it) with the baseline, in a pair of runs for each run of the task.
///
/// # Errors
/// [`BenchError`] names which side failed, and where.
pub fn compare(
    task: Task,
    settings: Settings,
    source: &str,
    observer: Observer<'_>,
) -> Result<Comparison, BenchError> {
    let (benchmark, mut baseline) = Benchmark::prepare(task, settings, observer)?;
    let pairs = benchmark.plan.runs.len();
    let mut phases = Phases::default();
    let failed = |stage| move |error| BenchError::Submission(stage, error);
    if let Some(first) = benchmark.plan.runs.first() {
        phases.time("Warmed up the baseline", observer, |_| {
            benchmark
                .warm_up(&mut baseline, first)
                .map_err(BenchError::Baseline)
        })?;
    }
    let mut submission = phases.time("Started the submission's worker", observer, |_| {
        benchmark
            .start_submission()
            .map_err(failed("before it was loaded"))
    })?;
    phases.time("Warmed up the submission", observer, |_| {
        submission
            .load_code(source)
            .map_err(failed("while it was loaded"))?;
        if let Some(first) = benchmark.plan.runs.first() {
            benchmark
                .warm_up(&mut submission, first)
                .map_err(failed("in its warm-up"))?;
        }
        Ok::<_, BenchError>(())
    })?;

    let mut outputs = [Vec::new(), Vec::new()];
    for run in &benchmark.plan.runs {
        let name = format!("Timed pair {} of {pairs}", run.index + 1);
        phases.time(&name, observer, |_| {
            outputs[0].push(
                benchmark
                    .timed(&mut baseline, run, 0)
                    .map_err(BenchError::Baseline)?,
            );
            outputs[1].push(
                benchmark
                    .timed(&mut submission, run, 0)
                    .map_err(failed("in a timed run"))?,
            );
            Ok::<_, BenchError>(())
        })?;
    }
    stop(baseline).map_err(BenchError::Baseline)?;
    stop(submission).map_err(failed("at its end"))?;

    let [baseline, submission] = outputs.map(|outputs| side(&benchmark, &outputs));
    let ratios: Vec<f64> = baseline
        .wall_seconds
        .iter()
        .zip(&submission.wall_seconds)
        .map(|(baseline, submission)| baseline / submission)
        .collect();
    let ratio = lower_median(&ratios).unwrap_or(f64::NAN);
    let (low, high) = ratios
        .iter()
        .fold((f64::INFINITY, 0.0_f64), |(low, high), ratio| {
            (low.min(*ratio), high.max(*ratio))
        });
    Ok(Comparison {
        baseline,
        submission,
        ratio,
        ratio_spread: (high - low) / ratio,
        ratios,
        parameters: benchmark.parameters,
        tokens: benchmark.hparams.unique_tokens(),
        peak_tflops: benchmark.peak_tflops,
    })
}

fn stop(worker: Worker) -> Result<(), WorkerError> {
    worker.stop().map(|_| ())
}

fn side(benchmark: &Benchmark, outputs: &[RunOutput]) -> Side {
    let wall_seconds: Vec<f64> = outputs.iter().map(|output| output.span.seconds()).collect();
    let work = Work {
        parameters: benchmark.parameters,
        unique_tokens: benchmark.hparams.unique_tokens(),
        wall_seconds: lower_median(&wall_seconds).unwrap_or(f64::NAN),
        num_gpus: benchmark.hparams.docker.num_gpus,
    };
    Side {
        tokens_per_second: work.tokens_per_second(),
        mfu: work.mfu(benchmark.peak_tflops),
        peak_memory_bytes: outputs
            .iter()
            .map(|output| output.trained.peak_memory_bytes)
            .max()
            .unwrap_or(0),
        phases: median_phases(outputs),
        wall_seconds,
    }
}

/// The median time of each part; every run has the same parts in the same order.
fn median_phases(outputs: &[RunOutput]) -> Vec<Phase> {
    let Some(first) = outputs.first() else {
        return Vec::new();
    };
    first
        .phases
        .iter()
        .enumerate()
        .map(|(index, phase)| {
            let seconds: Vec<f64> = outputs
                .iter()
                .filter_map(|output| output.phases.get(index))
                .map(|phase| phase.seconds)
                .collect();
            Phase {
                name: phase.name.clone(),
                seconds: lower_median(&seconds).unwrap_or(f64::NAN),
            }
        })
        .collect()
}
