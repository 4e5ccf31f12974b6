//! Weaker sandboxes: used and recorded where they are allowed, refused where they are not.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::execution::{Ended, run};
use crate::places::{environment_is_there, mini_hparams, shipped};
use crate::submission::{HONEST, Scan, source, text, verify};

fn baseline(flags: &[&str]) -> Ended {
    let file = shipped("baseline/train.py");
    let hparams = mini_hparams();
    let arguments = ["verify", text(&file), "--hparams", text(&hparams)];
    run(arguments
        .into_iter()
        .chain(["--json", "--quiet", "--runs", "1"])
        .chain(flags.iter().copied()))
}

fn remarks(report: &Value) -> Vec<&str> {
    let remarks = report["machine"]["sandbox_remarks"].as_array().unwrap();
    remarks
        .iter()
        .map(|remark| remark.as_str().unwrap())
        .collect()
}

/// Whether every user can reach the worker's interpreter. In tier 3 a supervisor of root can only give
/// its payload another user, not a view of a private folder.
fn interpreter_is_public() -> bool {
    let found = run(["env", "check", "--json"]).json().unwrap();
    let paths = ["executable", "real_executable"]
        .map(|key| PathBuf::from(found["environment"][key].as_str().unwrap()));
    let public = paths.iter().flat_map(|path| path.ancestors()).all(|path| {
        let mode = path.metadata().unwrap().permissions().mode();
        mode & 0o001 != 0
    });
    if !public {
        println!(
            "skipped: {} is not in reach of every user",
            paths[0].display()
        );
    }
    public
}

#[test]
fn tier_two_is_judged_and_its_weakness_is_recorded() {
    if !environment_is_there() {
        return;
    }
    let ended = baseline(&["--force-sandbox-tier", "2"]);
    ended.expect_code(0);
    let report = ended.json().unwrap();
    assert_eq!(report["machine"]["sandbox_tier"], 2);
    assert!(!remarks(&report).is_empty(), "{}", report["machine"]);
}

#[test]
fn tier_three_is_refused_unless_it_is_allowed() {
    if !environment_is_there() {
        return;
    }
    let refused = baseline(&["--force-sandbox-tier", "3"]);
    refused.expect_code(20);
    assert!(refused.stdout.is_empty(), "{}", refused.stdout);
    assert!(refused.seconds < 5.0);
    for line in ["error: ", "help: "] {
        let found = refused.stderr.lines().find(|text| text.starts_with(line));
        assert!(found.is_some(), "{}", refused.stderr);
    }
    assert!(refused.stderr.contains("--allow-weak-sandbox"));

    let allowed = baseline(&["--force-sandbox-tier", "3", "--allow-weak-sandbox"]);
    if rustix::process::geteuid().is_root() && !interpreter_is_public() {
        allowed.expect_code(20);
        assert!(
            allowed.stderr.contains("CRUSADES_ENV_DIR"),
            "{}",
            allowed.stderr
        );
        return;
    }
    allowed.expect_code(0);
    let report = allowed.json().unwrap();
    assert_eq!(report["machine"]["sandbox_tier"], 3);
    assert!(!remarks(&report).is_empty(), "{}", report["machine"]);
}

#[test]
fn weaker_tiers_leave_nothing_behind_either() {
    if !environment_is_there() {
        return;
    }
    let module = "import os, signal, time";
    let body = r#"
if timed:
    for _ in range(3):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                time.sleep(1000)
            os._exit(0)
    os._exit(7)
"#;
    let source = source(module, &format!("{body}\n{HONEST}"));
    let tier_three = !rustix::process::geteuid().is_root() || interpreter_is_public();
    for tier in ["2", "3"].into_iter().take(1 + usize::from(tier_three)) {
        let flags = ["--force-sandbox-tier", tier, "--allow-weak-sandbox"];
        let ended = verify(&source, Scan::Permissive, &json!({}), &flags);
        ended.expect_code(12);
        let report = ended.json().unwrap();
        assert_eq!(report["failure"]["code"], "execution_failed", "{report}");
        assert_eq!(report["failure"]["reason"], "process_exited", "{report}");
    }
}

#[test]
fn memory_is_bounded_without_control_groups_too() {
    if !environment_is_there() {
        return;
    }
    let body = "hoard = []\nwhile timed:\n    hoard.append(bytearray(16 << 20))";
    let source = source("", &format!("{body}\n{HONEST}"));
    let flags = ["--force-sandbox-tier", "2"];
    let ended = verify(&source, Scan::Strict, &json!({}), &flags);
    ended.expect_code(12);
    let report = ended.json().unwrap();
    assert_eq!(report["failure"]["code"], "out_of_memory", "{report}");
}
