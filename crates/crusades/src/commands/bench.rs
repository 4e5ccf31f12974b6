//! `crusades bench`: speed alone, in turns with the baseline.

use crusades_evaluate::bench::{self, BenchError};
use crusades_evaluate::{Submission, scan};

use super::evaluation::{print_json, settings, unprepared};
use crate::cli::Bench;
use crate::complaint::Complaint;
use crate::console::Console;
use crate::exit_code::Code;
use crate::inputs::{Rules, SubmissionFile, seed};
use crate::{output, render};

pub(crate) fn run(flags: &Bench) -> Result<Code, Complaint> {
    let mut console = Console::new(flags.evaluation.quiet);
    let rules = Rules::read(&flags.evaluation.hparams, &console)?;
    let file = SubmissionFile::read(&flags.file, rules.policy.limits.max_source_bytes)?;
    let seed = seed(flags.evaluation.seed.as_deref())?;
    let submission = Submission {
        file: &file.name,
        source: &file.source,
        length: file.length,
    };
    let scanned = scan(submission, &rules.policy, rules.hparams.docker.num_gpus);
    let Some(source) = scanned
        .runnable_source
        .as_ref()
        .filter(|_| scanned.accepted())
    else {
        output::note(&super::scan::findings(&file, &scanned));
        return Ok(Code::RefusedByScan);
    };
    let settings = settings(&flags.evaluation, &rules, None, &mut console)?;
    let outcome = bench::compare(settings, seed, source, flags.pairs, &mut |event| {
        console.event(event);
    });
    console.clear();
    let result = outcome.map_err(|error| complaint(&error))?;
    if flags.json {
        print_json(&result)?;
    } else {
        let name = render::printable(&file.name);
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
