//! Any bytes get a report, in bounded time, and the scanner never gives up on its own account.
#![no_main]

use std::time::{Duration, Instant};

use crusades_scan::{Policy, ScanOptions, scan};
use libfuzzer_sys::fuzz_target;

/// The promise is one second for the largest file; instrumented code is allowed more.
const LIMIT: Duration = Duration::from_secs(5);

fuzz_target!(|source: &[u8]| {
    let started = Instant::now();
    let report = scan(source, &Policy::builtin(), &ScanOptions::default());
    assert!(started.elapsed() < LIMIT, "took {:?}", started.elapsed());
    for finding in &report.findings {
        assert_ne!(finding.rule.as_str(), "CRU006", "{}", finding.message);
        assert!(finding.line >= 1 && finding.column >= 1);
    }
    assert_eq!(report.accepted(), report.error_code().is_none());
});
