//! Runs on a machine that does something else meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::json;

use crate::places::environment_is_there;
use crate::submission::{HONEST, Scan, source, verify};

#[test]
fn a_disturbed_run_is_repeated_by_a_worker_that_has_not_seen_its_data() {
    if !environment_is_there() {
        return;
    }
    // Counts its calls: the warm-up is the first, the timed run the second.
    let body = format!("calls.append(1)\nprint(f'call {{len(calls)}} of this worker')\n{HONEST}");
    let source = source("calls = []", &body);
    let judged = |share: f64| {
        let changes = json!({"disturbance": {"max_foreign_cpu_share": share, "max_repeats": 1}});
        verify(&source, Scan::Strict, &changes, &[])
    };

    let done = AtomicBool::new(false);
    let disturbed = thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let ended = judged(0.0);
        done.store(true, Ordering::Relaxed);
        ended
    });
    disturbed.expect_code(20);
    let report = disturbed.json().unwrap();
    assert_eq!(report["failure"]["reason"], "machine_disturbed", "{report}");
    assert_eq!(report["runs"][0]["repeats"], 1, "{report}");
    let log = report["log"]["text"].as_str().unwrap();
    assert_eq!(log.matches("call 2 of this worker").count(), 2, "{log}");
    assert!(!log.contains("call 3"), "{log}");

    let undisturbed = judged(1.0);
    undisturbed.expect_code(0);
    let report = undisturbed.json().unwrap();
    assert_eq!(report["runs"][0]["repeats"], 0, "{report}");
}
