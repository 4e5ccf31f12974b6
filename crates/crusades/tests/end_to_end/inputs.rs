//! Wrong inputs: one clear line that names what is wrong, the right exit code, at once, and before
//! the environment is looked at (`--python` names none).

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FileType, Mode, mknodat};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::execution::{Ended, run, run_with};
use crate::places::{hparams_with, mini_hparams, shipped};
use crate::submission::{HONEST, source, text};

/// Longest that a wrong input may take to be found.
const AT_ONCE: f64 = 5.0;

/// A wrong input: its name, the flags, the exit code, and what the error line has to name.
struct Wrong {
    name: &'static str,
    arguments: Vec<String>,
    code: i32,
    named: String,
}

fn check_all(inputs: &[Wrong]) {
    let mut faults = Vec::new();
    for wrong in inputs {
        let ended = run(wrong.arguments.iter().map(String::as_str));
        if let Err(fault) = is_one_clear_line(&ended, wrong.code, &wrong.named) {
            faults.push(format!("{}: {fault}", wrong.name));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
}

fn is_one_clear_line(ended: &Ended, code: i32, named: &str) -> Result<(), String> {
    let errors: Vec<&str> = ended
        .stderr
        .lines()
        .filter(|line| line.starts_with("error:"))
        .collect();
    // The causes belong to the line; nothing else does.
    let told = ended
        .stderr
        .lines()
        .filter(|line| line.starts_with("error:") || line.starts_with("cause:"))
        .any(|line| line.contains(named));
    let sound = ended.code == Some(code)
        && errors.len() == 1
        && told
        && ended.seconds < AT_ONCE
        && ended.stdout.is_empty()
        && ended.faults.is_empty();
    if sound {
        return Ok(());
    }
    Err(format!(
        "expected exit code {code} and one error line with `{named}`; got {:?} in {:.1} s, {:?}\nstdout: {}\nstderr: {}",
        ended.code, ended.seconds, ended.faults, ended.stdout, ended.stderr
    ))
}

/// `crusades verify` with a submission and hparams, and without any Python.
fn verify(file: &Path, hparams: &Path, flags: &[&str]) -> Vec<String> {
    ["verify", text(file), "--hparams", text(hparams)]
        .into_iter()
        .chain(["--python", "/nonexistent/python"])
        .chain(flags.iter().copied())
        .map(str::to_owned)
        .collect()
}

fn sparse(path: &Path) {
    File::create(path).unwrap().set_len(1 << 30).unwrap();
}

fn pipe(path: &Path) {
    let mode = Mode::from_raw_mode(0o600);
    mknodat(rustix::fs::CWD, path, FileType::Fifo, mode, 0).unwrap();
}

fn written(path: PathBuf, contents: &[u8]) -> PathBuf {
    fs::write(&path, contents).unwrap();
    path
}

#[test]
fn a_submission_that_cannot_be_read_is_named_in_one_line() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    pipe(&at("pipe.py"));
    let mut inputs = Vec::new();
    for (name, file, named) in [
        ("missing", at("missing.py"), "missing.py"),
        ("a folder", folder.path().to_owned(), "is a folder"),
        ("a pipe", at("pipe.py"), "pipe.py is not a regular file"),
        ("a device", PathBuf::from("/dev/zero"), "/dev/zero"),
        (
            "below a file",
            written(at("file.py"), b"").join("train.py"),
            "train.py",
        ),
    ] {
        for (command, mut arguments) in [
            ("verify", verify(&file, &mini_hparams(), &["--json"])),
            ("bench", verify(&file, &mini_hparams(), &[])),
            ("scan", vec!["scan".to_owned(), text(&file).to_owned()]),
        ] {
            arguments[0] = command.to_owned();
            inputs.push(Wrong {
                name,
                arguments,
                code: 2,
                named: named.to_owned(),
            });
        }
    }
    check_all(&inputs);
}

#[test]
fn a_submission_that_is_no_python_is_refused_by_the_scan() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    sparse(&at("large.py"));
    let mut faults = Vec::new();
    for (file, code) in [
        (written(at("empty.py"), b""), "no_code"),
        (written(at("blank.py"), b" \n# nothing\n"), "no_code"),
        (at("large.py"), "security_violation"),
        (written(at("latin.py"), b"x = '\xe9'\n"), "syntax_error"),
        (written(at("zero.py"), &[0; 1000]), "syntax_error"),
        (
            written(at("unfinished.py"), b"def inner_steps("),
            "syntax_error",
        ),
        (written(at("other.py"), b"x = 1\n"), "missing_inner_steps"),
    ] {
        let mut arguments = verify(&file, &mini_hparams(), &["--json", "--quiet"]);
        let ended = run(arguments.iter().map(String::as_str));
        let report = ended.json().unwrap_or_default();
        faults.extend(ended.faults.iter().cloned());
        faults.extend(crate::table::schema_faults(&report));
        if ended.code != Some(10)
            || report["outcome"] != "refused_by_scan"
            || report["failure"]["code"] != code
            || ended.seconds > AT_ONCE
        {
            faults.push(format!(
                "{}: exit code {:?}, {:.1} s, {}, {}, expected {code}",
                file.display(),
                ended.code,
                ended.seconds,
                report["outcome"],
                report["failure"]["code"]
            ));
        }
        // The same for people.
        arguments.retain(|argument| argument != "--json");
        let ended = run(arguments.iter().map(String::as_str));
        if ended.code != Some(10) || ended.stdout.trim().is_empty() {
            faults.push(format!(
                "{}: for people: {:?} {}",
                file.display(),
                ended.code,
                ended.stdout
            ));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn hparams_that_cannot_be_used_are_named_in_one_line() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    pipe(&at("pipe.json"));
    sparse(&at("large.json"));
    let changed = |name: &str, changes: Value| {
        let folder = at(name);
        fs::create_dir(&folder).unwrap();
        hparams_with(&folder, &changes)
    };
    let parallel = at("parallel.py");
    let strategy = "def get_strategy():\n    return \"ddp\"\n";
    fs::write(&parallel, source(strategy, HONEST)).unwrap();
    let mut inputs = Vec::new();
    for (name, hparams, code, named) in [
        ("missing", at("missing.json"), 2, "missing.json"),
        ("a folder", folder.path().to_owned(), 2, "is a folder"),
        ("a pipe", at("pipe.json"), 2, "pipe.json"),
        (
            "1 GB",
            at("large.json"),
            2,
            "large.json has 1073741824 bytes",
        ),
        ("empty", written(at("empty.json"), b""), 2, "empty.json"),
        (
            "not UTF-8",
            written(at("latin.json"), b"{\"netuid\": \"\xe9\"}"),
            2,
            "latin.json is not UTF-8",
        ),
        (
            "not JSON",
            written(at("bad.json"), b"{\"netuid\": 3,}"),
            2,
            "not valid JSON",
        ),
        ("a list", written(at("list.json"), b"[3]"), 2, "JSON object"),
        (
            "deeply nested",
            written(at("deep.json"), "[".repeat(1_000_000).as_bytes()),
            2,
            "not valid JSON",
        ),
        (
            "a wrong type",
            changed("type", json!({ "eval_steps": "five" })),
            2,
            "`eval_steps`",
        ),
        (
            "a fraction",
            changed("fraction", json!({ "eval_steps": 1.5 })),
            2,
            "`eval_steps`",
        ),
        (
            "out of range",
            changed("range", json!({ "eval_steps": 0 })),
            2,
            "`eval_steps` is 0",
        ),
        (
            "a nested value out of range",
            changed(
                "nested",
                json!({ "verification": { "update_relative_error_max": -1.0 } }),
            ),
            2,
            "`verification.update_relative_error_max`",
        ),
        (
            "a bad memory limit",
            changed("memory", json!({ "docker": { "memory_limit": "much" } })),
            2,
            "`docker.memory_limit`",
        ),
        (
            "a missing policy",
            changed("policy", json!({ "scan": { "policy": "missing.toml" } })),
            2,
            "missing.toml",
        ),
        (
            "a policy that is none",
            changed(
                "nopolicy",
                json!({ "scan": { "policy": text(&mini_hparams()) } }),
            ),
            2,
            "mini.json is not a usable policy",
        ),
        (
            "a model that is not here",
            changed(
                "model",
                json!({ "benchmark_model_name": "Qwen/Qwen2.5-3B" }),
            ),
            20,
            "Qwen/Qwen2.5-3B",
        ),
        (
            "a model that is a file",
            changed(
                "modelfile",
                json!({ "benchmark_model_name": text(&mini_hparams().canonicalize().unwrap()) }),
            ),
            20,
            "is not a folder",
        ),
        (
            "a corpus that is not here",
            changed("corpus", json!({ "benchmark_dataset_name": "no/corpus" })),
            20,
            "no/corpus",
        ),
        (
            "a corpus that is too small",
            changed("small", json!({ "benchmark_data_samples": 3 })),
            20,
            "corpus",
        ),
        (
            "several GPUs",
            changed("gpus", json!({ "docker": { "num_gpus": 2 } })),
            20,
            "`docker.num_gpus` is 2",
        ),
    ] {
        inputs.push(Wrong {
            name,
            arguments: verify(&parallel, &hparams, &["--json", "--quiet"]),
            code,
            named: named.to_owned(),
        });
    }
    check_all(&inputs);
}

#[test]
fn an_unknown_key_is_a_warning_that_names_it() {
    let folder = TempDir::new().unwrap();
    let hparams = hparams_with(
        folder.path(),
        &json!({ "verification": { "max_loss_diference": 1 } }),
    );
    // Refused by the scan, so that nothing has to run.
    let file = written(folder.path().join("train.py"), b"import os\n");
    let arguments = verify(&file, &hparams, &[]);
    let ended = run(arguments.iter().map(String::as_str));
    ended.expect_code(10);
    let warnings: Vec<&str> = ended
        .stderr
        .lines()
        .filter(|line| line.starts_with("warning:"))
        .collect();
    assert_eq!(warnings.len(), 1, "{}", ended.stderr);
    assert!(warnings[0].contains("verification.max_loss_diference"));
}

#[test]
fn wrong_flags_are_named_in_one_line() {
    let folder = TempDir::new().unwrap();
    let baseline = shipped("baseline/train.py");
    let mini = mini_hparams();
    let full = folder.path().join("full");
    fs::create_dir(&full).unwrap();
    written(full.join("report.json"), b"an earlier result");
    let file = written(folder.path().join("file"), b"");
    let mut inputs = Vec::new();
    for (name, flags, named) in [
        ("a short seed", vec!["--seed", "1234"], "--seed"),
        (
            "a seed of letters",
            vec!["--seed", &"z".repeat(64)],
            "--seed",
        ),
        ("an empty seed", vec!["--seed", ""], "--seed"),
        (
            "a seed of other characters",
            vec!["--seed", &"é".repeat(32)],
            "--seed",
        ),
        ("no runs", vec!["--runs", "0"], "--runs"),
        ("runs that are no number", vec!["--runs", "many"], "--runs"),
        ("no threads", vec!["--threads", "0"], "--threads"),
        (
            "a full folder",
            vec!["--keep", text(&full)],
            "full is not empty",
        ),
        ("a file for a folder", vec!["--keep", text(&file)], "file"),
        (
            "a folder that cannot be made",
            vec!["--keep", "/proc/nowhere"],
            "/proc/nowhere",
        ),
        (
            "no such tier",
            vec!["--force-sandbox-tier", "4"],
            "--force-sandbox-tier",
        ),
        ("no such Python", vec![], "--python"),
    ] {
        inputs.push(Wrong {
            name,
            arguments: verify(&baseline, &mini, &flags),
            code: 2,
            named: named.to_owned(),
        });
    }
    check_all(&inputs);
    assert_eq!(
        fs::read(full.join("report.json")).unwrap(),
        b"an earlier result"
    );
}

#[test]
fn what_an_ordinary_user_may_not_read_is_named_in_one_line() {
    let folder = TempDir::new().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let secret = written(folder.path().join("secret.py"), b"x = 1\n");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
    let is_root = rustix::process::geteuid().is_root();
    // The binary may lie where an ordinary user has no way to.
    let binary = folder.path().join("crusades");
    fs::copy(crate::places::BINARY, &binary).unwrap();
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
    let mut as_user = if is_root {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command.arg(&binary);
        command
    } else {
        Command::new(&binary)
    };
    as_user.env("HOME", folder.path()).env("NO_COLOR", "1");
    let output = match as_user.args(["scan", text(&secret)]).output() {
        Ok(output) => output,
        Err(error) => {
            eprintln!("skipped: setpriv does not run: {error}");
            return;
        }
    };
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(
        stderr.starts_with("error:") && stderr.contains("secret.py"),
        "{stderr}"
    );
    assert!(
        stderr.to_lowercase().contains("permission denied"),
        "{stderr}"
    );
}

#[test]
fn help_and_version_need_nothing() {
    for arguments in [&["--help"][..], &["verify", "--help"], &["--version"]] {
        let ended = run_with(arguments.iter().copied(), |command| {
            command
                .env_remove("HOME")
                .env("CRUSADES_ENV_DIR", "/nonexistent");
        });
        ended.expect_code(0);
        assert!(ended.stderr.is_empty(), "{}", ended.stderr);
    }
    let ended = run(["verify", "--help"]);
    for code in ["10  refused by the scan", "20  fault of this machine"] {
        assert!(ended.stdout.contains(code), "{}", ended.stdout);
    }
    assert_eq!(run(["verify"]).code, Some(2));
    assert_eq!(run(["no-such-command"]).code, Some(2));
}
