//! `cargo xtask tidy`: what the compiler does not check. Every check runs, whatever the others
//! found, and nothing is changed unless `--fix` is given.

mod direction;
mod generated;
mod sources;
mod specification;

use std::process::ExitCode;

use crate::command::{self, Failed};
use crate::{step, workspace};

/// Runs every check, and exits with 1 if one of them failed.
pub(crate) fn run(fix: bool) -> ExitCode {
    if passes(fix) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs every check, and is true if all of them passed.
pub(crate) fn passes(fix: bool) -> bool {
    let format: &[&str] = if fix {
        &["fmt", "--all"]
    } else {
        &["fmt", "--all", "--check"]
    };
    let clippy = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    let reports = [
        step::run("format", || command::run(command::cargo(format))),
        step::run("dependency direction", || {
            none(direction::problems(&workspace::metadata()?.packages))
        }),
        step::run("sources", || {
            let packages = workspace::metadata()?.packages;
            none(sources::problems(&workspace::text_files()?, &packages))
        }),
        step::run("specification", || {
            let packages = workspace::metadata()?.packages;
            none(specification::problems(
                &workspace::text_files()?,
                &packages,
            ))
        }),
        step::run("generated files", || {
            none(generated::problems(
                generated::FILES,
                workspace::root(),
                fix,
            ))
        }),
        step::run("clippy", || command::run(command::cargo(&clippy))),
    ];
    reports.iter().all(|report| report.result.is_ok())
}

/// A check passes that found no problem.
fn none(problems: Vec<String>) -> Result<(), Failed> {
    if problems.is_empty() {
        Ok(())
    } else {
        Err(problems.join("\n").into())
    }
}
