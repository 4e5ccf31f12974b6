//! Holding a payload in a container, and what is left of it.

use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crusades_sandbox::{ControlError, ExitCause, Sandbox, SharedMemory, StartError};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::engine::{self, containers_of, run_folders_of};
use crate::support::{
    PATIENCE, await_text, end_of, eventually, launcher, open_folder, processes_with, run, start,
};
use crate::{image, python, shell};

fn mark(what: &str) -> String {
    let user = rustix::process::geteuid().as_raw();
    format!("{what}-{user}-{}", std::process::id())
}

#[test]
fn exit_codes_and_signals_are_told_as_they_were_and_nothing_outlives_the_payload() {
    let Some(settings) = image() else { return };
    let mark = mark("left-behind");
    let script =
        format!("setsid sh -c 'trap \"\" TERM HUP; sleep 1000; : {mark}' & sleep 0.2; exit 42");
    assert_eq!(run(shell(&settings, &script)).0, ExitCause::Exited(42));
    assert_eq!(processes_with(&mark), [0; 0]);
    for signal in [libc::SIGKILL, libc::SIGSEGV] {
        let request = shell(&settings, &format!("kill -{signal} $$"));
        assert_eq!(run(request).0, ExitCause::Signaled(signal));
    }
}

/// Counts in shared memory as fast as it can, in two processes.
const COUNTING: &str = "
import mmap, os
memory = mmap.mmap(3, 4096)
place = 0 if os.fork() else 8
count = 0
while True:
    count += 1
    memory[place:place + 8] = count.to_bytes(8, 'little')
";

fn counters(memory: &SharedMemory) -> [u64; 2] {
    [0, 8].map(|place| {
        let mut bytes = [0; 8];
        memory.copy_to(place, &mut bytes).expect("copy");
        u64::from_le_bytes(bytes)
    })
}

#[test]
fn nothing_changes_shared_memory_while_frozen_and_what_is_frozen_can_be_killed() {
    let Some(settings) = image() else { return };
    let memory = SharedMemory::create("counters", 4096).expect("shared memory");
    let Some(mut request) = python(&settings, COUNTING) else {
        return;
    };
    let copy = memory.as_fd().try_clone_to_owned().expect("duplicate");
    request.inherit = vec![(copy, 3)];
    let sandbox = start(request);
    for _ in 0..5 {
        let before = counters(&memory);
        eventually("both count", || {
            let now = counters(&memory);
            now[0] > before[0] && now[1] > before[1]
        });
        sandbox.freeze(PATIENCE).expect("freeze");
        let frozen = memory.snapshot().expect("snapshot");
        std::thread::sleep(Duration::from_millis(60));
        assert_eq!(memory.snapshot().expect("snapshot"), frozen);
        sandbox.thaw(PATIENCE).expect("thaw");
    }
    let usage = sandbox.usage(PATIENCE);
    assert_eq!(usage.processes, Some(2));
    sandbox.freeze(PATIENCE).expect("freeze");
    sandbox
        .freeze(PATIENCE)
        .expect("freezing again changes nothing");
    sandbox
        .kill(PATIENCE)
        .expect("what is frozen can be killed");
    assert_eq!(end_of(&sandbox).cause, ExitCause::Killed);
    let ended = ControlError::Ended {
        operation: "freeze",
    };
    assert_eq!(sandbox.freeze(PATIENCE), Err(ended));
    // What was used is known after the end too.
    let all = sandbox.usage(PATIENCE);
    assert!(
        all.cpu_time >= usage.cpu_time && all.cpu_time > Some(Duration::ZERO),
        "{all:?}"
    );
    assert!(all.peak_memory_bytes >= Some(1 << 20), "{all:?}");
}

#[test]
fn what_ignores_every_signal_and_hogs_every_processor_is_killed_in_bounded_time() {
    let Some(settings) = image() else { return };
    let mark = mark("stubborn");
    let script = format!(
        "trap '' TERM HUP INT QUIT; \
         (setsid sh -c '(setsid sh -c \"trap : TERM; echo grandchild; while :; do sleep 0.1; done; : {mark}\" &) ; : {mark}' &); \
         sh -c 'kill -STOP $$; : {mark}' & \
         for i in 1 2 3 4; do (while :; do :; done; : {mark}) & done; sleep 1000; : {mark}"
    );
    let sandbox = start(shell(&settings, &script));
    await_text(&sandbox, "grandchild");
    eventually("all of it runs", || processes_with(&mark).len() >= 7);
    assert_eq!(sandbox.wait(Duration::from_millis(50)), None);
    let begin = Instant::now();
    sandbox.kill(PATIENCE).expect("kill");
    assert!(
        begin.elapsed() < Duration::from_secs(10),
        "{:?}",
        begin.elapsed()
    );
    assert_eq!(end_of(&sandbox).cause, ExitCause::Killed);
    assert_eq!(processes_with(&mark), [0; 0]);
}

#[test]
fn a_start_that_takes_too_long_is_given_up_and_leaves_nothing() {
    let Some(settings) = image() else { return };
    let mark = mark("late");
    let mut request = shell(&settings, &format!("sleep 1000; : {mark}"));
    request.start_timeout = Duration::ZERO;
    assert!(matches!(
        Sandbox::start(request),
        Err(StartError::TimedOut(_))
    ));
    assert_eq!(processes_with(&mark), [0; 0]);
}

