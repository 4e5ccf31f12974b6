//! Nothing of a sandbox is left, however many there were and whenever they were killed: no process,
//! no namespace, no mount, no control group, no descriptor, no file. One test at a time, because each
//! counts what the whole process holds.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on must fail"
)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use crusades_sandbox::Tier;
use support::{
    PATIENCE, control_groups_of, eventually, in_each_tier, launcher, processes_with, run, shell,
    start,
};

/// In each tier, 60 in a row and 10 that are killed while they start.
#[test]
fn seventy_sandboxes_leave_nothing() {
    in_each_tier(|tier| {
        in_a_row(tier, 60);
        killed_while_starting(tier, 10);
    });
    support::run_again_as_ordinary_user();
}

/// The same, 200 and 20: `cargo test -p crusades-sandbox --test leak -- --ignored`.
#[test]
#[ignore = "takes a minute"]
fn two_hundred_and_twenty_sandboxes_leave_nothing() {
    in_each_tier(|tier| {
        in_a_row(tier, 200);
        killed_while_starting(tier, 20);
    });
}

/// What this process holds: its descriptors by what they are, its threads and its mounts.
fn holdings() -> (Vec<String>, usize, usize) {
    let names = |path: &str| -> Vec<PathBuf> {
        let entries = fs::read_dir(path).expect(path).flatten();
        entries.map(|entry| entry.path()).collect()
    };
    let mut descriptors: Vec<String> = names("/proc/self/fd")
        .iter()
        .filter_map(|path| fs::read_link(path).ok())
        .map(|target| target.to_string_lossy().into_owned())
        // The one that is being listed.
        .filter(|target| !target.starts_with("/proc/"))
        .collect();
    descriptors.sort();
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    (
        descriptors,
        names("/proc/self/task").len(),
        mounts.lines().count(),
    )
}

/// The namespaces of a process.
fn namespaces_of(process: &Path) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(process.join("ns")).into_iter().flatten();
    entries
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .collect()
}

/// Those of these namespaces that a process, or a descriptor of one, holds.
fn held(namespaces: &BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for process in fs::read_dir("/proc").expect("processes").flatten() {
        found.extend(namespaces_of(&process.path()));
        let descriptors = fs::read_dir(process.path().join("fd"))
            .into_iter()
            .flatten();
        found.extend(
            descriptors
                .flatten()
                .filter_map(|entry| fs::read_link(entry.path()).ok()),
        );
    }
    found.intersection(namespaces).cloned().collect()
}

fn in_a_row(tier: Tier, count: usize) {
    let mark = format!("leak-{}-{}", tier.number(), std::process::id());
    run(shell(tier, "exit 0"));
    let before = holdings();
    let own = namespaces_of(Path::new("/proc/self"));
    let mut made = BTreeSet::new();
    for round in 0..count {
        let sandbox = start(shell(
            tier,
            &format!("setsid sleep 1000 & sleep 1000; : {mark}"),
        ));
        made.append(&mut namespaces_of(Path::new(&format!(
            "/proc/{}",
            sandbox.pid()
        ))));
        match round % 3 {
            0 => sandbox.kill(PATIENCE).expect("kill"),
            1 => sandbox.freeze(PATIENCE).expect("freeze"),
            _ => {}
        }
        drop(sandbox);
    }
    assert_eq!(processes_with(&mark), [0; 0]);
    assert_eq!(control_groups_of(std::process::id()), BTreeSet::new());
    assert_eq!(holdings(), before);
    let made: BTreeSet<_> = made.difference(&own).cloned().collect();
    // The first process of a sandbox is hidden from an ordinary user.
    if tier != Tier::Three && rustix::process::geteuid().is_root() {
        println!("{} namespaces were made by {count} sandboxes", made.len());
        assert!(made.len() >= 7);
    }
    // The kernel uses a number again once it is free, also for another program's namespace; so each
    // must be seen free once, not all at the same time.
    let left = std::cell::RefCell::new(made);
    eventually("no namespace is left", || {
        let still = held(&left.borrow());
        *left.borrow_mut() = still;
        left.borrow().is_empty()
    });
}

/// Numbers that look random, from a seed that is printed.
fn moments(count: usize) -> Vec<Duration> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let seed = u64::from(now.expect("a clock").subsec_nanos());
    println!("seed {seed}");
    let mut state = seed;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        // A start takes about 15 ms here.
        Duration::from_micros((state >> 33) % 25_000)
    };
    (0..count).map(|_| next()).collect()
}

fn killed_while_starting(tier: Tier, count: usize) {
    let mark = format!("cut-{}-{}", tier.number(), std::process::id());
    let folder = support::open_folder();
    support::open_to_all(folder.path(), 0o777);
    let host = || {
        let mut host = Command::new(launcher());
        host.args(["--tier", &tier.number().to_string(), "/bin/sh", "-c"])
            .arg(format!("(setsid sleep 1000 &); sleep 1000; : {mark}"))
            .current_dir(folder.path())
            .env("TMPDIR", folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        host.spawn().expect("start a host")
    };
    // The control: one that is not cut short does start.
    let mut whole = host();
    let mut line = String::new();
    BufReader::new(whole.stdout.take().expect("its output"))
        .read_line(&mut line)
        .expect("its first line");
    assert!(line.starts_with(&tier.to_string()), "{line}");
    let mut hosts = vec![whole.id()];
    whole.kill().expect("kill");
    whole.wait().expect("reap");
    for moment in moments(count) {
        let mut host = host();
        std::thread::sleep(moment);
        hosts.push(host.id());
        host.kill().expect("kill");
        host.wait().expect("reap");
    }
    eventually("all of it is gone", || {
        processes_with(&mark).is_empty()
            && hosts.iter().all(|host| control_groups_of(*host).is_empty())
    });
    let left = fs::read_dir(folder.path()).expect("list").count();
    assert_eq!(left, 0, "files are left");
}
