//! Every claim of the threat model names a test that exists.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on must fail"
)]

use std::fs;
use std::path::Path;

/// The tests that a text names: `path::name` in backquotes.
fn named(text: &str) -> Vec<(&str, &str)> {
    text.split('`')
        .filter_map(|piece| piece.split_once("::"))
        .filter(|(path, _)| path.ends_with(".rs"))
        .collect()
}

fn exists(path: &str, name: &str) -> bool {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let text = fs::read_to_string(source).unwrap_or_default();
    text.contains(&format!("    fn {name}()")) || text.contains(&format!("\nfn {name}()"))
}

#[test]
fn every_claim_of_the_threat_model_has_its_test() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/threat-model.md");
    let text = fs::read_to_string(page).expect("the threat model");
    let claims = named(&text);
    assert!(claims.len() > 25, "{} claims", claims.len());
    let missing: Vec<_> = claims
        .iter()
        .filter(|(path, name)| !exists(path, name))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(!exists("src/log.rs", "no_such_test"));
}
