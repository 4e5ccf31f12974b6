//! `crusades verify`: the full judgement of one submission.

use std::fs;
use std::path::Path;

use crusades_evaluate::report::Report;
use crusades_evaluate::{Round, Submission, refused_by_scan, scan};

use super::evaluation::{empty_folder, print_json, task_and_settings, unprepared};
use crate::cli::Verify;
use crate::complaint::Complaint;
use crate::console::Console;
use crate::exit_code::Code;
use crate::inputs::{Rules, SubmissionFile};
use crate::{output, render};

pub(crate) fn run(flags: &Verify) -> Result<Code, Complaint> {
    let mut console = Console::new(flags.evaluation.quiet);
    let rules = Rules::read(&flags.evaluation.hparams, flags.runs, &console)?;
    let file = SubmissionFile::read(&flags.file, rules.policy.limits.max_source_bytes)?;
    if let Some(folder) = &flags.keep {
        empty_folder(folder)?;
    }
    let submission = Submission {
        file: &file.name,
        source: &file.source,
        length: file.length,
    };
    // What the scan refuses needs neither environment nor round.
    let began = std::time::Instant::now();
    let scanned = scan(submission, &rules.policy, rules.hparams.docker.num_gpus);
    let seconds = began.elapsed().as_secs_f64();
    console.done(
        &format!("Scanned {}", output::printable(&file.name)),
        seconds,
    );
    let report = match refused_by_scan(submission, &scanned, seconds) {
        Some(report) => {
            if !flags.json {
                output::print(&super::scan::findings(&file, &scanned))?;
            }
            report
        }
        None => {
            let (task, settings) = task_and_settings(&flags.evaluation, &rules, &mut console)?;
            let round = Round::prepare(task, settings, &mut |event| console.event(event));
            console.clear();
            let round = round.map_err(|error| unprepared(&error))?;
            let report = round.judge(submission, &rules.policy, &mut |event| console.event(event));
            console.clear();
            report
        }
    };
    if let Some(folder) = &flags.keep {
        let code = scanned.runnable_source.as_deref().unwrap_or_default();
        keep(folder, &report, code, &rules)?;
    }
    if flags.json {
        print_json(&report)?;
    } else {
        output::print(&render::report(&report))?;
    }
    Ok(report.outcome.into())
}

/// Writes what is needed to look into a judgement later.
fn keep(folder: &Path, report: &Report, code: &str, rules: &Rules) -> Result<(), Complaint> {
    let json =
        |error: serde_json::Error| Complaint::infrastructure("no JSON was made").because(&error);
    let files = [
        (
            "report.json",
            serde_json::to_string_pretty(report).map_err(json)?,
        ),
        (
            "hparams.json",
            serde_json::to_string_pretty(&rules.hparams).map_err(json)?,
        ),
        ("code_that_ran.py", code.to_owned()),
        ("log.txt", report.log.text.clone()),
    ];
    for (name, contents) in files {
        let path = folder.join(name);
        fs::write(&path, contents).map_err(|error| {
            Complaint::infrastructure(format!("{} could not be written", path.display()))
                .because(&error)
        })?;
    }
    Ok(())
}
