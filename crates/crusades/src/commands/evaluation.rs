//! What the commands that run submissions have in common.

use std::path::PathBuf;

use crusades_evaluate::{RoundError, Settings, Task, WorkerError};
use crusades_sandbox::Tier;
use directories::ProjectDirs;
use serde::Serialize;

use crate::cli::Evaluation;
use crate::complaint::Complaint;
use crate::console::Console;
use crate::inputs::{Rules, seed};
use crate::{output, python};

/// What is to be done and on what, in the order in which it can fail soonest: nothing is downloaded
/// for rules that cannot be used or on a machine that has no sandbox.
pub(crate) fn task_and_settings(
    flags: &Evaluation,
    rules: &Rules,
    console: &mut Console,
) -> Result<(Task, Settings), Complaint> {
    let seed = seed(flags.seed.as_deref())?;
    check_sandbox(flags)?;
    let cache = folders()?.cache_dir().join("corpus");
    let hparams = rules.hparams.clone();
    let task = Task::load(hparams, &rules.base, &cache, seed, &mut |event| {
        console.event(event);
    });
    console.clear();
    let task = task.map_err(|error| unprepared(&error))?;
    Ok((task, settings(flags, console)?))
}

fn settings(flags: &Evaluation, console: &mut Console) -> Result<Settings, Complaint> {
    Ok(Settings {
        interpreter: python::ready(flags.python.as_deref(), console)?,
        threads: flags.threads.unwrap_or_else(cores),
        minimum_tier: minimum_tier(flags),
        force_tier: forced_tier(flags),
    })
}

/// Refuses to run strangers' code where it cannot be isolated, before anything is downloaded.
fn check_sandbox(flags: &Evaluation) -> Result<(), Complaint> {
    let found = crusades_sandbox::probe();
    let offered = forced_tier(flags).or(found.tier());
    if offered.is_some_and(|tier| tier <= minimum_tier(flags)) {
        return Ok(());
    }
    let what = offered.map_or_else(
        || "this machine has no sandbox".to_owned(),
        |tier| format!("this machine's sandbox is of {tier} only"),
    );
    let mut complaint = Complaint::infrastructure(format!(
        "{what}, and submitted code is run in {} or better",
        Tier::Two
    ));
    for reason in found.reasons {
        complaint = complaint.cause(reason);
    }
    Err(complaint.help("use another machine, or --allow-weak-sandbox for code that you trust"))
}

fn minimum_tier(flags: &Evaluation) -> Tier {
    if flags.allow_weak_sandbox {
        Tier::Three
    } else {
        Tier::Two
    }
}

fn forced_tier(flags: &Evaluation) -> Option<Tier> {
    flags.force_sandbox_tier.and_then(Tier::from_number)
}

fn cores() -> u32 {
    std::thread::available_parallelism()
        .ok()
        .and_then(|count| u32::try_from(count.get()).ok())
        .unwrap_or(1)
}

/// The user's folders for this program.
pub(crate) fn folders() -> Result<ProjectDirs, Complaint> {
    ProjectDirs::from("", "", "crusades").ok_or_else(|| {
        Complaint::usage("there is no home folder for caches and results").help("set HOME")
    })
}

/// A round that could not be prepared, for people.
pub(crate) fn unprepared(error: &RoundError) -> Complaint {
    Complaint::infrastructure(format!("nothing was judged [{}]", error.code()))
        .because(error)
        .help(match error {
            RoundError::Model(_) | RoundError::Data(_) => {
                "mend the hparams, or use `--hparams tiny`, which needs no download"
            }
            RoundError::Reference { source, .. } if matches!(**source, WorkerError::Start(_)) => {
                "`crusades env check` says what this machine has; in tier 3 the interpreter must be in reach of every user: set CRUSADES_ENV_DIR to \
                 a folder that is not below a private one"
            }
            _ => "`crusades env check` says what this machine has",
        })
}

/// Prints one JSON document on standard output.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Complaint> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Complaint::infrastructure("no JSON was made").because(&error))?;
    output::print(&format!("{text}\n"))
}

/// A folder that results can go to: new, or empty.
pub(crate) fn empty_folder(path: &PathBuf) -> Result<(), Complaint> {
    let failed = |error: &std::io::Error| {
        Complaint::usage(format!("results cannot be kept in {}", path.display())).because(error)
    };
    std::fs::create_dir_all(path).map_err(|error| failed(&error))?;
    let mut entries = std::fs::read_dir(path).map_err(|error| failed(&error))?;
    if entries.next().is_some() {
        return Err(Complaint::usage(format!("{} is not empty", path.display()))
            .help("name a new folder: earlier results are not overwritten"));
    }
    Ok(())
}
