//! What the scan says of every submission of the project's corpus.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::path::Path;

use crusades_evaluate::trial::{self, HONEST, ScanVerdict};
use crusades_evaluate::{Submission, scan};
use crusades_scan::Policy;

#[test]
fn every_submission_of_the_corpus_meets_the_scan_as_expected() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../corpus");
    let cases = trial::read(&folder).unwrap();
    let count = |honest: bool| {
        let of_kind = |case: &&trial::Case| (case.expected.family == HONEST) == honest;
        cases.iter().filter(of_kind).count()
    };
    assert!(count(true) >= 30 && count(false) >= 60);
    let policy = Policy::builtin();
    let mut surprises = Vec::new();
    for case in &cases {
        let file = case.expected.file.to_string_lossy();
        let submission = Submission {
            file: &file,
            source: &case.source,
            length: case.source.len() as u64,
        };
        let scanned = scan(submission, &policy, 1);
        let found = ScanVerdict::of(&scanned);
        let first = scanned.findings.first();
        if found != case.expected.scan {
            surprises.push(format!("{file}: {found:?}, {first:?}"));
        }
    }
    assert!(surprises.is_empty(), "{surprises:#?}");
}
