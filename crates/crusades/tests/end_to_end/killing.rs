//! Ending the program from outside, at any moment: nothing of it is left a little later.

use std::fs::File;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tempfile::TempDir;

use crate::execution::{AFTERLIFE, Turn, command};
use crate::places::{environment_is_there, hparams_with};
use crate::submission::{source, text};
use crate::traces::{Traces, names_in};

/// When the program is ended.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// So long after its start.
    Early(u64),
    /// So long after it said this.
    After(&'static str, u64),
}

/// What a person at a terminal, a service manager and a lack of memory send.
const SIGNALS: [Signal; 3] = [Signal::KILL, Signal::INT, Signal::TERM];

const MOMENTS: [Moment; 9] = [
    Moment::Early(1),
    Moment::Early(8),
    Moment::Early(40),
    Moment::Early(150),
    Moment::Early(1000),
    Moment::After("Started the reference worker", 1),
    Moment::After("Made reference run", 0),
    Moment::After("Made reference run", 500),
    // The submission hangs in its warm-up, with children.
    Moment::After("Loaded its code", 2500),
];

#[test]
fn a_program_that_is_ended_at_any_moment_leaves_nothing() {
    if !environment_is_there() {
        return;
    }
    let mut faults = Vec::new();
    for (index, moment) in MOMENTS.into_iter().enumerate() {
        // Early moments are cheap, and have all signals; later ones take turns.
        let signals = match moment {
            Moment::Early(..200) => &SIGNALS[..],
            _ => &SIGNALS[index % 2..=index % 2],
        };
        for &signal in signals {
            for fault in end_at(moment, signal) {
                faults.push(format!("{moment:?}, {signal:?}: {fault}"));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

fn end_at(moment: Moment, signal: Signal) -> Vec<String> {
    let _turn = Turn::take();
    let folder = TempDir::new().unwrap();
    let temporary = TempDir::new().unwrap();
    let policy = crate::submission::permissive_policy();
    let hparams = hparams_with(folder.path(), &json!({ "scan": { "policy": policy } }));
    let file = folder.path().join("train.py");
    let body = r#"
for _ in range(5):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            time.sleep(1000)
        os._exit(0)
time.sleep(1000)
"#;
    std::fs::write(&file, source("import os, signal, time", body)).unwrap();
    let log = folder.path().join("stderr");
    let mut command = command(&temporary);
    // Whoever started the tests in the background may have made them ignore it, and a program inherits
    // that.
    // SAFETY: `signal` may be called between fork and exec.
    unsafe {
        command.pre_exec(|| {
            libc::signal(libc::SIGINT, libc::SIG_DFL);
            Ok(())
        });
    }
    let mut child = command
        .args(["verify", text(&file), "--hparams", text(&hparams)])
        .args(["--json", "--runs", "1"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let began = Instant::now();
    let traces = Traces::of(child.id(), Duration::from_millis(3));
    let mut faults = Vec::new();
    if let Err(fault) = wait_for(moment, began, &log, &mut child) {
        faults.push(fault);
    }
    kill_process(Pid::from_child(&child), signal).unwrap();
    let signalled = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if signalled.elapsed() > AFTERLIFE {
            faults.push("it went on".to_owned());
            child.kill().unwrap();
            break child.wait().unwrap();
        }
        thread::sleep(Duration::from_millis(1));
    };
    if status.success() {
        faults.push("it ended as if it had judged".to_owned());
    }
    if status.signal().is_none() && status.code().is_none_or(|code| code < 128) {
        faults.push(format!("it ended with {status}"));
    }
    faults.extend(traces.left_after(AFTERLIFE.saturating_sub(signalled.elapsed())));
    faults.extend(names_in(temporary.path()));
    faults
}

fn wait_for(
    moment: Moment,
    began: Instant,
    log: &std::path::Path,
    child: &mut Child,
) -> Result<(), String> {
    match moment {
        Moment::Early(milliseconds) => {
            thread::sleep(Duration::from_millis(milliseconds).saturating_sub(began.elapsed()));
        }
        Moment::After(said, milliseconds) => {
            while !text_in(log).contains(said) {
                let ended = child.try_wait().unwrap();
                if ended.is_some() || began.elapsed() > Duration::from_secs(120) {
                    return Err(format!("it did not say `{said}`: {}", text_in(log)));
                }
                thread::sleep(Duration::from_millis(2));
            }
            thread::sleep(Duration::from_millis(milliseconds));
        }
    }
    Ok(())
}

fn text_in(path: &std::path::Path) -> String {
    let mut text = String::new();
    File::open(path).unwrap().read_to_string(&mut text).unwrap();
    text
}

#[test]
fn an_interrupted_judgement_keeps_an_earlier_result() {
    if !environment_is_there() {
        return;
    }
    let _turn = Turn::take();
    let folder = TempDir::new().unwrap();
    let temporary = TempDir::new().unwrap();
    let kept = folder.path().join("kept");
    std::fs::create_dir(&kept).unwrap();
    let hparams = hparams_with(folder.path(), &json!({}));
    let file = folder.path().join("train.py");
    std::fs::write(&file, source("", "while True:\n    pass")).unwrap();
    let mut child = command(&temporary)
        .args(["verify", text(&file), "--hparams", text(&hparams)])
        .args(["--quiet", "--keep", text(&kept)])
        .spawn()
        .unwrap();
    thread::sleep(Duration::from_secs(1));
    child.kill().unwrap();
    child.wait().unwrap();
    // The folder is as it was, and can be used for the next judgement.
    assert!(names_in(&kept).is_empty());
}
