//! `crusades scan`: what a validator would refuse without running anything.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::path::Path;

use anstyle::Style;
use crusades_evaluate::scan;
use crusades_scan::{Finding, Policy, ScanReport, annotate, render, rules};
use serde::Serialize;

use super::evaluation::print_json;
use crate::cli::{FindingsForm, Scan};
use crate::complaint::Complaint;
use crate::console::duration;
use crate::exit_code::Code;
use crate::inputs::{SubmissionFile, read_policy};
use crate::output;

/// The result for one file, in JSON.
#[derive(Debug, Serialize)]
struct Scanned<'a> {
    file: &'a str,
    accepted: bool,
    error_code: Option<&'a str>,
    findings: &'a [Finding],
}

/// A scanned file and how long that took.
struct ScannedFile {
    path: String,
    file: SubmissionFile,
    report: ScanReport,
    seconds: f64,
}

pub(crate) fn run(flags: &Scan) -> Result<Code, Complaint> {
    if let Some(rule) = &flags.explain {
        output::print(&explanation(rule)?)?;
        return Ok(Code::Accepted);
    }
    let policy = match &flags.policy {
        Some(path) => read_policy(path)?,
        None => Policy::builtin(),
    };
    let results = flags
        .files
        .iter()
        .map(|path| scan_file(path, &policy, flags.num_gpus))
        .collect::<Result<Vec<_>, _>>()?;
    let form = if flags.json {
        FindingsForm::Json
    } else {
        flags.format
    };
    print(&results, form)?;
    if results.iter().all(|result| result.report.accepted()) {
        Ok(Code::Accepted)
    } else {
        Ok(Code::RefusedByScan)
    }
}

fn scan_file(path: &Path, policy: &Policy, num_gpus: u32) -> Result<ScannedFile, Complaint> {
    let file = SubmissionFile::read(path, policy.limits.max_source_bytes)?;
    let began = std::time::Instant::now();
    let report = scan(file.submission(), policy, num_gpus);
    let seconds = began.elapsed().as_secs_f64();
    Ok(ScannedFile {
        path: path.display().to_string(),
        file,
        report,
        seconds,
    })
}

fn print(results: &[ScannedFile], form: FindingsForm) -> Result<(), Complaint> {
    match form {
        FindingsForm::Json => {
            let documents: Vec<_> = results
                .iter()
                .map(|result| Scanned {
                    file: &result.path,
                    accepted: result.report.accepted(),
                    error_code: result.report.error_code(),
                    findings: &result.report.findings,
                })
                .collect();
            print_json(&documents)
        }
        FindingsForm::Sarif => {
            let reports: Vec<_> = results
                .iter()
                .map(|result| (result.path.as_str(), &result.report))
                .collect();
            print_json(&annotate::sarif(&reports))
        }
        FindingsForm::Github => {
            let annotations: String = results
                .iter()
                .map(|result| annotate::github(&result.report, &result.path))
                .collect();
            output::print(&annotations)
        }
        FindingsForm::Text => {
            for ScannedFile {
                path,
                file,
                report,
                seconds,
            } in results
            {
                let verdict = match report.findings.len() {
                    0 => "accepted".to_owned(),
                    1 => "refused, 1 finding".to_owned(),
                    count => format!("refused, {count} findings"),
                };
                let took = duration(*seconds);
                let text = findings(file, report);
                output::print(&format!("{text}{path}: {verdict} ({took})\n"))?;
            }
            Ok(())
        }
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

fn explanation(rule: &str) -> Result<String, Complaint> {
    let known = rules();
    let found = known
        .iter()
        .find(|known| known.id.as_str().eq_ignore_ascii_case(rule))
        .ok_or_else(|| {
            let ids: Vec<_> = known.iter().map(|known| known.id.as_str()).collect();
            Complaint::usage(format!("there is no rule {rule}"))
                .help(format!("the rules are {}", ids.join(", ")))
        })?;
    let bold = Style::new().bold();
    let mut text = format!(
        "{bold}{} {}{bold:#}\n\n{}\n",
        found.id, found.name, found.summary
    );
    for (title, paragraph) in [
        ("Why", found.why),
        ("Refused", found.example),
        ("Instead", found.instead),
    ] {
        let _ = write!(text, "\n{bold}{title}{bold:#}\n");
        for line in paragraph.lines() {
            let _ = writeln!(text, "  {line}");
        }
    }
    Ok(text)
}
