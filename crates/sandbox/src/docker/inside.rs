//! The first process of a container: this program again, started by the engine with the walls that the
//! engine builds. It gets its order and the payload's descriptors by the socket of the run folder,
//! adds the native walls, starts the payload, and reaps. It ends when the payload has ended and
//! the supervisor has seen it, or as soon as the supervisor is gone, and everything with it.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{DumpableBehavior, Pid, WaitOptions};

use crate::docker::run_folder::RUN_SOCKET;
use crate::error::{During, Fault};
use crate::native::protocol::{InitReport, Order, receive_order};
use crate::native::{Filters, Given, Plan, Program, Scene, cause_of, start_payload, tell};
use crate::outcome::ExitCause;
use crate::policy::Surroundings;

/// Runs as the first process of a container, to the end.
pub(crate) fn live_in_container() {
    // Without a supervisor there is nobody to tell what went wrong.
    let Ok(mut supervisor) = UnixStream::connect(RUN_SOCKET) else {
        return;
    };
    let ended = settle(&supervisor).and_then(|payload| {
        tell(&mut supervisor, &InitReport::Running);
        wait_for(payload, &supervisor)
    });
    let report = match ended {
        Ok(Some(cause)) => InitReport::Ended(cause),
        Ok(None) => return,
        Err(fault) => InitReport::Failed(fault),
    };
    tell(&mut supervisor, &report);
    // The engine forgets what was used as soon as this process has ended: the supervisor reads it, and
    // then kills this process. Neither an answer nor an error can say more than that.
    let _end = io::Read::read(&mut supervisor, &mut [0]);
}

/// Takes the order and starts the payload.
fn settle(supervisor: &UnixStream) -> Result<Pid, Fault> {
    // The payload has the same user.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .during(|| "hide the memory of the first process")?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let received = receive_order(supervisor).during(|| "read the order")?;
    let Order::Inside { launch, own_user } = received.order else {
        return Err(Fault::plain("read the order", "it is another one"));
    };
    let given = Given::sort(*launch, received.embedded, received.descriptors)?;
    let launch = given.launch;
    let files = launch.policy.effective_files();
    let calls = launch.policy.system_calls_in(Surroundings {
        namespaces: true,
        counted_memory: true,
    });
    let readable: Vec<PathBuf> = files
        .system
        .iter()
        .cloned()
        .chain(given.mounts.into_iter().map(|mount| mount.target))
        .collect();
    let folder = files.working_folder.clone();
    rustix::process::chdir(&folder).during(|| format!("enter {}", folder.display()))?;
    let plan = Plan {
        program: Program::new(&launch.program, &launch.arguments, &launch.environment)?,
        resources: launch.policy.effective_resources(),
        limits: launch.limits,
        files,
        landlock: launch.walls.landlock,
        filters: Filters::compile(&calls)?,
        log: given.log,
        inherit: given.inherit,
        scene: Scene::Image,
        own_user,
    };
    start_payload(plan, &readable, supervisor.as_raw_fd())
}

/// Reaps everything that ends, until the payload does. `None` if the supervisor is gone.
fn wait_for(payload: Pid, supervisor: &UnixStream) -> Result<Option<ExitCause>, Fault> {
    let children = child_signals().during(|| "watch for the payload's end")?;
    loop {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let cause = cause_of(status).filter(|_| pid == payload);
            if cause.is_some() {
                return Ok(cause);
            }
        }
        let mut descriptors = [
            PollFd::new(supervisor, PollFlags::RDHUP),
            PollFd::new(&children, PollFlags::IN),
        ];
        match poll(&mut descriptors, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).during(|| "watch the supervisor"),
        }
        if !descriptors[0].revents().is_empty() {
            return Ok(None);
        }
        if !descriptors[1].revents().is_empty() {
            // What it says is found out by waiting.
            let _signal =
                rustix::io::read(&children, &mut [0; size_of::<libc::signalfd_siginfo>()]);
        }
    }
}

/// A descriptor that is readable when a child has ended. One that ended before makes it readable too late:
/// look first.
fn child_signals() -> io::Result<OwnedFd> {
    // SAFETY: an all-zero signal set is a valid one to be initialised; the calls only read it.
    let descriptor = unsafe {
        let mut signals: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut signals);
        libc::sigaddset(&raw mut signals, libc::SIGCHLD);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const signals, std::ptr::null_mut());
        libc::signalfd(-1, &raw const signals, libc::SFD_CLOEXEC)
    };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
