//! Running interpreters and installers as children that cannot outlive their caller.
//!
//! Each child leads a process group of its own, which is killed when the child ends, when its time is
//! over, or when the caller gives up; the kernel kills the child when the calling thread ends.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getpid, getppid, kill_process_group,
    set_parent_process_death_signal, waitid,
};
use thiserror::Error;

/// Longest line that is passed on whole, in bytes; a longer one is cut in pieces.
const LONGEST_LINE: usize = 1 << 20;

/// Lines of each of a child's two outputs that an error quotes. They are counted apart: nothing says in
/// which order lines of different outputs were written, and chatter must not push out a complaint.
const TAIL_LINES: usize = 20;

/// Bytes of one line that an error quotes.
const TAIL_LINE_BYTES: usize = 500;

/// Lines that wait for the caller before the child is made to wait.
const LINES_IN_FLIGHT: usize = 256;

/// How often the child is asked whether it has ended.
const POLL: Duration = Duration::from_millis(25);

/// How long output is awaited after all in the child's group were killed.
const DRAIN: Duration = Duration::from_secs(1);

/// Why a child did not do its work.
#[derive(Debug, Error)]
pub enum ChildError {
    /// It could not be started.
    #[error("cannot start {program}")]
    Start {
        /// What was to be run.
        program: PathBuf,
        /// Why it could not.
        #[source]
        source: io::Error,
    },
    /// It could not be waited for.
    #[error("cannot wait for {program}")]
    Wait {
        /// What was run.
        program: PathBuf,
        /// Why it could not be awaited.
        #[source]
        source: io::Error,
    },
    /// It did not end in time and was killed.
    #[error("{program} did not end within {} s{}", .limit.as_secs(), quoted(.tail))]
    TimedOut {
        /// What was run.
        program: PathBuf,
        /// The time it had.
        limit: Duration,
        /// The last lines of its output.
        tail: Vec<String>,
    },
    /// It ended with a failure.
    #[error("{program} failed ({status}){}", quoted(.tail))]
    Failed {
        /// What was run.
        program: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// The last lines of its output.
        tail: Vec<String>,
    },
}

fn quoted(tail: &[String]) -> String {
    if tail.is_empty() {
        return ", and printed nothing".to_owned();
    }
    format!("; the last lines of its output:\n  {}", tail.join("\n  "))
}

/// Which of its outputs a child wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Output,
    Error,
}

/// What is seen of a running child.
#[derive(Debug)]
pub(crate) enum Seen<'a> {
    /// A line of output, without its end.
    Line(Stream, &'a str),
    /// Some time has passed; comes several times a second.
    Tick,
}

/// A child and its process group, both ended on drop.
struct Group {
    leader: Child,
    id: Pid,
}

impl Group {
    fn start(command: &mut Command) -> io::Result<Self> {
        let caller = getpid();
        command.process_group(0);
        // SAFETY: between fork and exec only two system calls are made; nothing is allocated, locked
        // or dropped there.
        unsafe {
            command.pre_exec(move || {
                set_parent_process_death_signal(Some(Signal::KILL))?;
                // The caller may have ended before the kernel was told to watch it.
                if getppid() == Some(caller) {
                    Ok(())
                } else {
                    Err(io::ErrorKind::BrokenPipe.into())
                }
            });
        }
        let leader = command.spawn()?;
        let id = Pid::from_child(&leader);
        Ok(Self { leader, id })
    }

    /// Whether the leader has ended. It stays a zombie, so that its group's id stays taken.
    fn has_ended(&self) -> io::Result<bool> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        Ok(waitid(WaitId::Pid(self.id), options)?.is_some())
    }

    fn kill_all(&self) {
        // All that can go wrong is that none is left to kill.
        let _ = kill_process_group(self.id, Signal::KILL);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // After the leader was reaped its id may belong to another; then the group was killed before.
        if let Ok(None) = self.leader.try_wait() {
            self.kill_all();
            let _ = self.leader.wait();
        }
    }
}

