//! The processes of a sandbox as the host's `/proc` shows them: who they are, what they use, and
//! stopping them by signals where no control group can. Only descendants of a given process are
//! ever looked at or signalled.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitStatus};

use crate::outcome::ExitCause;

/// The pause between two looks at processes that are about to stop or end.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// All descendants of `ancestor`, without itself. Orphans of a sandbox stay its descendants, because
/// its init, or the supervisor as their reaper, adopts them.
pub(crate) fn descendants(ancestor: Pid) -> Vec<Pid> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok())
        else {
            continue;
        };
        if let Some(stat) = Stat::read(&format!("/proc/{pid}/stat")) {
            children.entry(stat.parent).or_default().push(pid);
        }
    }
    let mut found = Vec::new();
    let mut queue = vec![ancestor.as_raw_nonzero().get()];
    while let Some(parent) = queue.pop() {
        for child in children.remove(&parent).unwrap_or_default() {
            found.extend(Pid::from_raw(child));
            queue.push(child);
        }
    }
    found
}

/// The part of a line of `/proc/PID/stat` that is used here.
struct Stat {
    state: char,
    parent: i32,
    cpu_ticks: u64,
    /// When it was started, in clock ticks since the machine was.
    start_ticks: u64,
}

/// When a process was started, in clock ticks since the machine was; `None` if none runs.
pub(crate) fn start_ticks(pid: u32) -> Option<u64> {
    let stat = Stat::read(&format!("/proc/{pid}/stat"))?;
    (!matches!(stat.state, 'Z' | 'X')).then_some(stat.start_ticks)
}

impl Stat {
    fn read(path: &str) -> Option<Self> {
        Self::parse(&fs::read_to_string(path).ok()?)
    }

    /// The name of the program may hold any character, so the fields start after its last bracket.
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        Some(Self {
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            cpu_ticks: number(11)? + number(12)? + number(13)? + number(14)?,
            start_ticks: number(19)?,
        })
    }

    /// Stopped, or ended.
    fn is_still(&self) -> bool {
        matches!(self.state, 'T' | 't' | 'Z' | 'X')
    }
}

fn is_still(pid: Pid) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task"));
    threads.into_iter().flatten().flatten().all(|thread| {
        Stat::read(&thread.path().join("stat").to_string_lossy()).is_none_or(|stat| stat.is_still())
    })
}

/// Stops all descendants of `ancestor`. `false` if one still ran at the deadline.
pub(crate) fn stop_all(ancestor: Pid, deadline: Instant) -> bool {
    let mut before = None;
    loop {
        let all: HashSet<Pid> = descendants(ancestor).into_iter().collect();
        let mut still = true;
        for pid in &all {
            if !is_still(*pid) {
                still = false;
                // It may have ended meanwhile, which is as good.
                let _gone = rustix::process::kill_process(*pid, Signal::STOP);
                release_from_vfork(*pid);
            }
        }
        // A process that was forked during the first look is found by the second.
        if still && before.as_ref() == Some(&all) {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        if !still {
            std::thread::sleep(LOOK_AGAIN);
        }
        before = still.then_some(all);
    }
}

/// A process in `vfork` cannot stop before its child has executed something or ended, which a stopped
/// child never does. Such a child may go on until the next look, when it is stopped again.
fn release_from_vfork(pid: Pid) {
    let waits = Stat::read(&format!("/proc/{pid}/stat")).is_some_and(|stat| stat.state == 'D');
    if waits {
        continue_all(pid);
    }
}

/// Lets all descendants of `ancestor` run again.
pub(crate) fn continue_all(ancestor: Pid) {
    for pid in descendants(ancestor) {
        let _gone = rustix::process::kill_process(pid, Signal::CONT);
    }
}

/// Sends SIGKILL to all descendants of `ancestor`, and tells how many there were. Zombies count:
/// they are gone only once someone has reaped them.
pub(crate) fn kill_all(ancestor: Pid) -> usize {
    let all = descendants(ancestor);
    for pid in &all {
        let _gone = rustix::process::kill_process(*pid, Signal::KILL);
    }
    all.len()
}

/// What processes use at this moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) memory_bytes: u64,
    pub(crate) cpu_time: Duration,
    pub(crate) threads: u32,
}

