//! `cargo xtask test`: everything that has to pass, in the order in which it fails soonest.

use std::process::{Command, ExitCode};

use crate::command::{self, Failed};
use crate::{fuzz, step, tidy, tools, workspace};

/// Makes tests that need PyTorch fail, rather than be skipped, where there is no environment.
const REQUIRE_ENVIRONMENT: &str = "CRUSADES_REQUIRE_ENVIRONMENT";

type Step = (&'static str, fn() -> Result<(), Failed>);

/// Runs the steps until one fails, and exits as that one did.
pub(crate) fn run(with_tidy: bool, with_environment: bool) -> ExitCode {
    let mut needed = vec![tools::C_COMPILER, tools::CXX_COMPILER];
    let mut steps: Vec<Step> = Vec::new();
    if with_tidy {
        needed.push(tools::GIT);
        steps.push(("tidy", tidy));
    }
    steps.push(("build", build));
    if with_environment {
        needed.push(tools::PYTHON);
        steps.push(("environment", environment));
        steps.push(("tests", tests_with_environment));
    } else {
        steps.push(("tests", tests));
    }
    steps.push(("fuzz", fuzz::short));
    if let Err(missing) = tools::missing(&needed) {
        eprintln!("{missing}");
        return ExitCode::FAILURE;
    }

    let mut exit = ExitCode::SUCCESS;
    let mut times = Vec::new();
    let count = steps.len();
    for ((name, work), number) in steps.into_iter().zip(1..) {
        println!("step {number} of {count}: {name}");
        let report = step::run(name, work);
        let time = format!("{name} {:.1} s", report.took.as_secs_f64());
        if let Err(failed) = report.result {
            exit = ExitCode::from(failed.exit_code);
            times.push(format!("{time} (FAILED)"));
            break;
        }
        times.push(time);
    }
    println!("times: {}", times.join(", "));
    exit
}

fn tidy() -> Result<(), Failed> {
    if tidy::passes(false) {
        Ok(())
    } else {
        Err("see the checks above".to_owned().into())
    }
}

fn build() -> Result<(), Failed> {
    command::run(command::cargo(&["build", "--workspace", "--all-targets"]))
}

fn environment() -> Result<(), Failed> {
    // What `build` has just built.
    let program = workspace::metadata()?
        .target_directory
        .join("debug/crusades");
    let mut set_up = Command::new(program);
    set_up.args(["env", "setup"]);
    command::run(set_up)
}

fn tests() -> Result<(), Failed> {
    command::run(command::cargo(&["test", "--workspace"]))
}

fn tests_with_environment() -> Result<(), Failed> {
    let mut tests = command::cargo(&["test", "--workspace"]);
    tests.env(REQUIRE_ENVIRONMENT, "1");
    command::run(tests)
}
