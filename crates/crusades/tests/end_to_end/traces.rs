//! What a run of the program leaves behind on the machine: processes and control groups.
//!
//! Descendants are noted while the program runs, since what survives it has other parents. A process
//! is known by its number and its start, so that a reused number is not mistaken for it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A process for all times: its number and its start in ticks since boot.
type Process = (u32, u64);

/// Notes every descendant of one process, until it is asked.
pub(crate) struct Traces {
    root: u32,
    ended: Arc<AtomicBool>,
    watcher: JoinHandle<BTreeSet<Process>>,
}

impl Traces {
    /// Begins to note the descendants of `root`, looking again after each `pause`.
    pub(crate) fn of(root: u32, pause: Duration) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let watched = Arc::clone(&ended);
        let watcher = thread::spawn(move || {
            let mut seen = BTreeSet::new();
            while !watched.load(Ordering::Relaxed) {
                note_descendants(root, &mut seen);
                thread::sleep(pause);
            }
            seen
        });
        Self {
            root,
            ended,
            watcher,
        }
    }

    /// What is left of the process and its descendants after `patience`; the process has ended.
    pub(crate) fn left_after(self, patience: Duration) -> Vec<String> {
        self.ended.store(true, Ordering::Relaxed);
        let seen = self.watcher.join().unwrap();
        let deadline = Instant::now() + patience;
        loop {
            let mut left = surviving(&seen);
            left.extend(control_groups(self.root));
            left.extend(mounts(self.root));
            if left.is_empty() || Instant::now() >= deadline {
                return left;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Adds to `seen` all descendants of `root`, and those of whom is in `seen` already.
fn note_descendants(root: u32, seen: &mut BTreeSet<Process>) {
    let mut children: BTreeMap<u32, Vec<Process>> = BTreeMap::new();
    for number in numbers() {
        if let Some((parent, start)) = parent_and_start(number) {
            children.entry(parent).or_default().push((number, start));
        }
    }
    let mut open: Vec<u32> = seen
        .iter()
        .filter(|&&(number, start)| lives((number, start)))
        .map(|&(number, _)| number)
        .chain([root])
        .collect();
    let mut visited = BTreeSet::new();
    while let Some(number) = open.pop() {
        if !visited.insert(number) {
            continue;
        }
        for &child in children.get(&number).into_iter().flatten() {
            seen.insert(child);
            open.push(child.0);
        }
    }
}

fn numbers() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn parent_and_start(number: u32) -> Option<(u32, u64)> {
    let stat = fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
    // The name may hold anything, brackets too.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    if fields.first() == Some(&"Z") {
        // It has ended; to take note of that is up to its parent.
        return None;
    }
    Some((fields.get(1)?.parse().ok()?, fields.get(19)?.parse().ok()?))
}

fn lives((number, start): Process) -> bool {
    parent_and_start(number).is_some_and(|(_, found)| found == start)
}

fn surviving(seen: &BTreeSet<Process>) -> Vec<String> {
    seen.iter()
        .filter(|&&process| lives(process))
        .map(|&(number, _)| {
            let status = fs::read_to_string(format!("/proc/{number}/status")).unwrap_or_default();
            let line = |key: &str| {
                status
                    .lines()
                    .find(|line| line.starts_with(key))
                    .unwrap_or_default()
                    .replace('\t', " ")
            };
            format!(
                "process {number} ({}, {}, {})",
                line("Name:"),
                line("State:"),
                line("PPid:")
            )
        })
        .collect()
}

/// Control groups that the process with this number made: `crusades-NUMBER-...`.
fn control_groups(root: u32) -> Vec<String> {
    let prefix = format!("crusades-{root}-");
    let mut found = Vec::new();
    let mut open = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                found.push(format!("control group {}", entry.path().display()));
            }
            open.push(entry.path());
        }
    }
    found
}

/// Mounts of this machine that name the process.
fn mounts(root: u32) -> Vec<String> {
    let name = format!("crusades-{root}");
    fs::read_to_string("/proc/self/mountinfo")
        .unwrap()
        .lines()
        .filter(|line| line.contains(&name))
        .map(|line| format!("mount {line}"))
        .collect()
}

/// The names in a folder.
pub(crate) fn names_in(folder: &Path) -> BTreeSet<String> {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect()
}

#[test]
fn a_process_that_outlives_its_parents_is_found_until_it_ends() {
    for (seconds, count) in [("30", 1), ("0.5", 0)] {
        let script = format!("(setsid sleep {seconds} & sleep 0.2) & sleep 0.3");
        let mut shell = Command::new("/bin/sh")
            .args(["-c", &script])
            .spawn()
            .unwrap();
        let traces = Traces::of(shell.id(), Duration::from_millis(5));
        shell.wait().unwrap();
        let left = traces.left_after(Duration::from_secs(2));
        assert_eq!(left.len(), count, "{left:?}");
        for line in left {
            let number = line.split(' ').nth(1).unwrap().parse().unwrap();
            let survivor = Pid::from_raw(number).unwrap();
            kill_process(survivor, Signal::KILL).unwrap();
        }
    }
}
