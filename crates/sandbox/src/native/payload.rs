//! The last steps before the payload's program runs, the same in every tier: its descriptors, limits
//! and signals, and `execve`. After a failure here the process must end at once.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::process::{Resource, Rlimit};

use crate::error::{During, Fault};
use crate::policy::ResourcePolicy;
use crate::request::Limits;

/// The payload's program with all that `execve` needs, made while memory can still be had.
#[derive(Debug)]
pub(crate) struct Program {
    path: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

impl Program {
    pub(crate) fn new(
        path: &OsStr,
        arguments: &[OsString],
        environment: &[(OsString, OsString)],
    ) -> Result<Self, Fault> {
        let text = |bytes: &[u8]| {
            CString::new(bytes).map_err(|_| {
                Fault::plain(
                    "read the request",
                    format!("{} holds a NUL byte", String::from_utf8_lossy(bytes)),
                )
            })
        };
        let mut all = vec![text(path.as_bytes())?];
        for argument in arguments {
            all.push(text(argument.as_bytes())?);
        }
        let environment = environment
            .iter()
            .map(|(name, value)| text(&[name.as_bytes(), b"=", value.as_bytes()].concat()))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            path: text(path.as_bytes())?,
            arguments: all,
            environment,
        })
    }

    /// Replaces this process by the program; comes back only with the reason why it could not.
    pub(crate) fn execute(&self) -> Fault {
        let pointers = |texts: &[CString]| {
            let mut all: Vec<_> = texts.iter().map(|text| text.as_ptr()).collect();
            all.push(std::ptr::null());
            all
        };
        let (arguments, environment) = (pointers(&self.arguments), pointers(&self.environment));
        // SAFETY: both lists end in null and point to texts that outlive the call.
        unsafe {
            libc::execve(self.path.as_ptr(), arguments.as_ptr(), environment.as_ptr());
        }
        let path = Path::new(OsStr::from_bytes(self.path.as_bytes()));
        Fault::new(
            format!("execute {}", path.display()),
            &io::Error::last_os_error(),
        )
    }
}

