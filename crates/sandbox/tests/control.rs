//! Holding a payload: its end is told as it was, it can be frozen and killed whatever it does, and
//! nothing of it is ever left.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on must fail"
)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crusades_sandbox::{ControlError, ExitCause, Sandbox, SharedMemory, Tier};
use support::{
    PATIENCE, await_text, control_groups_of, end_of, eventually, in_each_tier, processes_with,
    python, run, shell, start,
};

#[test]
fn all_of_this_holds_for_an_ordinary_user_too() {
    support::run_again_as_ordinary_user();
}

#[test]
fn exit_codes_and_signals_are_told_as_they_were() {
    in_each_tier(|tier| {
        for code in [0, 1, 42, 255] {
            assert_eq!(
                run(shell(tier, &format!("exit {code}"))).0,
                ExitCause::Exited(code)
            );
        }
        for signal in [libc::SIGKILL, libc::SIGSEGV, libc::SIGTERM] {
            let request = shell(tier, &format!("kill -{signal} $$"));
            assert_eq!(run(request).0, ExitCause::Signaled(signal));
        }
    });
}

#[test]
fn a_payload_that_ends_takes_all_it_started_along() {
    in_each_tier(|tier| {
        let mark = mark("left-behind", tier);
        let script =
            format!("setsid sh -c 'trap \"\" TERM HUP; sleep 1000; : {mark}' & sleep 0.2; exit 3");
        assert_eq!(run(shell(tier, &script)).0, ExitCause::Exited(3));
        assert_eq!(processes_with(&mark), [0; 0]);
    });
}

fn mark(what: &str, tier: Tier) -> String {
    format!("{what}-{}-{}", tier.number(), std::process::id())
}

