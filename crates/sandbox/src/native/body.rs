//! The processes of one sandbox as something that can be frozen, killed and measured, whatever this
//! machine offers for it. Killing must work on frozen and on stopped processes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal};

use crate::docker::Container;
use crate::native::cgroup::Group;
use crate::native::processes;
use crate::native::protocol::Refusal;
use crate::outcome::Usage;
use crate::request::Limits;

/// The most that was seen by looking. Where the kernel accounts, it is what its last account said: an
/// engine removes the account of a container as soon as that has ended.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    cpu_time: Duration,
    peak_memory_bytes: u64,
    threads: u32,
    out_of_memory_kills: u64,
}

/// The processes of one sandbox.
#[derive(Debug)]
pub(crate) struct Body {
    leader: Pid,
    pidfd: OwnedFd,
    /// The leader is the init of a process namespace, so that all others end with it.
    has_init: bool,
    group: Group,
    limits: Limits,
    /// What the processes live in, if an engine has made it.
    container: Option<Container>,
}

impl Body {
    pub(crate) fn with_init(leader: Pid, pidfd: OwnedFd, group: Group, limits: Limits) -> Self {
        Self {
            leader,
            pidfd,
            has_init: true,
            group,
            limits,
            container: None,
        }
    }

    /// The processes of a container, whose first process is no child of this one.
    pub(crate) fn in_container(
        leader: Pid,
        pidfd: OwnedFd,
        group: Group,
        limits: Limits,
        container: Container,
    ) -> Self {
        Self {
            container: Some(container),
            ..Self::with_init(leader, pidfd, group, limits)
        }
    }

    /// A payload that is a plain child of this process, which must be a reaper of orphans.
    pub(crate) fn without_init(leader: Pid, pidfd: OwnedFd, limits: Limits) -> Self {
        Self {
            leader,
            pidfd,
            has_init: false,
            group: Group::default(),
            limits,
            container: None,
        }
    }

    pub(crate) fn leader(&self) -> Pid {
        self.leader
    }

    pub(crate) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    pub(crate) fn has_init(&self) -> bool {
        self.has_init
    }

    /// Whether the leader is a container's and has ended. Leaders that are children of this process are
    /// gone once they are reaped.
    pub(crate) fn container_has_ended(&self) -> bool {
        let mut descriptors = [PollFd::from_borrowed_fd(self.pidfd(), PollFlags::IN)];
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        self.container.is_some()
            && poll(&mut descriptors, Some(&at_once)).is_ok_and(|ready| ready > 0)
    }

    /// The process of which exactly the payload's processes are the descendants.
    fn ancestor(&self) -> Pid {
        if self.has_init {
            self.leader
        } else {
            rustix::process::getpid()
        }
    }

    /// Whether no process is left, once the leader is reaped.
    pub(crate) fn is_empty(&self) -> bool {
        self.has_init || processes::descendants(self.ancestor()).is_empty()
    }

    /// Whether the kernel alone does not end the whole sandbox when its memory is used up.
    pub(crate) fn needs_watching(&self) -> bool {
        !self.group.kills_together()
    }

    /// Stops every process, so that nothing changes memory any more.
    pub(crate) fn freeze(&self, deadline: Instant) -> Result<(), Refusal> {
        let done = if self.group.freezer().is_some() {
            self.group.freeze(deadline)
        } else if let Some(container) = &self.container {
            container.pause(deadline)
        } else {
            Ok(processes::stop_all(self.ancestor(), deadline))
        };
        settled(done)
    }

    /// Lets every process run again.
    pub(crate) fn thaw(&self, deadline: Instant) -> Result<(), Refusal> {
        let done = if self.group.freezer().is_some() {
            self.group.thaw(deadline)
        } else if let Some(container) = &self.container {
            container.unpause(deadline)
        } else {
            processes::continue_all(self.ancestor());
            Ok(true)
        };
        settled(done)
    }

    /// Sends SIGKILL to everything; to be repeated until nothing is left.
    pub(crate) fn kill(&self) {
        if !self.has_init {
            processes::kill_all(self.ancestor());
            return;
        }
        // Fails if it has ended, which is what is wanted, or where an engine gives its processes users
        // of its own.
        let sent = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        if let Some(container) = &self.container
            && (container.may_be_paused() || sent == Err(rustix::io::Errno::PERM))
        {
            // Tried again until it has ended.
            let _failed = container.kill();
        }
        if self.group.freezer() == Some("cgroup v1") {
            // Frozen processes of version 1 do not even die.
            let _thawed = self.group.thaw(Instant::now());
        }
    }

    /// Looks at the memory in use. `true` if the limit was reached.
    pub(crate) fn is_out_of_memory(&self, sample: &mut Sample) -> bool {
        if self.group.limits() {
            return self.out_of_memory_kills(sample) > 0;
        }
        // Without namespaces the host's own sockets would count.
        let in_sockets = if self.has_init {
            processes::bytes_in_sockets(self.leader)
        } else {
            0
        };
        self.measure(sample) + in_sockets > self.limits.memory_bytes
    }

    /// How many processes the kernel has killed for want of memory.
    pub(crate) fn out_of_memory_kills(&self, sample: &mut Sample) -> u64 {
        let kills = self.group.out_of_memory_kills();
        sample.out_of_memory_kills = sample.out_of_memory_kills.max(kills);
        sample.out_of_memory_kills
    }

    fn measure(&self, sample: &mut Sample) -> u64 {
        let pids = processes::descendants(self.ancestor());
        let seen = processes::look_at(&pids, self.limits.memory_bytes);
        sample.threads = seen.threads;
        sample.cpu_time = sample.cpu_time.max(seen.cpu_time);
        sample.peak_memory_bytes = sample.peak_memory_bytes.max(seen.memory_bytes);
        seen.memory_bytes
    }

    /// What has been used so far.
    pub(crate) fn usage(&self, sample: &mut Sample) -> Usage {
        if !self.group.limits() {
            self.measure(sample);
            // Complete only once everything has ended and was reaped.
            sample.cpu_time = sample.cpu_time.max(processes::cpu_time_of_reaped());
        }
        let accounted = (
            self.group.cpu_time(),
            self.group.peak_memory(),
            self.group.processes(),
        );
        sample.cpu_time = accounted.0.unwrap_or(sample.cpu_time);
        sample.peak_memory_bytes = accounted.1.unwrap_or(sample.peak_memory_bytes);
        sample.threads = accounted.2.unwrap_or(sample.threads);
        Usage {
            cpu_time: Some(sample.cpu_time),
            peak_memory_bytes: Some(sample.peak_memory_bytes),
            processes: Some(sample.threads),
        }
    }
}

fn settled(done: std::io::Result<bool>) -> Result<(), Refusal> {
    match done {
        Ok(true) => Ok(()),
        Ok(false) => Err(Refusal::TimedOut),
        Err(error) => Err(Refusal::Failed(error.to_string())),
    }
}
