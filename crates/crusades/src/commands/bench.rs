//! `crusades bench`: speed alone, in turns with the baseline.

use crusades_evaluate::admit;
use crusades_evaluate::bench::{self, BenchError};

use super::evaluation::{print_json, task_and_settings, unprepared};
use crate::cli::Bench;
use crate::complaint::Complaint;
use crate::console::Console;
use crate::exit_code::Code;
use crate::inputs::{Rules, SubmissionFile};
use crate::{output, render};

pub(crate) fn run(flags: &Bench) -> Result<Code, Complaint> {
    let mut console = Console::new(flags.evaluation.quiet);
    let rules = Rules::read(&flags.evaluation.hparams, Some(flags.pairs), &console)?;
    let file = SubmissionFile::read(&flags.file, rules.policy.limits.max_source_bytes)?;
    let (scanned, admitted) = admit(
        file.submission(),
        &rules.policy,
        rules.hparams.docker.num_gpus,
    );
    let Ok(admitted) = admitted else {
        output::note(&super::scan::findings(&file, &scanned));
        return Ok(Code::RefusedByScan);
    };
    let (task, settings) = task_and_settings(&flags.evaluation, &rules, &mut console)?;
    let outcome = bench::compare(task, settings, admitted.source(), &mut |event| {
        console.event(event);
    });
    console.clear();
    let result = outcome.map_err(|error| complaint(&error))?;
    if flags.json {
        print_json(&result)?;
    } else {
        let name = output::printable(&file.name);
        output::print(&render::comparison(&name, &result))?;
    }
    Ok(Code::Accepted)
}

fn complaint(error: &BenchError) -> Complaint {
    match error {
        BenchError::Round(error) => unprepared(error),
        BenchError::Baseline(_) => {
            Complaint::infrastructure("no comparison was made").because(error)
        }
        BenchError::Submission(_, _) => {
            Complaint::new(Code::FailedInExecution, "no comparison was made")
                .because(error)
                .help("`crusades verify` shows the traceback")
        }
    }
}
