//! What containers are marked with, and removing those that nobody will remove: of hosts that were killed
//! together with their supervisor. Containers without this program's marks are never touched, nor
//! are those of a host that lives or cannot be seen from here.

use std::collections::HashMap;
use std::path::Path;

use crate::docker::engine::Engine;
use crate::docker::host_identity::HostIdentity;
use crate::docker::run_folder;
use crate::error::Fault;

/// Says that this program has made it.
const PROGRAM_LABEL: &str = "crusades.program=crusades-sandbox";

/// The identity of the run.
const RUN_LABEL: &str = "crusades.run";

/// The number of the host process, for people.
const PID_LABEL: &str = "crusades.host.pid";

/// The identity of the host process.
const HOST_LABEL: &str = "crusades.host";

/// The labels of a container.
pub(crate) fn labels(host: &HostIdentity, run: &str) -> HashMap<String, String> {
    let (program, value) = PROGRAM_LABEL.split_once('=').unwrap_or((PROGRAM_LABEL, ""));
    [
        (program, value.to_owned()),
        (RUN_LABEL, run.to_owned()),
        (PID_LABEL, host.pid.to_string()),
        (HOST_LABEL, host.to_text()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// Removes containers and run folders of hosts that have ended.
pub(crate) fn remove(engine: &Engine, run_folders: &Path) -> Result<(), Fault> {
    for container in engine.labelled(PROGRAM_LABEL)? {
        let host = container
            .labels
            .get(HOST_LABEL)
            .and_then(|text| HostIdentity::from_text(text));
        if host.is_some_and(|host| host.has_ended()) {
            // Its supervisor may be at it too; a later start looks again.
            let _left = engine.remove(&container.id);
        }
    }
    run_folder::remove_abandoned(run_folders);
    Ok(())
}
