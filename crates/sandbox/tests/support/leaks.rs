//! Making many sandboxes of a kind, in a row and killed while they start, and looking whether anything of
//! them is left. One at a time in a process, because what that holds is counted.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use crusades_sandbox::{Backend, DockerSettings, SandboxRequest, Tier};

use super::{
    PATIENCE, control_groups_of, engine, eventually, launcher, processes_with, run, shell, start,
};

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

/// A kind of sandbox.
pub(crate) struct Kind {
    name: String,
    /// A request to run a script in one.
    request: Box<dyn Fn(&str) -> SandboxRequest>,
    /// The arguments by which the launcher starts one.
    arguments: Vec<String>,
    /// About how long one takes to start.
    start: Duration,
    /// How many namespaces each one makes.
    namespaces: usize,
    /// What is on the machine for the sandboxes of a host process, apart from processes.
    traces: fn(u32) -> usize,
    /// Whether there is any of it while one runs.
    has_traces: bool,
}

impl Kind {
    pub(crate) fn native(tier: Tier) -> Self {
        Self {
            name: format!("native-{}", tier.number()),
            request: Box::new(move |script| shell(tier, script)),
            arguments: vec!["--tier".into(), tier.number().to_string()],
            start: Duration::from_millis(25),
            namespaces: if tier == Tier::Three { 0 } else { 7 },
            traces: |host| control_groups_of(host).len(),
            has_traces: tier == Tier::One,
        }
    }

    pub(crate) fn docker(image: &str) -> Self {
        let settings = DockerSettings::new(image);
        Self {
            name: "docker".into(),
            arguments: vec!["--image".into(), image.to_owned()],
            request: Box::new(move |script| {
                let mut request = shell(Tier::One, script);
                request.backend = Backend::Docker(settings.clone());
                request
            }),
            start: Duration::from_millis(400),
            // The user namespace is the engine's.
            namespaces: 6,
            traces: |host| engine::containers_of(host) + engine::run_folders_of(host),
            has_traces: true,
        }
    }
}

pub(crate) fn in_a_row(kind: &Kind, count: usize) {
    let mark = format!("leak-{}-{}", kind.name, std::process::id());
    let request = &kind.request;
    run(request("exit 0"));
    let before = holdings();
    let own = namespaces_of(Path::new("/proc/self"));
    let mut made = BTreeSet::new();
    for round in 0..count {
        let sandbox = start(request(&format!(
            "setsid sleep 1000 & sleep 1000; : {mark}"
        )));
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
    assert_eq!((kind.traces)(std::process::id()), 0);
    assert_eq!(holdings(), before);
    let made: BTreeSet<_> = made.difference(&own).cloned().collect();
    // The first process of a sandbox is hidden from an ordinary user.
    if rustix::process::geteuid().is_root() {
        println!("{} namespaces were made by {count} sandboxes", made.len());
        assert!(made.len() >= kind.namespaces);
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
fn moments(longest: Duration, count: usize) -> Vec<Duration> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let seed = u64::from(now.expect("a clock").subsec_nanos());
    println!("seed {seed}");
    let mut state = seed;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        longest.mul_f64((state >> 33) as f64 / f64::from(1u32 << 31))
    };
    (0..count).map(|_| next()).collect()
}

pub(crate) fn killed_while_starting(kind: &Kind, count: usize) {
    let mark = format!("cut-{}-{}", kind.name, std::process::id());
    let folder = super::open_folder();
    super::open_to_all(folder.path(), 0o777);
    let host = || {
        let mut host = Command::new(launcher());
        host.args(&kind.arguments)
            .args(["/bin/sh", "-c"])
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
    assert!(line.starts_with("tier "), "{line}");
    assert_eq!((kind.traces)(whole.id()) > 0, kind.has_traces);
    let mut hosts = vec![whole.id()];
    whole.kill().expect("kill");
    whole.wait().expect("reap");
    for moment in moments(kind.start, count) {
        let mut host = host();
        std::thread::sleep(moment);
        hosts.push(host.id());
        host.kill().expect("kill");
        host.wait().expect("reap");
    }
    eventually("all of it is gone", || {
        processes_with(&mark).is_empty() && hosts.iter().all(|host| (kind.traces)(*host) == 0)
    });
    eventually("no file is left", || {
        fs::read_dir(folder.path()).expect("list").count() == 0
    });
}