/// Runs `command` to its end, within `limit` if one is given, and shows what it does to `observe`.
pub(crate) fn run(
    mut command: Command,
    limit: Option<Duration>,
    observe: &mut dyn FnMut(Seen<'_>),
) -> Result<(), ChildError> {
    let program = PathBuf::from(command.get_program());
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let start_fault = |source| ChildError::Start {
        program: program.clone(),
        source,
    };
    let mut group = Group::start(&mut command).map_err(start_fault)?;
    let started = Instant::now();
    let lines = read_lines(&mut group.leader).map_err(start_fault)?;

    let (mut last_output, mut last_errors) = (VecDeque::new(), VecDeque::new());
    let mut pass_on = |stream: Stream, line: String, observe: &mut dyn FnMut(Seen<'_>)| {
        observe(Seen::Line(stream, &line));
        if !line.trim().is_empty() {
            let tail = match stream {
                Stream::Output => &mut last_output,
                Stream::Error => &mut last_errors,
            };
            if tail.len() == TAIL_LINES {
                tail.pop_front();
            }
            tail.push_back(shortened(line));
        }
    };
    let wait_fault = |source| ChildError::Wait {
        program: program.clone(),
        source,
    };
    let in_time = loop {
        match lines.recv_timeout(POLL) {
            Ok((stream, line)) => pass_on(stream, line, observe),
            Err(RecvTimeoutError::Timeout) => observe(Seen::Tick),
            Err(RecvTimeoutError::Disconnected) => {
                observe(Seen::Tick);
                thread::sleep(POLL);
            }
        }
        if group.has_ended().map_err(wait_fault)? {
            break true;
        }
        if limit.is_some_and(|limit| started.elapsed() > limit) {
            break false;
        }
    };
    group.kill_all();
    let status = group.leader.wait().map_err(wait_fault)?;
    let drained = Instant::now();
    while let Ok((stream, line)) = lines.recv_timeout(DRAIN.saturating_sub(drained.elapsed())) {
        pass_on(stream, line, observe);
    }
    let tail = last_output.into_iter().chain(last_errors).collect();
    match limit {
        Some(limit) if !in_time => Err(ChildError::TimedOut {
            program,
            limit,
            tail,
        }),
        _ if status.success() => Ok(()),
        _ => Err(ChildError::Failed {
            program,
            status,
            tail,
        }),
    }
}

/// Runs `command` within `limit` and returns what it wrote to its standard output.
pub(crate) fn output(command: Command, limit: Duration) -> Result<String, ChildError> {
    let mut text = String::new();
    run(command, Some(limit), &mut |seen| {
        if let Seen::Line(Stream::Output, line) = seen {
            text.push_str(line);
            text.push('\n');
        }
    })?;
    Ok(text)
}

fn shortened(mut line: String) -> String {
    if line.len() > TAIL_LINE_BYTES {
        line.truncate(line.floor_char_boundary(TAIL_LINE_BYTES));
        line.push('…');
    }
    line
}

fn read_lines(child: &mut Child) -> io::Result<Receiver<(Stream, String)>> {
    let (sender, receiver) = sync_channel(LINES_IN_FLIGHT);
    if let Some(output) = child.stdout.take() {
        spawn_reader(output, Stream::Output, sender.clone())?;
    }
    if let Some(error) = child.stderr.take() {
        spawn_reader(error, Stream::Error, sender)?;
    }
    Ok(receiver)
}

fn spawn_reader(
    mut source: impl Read + Send + 'static,
    stream: Stream,
    sender: SyncSender<(Stream, String)>,
) -> io::Result<()> {
    let read = move || {
        let mut line = Vec::new();
        let mut chunk = [0; 8192];
        loop {
            let count = match source.read(&mut chunk) {
                Ok(count) => count,
                Err(fault) if fault.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => 0,
            };
            for &byte in chunk.get(..count).unwrap_or_default() {
                // A carriage return alone ends a line too: it is how progress bars redraw.
                if byte != b'\n' && byte != b'\r' {
                    line.push(byte);
                }
                let is_whole = byte == b'\n' || byte == b'\r' || line.len() >= LONGEST_LINE;
                if is_whole && !send_line(&sender, stream, &mut line) {
                    return;
                }
            }
            if count == 0 {
                send_line(&sender, stream, &mut line);
                return;
            }
        }
    };
    thread::Builder::new()
        .name("child output".to_owned())
        .spawn(read)?;
    Ok(())
}

/// Sends what `line` holds, if anything, and empties it. False if nobody listens any more.
fn send_line(sender: &SyncSender<(Stream, String)>, stream: Stream, line: &mut Vec<u8>) -> bool {
    if line.is_empty() {
        return true;
    }
    let text = String::from_utf8_lossy(line).into_owned();
    line.clear();
    sender.send((stream, text)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    fn is_alive(pid: &str) -> bool {
        std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(|stat| {
            !stat
                .rsplit(") ")
                .next()
                .is_some_and(|rest| rest.starts_with('Z'))
        })
    }

    /// Whether the process ends; one that was killed takes a moment on a busy machine.
    fn ends(pid: &str) -> bool {
        let deadline = Instant::now() + Duration::from_secs(5);
        while is_alive(pid) && Instant::now() < deadline {
            thread::sleep(POLL);
        }
        !is_alive(pid)
    }

    #[test]
    fn output_is_returned_whole_and_errors_are_left_out() {
        let text = output(
            shell("echo one; echo two >&2; printf three"),
            Duration::from_secs(10),
        )
        .unwrap();
        assert_eq!(text, "one\nthree\n");
    }

    #[test]
    fn a_failure_quotes_the_last_lines_of_each_output() {
        let fault = output(
            shell("seq 1 100; echo sorry >&2; exit 3"),
            Duration::from_secs(10),
        )
        .unwrap_err();
        let ChildError::Failed { status, tail, .. } = &fault else {
            panic!("{fault}")
        };
        assert_eq!(status.code(), Some(3));
        assert_eq!(tail.len(), TAIL_LINES + 1);
        assert!(fault.to_string().contains("sorry"));
    }

    #[test]
    fn a_child_that_takes_too_long_is_killed_with_all_it_started() {
        let mut grandchild = String::new();
        let fault = run(
            shell("sleep 60 & echo $!; wait"),
            Some(Duration::from_millis(300)),
            &mut |seen| {
                if let Seen::Line(_, line) = seen {
                    line.clone_into(&mut grandchild);
                }
            },
        )
        .unwrap_err();
        assert!(matches!(fault, ChildError::TimedOut { .. }), "{fault}");
        assert!(!grandchild.is_empty());
        assert!(ends(&grandchild));
    }

    #[test]
    fn what_a_child_left_in_its_group_ends_with_it() {
        let text = output(shell("sleep 60 & echo $!"), Duration::from_secs(10)).unwrap();
        assert!(ends(&text));
    }

    #[test]
    fn a_child_ends_when_the_thread_that_waits_for_it_unwinds() {
        let (sender, receiver) = sync_channel(1);
        let waiter = thread::spawn(move || {
            run(shell("echo $$; exec sleep 60"), None, &mut |seen| {
                if let Seen::Line(_, line) = seen {
                    sender.send(line.to_owned()).unwrap();
                    panic!("the caller gives up");
                }
            })
        });
        let pid = receiver.recv().unwrap();
        assert!(waiter.join().is_err());
        assert!(ends(&pid));
    }

    #[test]
    fn a_missing_program_is_named() {
        let fault = output(Command::new("/no/such/program"), Duration::from_secs(1)).unwrap_err();
        assert!(fault.to_string().contains("/no/such/program"));
    }
}