#[test]
fn what_ignores_every_signal_and_hides_in_new_sessions_is_killed() {
    in_each_tier(|tier| {
        let mark = mark("stubborn", tier);
        let script = format!(
            "trap '' TERM HUP INT QUIT; \
             (setsid sh -c '(setsid sh -c \"trap : TERM; echo grandchild; while :; do sleep 0.1; done; : {mark}\" &) ; : {mark}' &); \
             sh -c 'kill -STOP $$; : {mark}' & \
             sleep 1000; : {mark}"
        );
        let sandbox = start(shell(tier, &script));
        await_text(&sandbox, "grandchild");
        eventually("its children run", || processes_with(&mark).len() >= 3);
        sandbox.kill(PATIENCE).expect("kill");
        assert_eq!(
            sandbox.wait(Duration::ZERO).map(|exit| exit.cause),
            Some(ExitCause::Killed)
        );
        assert_eq!(processes_with(&mark), [0; 0]);
        sandbox
            .kill(Duration::ZERO)
            .expect("killing again changes nothing");
        assert_eq!(end_of(&sandbox).cause, ExitCause::Killed);
    });
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

fn start_counting(tier: Tier) -> Option<(Sandbox, SharedMemory)> {
    let memory = SharedMemory::create("counters", 4096).expect("shared memory");
    let mut request = python(tier, COUNTING)?;
    let copy = std::os::fd::AsFd::as_fd(&memory)
        .try_clone_to_owned()
        .expect("duplicate");
    request.inherit = vec![(copy, 3)];
    Some((start(request), memory))
}

fn counters(memory: &SharedMemory) -> [u64; 2] {
    [0, 8].map(|place| {
        let mut bytes = [0; 8];
        memory.copy_to(place, &mut bytes).expect("copy");
        u64::from_le_bytes(bytes)
    })
}

#[test]
fn nothing_changes_shared_memory_while_frozen_and_all_goes_on_when_thawed() {
    in_each_tier(|tier| {
        let Some((sandbox, memory)) = start_counting(tier) else {
            return;
        };
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
    });
}

#[test]
fn use_is_told_while_it_runs_and_after_its_end() {
    in_each_tier(|tier| {
        let script = "import time\nkept = bytearray(b'x') * (64 << 20)\n\
                      end = time.process_time() + 0.3\n\
                      while time.process_time() < end: pass\n\
                      print('ready', flush=True); time.sleep(60)";
        let Some(request) = python(tier, script) else {
            return;
        };
        let sandbox = start(request);
        await_text(&sandbox, "ready");
        let running = sandbox.usage(PATIENCE);
        assert_eq!(running.processes, Some(1));
        sandbox.kill(PATIENCE).expect("kill");
        for usage in [running, sandbox.usage(PATIENCE)] {
            let cpu = usage.cpu_time.expect("cpu time");
            assert!((0.3..5.0).contains(&cpu.as_secs_f64()), "{cpu:?}");
            let memory = usage.peak_memory_bytes.expect("peak memory");
            assert!((64 << 20..256 << 20).contains(&memory), "{memory}");
        }
    });
}

#[test]
fn waiting_is_bounded() {
    in_each_tier(|tier| {
        let sandbox = start(shell(tier, "sleep 1000"));
        let start = Instant::now();
        assert_eq!(sandbox.wait(Duration::from_millis(100)), None);
        assert!(start.elapsed() < Duration::from_secs(5));
    });
}

#[test]
fn dropping_a_sandbox_kills_it() {
    in_each_tier(|tier| {
        let mark = mark("dropped", tier);
        let sandbox = start(shell(tier, &format!("sleep 1000; : {mark}")));
        assert!(!processes_with(&mark).is_empty());
        drop(sandbox);
        assert_eq!(processes_with(&mark), [0; 0]);
    });
}

#[test]
fn a_host_that_is_killed_leaves_nothing() {
    in_each_tier(|tier| {
        let mark = mark("orphan", tier);
        let mut host = Command::new(support::launcher())
            .args(["--tier", &tier.number().to_string(), "/bin/sh", "-c"])
            .arg(format!(
                "trap '' TERM HUP; (setsid sleep 1000 &); sleep 1000; : {mark}"
            ))
            .stdout(Stdio::piped())
            .spawn()
            .expect("start a host");
        let mut line = String::new();
        BufReader::new(host.stdout.take().expect("its output"))
            .read_line(&mut line)
            .expect("its first line");
        assert!(line.starts_with(&tier.to_string()), "{line}");
        assert!(
            processes_with(&mark).len() >= 2,
            "the host and its payload run"
        );
        assert_eq!(tier == Tier::One, !control_groups_of(host.id()).is_empty());
        host.kill().expect("kill the host");
        let pid = host.id();
        host.wait().expect("reap the host");
        eventually("all of it is gone", || {
            processes_with(&mark).is_empty() && control_groups_of(pid).is_empty()
        });
    });
}

#[test]
fn a_supervisor_that_is_killed_takes_its_sandbox_along() {
    in_each_tier(|tier| {
        if tier == Tier::Three {
            println!(
                "skipped: without namespaces only the payload itself is tied to the supervisor"
            );
            return;
        }
        let mark = mark("unsupervised", tier);
        let sandbox = start(shell(
            tier,
            &format!("(setsid sleep 1000 &); sleep 1000; : {mark}"),
        ));
        let status = fs::read_to_string(format!("/proc/{}/status", sandbox.pid())).expect("status");
        let supervisor = status
            .lines()
            .find_map(|line| line.strip_prefix("PPid:\t"))
            .and_then(|pid| pid.parse().ok())
            .and_then(rustix::process::Pid::from_raw)
            .expect("the supervisor");
        rustix::process::kill_process(supervisor, rustix::process::Signal::KILL).expect("kill");
        assert_eq!(end_of(&sandbox).cause, ExitCause::SupervisorLost);
        eventually("all of it is gone", || processes_with(&mark).is_empty());
        support::await_no_control_groups();
    });
}

/// What a process holds: its descriptors, its threads and its children.
fn holdings() -> BTreeMap<&'static str, usize> {
    let count = |path: &str| fs::read_dir(path).expect(path).count();
    let mut children = String::new();
    for thread in fs::read_dir("/proc/self/task").expect("threads").flatten() {
        let file = fs::File::open(thread.path().join("children"));
        file.and_then(|mut file| file.read_to_string(&mut children))
            .unwrap_or_default();
    }
    BTreeMap::from([
        ("descriptors", count("/proc/self/fd")),
        ("threads", count("/proc/self/task")),
        ("children", children.split_whitespace().count()),
        (
            "mounts",
            fs::read_to_string("/proc/self/mountinfo")
                .expect("mounts")
                .lines()
                .count(),
        ),
    ])
}

