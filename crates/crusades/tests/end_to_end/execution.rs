//! Running the binary: at most two at a time, never longer than a limit, and nothing may be left.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::places::BINARY;
use crate::traces::{Traces, names_in};

/// Longest that any run of these tests may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(240);

/// How long something of a run may live on after it.
pub(crate) const AFTERLIFE: Duration = Duration::from_secs(5);

/// How many runs there are at once: each keeps a core busy.
const MOST_AT_ONCE: usize = 2;

static RUNNING: Mutex<usize> = Mutex::new(0);
static ENDED: Condvar = Condvar::new();

/// The right to run the binary.
pub(crate) struct Turn;

impl Turn {
    /// Waits until fewer than two others run.
    pub(crate) fn take() -> Self {
        let mut running = ENDED
            .wait_while(RUNNING.lock().unwrap(), |running| *running >= MOST_AT_ONCE)
            .unwrap();
        *running += 1;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Ok(mut running) = RUNNING.lock() {
            *running -= 1;
        }
        ENDED.notify_one();
    }
}

/// How one run of the binary ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit code; none after a signal.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) seconds: f64,
    /// What was wrong whatever the run was for: leftovers, a panic, a run without end.
    pub(crate) faults: Vec<String>,
}

impl Ended {
    /// The one document on standard output.
    pub(crate) fn json(&self) -> Result<Value, String> {
        serde_json::from_str(&self.stdout).map_err(|error| {
            format!(
                "standard output is no JSON ({error}); exit code {:?}, stderr:\n{}",
                self.code, self.stderr
            )
        })
    }

    /// Fails if the exit code is another or something was wrong in any case.
    pub(crate) fn expect_code(&self, code: i32) {
        assert_eq!(
            self.code,
            Some(code),
            "stdout:\n{}\nstderr:\n{}",
            self.stdout,
            self.stderr
        );
        assert!(self.faults.is_empty(), "{:?}", self.faults);
    }
}

/// A command of the binary, with a temporary folder of its own.
pub(crate) fn command(temporary: &TempDir) -> Command {
    let mut command = Command::new(BINARY);
    command.env("TMPDIR", temporary.path()).env("NO_COLOR", "1");
    command
}

/// Runs the binary to its end.
pub(crate) fn run<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Ended {
    run_with(arguments, |_| {})
}

/// Runs the binary to its end, with changes to how it is started.
pub(crate) fn run_with<'a>(
    arguments: impl IntoIterator<Item = &'a str>,
    prepare: impl FnOnce(&mut Command),
) -> Ended {
    let _turn = Turn::take();
    let temporary = TempDir::new().unwrap();
    let outputs = TempDir::new().unwrap();
    let output = |name: &str| File::create(outputs.path().join(name)).unwrap();
    let mut command = command(&temporary);
    command
        .args(arguments)
        .stdin(Stdio::null())
        // Files, since whatever outlived the run would hold a pipe open.
        .stdout(output("out"))
        .stderr(output("err"));
    prepare(&mut command);
    let began = Instant::now();
    let mut child = command.spawn().unwrap();
    let traces = Traces::of(child.id(), Duration::from_millis(30));
    let mut faults = Vec::new();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if began.elapsed() > PATIENCE {
            faults.push(format!("it did not end within {PATIENCE:?}"));
            child.kill().unwrap();
            break child.wait().unwrap();
        }
        thread::sleep(Duration::from_millis(2));
    };
    let seconds = began.elapsed().as_secs_f64();
    faults.extend(traces.left_after(AFTERLIFE));
    faults.extend(
        names_in(temporary.path())
            .into_iter()
            .map(|name| format!("temporary file {name}")),
    );
    let stdout = text_of(&outputs.path().join("out"));
    let stderr = text_of(&outputs.path().join("err"));
    for text in [&stdout, &stderr] {
        if text.contains("panicked") {
            faults.push(format!("a panic: {text}"));
        }
    }
    Ended {
        code: status.code(),
        stdout,
        stderr,
        seconds,
        faults,
    }
}

fn text_of(path: &Path) -> String {
    let mut bytes = Vec::new();
    File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}
