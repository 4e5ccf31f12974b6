//! `crusades scan`: what a validator would refuse without running anything.

use std::io::IsTerminal;

use crusades_evaluate::{Submission, scan};
use crusades_scan::{Finding, Policy, ScanReport, render};
use serde::Serialize;

use super::evaluation::print_json;
use crate::cli::Scan;
use crate::complaint::Complaint;
use crate::console::duration;
use crate::exit_code::Code;
use crate::inputs::{SubmissionFile, read_policy};
use crate::output;

/// The result for one file, in JSON.
#[derive(Debug, Serialize)]
struct Scanned<'a> {
    file: String,
    accepted: bool,
    error_code: Option<&'a str>,
    findings: &'a [Finding],
}

pub(crate) fn run(flags: &Scan) -> Result<Code, Complaint> {
    let policy = match &flags.policy {
        Some(path) => read_policy(path)?,
        None => Policy::builtin(),
    };
    let mut results = Vec::with_capacity(flags.files.len());
    for path in &flags.files {
        let file = SubmissionFile::read(path, policy.limits.max_source_bytes)?;
        let submission = Submission {
            file: &file.name,
            source: &file.source,
            length: file.length,
        };
        let began = std::time::Instant::now();
        let report = scan(submission, &policy, flags.num_gpus);
        results.push((path, file, report, began.elapsed().as_secs_f64()));
    }
    if flags.json {
        let documents: Vec<_> = results
            .iter()
            .map(|(path, _, report, _)| Scanned {
                file: path.display().to_string(),
                accepted: report.accepted(),
                error_code: report.error_code(),
                findings: &report.findings,
            })
            .collect();
        print_json(&documents)?;
    } else {
        for (path, file, report, seconds) in &results {
            output::print(&findings(file, report))?;
            let verdict = match report.findings.len() {
                0 => "accepted".to_owned(),
                1 => "refused, 1 finding".to_owned(),
                count => format!("refused, {count} findings"),
            };
            output::print(&format!(
                "{}: {verdict} ({})\n",
                path.display(),
                duration(*seconds)
            ))?;
        }
    }
    if results.iter().all(|(_, _, report, _)| report.accepted()) {
        Ok(Code::Accepted)
    } else {
        Ok(Code::RefusedByScan)
    }
}

/// The findings in a file, each with its source line; nothing for an accepted one.
pub(crate) fn findings(file: &SubmissionFile, report: &ScanReport) -> String {
    let color = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    render::findings(
        report,
        &String::from_utf8_lossy(&file.source),
        &file.name,
        color,
    )
}
