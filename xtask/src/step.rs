//! One step of a task: run, timed, and reported in one line.

use std::time::{Duration, Instant};

use crate::command::Failed;

/// How a step came out.
#[derive(Debug)]
pub(crate) struct Report {
    /// How long it took.
    pub(crate) took: Duration,
    /// Why it did not succeed.
    pub(crate) result: Result<(), Failed>,
}

/// Runs a step and prints its line, and why it failed below that.
pub(crate) fn run(name: &'static str, work: impl FnOnce() -> Result<(), Failed>) -> Report {
    let begin = Instant::now();
    let result = work();
    let report = Report {
        took: begin.elapsed(),
        result,
    };
    let word = if report.result.is_ok() {
        "ok"
    } else {
        "FAILED"
    };
    println!("{word:<6}  {name:<24}{:>8.1} s", report.took.as_secs_f64());
    if let Err(failed) = &report.result {
        for line in failed.message.lines() {
            println!("        {line}");
        }
    }
    report
}
