//! Finding a Python interpreter to make an environment with.
//!
//! An interpreter is never trusted by its name: it is run once and asked what it is.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::child::{self, ChildError};

/// Oldest series that the worker and its packages run on.
pub(crate) const OLDEST_SERIES: (u32, u32) = (3, 10);

/// Newest series for which the lock has wheels.
pub(crate) const NEWEST_SERIES: (u32, u32) = (3, 14);

fn dotted(series: (u32, u32)) -> String {
    format!("{}.{}", series.0, series.1)
}

/// "3.10 to 3.14", for messages.
pub(crate) fn locked_range() -> String {
    format!("{} to {}", dotted(OLDEST_SERIES), dotted(NEWEST_SERIES))
}

/// Names looked for on PATH, best first: the series that most wheels are tested with, then whatever
/// the machine calls its Python.
const NAMES: [&str; 6] = [
    "python3.13",
    "python3.12",
    "python3.11",
    "python3.10",
    "python3.14",
    "python3",
];

/// Longest time that an interpreter has to say what it is.
const QUESTION_LIMIT: Duration = Duration::from_secs(60);

/// Must run on every Python since 2.7, so that an old one is named and not merely said to fail.
const QUESTION: &str = r#"
import json, sys
try:
    import ensurepip, venv
    makes_venvs = True
except ImportError:
    makes_venvs = False
print(json.dumps({"version": list(sys.version_info[:3]), "executable": sys.executable,
                  "makes_venvs": makes_venvs}))
"#;

/// A version of Python.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct PythonVersion {
    major: u32,
    minor: u32,
    patch: u32,
}

impl PythonVersion {
    /// The version `major.minor.patch`.
    #[must_use]
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self {
            major,
            minor,
            patch,
        }
    }

    /// The series, as in "3.11": releases of one series run the same compiled packages.
    #[must_use]
    pub fn series(self) -> String {
        dotted((self.major, self.minor))
    }

    /// Whether the worker runs on it.
    #[must_use]
    pub fn is_new_enough(self) -> bool {
        (self.major, self.minor) >= OLDEST_SERIES
    }

    /// Whether the lock has wheels for it.
    #[must_use]
    pub fn is_locked(self) -> bool {
        (OLDEST_SERIES..=NEWEST_SERIES).contains(&(self.major, self.minor))
    }

    /// All series that the lock has wheels for, in the order in which they are looked for.
    pub(crate) fn locked_series() -> impl Iterator<Item = Self> {
        NAMES
            .into_iter()
            .filter_map(|name| name.strip_prefix("python")?.split_once('.'))
            .filter_map(|(major, minor)| {
                Some(Self::new(major.parse().ok()?, minor.parse().ok()?, 0))
            })
    }
}

impl fmt::Display for PythonVersion {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl From<PythonVersion> for String {
    fn from(version: PythonVersion) -> Self {
        version.to_string()
    }
}

impl FromStr for PythonVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let numbers: Result<Vec<u32>, _> = text.split('.').map(str::parse).collect();
        match numbers.as_deref() {
            Ok([major, minor, patch]) => Ok(Self::new(*major, *minor, *patch)),
            _ => Err(format!("{text:?} is no version of Python")),
        }
    }
}

impl TryFrom<String> for PythonVersion {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// An interpreter that was asked what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interpreter {
    /// What it calls itself: where the given path was a launcher, the interpreter that it launched.
    pub executable: PathBuf,
    /// Its version.
    pub version: PythonVersion,
    /// Whether it can make a virtual environment with pip in it. Debian's cannot without a package.
    pub makes_venvs: bool,
}

/// Why an interpreter is of no use here.
#[derive(Debug, Error)]
pub enum InterpreterFault {
    /// It did not run, or did not answer.
    #[error("it does not run")]
    DoesNotRun(#[source] ChildError),
    /// It ran, but its answer was not understood.
    #[error("it is no Python: it answered {answer:?}")]
    NoPython {
        /// The beginning of the answer.
        answer: String,
    },
    /// It is too old.
    #[error("it is Python {0}, and {oldest} or later is needed", oldest = dotted(OLDEST_SERIES))]
    TooOld(PythonVersion),
    /// It is newer than the packages.
    #[error("it is Python {0}, and the packages are built for {range}", range = locked_range())]
    TooNew(PythonVersion),
    /// It cannot make virtual environments.
    #[error(
        "it is Python {0} without its venv module (on Debian or Ubuntu: apt install python3-venv)"
    )]
    NoVenv(PythonVersion),
}

impl InterpreterFault {
    /// The fault in a few words, with its cause, for a list of several.
    fn in_short(&self) -> String {
        match self {
            Self::DoesNotRun(ChildError::Failed { status, .. }) => {
                format!("it does not run ({status})")
            }
            other => other.to_string(),
        }
    }
}

/// An interpreter that was found and not taken.
#[derive(Debug)]
pub struct Rejected {
    /// Where it was found.
    pub path: PathBuf,
    /// Why it was not taken.
    pub fault: InterpreterFault,
}

impl fmt::Display for Rejected {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.path.display(), self.fault.in_short())
    }
}

#[derive(Deserialize)]
struct Answer {
    version: [u32; 3],
    executable: PathBuf,
    makes_venvs: bool,
}

