//! Asking the machine what it can give. The answer is found by doing it once, in a process of its own.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::backend::DockerSettings;
use crate::docker::Offer;
use crate::error::{Fault, StartError, chain};
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

/// What the engine of these settings can give; asked by the running executable if `launcher` is `None`.
///
/// # Errors
///
/// [`StartError::Engine`] if there is no usable engine, or if it does not have the image; others if
/// the launcher cannot ask.
pub fn probe_docker(
    settings: &DockerSettings,
    launcher: Option<&Path>,
) -> Result<Capabilities, StartError> {
    let offer = ask_engine(launcher, &settings.effective_host(), &settings.image)?;
    Ok(offer.capabilities)
}

/// What an engine can give, and the id of an image there. The answer is remembered, so that a tag means
/// the same image as long as this process lives.
pub(crate) fn ask_engine(
    launcher: Option<&Path>,
    host: &str,
    image: &str,
) -> Result<Offer, StartError> {
    type Known = HashMap<(Option<PathBuf>, String, String), Offer>;
    static KNOWN: OnceLock<Mutex<Known>> = OnceLock::new();
    let known = || {
        let known = KNOWN.get_or_init(Mutex::default);
        known.lock().unwrap_or_else(PoisonError::into_inner)
    };
    let question = (
        launcher.map(Path::to_owned),
        host.to_owned(),
        image.to_owned(),
    );
    if let Some(offer) = known().get(&question) {
        return Ok(offer.clone());
    }
    let order = Order::ProbeEngine {
        host: host.to_owned(),
        image: image.to_owned(),
    };
    match answer(launcher, &order)? {
        Report::EngineProbed(Ok(offer)) => {
            known().insert(question, (*offer).clone());
            Ok(*offer)
        }
        Report::EngineProbed(Err(fault)) => Err(fault.into_engine_error()),
        _ => Err(StartError::LauncherSilent),
    }
}

/// What this machine can give; an error if the launcher cannot tell.
pub(crate) fn ask(launcher: Option<&Path>) -> Result<Capabilities, String> {
    let order = Order::Probe {
        host_pid: std::process::id(),
    };
    let Report::Probed {
        namespaces,
        control_groups,
        freezer,
    } = answer(launcher, &order).map_err(|error| chain(&error))?
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

fn answer(launcher: Option<&Path>, order: &Order) -> Result<Report, StartError> {
    let (mut child, socket) = start_supervisor(launcher, order, &[], &[])?;
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
        Ok(None) => Err(StartError::LauncherSilent),
        Err(source) => Err(StartError::Host {
            operation: "read the answer of the sandbox launcher",
            source,
        }),
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
