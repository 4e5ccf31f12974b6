//! `crusades verify`: the full judgement of one submission.

use std::fs;
use std::path::Path;

use crusades_evaluate::report::Report;
use crusades_evaluate::{Admitted, Round, admit};

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
    let submission = file.submission();
    // What the scan refuses needs neither environment nor round.
    let admitted = if flags.no_scan {
        console.say("The scan is left out: this judgement tests the verification alone");
        Admitted::unscanned(submission)
    } else {
        let (scanned, admitted) = admit(submission, &rules.policy, rules.hparams.docker.num_gpus);
        if let Ok(admitted) = &admitted {
            console.done(
                &format!("Scanned {}", output::printable(&file.name)),
                admitted.scan_seconds().unwrap_or_default(),
            );
        } else if !flags.json {
            output::print(&super::scan::findings(&file, &scanned))?;
        }
        admitted
    };
    let report = match &admitted {
        Err(report) => (**report).clone(),
        Ok(admitted) => {
            let (task, settings) = task_and_settings(&flags.evaluation, &rules, &mut console)?;
            let round = Round::prepare(task, settings, &mut |event| console.event(event));
            console.clear();
            let round = round.map_err(|error| unprepared(&error))?;
            let report = round.judge(submission, admitted, &mut |event| console.event(event));
            console.clear();
            report
        }
    };
    if let Some(folder) = &flags.keep {
        let code = admitted.as_ref().map_or("", Admitted::source);
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
