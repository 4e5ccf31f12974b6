//! The same seed is the same judgement, bit for bit; another seed is another one.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::execution::run;
use crate::places::{environment_is_there, mini_hparams, shipped};
use crate::submission::text;
use crate::table::schema_faults;
use crate::traces::names_in;

fn baseline(flags: &[&str]) -> Value {
    let file = shipped("baseline/train.py");
    let hparams = mini_hparams();
    let arguments = ["verify", text(&file), "--hparams", text(&hparams)];
    let ended = run(arguments
        .into_iter()
        .chain(["--json", "--quiet"])
        .chain(flags.iter().copied()));
    ended.expect_code(0);
    assert!(ended.stderr.is_empty(), "{}", ended.stderr);
    let report = ended.json().unwrap();
    assert_eq!(schema_faults(&report), Vec::<String>::new());
    report
}

/// What has to be the same whenever the seed is.
fn fixed_by_the_seed(report: &Value) -> Value {
    let runs: Vec<Value> = report["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| {
            json!({
                "seed": run["seed"],
                "loss": run["loss"],
                "reference_loss": run["reference_loss"],
                "outputs_digest": run["outputs_digest"],
            })
        })
        .collect();
    json!({ "plan": report["plan"], "runs": runs })
}

#[test]
fn a_seed_fixes_plan_outputs_and_losses_and_the_baseline_agrees_with_itself() {
    if !environment_is_there() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let kept = folder.path().join("kept");
    let first = baseline(&["--keep", text(&kept)]);
    let seed = first["plan"]["seed"].as_str().unwrap();
    let again = baseline(&["--seed", seed]);
    assert_eq!(fixed_by_the_seed(&first), fixed_by_the_seed(&again));

    let other = baseline(&["--seed", &"5".repeat(64), "--runs", "1"]);
    for part in ["seed", "loss", "reference_loss", "outputs_digest"] {
        assert_ne!(first["runs"][0][part], other["runs"][0][part], "{part}");
    }
    for part in ["seed", "initial_state_digest"] {
        assert_ne!(first["plan"][part], other["plan"][part], "{part}");
    }

    let runs = first["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 2);
    assert_ne!(runs[0]["outputs_digest"], runs[1]["outputs_digest"]);
    for run in runs {
        let checks = run["checks"].as_array().unwrap();
        let update = checks
            .iter()
            .find(|check| check["name"] == "update_relative_error")
            .unwrap();
        assert!(update["measured"].as_f64().unwrap() <= 1e-4, "{update}");
    }

    // What was kept is what was printed, and the code that ran.
    let names = names_in(&kept);
    for name in ["report.json", "hparams.json", "code_that_ran.py", "log.txt"] {
        assert!(names.contains(name), "{name} is not in {names:?}");
    }
    let report: Value =
        serde_json::from_slice(&fs::read(kept.join("report.json")).unwrap()).unwrap();
    assert_eq!(report, first);
}

#[test]
fn a_judgement_can_be_repeated_from_what_was_kept() {
    if !environment_is_there() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let kept = folder.path().join("kept");
    let first = baseline(&["--keep", text(&kept), "--runs", "1"]);
    let mut hparams: Value =
        serde_json::from_slice(&fs::read(kept.join("hparams.json")).unwrap()).unwrap();
    assert_eq!(hparams["evaluation_runs"], 1, "as they were used");
    // Paths in them start at the folder of the file that they came from.
    hparams["benchmark_model_name"] = json!(
        shipped("crates/crusades/tests/models/mini")
            .canonicalize()
            .unwrap()
    );
    let repeated = folder.path().join("hparams.json");
    fs::write(&repeated, hparams.to_string()).unwrap();
    let ended = run([
        "verify",
        text(&kept.join("code_that_ran.py")),
        "--hparams",
        text(&repeated),
        "--seed",
        first["plan"]["seed"].as_str().unwrap(),
        "--json",
        "--quiet",
    ]);
    ended.expect_code(0);
    let again = ended.json().unwrap();
    assert_eq!(
        again["runs"][0]["outputs_digest"],
        first["runs"][0]["outputs_digest"]
    );
}
