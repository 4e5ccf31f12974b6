//! Finding the worker's Python environment, and making it on first use.

use std::path::Path;
use std::time::Duration;

use crusades_environment::{
    Environment, EnvironmentHome, Located, SetupEvent, SetupOptions, SetupPlan,
};
use crusades_evaluate::Interpreter;

use crate::complaint::Complaint;
use crate::console::{Console, size};

/// Where environments are kept.
pub(crate) fn home() -> Result<EnvironmentHome, Complaint> {
    EnvironmentHome::from_variables().map_err(|error| {
        Complaint::usage("there is no place for the Python environment").because(&error)
    })
}

/// The environment, made if there is none.
pub(crate) fn ready(given: Option<&Path>, console: &mut Console) -> Result<Interpreter, Complaint> {
    let home = home()?;
    let environment = match locate(&home, given)? {
        Located::Ready(environment) => environment,
        Located::Absent(absence) => {
            console.say(&format!("{absence}; it is set up now, once."));
            set_up(&home, &SetupOptions::from_variables(), console, false)?
        }
    };
    let failed = |error: &dyn std::error::Error| {
        Complaint::infrastructure("the Python environment does not work")
            .because(error)
            .help("run `crusades env check`, or `crusades env setup` to make it anew")
    };
    Ok(Interpreter {
        program: environment.python().to_owned(),
        read_only_paths: environment
            .read_only_paths()
            .map_err(|error| failed(&error))?,
    })
}

/// Looks for the environment, or examines the interpreter that was named.
pub(crate) fn locate(home: &EnvironmentHome, given: Option<&Path>) -> Result<Located, Complaint> {
    Environment::locate(home, given).map_err(|error| {
        Complaint::usage("--python names an interpreter that cannot be used")
            .because(&error)
            .help("leave --python away to have an environment made")
    })
}

/// Makes the environment and tells how it goes.
pub(crate) fn set_up(
    home: &EnvironmentHome,
    options: &SetupOptions,
    console: &mut Console,
    verbose: bool,
) -> Result<Environment, Complaint> {
    let mut told = Duration::ZERO;
    let outcome = Environment::set_up(home, options, &mut |event| match event {
        SetupEvent::Waiting { holder, elapsed } => {
            if elapsed >= told {
                let who = holder.map_or_else(String::new, |pid| format!(" (process {pid})"));
                console.say(&format!("Waiting for another set-up{who}"));
                told = elapsed + Duration::from_secs(10);
            }
        }
        SetupEvent::Planned(plan) => {
            console.say(&announcement(&plan));
            told = Duration::ZERO;
        }
        SetupEvent::Started(phase) => console.spin(&phase.to_string()),
        SetupEvent::Progress {
            phase,
            bytes,
            expected_bytes,
            elapsed,
        } => {
            console.bytes(&phase.to_string(), bytes, expected_bytes);
            if elapsed >= told + Duration::from_secs(10) {
                told = elapsed;
                console.milestone(&format!(
                    "{phase}: {} of about {} on disk after {} s",
                    size(bytes),
                    size(expected_bytes),
                    elapsed.as_secs()
                ));
            }
        }
        SetupEvent::Output(line) => {
            if verbose {
                console.say(&line);
            }
        }
        SetupEvent::Finished { phase, elapsed } => {
            console.done(&format!("Finished: {phase}"), elapsed.as_secs_f64());
        }
    });
    console.clear();
    outcome.map_err(|error| {
        Complaint::infrastructure("the Python environment could not be set up")
            .because(&error)
            .help("mend the cause and run it again: what was downloaded is kept")
    })
}

fn announcement(plan: &SetupPlan) -> String {
    let mut downloads: Vec<_> = plan.downloads.iter().collect();
    downloads.sort_by_key(|download| std::cmp::Reverse(download.bytes));
    let largest: Vec<_> = downloads
        .iter()
        .take(3)
        .map(|download| {
            format!(
                "{} {} ({})",
                download.package,
                download.version,
                size(download.bytes)
            )
        })
        .collect();
    format!(
        "Setting up the worker's Python environment with Python {} and {}\n  \
         into      {}\n  \
         download  {} packages, {} in all, unless they are cached\n  \
         largest   {}\n  \
         disk      about {} when it is done; {} are free",
        plan.base_python.version,
        plan.installer,
        plan.folder.display(),
        plan.downloads.len(),
        size(plan.download_bytes),
        largest.join(", "),
        size(plan.installed_bytes),
        size(plan.free_bytes),
    )
}
