//! `crusades sandbox`: the sandbox by itself, to try and to attack.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crusades_sandbox::selftest::{self, AttackResult, SelftestOptions, Verdict};
use crusades_sandbox::{
    Backend, DockerSettings, ExitCause, Policy, Sandbox as Running, SandboxRequest, Tier, Usage,
    probe_docker,
};

use super::evaluation::print_json;
use crate::cli::{BackendName, Sandbox, SandboxBackend, SandboxRun, SandboxSelftest};
use crate::complaint::Complaint;
use crate::console::{Console, duration, size};
use crate::exit_code::Code;
use crate::inputs::read_text;
use crate::output::{self, printable};
use crate::render::{lines, plain_table};

/// Folders in which a program that is no path is looked for.
const PROGRAM_FOLDERS: [&str; 2] = ["/usr/bin", "/bin"];

/// How long killing and asking may take.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn run(command: &Sandbox) -> Result<Code, Complaint> {
    match command {
        Sandbox::Run(flags) => run_program(flags),
        Sandbox::Selftest(flags) => attack(flags),
    }
}

fn run_program(flags: &SandboxRun) -> Result<Code, Complaint> {
    let policy = match &flags.policy {
        None => Policy::standard(),
        Some(path) => Policy::from_toml(&read_text(path)?).map_err(|error| {
            Complaint::usage(format!("{} is not a usable policy", path.display())).because(&error)
        })?,
    };
    let backend = chosen_backend(&flags.backend)?;
    let (program, arguments) = match flags.command.split_first() {
        Some((name, arguments)) => (program_path(name, &backend)?, arguments),
        None => return Err(Complaint::usage("there is no command to run")),
    };
    let mut request = SandboxRequest::under(policy, program);
    request.arguments = arguments.to_vec();
    request.backend = backend;
    if flags.allow_weak_sandbox {
        request.minimum_tier = Tier::Three;
    }
    let sandbox = Running::start(request)
        .map_err(|error| Complaint::infrastructure("the program was not run").because(&error))?;
    let timeout = Duration::from_secs(flags.timeout);
    let (cause, in_time) = match sandbox.wait(timeout) {
        Some(exit) => (Some(exit.cause), true),
        None => {
            sandbox.kill(PATIENCE).map_err(|error| {
                Complaint::infrastructure("the program could not be killed").because(&error)
            })?;
            (sandbox.wait(PATIENCE).map(|exit| exit.cause), false)
        }
    };
    output::print(&sandbox.log().to_text())?;
    let ending = if in_time {
        cause.map_or_else(|| "ended".to_owned(), describe)
    } else {
        format!("killed after {} s", flags.timeout)
    };
    let usage = describe_usage(sandbox.usage(PATIENCE));
    let container = sandbox
        .image_id()
        .map(|id| format!("; container of {id}"))
        .unwrap_or_default();
    output::note(&format!("[{}{container}; {ending}{usage}]", sandbox.tier()));
    Ok(match cause {
        Some(ExitCause::Exited(0)) if in_time => Code::Accepted,
        _ => Code::FailedInExecution,
    })
}

fn chosen_backend(flags: &SandboxBackend) -> Result<Backend, Complaint> {
    match (flags.backend, &flags.image) {
        (BackendName::Native, None) => Ok(Backend::Native),
        (BackendName::Docker, Some(image)) => Ok(Backend::Docker(DockerSettings {
            image: image.clone(),
            host: flags.docker_host.clone(),
        })),
        (BackendName::Native, Some(_)) => {
            Err(Complaint::usage("a native sandbox has no image").help("add `--backend docker`"))
        }
        (BackendName::Docker, None) => Err(Complaint::usage("a container needs an image")
            .help("add `--image`, and get the image by `docker pull`")),
    }
}

/// The program that `name` means inside the sandbox.
fn program_path(name: &OsStr, backend: &Backend) -> Result<PathBuf, Complaint> {
    let path = Path::new(name);
    if path.is_absolute() {
        return Ok(path.to_owned());
    }
    if *backend != Backend::Native {
        return Err(Complaint::usage(format!(
            "{} is not the path of a program in the image",
            path.display()
        )));
    }
    PROGRAM_FOLDERS
        .iter()
        .map(|folder| Path::new(folder).join(path))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| {
            Complaint::usage(format!(
                "there is no {} in {}",
                path.display(),
                PROGRAM_FOLDERS.join(" or ")
            ))
        })
}

