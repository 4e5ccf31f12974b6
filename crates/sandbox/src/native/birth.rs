//! Making the first process of a sandbox: in new namespaces, in its control groups, tied to this
//! process. Must be called from a process with one thread only.

use std::io::{self, PipeReader, PipeWriter, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use rustix::process::Pid;
use rustix::thread::CapabilitySet;

use crate::error::{During, Fault};
use crate::native::cgroup::Group;
use crate::native::identity::{Identity, has_capabilities};
use crate::native::init::{Habitat, Pipes, exit_now};
use crate::native::root::Views;
use crate::policy::{FilePolicy, Namespace};
use crate::request::{EmbeddedFile, Mount};

/// `CLONE_INTO_CGROUP`: be born in the control group that is given.
const INTO_CONTROL_GROUP: u64 = 0x2_0000_0000;

/// The first process of a sandbox, as the supervisor holds it.
#[derive(Debug)]
pub(crate) struct Newborn {
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
    /// What it tells.
    pub(crate) reports: PipeReader,
    /// Held, never written again: its end tells the newborn that the supervisor is gone.
    pub(crate) tie: PipeWriter,
}

impl Habitat {
    /// Takes what has to be taken before the namespaces are made.
    pub(crate) fn prepare(
        files: FilePolicy,
        mounts: Vec<Mount>,
        embedded: Vec<EmbeddedFile>,
        storage_bytes: u64,
        identity: Identity,
        group: &Group,
    ) -> Result<Self, Fault> {
        let views = if has_capabilities(CapabilitySet::SYS_ADMIN) {
            Some(Views::take(&files, &mounts)?)
        } else {
            None
        };
        Ok(Self {
            files,
            mounts,
            views,
            embedded,
            storage_bytes,
            identity,
            entrances: group.entrances()?,
        })
    }

    /// Makes the first process, which runs `live` and tells by the pipe that is returned.
    pub(crate) fn populate(
        self,
        group: &Group,
        live: impl FnOnce(Self, Pipes),
    ) -> Result<Newborn, Fault> {
        let identity = self.identity;
        let (go, mut tie) = io::pipe().during(|| "make a pipe")?;
        let (reports, told) = io::pipe().during(|| "make a pipe")?;
        let place = group.birth_place()?;
        let namespaces = Namespace::ALL.iter().fold(0, |all, one| all | one.number);
        // SAFETY: the caller has one thread, so the child is a whole process.
        match unsafe { clone(namespaces, place.as_ref()) }.during(|| "make the namespaces")? {
            None => {
                // The init must see the end of this pipe when the supervisor ends.
                drop((tie, reports, place));
                let pipes = Pipes {
                    go: go.into(),
                    reports: told,
                };
                live(self, pipes);
                exit_now()
            }
            Some((pid, pidfd)) => {
                drop((self, told));
                identity.map_into(pid)?;
                tie.write_all(b"x").during(|| "let the init go")?;
                Ok(Newborn {
                    pid,
                    pidfd,
                    reports,
                    tie,
                })
            }
        }
    }
}

/// Makes a child process with these namespaces. `None` in the child.
///
/// # Safety
///
/// This process must have one thread: in the child no other would go on, with whatever it held.
pub(crate) unsafe fn clone(
    namespaces: u64,
    place: Option<&OwnedFd>,
) -> io::Result<Option<(Pid, OwnedFd)>> {
    let mut pidfd = -1;
    // SAFETY: zeros mean that nothing special is asked for.
    let mut wanted: libc::clone_args = unsafe { std::mem::zeroed() };
    wanted.flags = namespaces | u64::from(libc::CLONE_PIDFD.unsigned_abs());
    wanted.pidfd = (&raw mut pidfd) as u64;
    wanted.exit_signal = u64::from(libc::SIGCHLD.unsigned_abs());
    if let Some(place) = place {
        wanted.flags |= INTO_CONTROL_GROUP;
        wanted.cgroup = u64::from(place.as_raw_fd().unsigned_abs());
    }
    // SAFETY: no memory is shared with the child, and the caller has one thread.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw mut wanted,
            size_of::<libc::clone_args>(),
        )
    };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return Ok(None);
    };
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(Some((pid, unsafe { OwnedFd::from_raw_fd(pidfd) })))
}
