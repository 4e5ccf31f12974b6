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
    /// The number of GPUs to scan it for.
    pub(crate) num_gpus: u32,
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
                // The rule on `get_strategy` asks for one where there are several GPUs.
                num_gpus: if rule == "CRU103" { 4 } else { 1 },
            });
        }
    }
    found.extend(sized(kind));
    Ok(found)
}

/// Files of a certain size, which is all that the rule on it looks at: 500,000 bytes and no more.
fn sized(kind: &str) -> Vec<Fixture> {
    let filled = |unit: &str, bytes: usize| {
        let mut source = INNER_STEPS.to_owned();
        let rest = bytes - source.len();
        source.push_str(&unit.repeat(rest / unit.len()));
        source.push_str(&"#".repeat(rest % unit.len()));
        source
    };
    let sources = match kind {
        "refused" => vec![
            ("one_byte_too_many", filled("#", 500_001)),
            ("twice_the_size", filled("#", 1_000_000)),
            ("many_statements", filled("x = 1\n", 500_006)),
            ("blank_lines", filled("\n", 700_000)),
            ("few_characters_of_many_bytes", filled("# é\n", 500_005)),
            ("one_long_string", filled("'a' ", 510_000)),
            (
                "a_mark_at_its_beginning",
                format!("\u{feff}{}", filled("#", 499_998)),
            ),
        ],
        _ => vec![
            ("the_very_limit", filled("#", 500_000)),
            ("a_wide_margin", filled(&" ".repeat(1_000), 500_000)),
            ("comments_of_many_bytes", filled("# é\n", 499_999)),
            (
                "a_mark_at_its_beginning",
                format!("\u{feff}{}", filled("#", 499_997)),
            ),
        ],
    };
    let fixture = |(name, source)| Fixture {
        rule: "CRU002".to_owned(),
        name: format!("CRU002/{name}"),
        source,
        num_gpus: 1,
    };
    sources.into_iter().map(fixture).collect()
}
