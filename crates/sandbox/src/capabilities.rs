//! Asking the machine what it can give. The answer is found by doing it once, in a process of its own.

use std::path::Path;
use std::time::Duration;

use crate::error::Fault;
use crate::native::landlock_abi;
use crate::native::launcher::start_supervisor;
use crate::native::protocol::{Lines, Order, Report};
use crate::tier::Capabilities;

/// How long the machine may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What this machine can give, asked by the running executable, whose `main` must call
/// [`crate::run_if_supervisor`]. What cannot be found out counts as missing, with the reason.
#[must_use]
pub fn probe() -> Capabilities {
    ask(None).unwrap_or_else(nothing)
}

/// Like [`probe`], by another executable.
#[must_use]
pub fn probe_with(launcher: &Path) -> Capabilities {
    ask(Some(launcher)).unwrap_or_else(nothing)
}

/// What this machine can give; an error if the launcher cannot tell.
pub(crate) fn ask(launcher: Option<&Path>) -> Result<Capabilities, String> {
    let Report::Probed {
        namespaces,
        control_groups,
        freezer,
    } = answer(launcher)?
    else {
        return Err("the sandbox launcher answered something else".into());
    };
    let landlock_abi = landlock_abi();
    Ok(Capabilities {
        namespaces: namespaces.is_ok(),
        control_groups: control_groups.is_ok(),
        landlock_abi,
        freezer,
        reasons: [
            namespaces.err().map(|fault| unusable_namespaces(&fault)),
            control_groups.err(),
            (landlock_abi == 0).then(|| "the kernel has no Landlock, or not at boot".into()),
        ]
        .into_iter()
        .flatten()
        .collect(),
    })
}

fn answer(launcher: Option<&Path>) -> Result<Report, String> {
    let order = Order::Probe {
        host_pid: std::process::id(),
    };
    let (mut child, socket) =
        start_supervisor(launcher, &order, &[], &[]).map_err(|error| chain(&error))?;
    let read = || -> std::io::Result<Option<Report>> {
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut lines = Lines::default();
        while lines.read(&socket)? {
            if let Some(report) = lines.next()? {
                return Ok(Some(report));
            }
        }
        Ok(None)
    };
    let outcome = read();
    drop(socket);
    if !matches!(outcome, Ok(Some(_))) {
        // It may be any program that waits for anything. Fails only if it has ended.
        let _ended = child.kill();
    }
    let _reaped = child.wait();
    match outcome {
        Ok(Some(report)) => Ok(report),
        Ok(None) => Err(chain(&crate::error::StartError::LauncherSilent)),
        Err(error) => Err(format!("the sandbox launcher did not answer: {error}")),
    }
}

/// What counts as there when nobody could look.
pub(crate) fn nothing(reason: String) -> Capabilities {
    Capabilities {
        namespaces: false,
        control_groups: false,
        landlock_abi: landlock_abi(),
        freezer: "signals".into(),
        reasons: vec![reason],
    }
}

fn unusable_namespaces(fault: &Fault) -> String {
    format!("namespaces cannot be used here: {}", fault.to_line())
}

/// An error with all its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(&format!(": {next}"));
        cause = next.source();
    }
    text
}
