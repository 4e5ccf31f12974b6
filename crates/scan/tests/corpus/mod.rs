//! Reads the fixtures: small files that a rule refuses or accepts.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What is appended to a fixture that does not define `inner_steps` itself.
const INNER_STEPS: &str =
    "def inner_steps(model, data_iterator, optimizer, num_steps, device):\n    return None\n";

/// One fixture.
#[derive(Debug)]
pub(crate) struct Fixture {
    /// The rule it is about; empty for honest submissions.
    pub(crate) rule: String,
    /// Rule and file name.
    pub(crate) name: String,
    /// The text to scan.
    pub(crate) source: String,
}

fn sorted(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(directory)?
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<Vec<PathBuf>>>()?;
    paths.sort();
    Ok(paths)
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// All fixtures of one kind: `refused` or `accepted`.
pub(crate) fn fixtures(kind: &str) -> io::Result<Vec<Fixture>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(kind);
    let mut found = Vec::new();
    for directory in sorted(&root)? {
        let rule = file_name(&directory);
        for path in sorted(&directory)? {
            let mut source = fs::read_to_string(&path)?;
            // These rules are about the file as a whole, so that it must stay as it is.
            let is_whole = matches!(rule.as_str(), "CRU101" | "CRU102")
                || (rule == "CRU001" && kind == "refused");
            if !is_whole {
                source.push_str(INNER_STEPS);
            }
            found.push(Fixture {
                name: format!("{rule}/{}", file_name(&path)),
                rule: rule.clone(),
                source,
            });
        }
    }
    Ok(found)
}
