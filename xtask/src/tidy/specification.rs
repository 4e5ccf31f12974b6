//! `SPECIFICATION.md`: a promise names the test that keeps it, or says that there is none yet.
//!
//! A promise is a row of a table. Its last cell names tests in backticks, as
//! `crates/x/tests/y.rs::name` or `crate_name::module::name`, or begins with `pending`.

use std::path::{Path, PathBuf};

use crate::workspace::{Package, TextFile};

/// The file, relative to the root.
const PATH: &str = "SPECIFICATION.md";

/// What is wrong with the specification among these files.
pub(super) fn problems(files: &[TextFile], packages: &[Package]) -> Vec<String> {
    let Some(file) = files.iter().find(|file| file.path == Path::new(PATH)) else {
        return vec![format!("{PATH} is missing")];
    };
    let rows = rows(&file.content);
    if rows.is_empty() {
        return vec![format!("{PATH} has no row of a table")];
    }
    rows.iter()
        .flat_map(|row| {
            let found = row_problems(row, files, packages);
            let line = row.line;
            found
                .into_iter()
                .map(move |it| format!("{PATH}:{line}: {it}"))
        })
        .collect()
}

/// One row below the head of a table.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    /// From 1.
    line: usize,
    /// The text of the last cell.
    last_cell: String,
}

/// The rows of all tables that are not part of a code block.
fn rows(text: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut in_code = false;
    let mut in_body = false;
    for (line, number) in text.lines().map(str::trim).zip(1..) {
        if line.starts_with("```") {
            in_code = !in_code;
        }
        let Some(inner) = line.strip_prefix('|').filter(|_| !in_code) else {
            in_body = false;
            continue;
        };
        let inner = inner.strip_suffix('|').unwrap_or(inner);
        if is_rule(inner) {
            in_body = true;
        } else if in_body {
            rows.push(Row {
                line: number,
                last_cell: last_cell(inner).to_owned(),
            });
        }
    }
    rows
}

/// True for the line between the head and the body of a table.
fn is_rule(line: &str) -> bool {
    line.contains('-') && line.chars().all(|it| matches!(it, '-' | ':' | '|' | ' '))
}

/// What stands behind the last `|` that is not escaped as `\|`.
fn last_cell(row: &str) -> &str {
    let mut separators = row.match_indices('|').map(|(at, _)| at);
    let last = separators.rfind(|at| !row[..*at].ends_with('\\'));
    row[last.map_or(0, |at| at + 1)..].trim()
}

fn row_problems(row: &Row, files: &[TextFile], packages: &[Package]) -> Vec<String> {
    let references: Vec<&str> = row
        .last_cell
        .split('`')
        // Every second part stands between backticks.
        .skip(1)
        .step_by(2)
        .collect();
    if references.is_empty() && !row.last_cell.starts_with("pending") {
        return vec!["the last cell names no test, and does not say `pending`".to_owned()];
    }
    references
        .into_iter()
        .filter_map(|reference| resolve(reference, files, packages).err())
        .collect()
}

/// Finds the test that is referred to.
fn resolve(reference: &str, files: &[TextFile], packages: &[Package]) -> Result<(), String> {
    let (place, name) = reference
        .rsplit_once("::")
        .ok_or_else(|| format!("`{reference}` is not of the form `place::test`"))?;
    // The file, or the folder of the crate, in which the test has to be.
    let searched = if place.contains('/') {
        PathBuf::from(place)
    } else {
        crate_folder(place, packages)
            .ok_or_else(|| format!("`{reference}` begins with no crate of the workspace"))?
    };
    let mut files = files.iter().filter(|file| file.path.starts_with(&searched));
    if files.any(|file| has_test(file, name)) {
        Ok(())
    } else {
        Err(format!(
            "`{reference}`: there is no such test in {}",
            searched.display()
        ))
    }
}

/// The folder of the crate that a path of modules begins with.
fn crate_folder(modules: &str, packages: &[Package]) -> Option<PathBuf> {
    let name = modules.split("::").next()?;
    packages
        .iter()
        .find(|package| package.name.replace('-', "_") == name)
        .map(Package::folder)
}