fn describe(cause: ExitCause) -> String {
    match cause {
        ExitCause::Exited(status) => format!("exited with {status}"),
        ExitCause::Signaled(31) => "killed by signal 31: a forbidden system call".to_owned(),
        ExitCause::Signaled(signal) => format!("killed by signal {signal}"),
        ExitCause::OutOfMemory => "killed at the memory limit".to_owned(),
        ExitCause::LogFlood => "killed at the log limit".to_owned(),
        ExitCause::Killed => "killed".to_owned(),
        ExitCause::SupervisorLost => "lost its supervisor".to_owned(),
    }
}

fn describe_usage(usage: Usage) -> String {
    let cpu = usage
        .cpu_time
        .map(|time| format!("; CPU {}", duration(time.as_secs_f64())));
    let memory = usage
        .peak_memory_bytes
        .map(|bytes| format!("; at most {} of memory", size(bytes)));
    [cpu, memory].into_iter().flatten().collect()
}

fn attack(flags: &SandboxSelftest) -> Result<Code, Complaint> {
    let backend = chosen_backend(&flags.backend)?;
    let tier = match flags.tier.and_then(Tier::from_number) {
        Some(tier) => tier,
        None => strongest_tier(&backend)?,
    };
    let mut options = SelftestOptions::new(tier);
    options.backend = backend;
    options.only.clone_from(&flags.only);
    let mut console = Console::new(flags.json);
    let outcome = selftest::run(&options, |result| {
        console.spin(&format!("Attacked {}: {}", result.target, result.name));
    });
    console.clear();
    let results = outcome.map_err(|error| {
        Complaint::infrastructure("the escape suite could not be run").because(&error)
    })?;
    if results.is_empty() {
        return Err(Complaint::usage("no attack has such a name"));
    }
    if flags.json {
        print_json(&results)?;
    } else {
        output::print(&describe_attacks(&results))?;
    }
    let broken = results
        .iter()
        .any(|result| matches!(result.verdict, Verdict::Broken | Verdict::Unproven));
    Ok(if broken {
        Code::InfrastructureFault
    } else {
        Code::Accepted
    })
}

/// The strongest tier of a backend on this machine.
fn strongest_tier(backend: &Backend) -> Result<Tier, Complaint> {
    match backend {
        Backend::Native => crusades_sandbox::probe().tier().ok_or_else(|| {
            Complaint::infrastructure("this machine has no sandbox")
                .help("`crusades env check` says why")
        }),
        Backend::Docker(settings) => {
            let found = probe_docker(settings, None).map_err(|error| {
                Complaint::infrastructure("there is no container to attack").because(&error)
            })?;
            found.tier().ok_or_else(|| {
                Complaint::infrastructure("this engine makes no container that isolates well")
                    .cause(found.reasons.join("; "))
            })
        }
    }
}

fn describe_attacks(results: &[AttackResult]) -> String {
    let mut table = plain_table();
    table.set_header(["tier", "target", "attack", "verdict", "what happened"]);
    for result in results {
        let verdict = match result.verdict {
            Verdict::Held => "held",
            Verdict::Broken => "BROKEN",
            Verdict::Unproven => "UNPROVEN",
            Verdict::NotApplicable => "not here",
        };
        table.add_row([
            result.tier.number().to_string(),
            printable(&result.target),
            printable(&result.name),
            verdict.to_owned(),
            printable(&result.attempt),
        ]);
    }
    let count = |verdict| {
        results
            .iter()
            .filter(|result| result.verdict == verdict)
            .count()
    };
    format!(
        "{}\n{} held, {} broken, {} unproven, {} not applicable\n",
        lines(&table),
        count(Verdict::Held),
        count(Verdict::Broken),
        count(Verdict::Unproven),
        count(Verdict::NotApplicable)
    )
}
