//! How text files are written: no blanks at the end of a line, no tabs in sources, and what a crate
//! is at the top of it.

use std::path::Path;

use crate::workspace::{Package, TextFile};

/// What is wrong in these files, of which the crates' first ones must be part.
pub(super) fn problems(files: &[TextFile], packages: &[Package]) -> Vec<String> {
    let mut problems = Vec::new();
    for file in files.iter().filter(|file| !is_fixture(&file.path)) {
        problems.extend(lines(file));
    }
    let roots = packages
        .iter()
        .flat_map(|package| &package.targets)
        .filter_map(|target| target.crate_root());
    for root in roots {
        let file = files.iter().find(|file| file.path == root);
        if !file.is_some_and(|file| file.content.starts_with("//!")) {
            problems.push(format!(
                "{}:1: does not begin with `//!` and what the crate is",
                root.display()
            ));
        }
    }
    problems
}

/// The input of a test may hold anything: it lies in a folder `fixtures`.
fn is_fixture(path: &Path) -> bool {
    path.iter().any(|part| part == "fixtures")
}

fn lines(file: &TextFile) -> impl Iterator<Item = String> {
    let no_tabs = file.has_extension(&["rs", "py"]);
    file.content
        .split('\n')
        .zip(1..)
        .filter_map(move |(line, number)| {
            let problem = if line.ends_with(char::is_whitespace) {
                "ends with a blank"
            } else if no_tabs && line.contains('\t') {
                "has a tab"
            } else {
                return None;
            };
            Some(format!("{}:{number}: {problem}", file.path.display()))
        })
}

#[cfg(test)]
mod tests {
    use super::problems;
    use crate::workspace::{Package, TextFile};

    fn file(path: &str, content: &str) -> TextFile {
        TextFile {
            path: path.into(),
            content: content.to_owned(),
        }
    }

    fn check(path: &str, content: &str) -> Vec<String> {
        problems(&[file(path, content)], &[])
    }

    #[test]
    fn a_blank_at_the_end_of_a_line_is_found_in_every_text_file() {
        assert_eq!(check("a.md", "x\ny \n"), ["a.md:2: ends with a blank"]);
        assert_eq!(check("a.toml", "x\t\n"), ["a.toml:1: ends with a blank"]);
        assert_eq!(check("a.txt", "x\r\n"), ["a.txt:1: ends with a blank"]);
        assert_eq!(check("a.md", "x\n\n  y\n"), [""; 0]);
        assert_eq!(check("empty", ""), [""; 0]);
    }

    #[test]
    fn a_tab_is_found_in_rust_and_python_and_allowed_elsewhere() {
        assert_eq!(check("a/b.rs", "//! x\n\tx\n"), ["a/b.rs:2: has a tab"]);
        assert_eq!(check("b.py", "x\ty\n"), ["b.py:1: has a tab"]);
        assert_eq!(check("b.tsv", "x\ty\n"), [""; 0]);
        assert_eq!(check("b.py", "    x = \"\\t\"\n"), [""; 0]);
    }

    #[test]
    fn fixtures_may_hold_anything() {
        assert_eq!(check("tests/fixtures/b.py", "if x:\n\ty \n"), [""; 0]);
    }

    #[test]
    fn a_crate_says_what_it_is_in_its_first_line() {
        let json = serde_json::json!({
            "name": "a", "manifest_path": "", "dependencies": [],
            "targets": [
                {"kind": ["lib"], "src_path": "a/src/lib.rs"},
                {"kind": ["test"], "src_path": "a/tests/t.rs"},
            ],
        });
        let packages: Vec<Package> = vec![serde_json::from_value(json).unwrap()];
        let told = [
            file("a/src/lib.rs", "//! A crate.\n"),
            file("a/tests/t.rs", "use a;\n"),
        ];
        assert_eq!(problems(&told, &packages), [""; 0]);
        let untold = [file("a/src/lib.rs", "mod x;\n//! A crate.\n")];
        assert_eq!(problems(&untold, &packages).len(), 1);
        assert_eq!(problems(&[], &packages).len(), 1);
    }
}
