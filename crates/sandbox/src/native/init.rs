//! The first process of a sandbox with namespaces. It builds the root, gives up everything, starts the
//! payload, reaps orphans, and ends with the payload; the kernel then kills whatever else is left in
//! the sandbox. It must hold no secret and no descriptor that the payload could misuse.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{DumpableBehavior, Pid, Signal, WaitOptions};

use crate::error::{During, Fault};
use crate::native::access::{Scene, restrict};
use crate::native::filter::{Filters, forbid_new_privileges};
use crate::native::identity::{Identity, drop_capabilities};
use crate::native::payload::{
    Program, close_all_but, copy_above_targets, limit_processes_of_user, place_descriptors,
    reset_signals, set_resource_limits, volunteer_for_out_of_memory,
};
use crate::native::processes::cause_of;
use crate::native::protocol::{InitReport, Lines, to_line};
use crate::native::root::Views;
use crate::outcome::ExitCause;
use crate::policy::{FilePolicy, ResourcePolicy};
use crate::request::{EmbeddedFile, Limits, Mount};

/// Where a sandbox is to live, made by the supervisor before its init is born.
#[derive(Debug)]
pub(crate) struct Habitat {
    pub(crate) files: FilePolicy,
    pub(crate) mounts: Vec<Mount>,
    /// The views of the host, where the supervisor could take them.
    pub(crate) views: Option<Views>,
    pub(crate) embedded: Vec<EmbeddedFile>,
    pub(crate) storage_bytes: u64,
    pub(crate) identity: Identity,
    /// Where a thread enters its control groups.
    pub(crate) entrances: Vec<OwnedFd>,
}

/// What is to run there, and how it is held down.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) program: Program,
    pub(crate) limits: Limits,
    pub(crate) resources: ResourcePolicy,
    pub(crate) files: FilePolicy,
    pub(crate) landlock: bool,
    pub(crate) filters: Filters,
    pub(crate) log: OwnedFd,
    pub(crate) inherit: Vec<(OwnedFd, RawFd)>,
    /// What the Landlock rules stand in front of.
    pub(crate) scene: Scene,
    /// Whether the kernel counts the processes of this payload's user alone.
    pub(crate) own_user: bool,
}

/// The pipes between an init and its supervisor.
#[derive(Debug)]
pub(crate) struct Pipes {
    /// One byte when the user namespace is set up; its end when the supervisor is gone.
    pub(crate) go: OwnedFd,
    pub(crate) reports: PipeWriter,
}

/// Runs as the first process of a sandbox, to the end.
pub(crate) fn run(habitat: Habitat, plan: Plan, pipes: Pipes) -> ! {
    let mut reports = pipes.reports;
    let started =
        settle(habitat, pipes.go).and_then(|readable| start(plan, &readable, reports.as_raw_fd()));
    let report = match started {
        Ok(payload) => {
            tell(&mut reports, &InitReport::Running);
            InitReport::Ended(wait_for(payload))
        }
        Err(fault) => InitReport::Failed(fault),
    };
    tell(&mut reports, &report);
    exit_now()
}

/// Runs as the first process of a sandbox without a payload, to find out whether it can be made.
pub(crate) fn rehearse(habitat: Habitat, pipes: Pipes) -> ! {
    let mut reports = pipes.reports;
    let report = match settle(habitat, pipes.go) {
        Ok(_) => InitReport::Running,
        Err(fault) => InitReport::Failed(fault),
    };
    tell(&mut reports, &report);
    exit_now()
}

/// Ends this process without running anything else.
pub(crate) fn exit_now() -> ! {
    exit_with(1)
}

/// Ends this process with an exit code, without running anything else.
pub(crate) fn exit_with(code: i32) -> ! {
    // SAFETY: ends the process; no other code of it runs.
    unsafe { libc::_exit(code) }
}

/// Tells the supervisor.
pub(crate) fn tell(reports: &mut impl Write, report: &InitReport) {
    // If the supervisor does not listen any more it is gone, and this process with it.
    let _unheard = to_line(report).and_then(|line| reports.write_all(&line));
}

/// Dies with the supervisor. A change of user undoes this.
pub(crate) fn die_with_parent() -> Result<(), Fault> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .during(|| "tie the sandbox to its supervisor")
}

/// Builds the sandbox around this process. Returns the places where files may be read.
fn settle(habitat: Habitat, go: OwnedFd) -> Result<Vec<PathBuf>, Fault> {
    die_with_parent()?;
    for entrance in habitat.entrances {
        File::from(entrance)
            .write_all(b"0")
            .during(|| "enter the control group")?;
    }
    let mut go = File::from(go);
    go.read_exact(&mut [0])
        .during(|| "wait for the supervisor")?;
    let views = match habitat.views {
        Some(views) => views,
        None => Views::take(&habitat.files, &habitat.mounts)?,
    };
    // While the files of this process are still its own.
    volunteer_for_out_of_memory()?;
    habitat.identity.assume_inside()?;
    die_with_parent()?;
    // The supervisor may have ended while nothing tied this process to it.
    if has_ended(&go) {
        exit_now();
    }
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .during(|| "hide the init's memory")?;
    rustix::process::setsid().during(|| "start a session")?;
    rustix::system::sethostname(b"sandbox").during(|| "set the host name")?;
    bring_loopback_up().during(|| "bring the loopback interface up")?;
    let mut readable = views.readable.clone();
    readable.extend(habitat.embedded.iter().map(|file| file.target.clone()));
    views.enter(&habitat.files, &habitat.embedded, habitat.storage_bytes)?;
    let folder = &habitat.files.working_folder;
    rustix::process::chdir(folder).during(|| format!("enter {}", folder.display()))?;
    Ok(readable)
}