/// True if a function of this name is a test.
fn has_test(file: &TextFile, name: &str) -> bool {
    if file.has_extension(&["py"]) {
        let definition = format!("def {name}(");
        let mut lines = file.content.lines().map(str::trim_start);
        return name.starts_with("test") && lines.any(|line| line.starts_with(&definition));
    }
    let definition = format!("fn {name}(");
    let lines: Vec<&str> = file.content.lines().map(str::trim_start).collect();
    let defined = lines
        .iter()
        .position(|line| line.starts_with(&definition) && file.has_extension(&["rs"]));
    defined.is_some_and(|at| {
        // Attributes and comments stand directly above.
        lines[..at]
            .iter()
            .rev()
            .take_while(|line| line.starts_with("#[") || line.starts_with("//"))
            .any(|line| line.starts_with("#[test]"))
    })
}

#[cfg(test)]
mod tests {
    use super::{last_cell, problems, rows};
    use crate::workspace::{Package, TextFile};

    const SOURCE: &str = "
        #[test]
        // Why.
        fn zero_is_zero() {}

        fn helper() {}
    ";

    /// The problems of a specification with this last cell.
    fn check(cell: &str) -> Vec<String> {
        check_text(&format!("| promise | test |\n|---|:--|\n| a | {cell} |\n"))
    }

    fn check_text(specification: &str) -> Vec<String> {
        let file = |path: &str, content: &str| TextFile {
            path: path.into(),
            content: content.to_owned(),
        };
        let files = [
            file("SPECIFICATION.md", specification),
            file("crates/core/src/zero.rs", SOURCE),
            file("crates/core/tests/zero.rs", SOURCE),
            file("worker/test_zero.py", "def test_zero():\n    pass\n"),
        ];
        let root = crate::workspace::root();
        let json = serde_json::json!({
            "name": "crusades-core",
            "manifest_path": root.join("crates/core/Cargo.toml"),
            "dependencies": [],
            "targets": [],
        });
        let packages: Vec<Package> = vec![serde_json::from_value(json).unwrap()];
        problems(&files, &packages)
    }

    #[test]
    fn a_row_that_names_a_test_or_is_pending_is_accepted() {
        for cell in [
            "`crates/core/tests/zero.rs::zero_is_zero`",
            "`crusades_core::zero::zero_is_zero`",
            "`crusades_core::zero_is_zero`, `worker/test_zero.py::test_zero`",
            "pending",
            "pending: needs an accelerator",
        ] {
            assert_eq!(check(cell), [""; 0], "{cell}");
        }
    }

    #[test]
    fn a_row_that_names_no_test_that_exists_is_refused() {
        for (cell, problem) in [
            (
                "",
                "the last cell names no test, and does not say `pending`",
            ),
            (
                "zero_is_zero",
                "the last cell names no test, and does not say `pending`",
            ),
            ("`zero`", "`zero` is not of the form `place::test`"),
            (
                "`crates/core/tests/one.rs::zero_is_zero`",
                "`crates/core/tests/one.rs::zero_is_zero`: there is no such test in crates/core/tests/one.rs",
            ),
            (
                "`crusades_core::zero::one_is_one`",
                "`crusades_core::zero::one_is_one`: there is no such test in crates/core",
            ),
            (
                "`crusades_core::zero::helper`",
                "`crusades_core::zero::helper`: there is no such test in crates/core",
            ),
            (
                "`crusades_scan::zero_is_zero`",
                "`crusades_scan::zero_is_zero` begins with no crate of the workspace",
            ),
            (
                "pending, but `crusades_core::zero::gone`",
                "`crusades_core::zero::gone`: there is no such test in crates/core",
            ),
        ] {
            assert_eq!(
                check(cell),
                [format!("SPECIFICATION.md:3: {problem}")],
                "{cell}"
            );
        }
    }

    #[test]
    fn a_specification_without_promises_is_refused() {
        assert_eq!(check_text("# Promises\n").len(), 1);
        assert_eq!(problems(&[], &[]), ["SPECIFICATION.md is missing"]);
    }

    #[test]
    fn rows_are_those_below_the_head_of_a_table_and_outside_of_code() {
        let text = "\
            | head | test |\n\
            | --- | --- |\n\
            | a | b |\n\
            \n\
            | not a table |\n\
            ```\n\
            | --- |\n\
            | code |\n\
            ```\n\
            | head |\n\
            |:-:|\n\
            | c\n";
        let found: Vec<_> = rows(text)
            .into_iter()
            .map(|row| (row.line, row.last_cell))
            .collect();
        assert_eq!(found, [(3, "b".to_owned()), (12, "c".to_owned())]);
    }

    #[test]
    fn an_escaped_bar_does_not_end_a_cell() {
        assert_eq!(last_cell(r" a | b \| c "), r"b \| c");
        assert_eq!(last_cell(r" \|x\| "), r"\|x\|");
    }
}
