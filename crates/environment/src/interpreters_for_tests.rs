//! Interpreters for tests: the machine's real one, and scripts that answer as one would.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::python;

/// A real interpreter that can make virtual environments.
pub(crate) fn real_python() -> PathBuf {
    let search_path = std::env::var_os("PATH").expect("PATH is set");
    python::find(&search_path, true)
        .expect("Python 3.10 to 3.14 with venv is on PATH")
        .executable
}

/// A virtual environment with nothing in it; its interpreter.
pub(crate) fn bare_venv(folder: &Path) -> PathBuf {
    let venv = folder.join("bare");
    let made = Command::new(real_python())
        .args(["-I", "-m", "venv", "--without-pip"])
        .arg(&venv)
        .status();
    assert!(made.unwrap().success());
    venv.join("bin/python")
}

/// A script at `path` that says it is the given version ("3, 12, 1"), and otherwise runs `otherwise`.
pub(crate) fn script(path: &Path, version: &str, makes_venvs: bool, otherwise: &str) -> PathBuf {
    let answer = format!(
        r#"{{"version": [{version}], "executable": "{}", "makes_venvs": {makes_venvs}}}"#,
        path.display()
    );
    let text =
        format!("#!/bin/sh\nif [ \"$1\" = -E ]; then echo '{answer}'; exit; fi\n{otherwise}\n");
    // Written by another process: a test that forks while this one has the file open for writing
    // would make its execution fail with "text file busy".
    let write = r#"printf '%s' "$1" > "$2" && chmod 755 "$2""#;
    let made = Command::new("/bin/sh")
        .args(["-c", write, "sh", &text])
        .arg(path)
        .status();
    assert!(made.unwrap().success());
    path.to_owned()
}