/// Asks the interpreter at `path` what it is.
pub(crate) fn inspect(path: &Path) -> Result<Interpreter, InterpreterFault> {
    let mut command = Command::new(path);
    // Python 2 does not know -I; its two halves it knows.
    command.args(["-E", "-s", "-c", QUESTION]).current_dir("/");
    let text = child::output(command, QUESTION_LIMIT).map_err(InterpreterFault::DoesNotRun)?;
    let answer: Answer =
        serde_json::from_str(text.trim()).map_err(|_| InterpreterFault::NoPython {
            answer: text.chars().take(80).collect(),
        })?;
    let [major, minor, patch] = answer.version;
    Ok(Interpreter {
        executable: answer.executable,
        version: PythonVersion::new(major, minor, patch),
        makes_venvs: answer.makes_venvs,
    })
}

/// Asks the interpreter at `path` what it is, and takes it only if an environment can be made with it.
pub(crate) fn inspect_for_set_up(
    path: &Path,
    needs_venv: bool,
) -> Result<Interpreter, InterpreterFault> {
    let found = inspect(path)?;
    if !found.version.is_new_enough() {
        Err(InterpreterFault::TooOld(found.version))
    } else if !found.version.is_locked() {
        Err(InterpreterFault::TooNew(found.version))
    } else if needs_venv && !found.makes_venvs {
        Err(InterpreterFault::NoVenv(found.version))
    } else {
        Ok(found)
    }
}

/// Finds an interpreter in the folders of `search_path` (the form of PATH) that an environment can be
/// made with, or says of each candidate why it cannot.
pub(crate) fn find(search_path: &OsStr, needs_venv: bool) -> Result<Interpreter, Vec<Rejected>> {
    let mut rejected = Vec::new();
    for name in NAMES {
        for path in programs(search_path, name) {
            match inspect_for_set_up(&path, needs_venv) {
                Ok(found) => return Ok(found),
                Err(fault) => rejected.push(Rejected { path, fault }),
            }
        }
    }
    Err(rejected)
}

/// All programs called `name` in the folders of `search_path`, in its order.
pub(crate) fn programs(search_path: &OsStr, name: &str) -> impl Iterator<Item = PathBuf> {
    let folders: Vec<PathBuf> = std::env::split_paths(search_path).collect();
    let name = name.to_owned();
    folders
        .into_iter()
        .filter(|folder| folder.is_absolute())
        .map(move |folder| folder.join(&name))
        .filter(|path| {
            path.metadata()
                .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interpreters_for_tests::{real_python, script};

    #[test]
    fn a_version_reads_back_as_it_was_written() {
        let version: PythonVersion = "3.11.7".parse().unwrap();
        assert_eq!(version, PythonVersion::new(3, 11, 7));
        assert_eq!(version.to_string(), "3.11.7");
        assert_eq!(version.series(), "3.11");
        for wrong in ["3.11", "3.11.x", "", "3.11.7.1", "-3.1.1"] {
            assert!(wrong.parse::<PythonVersion>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn versions_are_ordered_by_number_and_not_by_letter() {
        assert!(!PythonVersion::new(3, 9, 18).is_new_enough());
        assert!(PythonVersion::new(3, 10, 0).is_new_enough());
        assert!(!PythonVersion::new(2, 7, 18).is_new_enough());
        assert!(PythonVersion::new(3, 14, 0).is_locked());
        assert!(!PythonVersion::new(3, 15, 0).is_locked());
    }

    #[test]
    fn the_series_looked_for_are_those_with_wheels() {
        let series: Vec<_> = PythonVersion::locked_series().collect();
        assert_eq!(series.len(), 5);
        assert!(series.iter().all(|version| version.is_locked()));
    }

    #[test]
    fn a_real_interpreter_says_what_it_is() {
        let found = inspect(&real_python()).unwrap();
        assert!(found.version.is_new_enough());
        assert!(found.executable.is_absolute());
    }

    #[test]
    fn an_old_python_is_passed_over_by_name_and_version() {
        let folder = tempfile::tempdir().unwrap();
        let old = script(&folder.path().join("python3"), "3, 9, 18", true, "exit 1");
        let rejected = find(folder.path().as_os_str(), true).unwrap_err();
        assert_eq!(rejected.len(), 1);
        assert_eq!(rejected[0].path, old);
        assert!(
            rejected[0]
                .to_string()
                .contains("Python 3.9.18, and 3.10 or later"),
            "{}",
            rejected[0]
        );

        script(
            &folder.path().join("python3.12"),
            "3, 12, 1",
            true,
            "exit 1",
        );
        assert_eq!(
            find(folder.path().as_os_str(), true).unwrap().version,
            PythonVersion::new(3, 12, 1)
        );
    }

    #[test]
    fn a_python_newer_than_the_lock_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        script(&folder.path().join("python3"), "3, 15, 0", true, "exit 1");
        let rejected = find(folder.path().as_os_str(), true).unwrap_err();
        assert!(matches!(rejected[0].fault, InterpreterFault::TooNew(_)));
    }

    #[test]
    fn a_python_without_venv_is_refused_with_the_package_to_install_unless_uv_makes_the_venv() {
        let folder = tempfile::tempdir().unwrap();
        script(&folder.path().join("python3"), "3, 11, 2", false, "exit 1");
        let rejected = find(folder.path().as_os_str(), true).unwrap_err();
        assert!(rejected[0].to_string().contains("apt install python3-venv"));
        assert!(find(folder.path().as_os_str(), false).is_ok());
    }

    #[test]
    fn what_is_no_python_is_refused() {
        assert!(matches!(
            inspect(Path::new("/bin/false")),
            Err(InterpreterFault::DoesNotRun(_))
        ));
        assert!(matches!(
            inspect(Path::new("/bin/echo")),
            Err(InterpreterFault::NoPython { .. })
        ));
    }
}
