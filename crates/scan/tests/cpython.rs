//! The parser reads what CPython reads: the files of the standard library of the machine's Python
//! get the same verdict from both. Of CPython's own tests only the small files are read, for time.

use std::fs;
use std::path::Path;
use std::process::Command;

use ruff_python_parser::parse_module;

/// Prints `1` or `0` and the path of every file: whether `ast.parse` takes it.
const PYTHON: &str = "
import ast, os, sysconfig, warnings
warnings.simplefilter('ignore')
root = sysconfig.get_paths()['stdlib']
for folder, folders, files in os.walk(root):
    folders[:] = sorted(set(folders) - {'site-packages', 'dist-packages', '__pycache__'})
    for file in sorted(files):
        path = os.path.join(folder, file)
        if not file.endswith('.py') or '\\n' in path:
            continue
        if os.sep + 'test' in folder and os.path.getsize(path) > 12_000:
            continue
        text = open(path, 'rb').read()
        try:
            text.decode('utf-8')
        except UnicodeDecodeError:
            continue
        try:
            ast.parse(text)
            verdict = 1
        except (SyntaxError, ValueError):
            verdict = 0
        print(verdict, path)
";

/// Files on which the two may differ, by the end of their path, and why.
const EXPECTED_DIFFERENCES: &[(&str, &str)] = &[
    (
        "tokenizedata/bad_coding.py",
        "an encoding declaration, which the scan refuses before it parses",
    ),
    (
        "tokenizedata/bad_coding2.py",
        "an encoding declaration, which the scan refuses before it parses",
    ),
];

#[test]
fn every_file_of_the_standard_library_gets_the_same_verdict_as_from_cpython() {
    let output = match Command::new("python3").args(["-c", PYTHON]).output() {
        Ok(output) if output.status.success() => output,
        Ok(output) => {
            println!("skipped: python3 failed with {}", output.status);
            return;
        }
        Err(error) => {
            println!("skipped: no python3 to compare with: {error}");
            return;
        }
    };
    let listing = String::from_utf8(output.stdout).unwrap();
    let (mut files, mut bytes, mut refused_by_both) = (0, 0, 0);
    let mut differences = Vec::new();
    for line in listing.lines() {
        let (verdict, path) = line.split_once(' ').unwrap();
        let Ok(text) = fs::read_to_string(Path::new(path)) else {
            continue;
        };
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        files += 1;
        bytes += text.len();
        let parsed = parse_module(text);
        let accepted_by_cpython = verdict == "1";
        if parsed.is_ok() == accepted_by_cpython {
            refused_by_both += usize::from(!accepted_by_cpython);
            continue;
        }
        let expected = EXPECTED_DIFFERENCES
            .iter()
            .find(|(end, _)| path.ends_with(end));
        match expected {
            Some((_, why)) => println!("differs as expected: {path}: {why}"),
            None => differences.push(match parsed {
                Ok(_) => format!("{path}: refused by CPython only"),
                Err(error) => format!("{path}: refused by the parser only: {error}"),
            }),
        }
    }
    println!("{files} files, {bytes} bytes, {refused_by_both} refused by both");
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert!(files > 500, "{files} files are no standard library");
}
