//! A payload without namespaces: a plain child that sees the host's root through Landlock, has no
//! network and no place to write. Too weak for a stranger's code; started only where the caller
//! said so. If the supervisor itself is killed from outside, only the payload is sure to end with
//! it, not what the payload has started.

use std::ffi::OsString;
use std::io::Write;
use std::os::fd::{OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use rustix::process::Pid;

use crate::error::{During, Fault};
use crate::memory::SealedMemory;
use crate::native::access::{Scene, restrict};
use crate::native::birth::clone;
use crate::native::filter::{Filters, forbid_new_privileges};
use crate::native::identity::{Identity, drop_capabilities};
use crate::native::init::{await_program, become_payload, die_with_parent, exit_now, failure_pipe};
use crate::native::payload::{
    Program, limit_processes_of_user, reset_signals, set_resource_limits,
    volunteer_for_out_of_memory,
};
use crate::native::protocol::{Launch, to_line};
use crate::request::{EmbeddedFile, Mount};

/// Starts the payload and waits until its program runs.
pub(crate) fn start(
    launch: &Launch,
    mounts: &[Mount],
    embedded: Vec<EmbeddedFile>,
    log: OwnedFd,
    mut inherit: Vec<(OwnedFd, RawFd)>,
    filters: &Filters,
    identity: Identity,
) -> Result<(Pid, OwnedFd), Fault> {
    require_in_place(mounts)?;
    let replaced = as_descriptors(embedded, &mut inherit)?;
    let program = program(launch, &replaced)?;
    let files = launch.policy.effective_files();
    let readable: Vec<PathBuf> = files
        .system
        .iter()
        .cloned()
        .chain(mounts.iter().map(|mount| mount.source.clone()))
        .collect();
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .during(|| "become the reaper of the payload's orphans")?;
    let (outcome, mut failure) = failure_pipe(&inherit)?;
    // SAFETY: a supervisor has one thread.
    match unsafe { clone(0, None) }.during(|| "fork the payload")? {
        None => match confine(identity, launch, &readable, filters) {
            Ok(()) => become_payload(&program, &log, &inherit, failure),
            Err(fault) => {
                let _unheard = to_line(&fault).and_then(|line| failure.write_all(&line));
                exit_now()
            }
        },
        Some(born) => {
            drop((failure, log, inherit));
            await_program(outcome)?;
            Ok(born)
        }
    }
}

/// Without a root of its own the payload finds files only where they are.
fn require_in_place(mounts: &[Mount]) -> Result<(), Fault> {
    for mount in mounts {
        if mount.source != mount.target {
            return Err(Fault::plain(
                format!(
                    "show {} at {}",
                    mount.source.display(),
                    mount.target.display()
                ),
                "tier 3 can show files only where they are",
            ));
        }
        mount
            .source
            .metadata()
            .during(|| format!("find {}", mount.source.display()))?;
    }
    Ok(())
}

/// Puts each embedded file into a sealed descriptor. Returns the path that stands for its target.
fn as_descriptors(
    embedded: Vec<EmbeddedFile>,
    inherit: &mut Vec<(OwnedFd, RawFd)>,
) -> Result<Vec<(PathBuf, OsString)>, Fault> {
    let mut replaced = Vec::new();
    for file in embedded {
        let number = 1 + inherit
            .iter()
            .map(|(_, number)| *number)
            .fold(2, RawFd::max);
        let memory = SealedMemory::create("embedded", &file.contents)
            .during(|| format!("store {}", file.target.display()))?;
        inherit.push((memory.into_descriptor(), number));
        replaced.push((file.target, format!("/proc/self/fd/{number}").into()));
    }
    Ok(replaced)
}

fn program(launch: &Launch, replaced: &[(PathBuf, OsString)]) -> Result<Program, Fault> {
    let replace = |text: &OsString| {
        replaced
            .iter()
            .find(|(target, _)| target == Path::new(text))
            .map_or_else(|| text.clone(), |(_, path)| path.clone())
    };
    let arguments: Vec<_> = launch.arguments.iter().map(replace).collect();
    let environment: Vec<_> = launch
        .environment
        .iter()
        .map(|(name, value)| (name.clone(), replace(value)))
        .collect();
    Program::new(&launch.program, &arguments, &environment)
}

fn confine(
    identity: Identity,
    launch: &Launch,
    readable: &[PathBuf],
    filters: &Filters,
) -> Result<(), Fault> {
    reset_signals();
    volunteer_for_out_of_memory()?;
    set_resource_limits(&launch.limits, &launch.policy.effective_resources())?;
    limit_processes_of_user(&launch.limits)?;
    identity.assume_outside()?;
    die_with_parent()?;
    drop_capabilities()?;
    rustix::process::chdir("/").during(|| "enter /")?;
    forbid_new_privileges().during(|| "forbid new privileges")?;
    restrict(readable, &launch.policy.effective_files(), Scene::HostRoot)?;
    filters.load()
}
