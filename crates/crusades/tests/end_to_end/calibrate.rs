//! `crusades calibrate`: what it writes, what hparams that name it accept and refuse, and what it does
//! not take.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::execution::{Ended, run};
use crate::places::{SEED, environment_is_there, hparams_with, mini_hparams, shipped};
use crate::submission::{HONEST, Scan, source, text, verify};

/// Trains, but for the update of the last step.
const SKIPS_THE_LAST_UPDATE: &str = r"
kept = train(model, data_iterator, optimizer, num_steps - 1)
logits, loss = loss_of(model, next(data_iterator))
total = kept.total_tokens * num_steps // (num_steps - 1)
return Result(logits.detach(), total, loss.item())
";

fn calibrate(hparams: &Path, out: &Path, flags: &[&str]) -> Ended {
    let fixed = [
        "calibrate",
        "--hparams",
        text(hparams),
        "--out",
        text(out),
        "--seed",
        SEED,
        "--quiet",
    ];
    run(fixed.into_iter().chain(flags.iter().copied()))
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Hparams whose weights nothing looks at but the calibration, where one is named.
fn only(calibration: Option<&Path>) -> Value {
    json!({ "verification": {
        "min_params_changed_ratio": null,
        "weight_relative_error_max": null,
        "update_relative_error_max": null,
        "step_coefficient_max_deviation": null,
        "calibration": calibration,
    } })
}

#[test]
fn a_calibration_accepts_the_baseline_and_refuses_a_skipped_step() {
    if !environment_is_there() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("limits.json");
    let own = folder.path().join("own");
    fs::create_dir(&own).unwrap();
    fs::copy(shipped("examples/micro_batched.py"), own.join("mine.py")).unwrap();
    fs::write(own.join("broken.py"), source("", "raise ValueError")).unwrap();
    // The model's path is part of what a calibration is for.
    let hparams = hparams_with(folder.path(), &only(None));
    let ended = calibrate(
        &hparams,
        &out,
        &[
            "--json",
            "--runs",
            "2",
            "--threads",
            "1",
            "--only",
            "last_update_extrapolated",
            "--only",
            ".py",
            "--variants",
            text(&own),
            "--profile",
            "tournament",
        ],
    );
    ended.expect_code(0);
    let found = ended.json().unwrap();
    let written = read(&out);
    assert_eq!(found["calibration"], written);
    assert_eq!(written["benchmark"]["steps"], 5);
    assert_eq!(written["not_found"], json!([]));
    assert_eq!(written["left_out"][0]["variant"], "broken.py");
    let evidence = written["evidence"].as_array().unwrap();
    let names: Vec<_> = evidence
        .iter()
        .map(|run| run["variant"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "baseline",
            "baseline",
            "skipped_steps/last_update_extrapolated",
            "skipped_steps/last_update_extrapolated",
            "mine.py",
            "mine.py",
        ]
    );
    let limit = |key: &str| written["limits"][key].as_f64().unwrap();
    for run in evidence {
        let update = run["update_error"].as_f64().unwrap();
        let honest = run["kind"] == "honest";
        assert_eq!(honest, update < limit("update_relative_error_max"), "{run}");
        assert!(
            honest || run["coefficient_deviation"].as_f64() > Some(0.5),
            "{run}"
        );
    }
    assert!(
        fs::read_to_string(folder.path().join("limits.svg"))
            .unwrap()
            .contains("mine.py")
    );
    assert_eq!(found["profile"], "tournament");
    let fixed = found["fixed_limits"].as_array().unwrap();
    assert!(
        fixed.iter().all(|limit| limit["beyond"] == json!([])),
        "{fixed:?}"
    );

    let judged =
        |body: &str, calibration| verify(&source("", body), Scan::Strict, &only(calibration), &[]);
    let accepted = judged(HONEST, Some(out.as_path()));
    accepted.expect_code(0);
    let report = accepted.json().unwrap();
    let check = |report: &Value, name: &str| {
        let checks = report["runs"][0]["checks"].as_array().unwrap().clone();
        checks
            .into_iter()
            .find(|check| check["name"] == name)
            .unwrap()
    };
    assert_eq!(
        check(&report, "update_relative_error")["limit"],
        written["limits"]["update_relative_error_max"]
    );
    // Each tensor has a limit of its own now.
    assert_eq!(check(&report, "tensor_update_error")["verdict"], "passed");
    let refused = judged(SKIPS_THE_LAST_UPDATE, Some(out.as_path()));
    refused.expect_code(11);
    assert_eq!(
        refused.json().unwrap()["failure"]["code"],
        "update_mismatch"
    );
    // It is the calibration that refuses it.
    judged(SKIPS_THE_LAST_UPDATE, None).expect_code(0);
}

#[test]
fn a_calibration_of_another_benchmark_is_refused_by_name() {
    let folder = TempDir::new().unwrap();
    let calibrated = shipped("crates/evaluate/calibrations/tiny.json");
    let named = |changes: Value| {
        let hparams = hparams_with(folder.path(), &changes);
        let file = shipped("baseline/train.py");
        run([
            "verify",
            text(&file),
            "--hparams",
            text(&hparams),
            "--quiet",
        ])
    };
    let other =
        named(json!({ "verification": { "calibration": calibrated.canonicalize().unwrap() } }));
    other.expect_code(20);
    assert!(
        other
            .stderr
            .contains("was made for benchmark_model_name builtin:tiny"),
        "{}",
        other.stderr
    );
    let missing = named(json!({ "verification": { "calibration": "none.json" } }));
    missing.expect_code(20);
    assert!(
        missing.stderr.contains("none.json could not be read"),
        "{}",
        missing.stderr
    );
}

#[test]
fn what_would_fall_on_another_file_or_into_no_folder_is_refused_before_anything_runs() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("kept.json");
    fs::write(&file, "kept").unwrap();
    let refused = |out: &Path, flags: &[&str], named: &str| {
        let flags: Vec<&str> = flags
            .iter()
            .copied()
            .chain(["--python", "/nonexistent"])
            .collect();
        let ended = calibrate(&mini_hparams(), out, &flags);
        ended.expect_code(2);
        assert!(ended.stderr.contains(named), "{}", ended.stderr);
    };
    let free = folder.path().join("free.json");
    refused(&file, &[], "kept.json exists");
    refused(&free, &["--svg", text(&file)], "kept.json exists");
    refused(&free, &["--svg", text(&free)], "cannot be both");
    refused(
        &folder.path().join("no/where.json"),
        &[],
        "there is no folder",
    );
    refused(
        folder.path(),
        &["--force", "--svg", text(&free)],
        "is a folder",
    );
    refused(
        &free,
        &["--only", "nothing_of_this_name"],
        "no variant has that",
    );
    refused(
        &free,
        &["--variants", text(folder.path())],
        "has no file with the suffix .py",
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
    assert!(!free.exists());
}