/// Puts descriptors at their numbers and marks every other one to be closed by `execve`: standard
/// input is `/dev/null`, standard output and standard error are the log.
pub(crate) fn place_descriptors(log: &OwnedFd, inherit: &[(OwnedFd, RawFd)]) -> Result<(), Fault> {
    let null = rustix::fs::open(
        "/dev/null",
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .during(|| "open /dev/null")?;
    let mut wanted: Vec<(RawFd, RawFd)> = vec![
        (null.as_raw_fd(), 0),
        (log.as_raw_fd(), 1),
        (log.as_raw_fd(), 2),
    ];
    wanted.extend(
        inherit
            .iter()
            .map(|(descriptor, number)| (descriptor.as_raw_fd(), *number)),
    );
    // Moved above all targets first, so that no target covers a source that is still needed.
    let mut sources = Vec::new();
    for (source, number) in wanted {
        let copy =
            copy_above_targets(source, inherit).during(|| format!("copy descriptor {number}"))?;
        sources.push((copy, number));
    }
    // Its number may be one of those that are placed now.
    drop(null);
    close_range(0, u32::MAX, libc::CLOSE_RANGE_CLOEXEC)
        .during(|| "mark descriptors to be closed")?;
    for (source, number) in &sources {
        // SAFETY: whatever has the target number is not used by this process any more.
        if unsafe { libc::dup2(source.as_raw_fd(), *number) } < 0 {
            return Err(io::Error::last_os_error()).during(|| format!("place descriptor {number}"));
        }
    }
    Ok(())
}

/// A copy of a descriptor with a number that no descriptor of the payload will take.
pub(crate) fn copy_above_targets(
    descriptor: RawFd,
    inherit: &[(OwnedFd, RawFd)],
) -> io::Result<OwnedFd> {
    let highest = inherit
        .iter()
        .map(|(_, number)| *number)
        .fold(2, RawFd::max);
    // SAFETY: duplicating a descriptor touches no memory.
    let copy = unsafe { libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, highest + 1) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the copy was just made and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

fn close_range(first: u32, last: u32, flags: u32) -> io::Result<()> {
    // SAFETY: no memory is touched; the callers own no descriptor in the range that they will use.
    if unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Closes every descriptor of this process but these.
pub(crate) fn close_all_but(keep: &[RawFd]) -> io::Result<()> {
    let mut keep: Vec<u32> = keep
        .iter()
        .filter_map(|fd| u32::try_from(*fd).ok())
        .collect();
    keep.sort_unstable();
    let mut first = 0;
    for number in keep {
        if number > first {
            close_range(first, number - 1, 0)?;
        }
        first = number + 1;
    }
    close_range(first, u32::MAX, 0)
}

/// Gives every signal its default effect and lets all of them in; a supervisor ignores some, and
/// what is ignored stays so across `execve`.
pub(crate) fn reset_signals() {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: the default action is always valid. Some numbers are reserved, and refuse.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: an all-zero signal set is a valid one to be initialised, and is then empty.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Makes the payload the first to go when the whole machine runs out of memory.
pub(crate) fn volunteer_for_out_of_memory() -> Result<(), Fault> {
    let path = "/proc/self/oom_score_adj";
    std::fs::write(path, "1000").during(|| format!("write {path}"))
}

/// A limit of one process, as the kernel and as container engines call it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResourceLimit {
    resource: Resource,
    /// Its name in a request to a container engine.
    pub(crate) name: &'static str,
    /// What it limits, in words.
    what: &'static str,
    pub(crate) value: u64,
}

/// The limits that hold for each process.
pub(crate) fn resource_limits(limits: &Limits, resources: &ResourcePolicy) -> [ResourceLimit; 5] {
    [
        (Resource::Core, "core", "core size", resources.core_bytes),
        (
            Resource::Nofile,
            "nofile",
            "open files",
            u64::from(limits.open_files),
        ),
        (
            Resource::Msgqueue,
            "msgqueue",
            "message queues",
            resources.message_queue_bytes,
        ),
        (
            Resource::Rtprio,
            "rtprio",
            "real-time priority",
            resources.real_time_priority,
        ),
        (
            Resource::Memlock,
            "memlock",
            "locked memory",
            resources.locked_memory_bytes,
        ),
    ]
    .map(|(resource, name, what, value)| ResourceLimit {
        resource,
        name,
        what,
        value,
    })
}

/// Sets the limits that hold for each process.
pub(crate) fn set_resource_limits(
    limits: &Limits,
    resources: &ResourcePolicy,
) -> Result<(), Fault> {
    for limit in resource_limits(limits, resources) {
        let value = match limit.resource {
            Resource::Memlock => lockable(limit.value),
            _ => limit.value,
        };
        set_limit(limit.resource, limit.what, value)?;
    }
    Ok(())
}

/// Limits the processes of this user, who must be the payload's alone.
pub(crate) fn limit_processes_of_user(limits: &Limits) -> Result<(), Fault> {
    // The init of the sandbox is a process too.
    set_limit(
        Resource::Nproc,
        "processes",
        u64::from(limits.processes) + 1,
    )
}

fn set_limit(resource: Resource, what: &str, value: u64) -> Result<(), Fault> {
    let limit = Rlimit {
        current: Some(value),
        maximum: Some(value),
    };
    rustix::process::setrlimit(resource, limit).during(|| format!("limit the {what} to {value}"))
}

/// As much memory as the policy lets the payload lock, or what this process may give.
fn lockable(wanted: u64) -> u64 {
    let own = rustix::process::getrlimit(Resource::Memlock).maximum;
    own.map_or(wanted, |own| own.min(wanted))
}

/// Raises this process's own bound of locked memory to what its payload is to have, where it may.
pub(crate) fn prepare_locked_memory(resources: &ResourcePolicy) {
    let wanted = resources.locked_memory_bytes;
    if lockable(wanted) < wanted {
        let limit = Rlimit {
            current: Some(wanted),
            maximum: Some(wanted),
        };
        // Refused to a process without privileges; then its payload has as much as itself.
        let _refused = rustix::process::setrlimit(Resource::Memlock, limit);
    }
}