/// Gives up everything but `reports` and starts the payload.
pub(crate) fn start(plan: Plan, readable: &[PathBuf], reports: RawFd) -> Result<Pid, Fault> {
    reset_signals();
    set_resource_limits(&plan.limits, &plan.resources)?;
    if plan.own_user {
        limit_processes_of_user(&plan.limits)?;
    }
    drop_capabilities()?;
    forbid_new_privileges().during(|| "forbid new privileges")?;
    if plan.landlock {
        restrict(readable, &plan.files, plan.scene)?;
    }
    let mut keep = vec![plan.log.as_raw_fd(), reports];
    keep.extend(
        plan.inherit
            .iter()
            .map(|(descriptor, _)| descriptor.as_raw_fd()),
    );
    close_all_but(&keep).during(|| "close descriptors")?;
    plan.filters.load()?;
    // The log and what the payload inherits are closed on return: from then on they are its alone.
    fork_payload(&plan.program, &plan.log, &plan.inherit)
}

/// Forks the payload and waits until its program runs.
fn fork_payload(
    program: &Program,
    log: &OwnedFd,
    inherit: &[(OwnedFd, RawFd)],
) -> Result<Pid, Fault> {
    let (outcome, failure) = failure_pipe(inherit)?;
    // SAFETY: this process has one thread, so the child may do all that its parent may.
    match unsafe { libc::fork() } {
        0 => become_payload(program, log, inherit, failure),
        pid => {
            drop(failure);
            let payload = Pid::from_raw(pid)
                .filter(|_| pid > 0)
                .ok_or_else(std::io::Error::last_os_error)
                .during(|| "fork the payload")?;
            await_program(outcome)?;
            Ok(payload)
        }
    }
}

/// Runs the payload's program in this process, or tells why it could not.
pub(crate) fn become_payload(
    program: &Program,
    log: &OwnedFd,
    inherit: &[(OwnedFd, RawFd)],
    mut failure: PipeWriter,
) -> ! {
    let fault = match place_descriptors(log, inherit) {
        Ok(()) => {
            // Refused only to the leader of a group, which a fork is not.
            let _session = rustix::process::setsid();
            program.execute()
        }
        Err(fault) => fault,
    };
    let _unheard = to_line(&fault).and_then(|line| failure.write_all(&line));
    exit_now()
}

/// A pipe whose second end no descriptor of the payload can cover, and which `execve` closes.
pub(crate) fn failure_pipe(
    inherit: &[(OwnedFd, RawFd)],
) -> Result<(PipeReader, PipeWriter), Fault> {
    let make = || -> std::io::Result<_> {
        let (outcome, failure) = std::io::pipe()?;
        let failure = copy_above_targets(failure.as_raw_fd(), inherit)?;
        Ok((outcome, PipeWriter::from(failure)))
    };
    make().during(|| "make a pipe for the payload's start")
}

/// Waits until the payload's program runs, or tells why it does not.
pub(crate) fn await_program(mut outcome: PipeReader) -> Result<(), Fault> {
    let mut lines = Lines::default();
    while lines
        .read(&mut outcome)
        .during(|| "read the payload's outcome")?
    {}
    match lines
        .next::<Fault>()
        .during(|| "read the payload's outcome")?
    {
        Some(fault) => Err(fault),
        None => Ok(()),
    }
}

/// Reaps everything that ends, until the payload does.
fn wait_for(payload: Pid) -> ExitCause {
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == payload => {
                if let Some(cause) = cause_of(status) {
                    return cause;
                }
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            // No child is left, so the payload's end was missed: cannot happen, must not loop.
            Err(_) => exit_now(),
        }
    }
}

fn has_ended(pipe: &File) -> bool {
    let mut descriptors = [PollFd::new(pipe, PollFlags::empty())];
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut descriptors, Some(&at_once)).is_ok()
        && descriptors[0].revents().contains(PollFlags::HUP)
}

fn bring_loopback_up() -> std::io::Result<()> {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    let name = c"lo";
    // SAFETY: an interface request of zeros is valid, and its name has room for these three bytes.
    let mut request = unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        request
            .ifr_name
            .as_mut_ptr()
            .copy_from_nonoverlapping(name.as_ptr(), name.count_bytes());
        request
    };
    request.ifr_ifru.ifru_flags =
        i16::try_from(libc::IFF_UP | libc::IFF_RUNNING).map_err(std::io::Error::other)?;
    // SAFETY: the request is whole and lives through the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if result < 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(())
}
