//! `crusades env`: the Python environment of the worker.

use crusades_environment::{Environment, EnvironmentReport, Located, SetupOptions, free_bytes};
use serde::Serialize;

use super::evaluation::print_json;
use crate::cli::{Env, EnvCheck, EnvSetup};
use crate::complaint::Complaint;
use crate::console::{Console, size};
use crate::exit_code::Code;
use crate::{output, python, render};

pub(crate) fn run(command: &Env) -> Result<Code, Complaint> {
    match command {
        Env::Setup(flags) => set_up(flags),
        Env::Check(flags) => check(flags),
        Env::Policy => policy(),
    }
}

fn policy() -> Result<Code, Complaint> {
    let text = crusades_sandbox::Policy::standard()
        .to_toml()
        .map_err(|error| Complaint::infrastructure("no TOML was made").because(&error))?;
    output::print(&text)?;
    Ok(Code::Accepted)
}

fn set_up(flags: &EnvSetup) -> Result<Code, Complaint> {
    let mut console = Console::new(flags.quiet);
    let home = python::home()?;
    let options = SetupOptions {
        base_python: flags.python.clone(),
        ..SetupOptions::from_variables()
    };
    let environment = python::set_up(&home, &options, &mut console, flags.verbose)?;
    let report = probed(&environment)?;
    output::print(&format!(
        "The environment is ready: Python {}, torch {}, transformers {}\n{}\n",
        report.python_version,
        report.torch,
        report.transformers,
        environment.python().display()
    ))?;
    Ok(Code::Accepted)
}

/// What `env check` found, in JSON.
#[derive(Debug, Serialize)]
struct Found {
    environment: Option<EnvironmentReport>,
    absence: Option<String>,
    sandbox_tier: Option<u8>,
    sandbox: crusades_sandbox::Capabilities,
    folder: String,
    free_bytes: u64,
}

fn check(flags: &EnvCheck) -> Result<Code, Complaint> {
    let home = python::home()?;
    let located = python::locate(&home, flags.python.as_deref())?;
    let (environment, absence) = match located {
        Located::Ready(environment) => (Some(probed(&environment)?), None),
        Located::Absent(absence) => (None, Some(absence.to_string())),
    };
    let sandbox = crusades_sandbox::probe();
    let found = Found {
        environment,
        absence,
        sandbox_tier: sandbox.tier().map(crusades_sandbox::Tier::number),
        sandbox,
        folder: home.root().display().to_string(),
        free_bytes: free_bytes(home.root()).map_err(|error| {
            Complaint::infrastructure("the free space is not known").because(&error)
        })?,
    };
    if flags.json {
        print_json(&found)?;
    } else {
        output::print(&describe(&found))?;
    }
    Ok(
        if found.environment.is_some() && found.sandbox_tier.is_some() {
            Code::Accepted
        } else {
            Code::InfrastructureFault
        },
    )
}

fn probed(environment: &Environment) -> Result<EnvironmentReport, Complaint> {
    environment.probe().map_err(|error| {
        Complaint::infrastructure("the Python environment does not work")
            .because(&error)
            .help("run `crusades env setup`")
    })
}

fn describe(found: &Found) -> String {
    let mut table = render::plain_table();
    let mut row = |name: &str, value: String| {
        table.add_row([name.to_owned(), value]);
    };
    match &found.environment {
        None => row(
            "environment",
            format!(
                "{}; run `crusades env setup`",
                found.absence.as_deref().unwrap_or("none")
            ),
        ),
        Some(report) => {
            row(
                "Python",
                format!("{} {}", report.python_version, report.executable.display()),
            );
            row(
                "packages",
                format!(
                    "torch {}, transformers {}, safetensors {}, numpy {}",
                    report.torch, report.transformers, report.safetensors, report.numpy
                ),
            );
            row(
                "CPU",
                format!(
                    "{} cores, {} threads",
                    report.cpu_count, report.torch_threads
                ),
            );
            row("GPU", describe_gpu(report));
        }
    }
    let tier = found
        .sandbox_tier
        .map_or_else(|| "none".to_owned(), |tier| format!("tier {tier}"));
    row(
        "sandbox",
        format!("{tier}, frozen by {}", found.sandbox.freezer),
    );
    for reason in &found.sandbox.reasons {
        row("", reason.clone());
    }
    row(
        "disk",
        format!("{} free in {}", size(found.free_bytes), found.folder),
    );
    render::lines(&table)
}

fn describe_gpu(report: &EnvironmentReport) -> String {
    let cuda = &report.cuda;
    if cuda.devices.is_empty() {
        let why = match (&cuda.driver, &cuda.fault) {
            (None, _) => "no NVIDIA driver".to_owned(),
            (Some(_), Some(fault)) => fault.clone(),
            (Some(driver), None) => format!("driver {driver}, no device"),
        };
        return format!("none ({why})");
    }
    let devices: Vec<_> = cuda
        .devices
        .iter()
        .map(|device| format!("{} {}", device.name, size(device.memory_bytes)))
        .collect();
    format!(
        "{} (not used yet: the sandbox shows no devices)",
        devices.join(", ")
    )
}