#[test]
fn thirty_sandboxes_in_a_row_leave_nothing() {
    // Other tests of this file have sandboxes of their own: count in a process where none do.
    if std::env::var_os("CRUSADES_COUNT_ALONE").is_none() {
        let output = Command::new(std::env::current_exe().expect("own path"))
            .args([
                "--exact",
                "thirty_sandboxes_in_a_row_leave_nothing",
                "--nocapture",
            ])
            .env("CRUSADES_COUNT_ALONE", "1")
            .output()
            .expect("run again");
        let text = String::from_utf8_lossy(&output.stdout);
        println!("{text}");
        assert!(
            output.status.success(),
            "{text}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        return;
    }
    in_each_tier(|tier| {
        let mark = mark("repeated", tier);
        run(shell(tier, "exit 0"));
        let before = holdings();
        for round in 0..30 {
            let sandbox = start(shell(
                tier,
                &format!("setsid sleep 1000 & sleep 1000; : {mark}"),
            ));
            match round % 3 {
                0 => sandbox.kill(PATIENCE).expect("kill"),
                1 => {
                    sandbox.freeze(PATIENCE).expect("freeze");
                    drop(sandbox);
                }
                _ => drop(sandbox),
            }
        }
        assert_eq!(holdings(), before);
        assert_eq!(processes_with(&mark), [0; 0]);
        assert!(control_groups_of(std::process::id()).is_empty());
    });
}

#[test]
fn a_host_that_is_killed_at_any_moment_of_a_start_leaves_nothing() {
    in_each_tier(|tier| {
        let mark = mark("interrupted", tier);
        for step in 0..20 {
            let mut host = Command::new(support::launcher())
                .args(["--tier", &tier.number().to_string(), "/bin/sh", "-c"])
                .arg(format!("(setsid sleep 1000 &); sleep 1000; : {mark}"))
                .stdout(Stdio::null())
                .spawn()
                .expect("start a host");
            std::thread::sleep(Duration::from_micros(700) * step);
            let pid = host.id();
            host.kill().expect("kill the host");
            host.wait().expect("reap the host");
            eventually("all of it is gone", || {
                processes_with(&mark).is_empty() && control_groups_of(pid).is_empty()
            });
        }
    });
}

#[test]
fn groups_of_dead_hosts_are_removed_and_those_of_living_ones_are_not() {
    support::in_tiers(&[Tier::One], |tier| {
        let mut child = Command::new("/bin/true").spawn().expect("start");
        let dead = child.id();
        child.wait().expect("reap");
        // A living host of its own, so that other tests here have no part in it.
        let mut alive = Command::new("/bin/sleep")
            .arg("1000")
            .spawn()
            .expect("start");
        let sandbox = start(shell(tier, "sleep 1000"));
        let parents: Vec<_> = control_groups_of(std::process::id())
            .iter()
            .filter_map(|group| group.parent().map(std::path::Path::to_owned))
            .collect();
        for parent in &parents {
            for host in [dead, alive.id()] {
                fs::create_dir_all(parent.join(format!("crusades-{host}-0")))
                    .expect("make a group");
            }
        }
        drop(start(shell(tier, "exit 0")));
        assert!(control_groups_of(dead).is_empty());
        let kept = control_groups_of(alive.id());
        assert!(!kept.is_empty());
        for group in kept {
            fs::remove_dir(group).expect("remove a group");
        }
        alive.kill().expect("kill");
        alive.wait().expect("reap");
        drop(sandbox);
    });
}

#[test]
fn the_version_1_freezer_does_where_version_2_is_not_mounted() {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let unified = mounts.lines().find(|line| line.contains(" - cgroup2 "));
    let point = unified.and_then(|line| line.split(' ').nth(4));
    let (Some(point), true) = (point, rustix::process::geteuid().is_root()) else {
        println!("skipped: needs root and a mounted cgroup v2 to hide");
        return;
    };
    let output = Command::new("unshare")
        .args([
            "--mount",
            "/bin/sh",
            "-c",
            "umount \"$1\" && shift && exec \"$@\"",
            "sh",
            point,
        ])
        .arg(std::env::current_exe().expect("own path"))
        .args([
            "frozen",
            "use_is_told",
            "stubborn",
            "thirty",
            "killed",
            "--nocapture",
        ])
        .output();
    match output {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{text}\n{errors}");
            println!("{text}");
        }
        Err(error) => println!("skipped: unshare cannot be run: {error}"),
    }
}