/// A host process of its own with a container in which something runs that has this mark, and its output.
fn host(mark: &str, folder: &Path) -> Option<(Child, BufReader<ChildStdout>)> {
    let mut host = Command::new(launcher())
        .args(["--image", engine::image()?, "/bin/sh", "-c"])
        .arg(format!(
            "trap '' TERM HUP; (setsid sleep 1000 &); sleep 1000; : {mark}"
        ))
        .env("TMPDIR", folder)
        .stdout(Stdio::piped())
        .spawn()
        .expect("start a host");
    let mut output = BufReader::new(host.stdout.take().expect("its output"));
    let mut line = String::new();
    output.read_line(&mut line).expect("its first line");
    assert!(line.starts_with("tier "), "{line}");
    Some((host, output))
}

fn entries(folder: &Path) -> usize {
    std::fs::read_dir(folder).expect("list").count()
}

#[test]
fn a_host_that_is_killed_leaves_no_container_and_no_file() {
    let mark = mark("orphan");
    let folder = open_folder();
    let Some((mut host, _output)) = host(&mark, folder.path()) else {
        return;
    };
    assert_eq!(containers_of(host.id()), 1);
    assert_eq!(entries(folder.path()), 1);
    host.kill().expect("kill the host");
    host.wait().expect("reap the host");
    eventually("all of it is gone", || {
        processes_with(&mark).is_empty()
            && containers_of(host.id()) == 0
            && entries(folder.path()) == 0
    });
}

/// The supervisor of a host process that has one sandbox.
fn supervisor_of(host: &Child) -> Pid {
    let pid = host.id();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.expect("children");
    let first = children
        .split_whitespace()
        .next()
        .and_then(|pid| pid.parse().ok());
    Pid::from_raw(first.expect("a supervisor")).expect("a number")
}

#[test]
fn what_a_host_and_its_supervisor_leave_that_are_killed_together_is_removed_by_the_next_start() {
    let Some(settings) = image() else { return };
    // A folder of its own, which the next start looks through too.
    let (mark, folder) = (mark("abandoned"), open_folder());
    let Some((mut host, _output)) = host(&mark, folder.path()) else {
        return;
    };
    let supervisor = supervisor_of(&host);
    kill_process(supervisor, Signal::STOP).expect("stop");
    // Frozen behind everyone's back, so that not even its first process can see what happens.
    freeze_from_outside(&mark);
    host.kill().expect("kill the host");
    kill_process(supervisor, Signal::KILL).expect("kill");
    host.wait().expect("reap the host");
    assert_eq!(entries(folder.path()), 1);
    // A living host's container is none of its business.
    let living = start(shell(&settings, "sleep 1000"));
    let next = Command::new(launcher())
        .args(["--image", &settings.image, "/bin/true"])
        .env("TMPDIR", folder.path())
        .output()
        .expect("start another host");
    assert!(next.status.success(), "{next:?}");
    assert_eq!(processes_with(&mark), [0; 0]);
    assert_eq!((containers_of(host.id()), entries(folder.path())), (0, 0));
    assert_eq!(living.wait(Duration::ZERO), None);
    assert!(containers_of(std::process::id()) >= 1);
    assert!(run_folders_of(std::process::id()) >= 1);
}

/// Freezes the container of a marked process by its control group, where this user may.
fn freeze_from_outside(mark: &str) {
    let Some(pid) = processes_with(mark).into_iter().find(|pid| {
        // The host has the mark in its arguments too; what is hidden is the payload.
        std::fs::read_link(format!("/proc/{pid}/exe")).map_or(true, |program| program != launcher())
    }) else {
        panic!("it does not run");
    };
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("groups");
    let place = |prefix: &str| {
        let line = groups.lines().find(|line| line.contains(prefix))?;
        line.rsplit_once(':').map(|(_, path)| path.to_owned())
    };
    let files = [
        place(":freezer:").map(|path| {
            (
                format!("/sys/fs/cgroup/freezer{path}/freezer.state"),
                "FROZEN",
            )
        }),
        place("0::").map(|path| (format!("/sys/fs/cgroup{path}/cgroup.freeze"), "1")),
    ];
    let frozen = files
        .into_iter()
        .flatten()
        .any(|(path, word)| path.contains("docker") && std::fs::write(path, word).is_ok());
    assert_eq!(frozen, rustix::process::geteuid().is_root());
}

#[test]
fn a_supervisor_that_is_killed_takes_its_container_along() {
    let (mark, folder) = (mark("unsupervised"), open_folder());
    let Some((mut host, output)) = host(&mark, folder.path()) else {
        return;
    };
    kill_process(supervisor_of(&host), Signal::KILL).expect("kill");
    eventually("all of it is gone", || {
        processes_with(&mark).is_empty() && containers_of(host.id()) == 0
    });
    let told = std::io::read_to_string(output).expect("its output");
    assert_eq!(told, "SupervisorLost\n");
    assert!(host.wait().expect("reap the host").success());
}

#[test]
fn all_of_this_holds_for_an_ordinary_user_who_may_use_the_engine() {
    if !rustix::process::geteuid().is_root() || image().is_none() {
        return;
    }
    let group = engine::socket().metadata().expect("the socket").gid();
    let this = std::env::current_exe().expect("own path");
    let output = Command::new("setpriv")
        .args([
            "--reuid=1000",
            &format!("--regid={group}"),
            "--clear-groups",
        ])
        .arg(&this)
        .args([
            "control::",
            "privileges",
            "memory_bomb",
            "exactly_those",
            "--nocapture",
        ])
        .current_dir("/")
        .output();
    match output {
        Err(error) => println!("skipped: setpriv cannot be run: {error}"),
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(
                output.status.success(),
                "as an ordinary user:\n{text}\n{errors}"
            );
            println!("{text}");
        }
    }
}
