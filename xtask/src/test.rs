//! `cargo xtask test`: everything that has to pass, in the order in which it fails soonest.

use std::process::{Command, ExitCode};

use crate::command::{self, Failed};
use crate::engine::{self, DOCKER_HOST, Engine};
use crate::{fuzz, step, tidy, tools, workspace};

/// Makes tests that need PyTorch fail, rather than be skipped, where there is no environment.
const REQUIRE_ENVIRONMENT: &str = "CRUSADES_REQUIRE_ENVIRONMENT";

/// Makes tests that need a container engine fail, rather than be skipped, where there is none.
const REQUIRE_DOCKER: &str = "CRUSADES_REQUIRE_DOCKER";

/// What a person asked for.
#[derive(Debug)]
pub(crate) struct Wishes {
    /// Whether to run tidy too.
    pub(crate) tidy: bool,
    /// Whether to set up the Python environment.
    pub(crate) environment: bool,
    /// Whether to install an engine where there is none.
    pub(crate) install: bool,
}

/// What earlier steps have found for later ones.
#[derive(Debug, Default)]
struct Found {
    environment: bool,
    /// Held until all steps are done.
    engine: Option<Engine>,
}

type Step = (&'static str, fn(&mut Found) -> Result<(), Failed>);

/// Runs the steps until one fails, and exits as that one did.
pub(crate) fn run(wishes: &Wishes) -> ExitCode {
    let mut needed = vec![tools::C_COMPILER, tools::CXX_COMPILER];
    let mut steps: Vec<Step> = Vec::new();
    if wishes.tidy {
        needed.push(tools::GIT);
        steps.push(("tidy", tidy));
    }
    steps.push(("build", build));
    if wishes.environment {
        needed.push(tools::PYTHON);
        steps.push(("environment", environment));
    }
    if wishes.install {
        steps.push(("install engine", install_engine));
    }
    steps.push(("engine", find_engine));
    steps.push(("tests", tests));
    steps.push(("fuzz", |_| fuzz::short()));
    if let Err(missing) = tools::missing(&needed) {
        eprintln!("{missing}");
        return ExitCode::FAILURE;
    }

    let mut found = Found::default();
    let mut exit = ExitCode::SUCCESS;
    let mut times = Vec::new();
    let count = steps.len();
    for ((name, work), number) in steps.into_iter().zip(1..) {
        println!("step {number} of {count}: {name}");
        let report = step::run(name, || work(&mut found));
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

fn tidy(_: &mut Found) -> Result<(), Failed> {
    if tidy::passes(false) {
        Ok(())
    } else {
        Err("see the checks above".to_owned().into())
    }
}

fn build(_: &mut Found) -> Result<(), Failed> {
    command::run(command::cargo(&["build", "--workspace", "--all-targets"]))
}

fn environment(found: &mut Found) -> Result<(), Failed> {
    // What `build` has just built.
    let program = workspace::metadata()?
        .target_directory
        .join("debug/crusades");
    let mut set_up = Command::new(program);
    set_up.args(["env", "setup"]);
    command::run(set_up)?;
    found.environment = true;
    Ok(())
}

/// A machine without a network has no packages; then the next step says what is missing.
fn install_engine(_: &mut Found) -> Result<(), Failed> {
    if let Err(failed) = engine::install() {
        println!("no engine was installed: {}", failed.message);
    }
    Ok(())
}

/// A machine without an engine is no fault of the project's.
fn find_engine(found: &mut Found) -> Result<(), Failed> {
    match Engine::find_or_start() {
        Ok(engine) => {
            println!("the tests use {}", engine.describe());
            found.engine = Some(engine);
        }
        Err(reason) => println!("tests of the Docker backend are skipped: {reason}"),
    }
    Ok(())
}

fn tests(found: &mut Found) -> Result<(), Failed> {
    let mut tests = command::cargo(&["test", "--workspace"]);
    if found.environment {
        tests.env(REQUIRE_ENVIRONMENT, "1");
    }
    if let Some(engine) = &found.engine {
        tests
            .env(DOCKER_HOST, engine.host())
            .env(REQUIRE_DOCKER, "1");
    }
    command::run(tests)
}
