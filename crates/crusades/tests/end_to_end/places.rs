//! Where things are: the binary, the shipped files, and hparams made for one test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_crusades");

/// The seed of every judgement that does not test seeds.
pub(crate) const SEED: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// A file below the workspace.
pub(crate) fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

/// The hparams of these tests: a model of two small layers.
pub(crate) fn mini_hparams() -> PathBuf {
    shipped("crates/crusades/tests/mini.json")
}

/// Writes a copy of the hparams to `folder`, with the values of `changes` in it; objects are merged.
pub(crate) fn hparams_with(folder: &Path, changes: &Value) -> PathBuf {
    let text = fs::read_to_string(mini_hparams()).unwrap();
    let mut hparams: Value = serde_json::from_str(&text).unwrap();
    // The copy lies elsewhere, so its paths are absolute.
    hparams["benchmark_model_name"] = json!(
        shipped("crates/crusades/tests/models/mini")
            .canonicalize()
            .unwrap()
    );
    merge(&mut hparams, changes);
    let path = folder.join("hparams.json");
    fs::write(&path, hparams.to_string()).unwrap();
    path
}

fn merge(into: &mut Value, changes: &Value) {
    match changes {
        Value::Object(changes) => {
            for (key, value) in changes {
                merge(&mut into[key], value);
            }
        }
        value => *into = value.clone(),
    }
}

/// True if submissions can be run here. Says why not, and fails where they must be.
pub(crate) fn environment_is_there() -> bool {
    static ABSENCE: OnceLock<Option<String>> = OnceLock::new();
    let absence = ABSENCE.get_or_init(|| {
        let output = Command::new(BINARY)
            .args(["env", "check", "--json"])
            .output()
            .unwrap();
        let found: Value = match serde_json::from_slice(&output.stdout) {
            Ok(found) => found,
            Err(error) => return Some(format!("`env check` printed no JSON: {error}")),
        };
        if found["environment"].is_null() {
            return Some(format!("no Python environment: {}", found["absence"]));
        }
        if found["sandbox_tier"].is_null() {
            return Some("no sandbox".to_owned());
        }
        None
    });
    let Some(absence) = absence else {
        return true;
    };
    assert!(
        std::env::var_os("CRUSADES_REQUIRE_ENVIRONMENT").is_none(),
        "CRUSADES_REQUIRE_ENVIRONMENT is set, and there is {absence}"
    );
    eprintln!("skipped: {absence}");
    false
}
