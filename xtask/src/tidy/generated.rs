//! Files in the tree that the program itself knows the content of.

use std::error::Error;
use std::path::Path;

/// A file whose content is computed.
pub(super) struct Generated {
    /// Relative to the root.
    pub(super) path: &'static str,
    /// What it must hold.
    pub(super) content: fn() -> Result<String, Box<dyn Error>>,
}

/// Every such file.
pub(super) const FILES: &[Generated] = &[
    Generated {
        path: "schema/report.json",
        content: || Ok(crusades_evaluate::report::schema_json()?),
    },
    Generated {
        path: "docs/rules.md",
        content: || Ok(crusades_scan::rules_markdown()),
    },
    Generated {
        path: "docs/calibration-tiny.svg",
        content: || {
            let calibration = crusades_evaluate::calibration::Calibration::tiny()?;
            Ok(crusades_evaluate::distribution(&calibration))
        },
    },
];

/// Which of the files below `root` do not hold what they must; with `fix` these are rewritten.
pub(super) fn problems(files: &[Generated], root: &Path, fix: bool) -> Vec<String> {
    files
        .iter()
        .filter_map(|file| check(file, root, fix).err())
        .collect()
}

fn check(file: &Generated, root: &Path, fix: bool) -> Result<(), String> {
    let Generated { path, content } = file;
    let content = content().map_err(|error| format!("cannot generate {path}: {error}"))?;
    let full = root.join(path);
    // A file that is missing, or is no text, is as outdated as another content.
    if std::fs::read_to_string(&full).is_ok_and(|found| found == content) {
        Ok(())
    } else if fix {
        let folder = full.parent().map_or(Ok(()), std::fs::create_dir_all);
        folder
            .and_then(|()| std::fs::write(&full, content))
            .map_err(|error| format!("cannot write {path}: {error}"))
    } else {
        Err(format!(
            "{path} is not up to date; `cargo xtask tidy --fix` rewrites it"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::{Generated, problems};

    const FILES: &[Generated] = &[Generated {
        path: "docs/numbers.md",
        content: || Ok("1\n2\n".to_owned()),
    }];

    #[test]
    fn an_outdated_file_is_named_rewritten_by_fix_and_then_accepted() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("docs/numbers.md");
        for outdated in [None, Some("1\n")] {
            if let Some(content) = outdated {
                std::fs::write(&path, content).unwrap();
            }
            assert_eq!(
                problems(FILES, root.path(), false),
                ["docs/numbers.md is not up to date; `cargo xtask tidy --fix` rewrites it"]
            );
            assert_eq!(problems(FILES, root.path(), true), [""; 0]);
            assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n2\n");
            assert_eq!(problems(FILES, root.path(), false), [""; 0]);
        }
    }

    #[test]
    fn a_file_that_cannot_be_generated_or_written_is_named() {
        const BROKEN: &[Generated] = &[Generated {
            path: "x",
            content: || Err("no such table".into()),
        }];
        let root = tempfile::tempdir().unwrap();
        assert_eq!(
            problems(BROKEN, root.path(), true),
            ["cannot generate x: no such table"]
        );
        std::fs::write(root.path().join("docs"), "a file").unwrap();
        let found = problems(FILES, root.path(), true);
        assert!(
            found[0].starts_with("cannot write docs/numbers.md"),
            "{found:?}"
        );
    }
}