/// Looks at processes. Memory is what they hold that no file backs; pages that several share are
/// counted once for each, unless that sum is above `exact_above`: then the slow exact count is made.
pub(crate) fn look_at(pids: &[Pid], exact_above: u64) -> Snapshot {
    let mut found = Snapshot::default();
    let ticks_per_second = rustix::param::clock_ticks_per_second().max(1);
    for pid in pids {
        if let Some(stat) = Stat::read(&format!("/proc/{pid}/stat")) {
            found.cpu_time += Duration::from_millis(stat.cpu_ticks * 1000 / ticks_per_second);
        }
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        found.memory_bytes += kilobytes(&status, &["RssAnon:", "RssShmem:"]);
        found.threads += u32::try_from(field(&status, "Threads:").unwrap_or(0)).unwrap_or(u32::MAX);
    }
    if found.memory_bytes > exact_above {
        let exact = |pid: &Pid| -> io::Result<u64> {
            let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
            Ok(kilobytes(&rollup, &["Pss_Anon:", "Pss_Shmem:"]))
        };
        if let Ok(sum) = pids.iter().map(exact).sum::<io::Result<u64>>() {
            found.memory_bytes = sum;
        }
    }
    found
}

/// Bytes that one socket may hold in the kernel: what an unread one was seen to hold with the usual
/// settings (219 kB), twice. A payload that asks for larger buffers, where the host's settings
/// grant them, can hold more than is counted here.
const BYTES_OF_A_SOCKET: u64 = 2 * 212_992;

/// What all sockets in the network namespace of a process may hold, in bytes, also of those that are
/// only on their way from one process to another: no process maps it, so it is seen nowhere else.
pub(crate) fn bytes_in_sockets(pid: Pid) -> u64 {
    let path = format!("/proc/{}/net/sockstat", pid.as_raw_nonzero());
    let text = fs::read_to_string(path).unwrap_or_default();
    field(&text, "sockets: used").unwrap_or(0) * BYTES_OF_A_SOCKET
}

/// How a process ended; `None` if it has not.
pub(crate) fn cause_of(status: WaitStatus) -> Option<ExitCause> {
    let exited = status.exit_status().map(ExitCause::Exited);
    exited.or_else(|| status.terminating_signal().map(ExitCause::Signaled))
}

/// Processor time of all children of this process that have ended and were reaped, with theirs.
pub(crate) fn cpu_time_of_reaped() -> Duration {
    // SAFETY: an all-zero `rusage` is valid, and is filled by the call.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage);
        usage
    };
    let duration = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec.unsigned_abs())
            + Duration::from_micros(time.tv_usec.unsigned_abs())
    };
    duration(usage.ru_utime) + duration(usage.ru_stime)
}

fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

fn kilobytes(text: &str, names: &[&str]) -> u64 {
    let sum: u64 = names.iter().filter_map(|name| field(text, name)).sum();
    sum * 1024
}

#[cfg(test)]
mod tests {
    use super::{Stat, descendants, look_at};
    use rustix::process::Pid;

    #[test]
    fn a_hostile_program_name_does_not_shift_the_fields() {
        let line = "7 (a) R 1 (b) T 5 7 7 0 -1 4194560 1 2 3 4 10 20 30 40 20 0 1 0 999";
        let stat = Stat::parse(line).expect("parse");
        assert_eq!((stat.state, stat.parent, stat.cpu_ticks), ('T', 5, 100));
        assert_eq!(stat.start_ticks, 999);
        assert!(Stat::parse("7 (cut").is_none());
    }

    #[test]
    fn children_are_found_and_measured() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .expect("start sleep");
        let pid = Pid::from_child(&child);
        let found = descendants(rustix::process::getpid());
        let seen = look_at(&[pid], u64::MAX);
        child.kill().expect("kill");
        child.wait().expect("wait");
        assert!(found.contains(&pid));
        assert_eq!(seen.threads, 1);
        assert!(!descendants(rustix::process::getpid()).contains(&pid));
    }
}
