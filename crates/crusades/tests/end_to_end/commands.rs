//! The commands besides `verify`: `scan`, `bench`, `demo`.

use std::fs;

use crusades_core::Metric;
use crusades_store::Store;
use serde_json::Value;
use tempfile::TempDir;

use crate::execution::run;
use crate::places::{SEED, environment_is_there, mini_hparams, shipped};
use crate::submission::{source, text};

#[test]
fn scan_accepts_and_refuses_and_tells_of_every_file() {
    let baseline = shipped("baseline/train.py");
    let forbidden = shipped("examples/forbidden_import.py");

    let accepted = run(["scan", text(&baseline)]);
    accepted.expect_code(0);
    assert!(accepted.stdout.contains("accepted"), "{}", accepted.stdout);

    let refused = run(["scan", text(&forbidden)]);
    refused.expect_code(10);
    assert!(refused.stdout.contains("refused"), "{}", refused.stdout);

    for (files, code) in [
        (vec![&baseline, &baseline], 0),
        (vec![&baseline, &forbidden], 10),
        (vec![&forbidden, &baseline], 10),
    ] {
        let ended = run(["scan", "--json"]
            .into_iter()
            .chain(files.iter().map(|file| text(file))));
        ended.expect_code(code);
        assert!(ended.stderr.is_empty(), "{}", ended.stderr);
        let documents = ended.json().unwrap();
        let documents = documents.as_array().unwrap();
        assert_eq!(documents.len(), files.len());
        for (document, &file) in documents.iter().zip(&files) {
            assert_eq!(document["file"], text(file));
            assert_eq!(document["accepted"], file == &baseline);
            let findings = document["findings"].as_array().unwrap();
            assert_eq!(findings.is_empty(), file == &baseline);
            let code = (file == &forbidden).then_some("security_violation");
            assert_eq!(document["error_code"].as_str(), code);
        }
    }
}

#[test]
fn demo_accepts_three_and_refuses_three_for_the_right_reasons_and_keeps_them() {
    if !environment_is_there() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let database = folder.path().join("demo.db");
    let hparams = mini_hparams();
    let ended = run([
        "demo",
        "--hparams",
        text(&hparams),
        "--runs",
        "1",
        "--seed",
        SEED,
        "--db",
        text(&database),
    ]);
    ended.expect_code(0);

    let store = Store::open(&database).unwrap();
    let mut board: Vec<String> = store
        .leaderboard(Metric::Mfu, 100)
        .unwrap()
        .into_iter()
        .map(|entry| entry.name)
        .collect();
    board.sort();
    assert_eq!(board, ["baseline.py", "micro_batched.py", "prefetching.py"]);
    let refused: Vec<(String, String)> = store
        .refused()
        .unwrap()
        .into_iter()
        .map(|refusal| (refusal.name, refusal.failure.code.to_string()))
        .collect();
    let expected = [
        ("skips_last_step.py", "update_mismatch"),
        ("forged_result.py", "loss_mismatch"),
        ("forbidden_import.py", "security_violation"),
    ];
    let expected = expected.map(|(name, code)| (name.to_owned(), code.to_owned()));
    assert_eq!(refused, expected);
    for (name, _) in &refused {
        assert!(ended.stdout.contains(name), "{}", ended.stdout);
    }
}

#[test]
fn bench_compares_in_pairs() {
    if !environment_is_there() {
        return;
    }
    let (file, hparams) = (shipped("examples/prefetching.py"), mini_hparams());
    let ended = run([
        "bench",
        text(&file),
        "--hparams",
        text(&hparams),
        "--pairs",
        "2",
        "--json",
        "--quiet",
    ]);
    ended.expect_code(0);
    let comparison = ended.json().unwrap();
    let ratios = comparison["ratios"].as_array().unwrap();
    assert_eq!(ratios.len(), 2);
    assert!(ratios.iter().all(|ratio| ratio.as_f64().unwrap() > 0.0));
    for side in ["baseline", "submission"] {
        let times = comparison[side]["wall_seconds"].as_array().unwrap();
        assert_eq!(times.len(), 2, "{side}");
        assert!(positive(&comparison[side]["tokens_per_second"]), "{side}");
        assert!(positive(&comparison[side]["peak_memory_bytes"]), "{side}");
    }
}

fn positive(value: &Value) -> bool {
    value.as_f64().is_some_and(|value| value > 0.0)
}

#[test]
fn bench_of_a_submission_that_raises_fails_in_execution() {
    if !environment_is_there() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("train.py");
    fs::write(&file, source("", "raise ValueError('not today')")).unwrap();
    let hparams = mini_hparams();
    let ended = run([
        "bench",
        text(&file),
        "--hparams",
        text(&hparams),
        "--pairs",
        "1",
        "--quiet",
    ]);
    ended.expect_code(12);
    assert!(ended.stdout.is_empty(), "{}", ended.stdout);
    assert!(ended.stderr.contains("not today"), "{}", ended.stderr);
}
