//! What a submission prints changes its log and nothing else.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::execution::run_with;
use crate::places::{environment_is_there, mini_hparams};
use crate::submission::{HONEST, Scan, source, text, verify};

/// Prints of every kind, on both streams, whenever the module can.
const NOISE: &str = r#"
import atexit, os, sys


def make_noise():
    frame = b'{"type":"answer","nonce":"0","logit_rows":0,"tensors":[],"trainable_parameters":0}'
    for stream in (1, 2):
        os.write(stream, len(frame).to_bytes(4, "little") + frame)
        os.write(stream, bytes(range(256)) * 20)
    for stream in (sys.stdout, sys.stderr):
        print('{"outcome": "accepted", "score": {"metric": "mfu", "value": 99.9}}', file=stream)
        print("\x1b[2J\x1b[H\x1b[32mAccepted: 99.99 % MFU\x1b[0m\r\x07", file=stream)
        print("error: the validator must pay\nWarmed up in 0.0 s", file=stream)
        print("\u202eright to left \U0001f600", file=stream)
        stream.flush()


class Noisy:
    def __del__(self):
        make_noise()


noisy = Noisy()
atexit.register(make_noise)
make_noise()
"#;

const NOISY_BODY: &str = r#"
noisy = Noisy()
make_noise()
for line in range(10_000):
    print("EVALUATION RESULT: success mfu=74.9", line)
return train(model, data_iterator, optimizer, num_steps)
"#;

/// The report without what differs between any two judgements of the same training: times, rates,
/// the log, and the file itself.
fn timeless(report: &Value) -> Value {
    let mut report = report.clone();
    for key in ["phases", "log", "submission", "summary"] {
        report[key].take();
    }
    report["score"]["value"].take();
    for run in report["runs"].as_array_mut().unwrap() {
        for key in [
            "wall_seconds",
            "tokens_per_second",
            "mfu",
            "usage",
            "phases",
        ] {
            run[key].take();
        }
        for check in run["checks"].as_array_mut().unwrap() {
            let timed = [
                "timers_agree",
                "plausible_mfu",
                "mfu_floor",
                "machine_quiet",
            ];
            if timed.iter().any(|name| check["name"] == *name) {
                check["measured"].take();
                check["measured_text"].take();
            }
        }
    }
    report
}

#[test]
fn a_submission_that_prints_anything_at_any_time_changes_only_its_log() {
    if !environment_is_there() {
        return;
    }
    let silent = verify(&source("", HONEST), Scan::Permissive, &json!({}), &[]);
    silent.expect_code(0);
    let noisy = verify(
        &source(NOISE, NOISY_BODY),
        Scan::Permissive,
        &json!({}),
        &[],
    );
    noisy.expect_code(0);
    let (silent, noisy) = (silent.json().unwrap(), noisy.json().unwrap());
    assert_eq!(timeless(&silent), timeless(&noisy));
    assert_eq!(silent["log"]["total_bytes"], 0);
    let log = noisy["log"]["text"].as_str().unwrap();
    assert!(log.contains("the validator must pay"));
    assert!(noisy["log"]["total_bytes"].as_u64().unwrap() > 400_000);
}

#[test]
fn a_submission_cannot_steer_the_terminal_of_whoever_judges_it() {
    if !environment_is_there() {
        return;
    }
    // The exception's text reaches headlines, causes and tracebacks.
    let body = "raise ValueError('\\x1b[2J\\x1b[32mAccepted\\x1b]0;title\\x07 \\u202e red\\r')";
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("train.py");
    fs::write(&file, source("", body)).unwrap();
    for (command, count) in [("verify", "--runs"), ("bench", "--pairs")] {
        let hparams = mini_hparams();
        let ended = run_with(
            [
                command,
                text(&file),
                "--hparams",
                text(&hparams),
                count,
                "1",
            ],
            |command| {
                // As on a terminal, where the program's own colours are passed on.
                command.env_remove("NO_COLOR").env("CLICOLOR_FORCE", "1");
            },
        );
        ended.expect_code(12);
        for hostile in ["\x1b[2J", "\x1b]", "\x07", "\r", "\u{202e}"] {
            assert!(
                !ended.stdout.contains(hostile) && !ended.stderr.contains(hostile),
                "{command}: {hostile:?} in {:?} {:?}",
                ended.stdout,
                ended.stderr
            );
        }
    }
}

#[test]
fn what_a_worker_says_of_a_failure_takes_little_room_in_the_report() {
    if !environment_is_there() {
        return;
    }
    // Past the worker's own bounds, which the submission can take away.
    let body = r#"
body = json.dumps({"type": "failed", "kind": "raised", "message": "x" * 2_000_000,
                   "traceback": "y" * 1_000_000}).encode()
frame = struct.pack("<I", len(body)) + body
while frame:
    frame = frame[os.write(3, frame):]
time.sleep(1000)
"#;
    let source = source("import json, os, struct, time", body);
    let ended = verify(&source, Scan::Permissive, &json!({}), &[]);
    ended.expect_code(12);
    assert!(
        ended.stdout.len() < 200_000,
        "the report has {} bytes",
        ended.stdout.len()
    );
}
