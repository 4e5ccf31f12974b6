//! The corpus of submissions whose verdicts are known: a few of them here, all by the command itself.

use std::fs;

use serde_json::json;
use tempfile::TempDir;

use crate::execution::run;
use crate::places::{environment_is_there, hparams_with, shipped};
use crate::submission::text;

/// Few tokens on the shipped model, which is large enough not to be asked for whole.
fn rules(folder: &TempDir) -> String {
    let changes = json!({ "benchmark_model_name": "builtin:tiny" });
    text(&hparams_with(folder.path(), &changes)).to_owned()
}

#[test]
fn honest_ones_are_accepted_and_cheats_are_refused_with_the_scan_off() {
    if !environment_is_there() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let corpus = shipped("corpus");
    let rules = rules(&folder);
    let chosen = [
        "micro_batch_2",
        "loss_fused_linear",
        "skipped_steps/last_update.py",
        // The sample alone would not find these.
        "where_asked",
        "printed_result",
    ];
    let mut arguments = vec!["corpus", "run", "--dir", text(&corpus), "--hparams", &rules];
    arguments.extend(["--threads", "1", "--jobs", "2", "--json", "--quiet"]);
    arguments.extend(chosen.iter().flat_map(|name| ["--only", name]));
    let ended = run(arguments);
    ended.expect_code(0);
    let results = ended.json().unwrap();
    let submissions = results["submissions"].as_array().unwrap();
    assert_eq!(submissions.len(), 6, "{results}");
    let of = |family: &str, key: &str| {
        let families = results["families"].as_array().unwrap();
        let found = families.iter().find(|found| found["name"] == family);
        found.unwrap()[key].clone()
    };
    assert_eq!(of("honest", "accepted"), 2);
    assert!(of("honest", "largest_accepted").as_f64().unwrap() < 0.5);
    assert_eq!(of("deferral", "refused"), 2);
    assert!(of("deferral", "smallest_refused").as_f64().unwrap() > 2.0);
}

#[test]
fn a_verdict_that_is_not_the_expected_one_is_named() {
    if !environment_is_there() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let corpus = folder.path().join("corpus");
    fs::create_dir(&corpus).unwrap();
    fs::copy(shipped("baseline/train.py"), corpus.join("train.py")).unwrap();
    let list = "[[submission]]\nfile = \"train.py\"\nfamily = \"skipped_steps\"\nsummary = \"none\"\n\
                scan = \"refused\"\nverdict = [\"update_mismatch\"]\n";
    fs::write(corpus.join("expectations.toml"), list).unwrap();
    let rules = text(&hparams_with(folder.path(), &json!({}))).to_owned();
    let ended = run(["corpus", "run", "--dir", text(&corpus), "--hparams", &rules]);
    ended.expect_code(20);
    assert!(
        ended
            .stderr
            .contains("1 of 1 submissions did not end as expected")
    );
    assert!(
        ended.stderr.contains("train.py: NOT AS EXPECTED, accepted"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_folder_that_is_no_corpus_is_named_in_one_line() {
    let folder = TempDir::new().unwrap();
    let ended = run(["corpus", "run", "--dir", text(folder.path())]);
    ended.expect_code(2);
    assert!(
        ended.stderr.contains("is no corpus of submissions"),
        "{}",
        ended.stderr
    );
    assert!(
        ended.stderr.contains("expectations.toml could not be read"),
        "{}",
        ended.stderr
    );
}
