//! Every fixture is judged as its place says, every rule has enough of them, and honest
//! submissions give no finding.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crusades_scan::{Policy, ScanOptions, ScanReport, render, rules, scan};

mod corpus;

use corpus::fixtures;

/// The rule on faults of the scanner itself, which no file is known to provoke; the unit tests of
/// the library have its six refused and four accepted cases.
const WITHOUT_FIXTURES: &str = "CRU006";

fn scan_for(source: &str, num_gpus: u32) -> ScanReport {
    let options = ScanOptions {
        num_gpus,
        ..ScanOptions::default()
    };
    scan(source.as_bytes(), &Policy::builtin(), &options)
}

fn scan_text(source: &str) -> ScanReport {
    scan_for(source, 1)
}

fn shown(report: &ScanReport, source: &str, name: &str) -> String {
    render::findings(report, source, name, false)
}

#[test]
fn refused_fixtures_are_refused_by_their_rule() {
    let mut wrong = String::new();
    for fixture in fixtures("refused").unwrap() {
        let report = scan_for(&fixture.source, fixture.num_gpus);
        if !report
            .findings
            .iter()
            .any(|finding| finding.rule.as_str() == fixture.rule)
        {
            wrong.push_str(&format!(
                "{} is not refused by its rule\n{}",
                fixture.name,
                shown(&report, &fixture.source, &fixture.name)
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn accepted_fixtures_are_accepted() {
    let mut wrong = String::new();
    for fixture in fixtures("accepted").unwrap() {
        let report = scan_for(&fixture.source, fixture.num_gpus);
        if !report.accepted() {
            wrong.push_str(&shown(&report, &fixture.source, &fixture.name));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn every_rule_has_at_least_six_refused_and_four_accepted_fixtures() {
    let count = |kind: &str| {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for fixture in fixtures(kind).unwrap() {
            *counts.entry(fixture.rule).or_default() += 1;
        }
        counts
    };
    let (refused, accepted) = (count("refused"), count("accepted"));
    for rule in rules() {
        let id = rule.id.as_str();
        if id == WITHOUT_FIXTURES {
            continue;
        }
        assert!(
            refused.get(id).is_some_and(|&count| count >= 6),
            "{id}: refused"
        );
        assert!(
            accepted.get(id).is_some_and(|&count| count >= 4),
            "{id}: accepted"
        );
    }
}

#[test]
fn honest_submissions_are_accepted() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/honest");
    let mut count = 0;
    let mut wrong = String::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let source = fs::read_to_string(&path).unwrap();
        let report = scan_text(&source);
        if !report.accepted() {
            wrong.push_str(&shown(&report, &source, &path.display().to_string()));
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(count >= 25, "{count} honest submissions");
}

#[test]
fn the_example_of_every_rule_is_refused_by_it() {
    for rule in rules() {
        let id = rule.id.as_str();
        // An example that is a sketch of something large, or that there is none of.
        if ["CRU002", "CRU005", "CRU603", WITHOUT_FIXTURES].contains(&id) {
            continue;
        }
        let report = scan_for(rule.example, if id == "CRU103" { 2 } else { 1 });
        assert!(
            report
                .findings
                .iter()
                .any(|finding| finding.rule == rule.id),
            "{id}\n{}",
            shown(&report, rule.example, id)
        );
    }
}
