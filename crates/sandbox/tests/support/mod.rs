//! What the tests of real sandboxes share: requests for every tier, a Python to run as payload, and
//! looking for what a sandbox might have left.

#![allow(dead_code, reason = "each test file uses a part of it")]

pub(crate) mod calls;
pub(crate) mod engine;
pub(crate) mod leaks;

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crusades_sandbox::{
    Capabilities, Exit, ExitCause, LogSnapshot, Mount, Sandbox, SandboxRequest, Tier, probe_with,
};

/// Longer than anything here takes, shorter than anyone waits.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn launcher() -> PathBuf {
    env!("CARGO_BIN_EXE_sandbox-launcher").into()
}

pub(crate) fn capabilities() -> &'static Capabilities {
    static FOUND: OnceLock<Capabilities> = OnceLock::new();
    FOUND.get_or_init(|| probe_with(&launcher()))
}

/// Runs a check in every tier that this machine and user have; says which it leaves out and why.
pub(crate) fn in_each_tier(check: impl Fn(Tier)) {
    in_tiers(&[Tier::One, Tier::Two, Tier::Three], check);
}

/// The same for some tiers.
pub(crate) fn in_tiers(tiers: &[Tier], check: impl Fn(Tier)) {
    for tier in tiers {
        if capabilities().tier().is_some_and(|best| best <= *tier) {
            println!("in {tier}:");
            check(*tier);
        } else {
            println!("{tier} is skipped: {}", capabilities().reasons.join("; "));
        }
    }
}

pub(crate) fn request(tier: Tier, program: impl Into<PathBuf>) -> SandboxRequest {
    let mut request = SandboxRequest::new(program);
    request.launcher = Some(launcher());
    request.force_tier = Some(tier);
    request.minimum_tier = tier;
    request.environment = vec![("PATH".into(), "/usr/bin:/bin".into())];
    request
}

pub(crate) fn shell(tier: Tier, script: &str) -> SandboxRequest {
    let mut request = request(tier, "/bin/sh");
    request.arguments = vec!["-c".into(), script.into()];
    request
}

/// A Python that this user can run, with what must be mounted for it.
struct Python {
    program: PathBuf,
    home: PathBuf,
}

fn python_on_host() -> Option<&'static Python> {
    static FOUND: OnceLock<Option<Python>> = OnceLock::new();
    let find = || {
        ["python3", "/usr/bin/python3"].iter().find_map(|name| {
            let output = Command::new(name)
                .args(["-c", "import os, sys; print(os.path.realpath(sys.executable)); print(sys.base_prefix)"])
                .output()
                .ok()
                .filter(|output| output.status.success())?;
            let text = String::from_utf8(output.stdout).ok()?;
            let mut lines = text.lines();
            Some(Python {
                program: lines.next()?.into(),
                home: lines.next()?.into(),
            })
        })
    };
    FOUND.get_or_init(find).as_ref()
}

/// A request to run a Python script; `None`, after saying so, where there is no Python for it.
pub(crate) fn python(tier: Tier, script: &str) -> Option<SandboxRequest> {
    let Some(python) = python_on_host() else {
        println!("skipped: this user has no python3");
        return None;
    };
    if tier == Tier::Three && !is_open_to_all(&python.program) {
        println!(
            "skipped: {} is private to its owner",
            python.program.display()
        );
        return None;
    }
    let mut request = request(tier, &python.program);
    if !python.home.starts_with("/usr") || python.home.starts_with("/usr/local") {
        request.mounts.push(Mount::in_place(&python.home));
    }
    request.arguments = ["-I", "-S", "-c", script].map(Into::into).to_vec();
    Some(request)
}

pub(crate) fn start(request: SandboxRequest) -> Sandbox {
    Sandbox::start(request).unwrap_or_else(|error| panic!("{}", chain(&error)))
}

pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", chain(cause)),
        None => error.to_string(),
    }
}

/// Starts a payload and waits for its end.
pub(crate) fn run(request: SandboxRequest) -> (ExitCause, LogSnapshot) {
    let sandbox = start(request);
    let exit = end_of(&sandbox);
    (exit.cause, sandbox.log())
}

pub(crate) fn end_of(sandbox: &Sandbox) -> Exit {
    sandbox.wait(PATIENCE).unwrap_or_else(|| {
        panic!("it does not end; it printed: {}", sandbox.log().to_text());
    })
}

/// Runs a payload that must exit with 0 and returns what it printed.
pub(crate) fn output(request: SandboxRequest) -> String {
    let (cause, log) = run(request);
    assert_eq!(cause, ExitCause::Exited(0), "it printed: {}", log.to_text());
    log.to_text()
}

/// Waits until a payload has printed a text.
pub(crate) fn await_text(sandbox: &Sandbox, wanted: &str) {
    eventually(&format!("it prints {wanted:?}"), || {
        sandbox.log().to_text().contains(wanted)
    });
}

pub(crate) fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(
            Instant::now() < deadline,
            "in {PATIENCE:?} it did not happen that {what}"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Numbers of all processes whose command line holds a mark.
pub(crate) fn processes_with(mark: &str) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("read /proc").flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let mut command = Vec::new();
        let read = fs::File::open(entry.path().join("cmdline"))
            .and_then(|mut file| file.read_to_end(&mut command));
        if read.is_ok() && String::from_utf8_lossy(&command).contains(mark) {
            found.push(pid);
        }
    }
    found
}

/// All control groups that sandboxes of a host process have.
pub(crate) fn control_groups_of(host: u32) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    collect(
        Path::new("/sys/fs/cgroup"),
        &format!("crusades-{host}-"),
        &mut found,
    );
    found
}

/// Waits until no sandbox of this process has a control group; other tests have some for a while.
pub(crate) fn await_no_control_groups() {
    eventually("no control group is left", || {
        control_groups_of(std::process::id()).is_empty()
    });
}

fn collect(directory: &Path, prefix: &str, found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if entry.file_name().to_string_lossy().starts_with(prefix) {
                found.insert(entry.path());
            }
            collect(&entry.path(), prefix, found);
        }
    }
}

/// Runs this whole test file again as an ordinary user, where it runs as root.
pub(crate) fn run_again_as_ordinary_user() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let this = std::env::current_exe().expect("own path");
    for needed in [&this, &launcher()] {
        if !is_open_to_all(needed) {
            println!("skipped: {} is private to its owner", needed.display());
            return;
        }
    }
    let output = Command::new("setpriv")
        .args(["--reuid=1000", "--regid=1000", "--clear-groups"])
        .arg(&this)
        .args(["--test-threads=2", "--nocapture"])
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
        }
    }
}

/// A folder of the host that every user may read.
pub(crate) fn open_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("make a folder");
    open_to_all(folder.path(), 0o755);
    folder
}

pub(crate) fn open_to_all(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set permissions");
}

/// Whether every user may read and execute a file and reach it.
fn is_open_to_all(path: &Path) -> bool {
    path.ancestors().all(|path| {
        path.metadata()
            .is_ok_and(|metadata| metadata.permissions().mode() & 0o005 == 0o005)
    })
}

/// Writes a file that every user may read, whatever the umask.
pub(crate) fn write_open(path: &Path, contents: &str) {
    fs::write(path, contents).expect("write a file");
    open_to_all(path, 0o644);
}
