//! Asking an interpreter what it has, with the answer kept until something that it depends on changes.
//!
//! The interpreter runs isolated (`-I`): no variable and no file of the current folder reaches it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::child::{self, ChildError};
use crate::files::write_durably;
use crate::python::PythonVersion;
use crate::report::{CudaReport, EnvironmentReport};
use crate::requirements::{WORKER_MODULES, hex_sha256};

const QUESTION: &str = include_str!("probe.py");

/// Longest time for importing everything once. Measured on 2 cores: 4 s, and 26 s from a busy disk.
const LIMIT: Duration = Duration::from_secs(60);

/// Variables that change the answer: which devices torch sees, and how many threads it takes.
const TELLING_VARIABLES: [&str; 4] = [
    "CUDA_VISIBLE_DEVICES",
    "LD_LIBRARY_PATH",
    "MKL_NUM_THREADS",
    "OMP_NUM_THREADS",
];

/// Why a module that the worker needs cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleFault {
    /// Name of the module.
    pub module: String,
    /// Whether it is not installed at all; else it is there and does not import.
    pub is_missing: bool,
    /// What Python said.
    pub reason: String,
}

impl fmt::Display for ModuleFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_missing {
            write!(out, "{} is not installed", self.module)
        } else {
            write!(out, "{} does not import: {}", self.module, self.reason)
        }
    }
}

/// Why an interpreter's answer is of no use.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// It did not run to its end.
    #[error("cannot ask {python} what it has")]
    Run {
        /// The interpreter.
        python: PathBuf,
        /// What went wrong.
        #[source]
        source: ChildError,
    },
    /// It answered something else.
    #[error("cannot understand the answer of {python}")]
    Answer {
        /// The interpreter.
        python: PathBuf,
        /// What was wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// Its path cannot be resolved.
    #[error("cannot resolve the path of {python}")]
    Resolve {
        /// The interpreter.
        python: PathBuf,
        /// Why it could not.
        #[source]
        source: std::io::Error,
    },
    /// It lacks what the worker needs.
    #[error("{python} (Python {version}) lacks what the worker needs: {}{}", listed(.faults), had(.present))]
    Lacks {
        /// The interpreter.
        python: PathBuf,
        /// Its version.
        version: PythonVersion,
        /// The modules that cannot be used.
        faults: Vec<ModuleFault>,
        /// The modules that can, with their versions.
        present: BTreeMap<String, String>,
    },
}

fn listed(faults: &[ModuleFault]) -> String {
    faults
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

fn had(present: &BTreeMap<String, String>) -> String {
    if present.is_empty() {
        return String::new();
    }
    let present: Vec<_> = present
        .iter()
        .map(|(module, version)| format!("{module} {version}"))
        .collect();
    format!(" (it has {})", present.join(", "))
}

/// What `probe.py` prints.
#[derive(Debug, Deserialize)]
struct Answer {
    python_version: PythonVersion,
    executable: PathBuf,
    prefix: PathBuf,
    base_prefix: PathBuf,
    folders: Vec<PathBuf>,
    search_path: Vec<PathBuf>,
    libraries: Vec<PathBuf>,
    packages: BTreeMap<String, String>,
    faults: BTreeMap<String, Fault>,
    cuda: CudaReport,
    cpu_count: u32,
    torch_threads: Option<u32>,
}

#[derive(Debug, Deserialize)]
struct Fault {
    missing: bool,
    reason: String,
}

/// Runs `python` and fails unless all of `modules` import.
fn ask(python: &Path, modules: &[&str]) -> Result<Answer, ProbeError> {
    let mut command = Command::new(python);
    // -B: a folder that importing writes to would look as if packages had been installed in it.
    command
        .args(["-I", "-B", "-c", QUESTION])
        .args(modules)
        .current_dir("/");
    let text = child::output(command, LIMIT).map_err(|source| ProbeError::Run {
        python: python.to_owned(),
        source,
    })?;
    let answer: Answer = serde_json::from_str(&text).map_err(|source| ProbeError::Answer {
        python: python.to_owned(),
        source,
    })?;
    if answer.faults.is_empty() {
        return Ok(answer);
    }
    let faults = answer
        .faults
        .into_iter()
        .map(|(module, fault)| ModuleFault {
            module,
            is_missing: fault.missing,
            reason: fault.reason,
        })
        .collect();
    Err(ProbeError::Lacks {
        python: python.to_owned(),
        version: answer.python_version,
        faults,
        present: answer.packages,
    })
}

/// Fails unless `python` imports all of `modules`.
pub(crate) fn require(python: &Path, modules: &[&str]) -> Result<(), ProbeError> {
    ask(python, modules).map(|_| ())
}

/// What `python` has, from `cache` if that still holds.
pub(crate) fn report(python: &Path, cache: &Path) -> Result<EnvironmentReport, ProbeError> {
    match kept_report(python, cache) {
        Some(report) => Ok(report),
        None => fresh_report(python, cache),
    }
}

/// What `python` has now; it is kept in `cache` where that can be written.
pub(crate) fn fresh_report(python: &Path, cache: &Path) -> Result<EnvironmentReport, ProbeError> {
    let mut answer = ask(python, &WORKER_MODULES)?;
    let real_executable =
        fs::canonicalize(&answer.executable).map_err(|source| ProbeError::Resolve {
            python: answer.executable.clone(),
            source,
        })?;
    let mut version = |module: &str| answer.packages.remove(module).unwrap_or_default();
    let report = EnvironmentReport {
        python_version: answer.python_version,
        real_executable,
        torch: version("torch"),
        transformers: version("transformers"),
        safetensors: version("safetensors"),
        numpy: version("numpy"),
        executable: answer.executable,
        prefix: answer.prefix,
        base_prefix: answer.base_prefix,
        cuda: answer.cuda,
        cpu_count: answer.cpu_count,
        torch_threads: answer.torch_threads.unwrap_or(1),
        folders: answer.folders,
        search_path: answer.search_path,
        libraries: answer.libraries,
    };
    keep(python, cache, &report);
    Ok(report)
}

/// All that an answer depends on and that can be told without running the interpreter.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Circumstances {
    question: String,
    python: Option<FileState>,
    /// Installing, upgrading or removing a package changes the folder that it lies in.
    search_path: Vec<Option<FileState>>,
    variables: Vec<Option<String>>,
    nvidia: Option<String>,
    nvidia_devices: Vec<String>,
    cpus: Option<u32>,
}

/// Which file a path leads to, and when it last changed.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct FileState {
    path: PathBuf,
    seconds: i64,
    nanoseconds: i64,
    bytes: u64,
}

impl FileState {
    fn of(path: &Path) -> Option<Self> {
        let path = fs::canonicalize(path).ok()?;
        let metadata = path.metadata().ok()?;
        Some(Self {
            seconds: metadata.mtime(),
            nanoseconds: metadata.mtime_nsec(),
            bytes: metadata.len(),
            path,
        })
    }
}

impl Circumstances {
    fn now(python: &Path, report: &EnvironmentReport) -> Self {
        let mut nvidia_devices: Vec<String> = fs::read_dir("/dev")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| name.starts_with("nvidia"))
            .collect();
        nvidia_devices.sort();
        Self {
            question: hex_sha256(&[QUESTION.as_bytes()]),
            python: FileState::of(python),
            search_path: report
                .search_path
                .iter()
                .map(|folder| FileState::of(folder))
                .collect(),
            variables: TELLING_VARIABLES
                .iter()
                .map(|name| {
                    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
                })
                .collect(),
            nvidia: fs::read_to_string("/proc/driver/nvidia/version").ok(),
            nvidia_devices,
            cpus: rustix::thread::sched_getaffinity(None)
                .ok()
                .map(|cpus| cpus.count()),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Kept {
    circumstances: Circumstances,
    report: EnvironmentReport,
}

fn kept_report(python: &Path, cache: &Path) -> Option<EnvironmentReport> {
    let kept: Kept = serde_json::from_slice(&fs::read(cache).ok()?).ok()?;
    (kept.circumstances == Circumstances::now(python, &kept.report)).then_some(kept.report)
}

fn keep(python: &Path, cache: &Path, report: &EnvironmentReport) {
    let kept = Kept {
        circumstances: Circumstances::now(python, report),
        report: report.clone(),
    };
    // A cache that cannot be written costs the next command some seconds and nothing else.
    if let (Some(folder), Ok(text)) = (cache.parent(), serde_json::to_vec_pretty(&kept)) {
        let _ = fs::create_dir_all(folder).and_then(|()| write_durably(cache, &text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interpreters_for_tests::{bare_venv, real_python};

    fn invented_report(folder: &Path) -> EnvironmentReport {
        EnvironmentReport {
            python_version: PythonVersion::new(3, 12, 1),
            executable: folder.join("python"),
            real_executable: folder.join("python"),
            prefix: folder.to_owned(),
            base_prefix: folder.to_owned(),
            torch: "2.14.1".to_owned(),
            transformers: "5.0".to_owned(),
            safetensors: "0.8".to_owned(),
            numpy: "2.0".to_owned(),
            cuda: CudaReport::default(),
            cpu_count: 2,
            torch_threads: 2,
            folders: vec![folder.to_owned()],
            search_path: vec![folder.join("packages")],
            libraries: Vec::new(),
        }
    }

    #[test]
    fn a_bare_environment_is_said_to_lack_each_module_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let python = bare_venv(folder.path());
        let fault = require(&python, &["torch", "transformers", "json"]).unwrap_err();
        let ProbeError::Lacks { faults, .. } = &fault else {
            panic!("{fault}")
        };
        let names: Vec<_> = faults
            .iter()
            .filter(|fault| fault.is_missing)
            .map(|fault| &*fault.module)
            .collect();
        assert_eq!(names, ["torch", "transformers"]);
        assert!(
            fault
                .to_string()
                .contains("torch is not installed; transformers is not installed"),
            "{fault}"
        );
        assert!(fault.to_string().contains("it has json"), "{fault}");
    }

    #[test]
    fn modules_that_are_there_are_enough() {
        require(&real_python(), &["json"]).unwrap();
    }

    #[test]
    fn a_module_that_does_not_import_is_told_from_a_missing_one() {
        let fault = require(&real_python(), &["antigravity_of_nothing", "xml.dom"]).unwrap_err();
        let ProbeError::Lacks { faults, .. } = fault else {
            panic!("{fault}")
        };
        // `xml.dom` is there, but has no version.
        assert!(
            faults
                .iter()
                .any(|fault| fault.module == "xml.dom" && !fault.is_missing)
        );
        assert!(
            faults
                .iter()
                .any(|fault| fault.module == "antigravity_of_nothing" && fault.is_missing)
        );
    }

    #[test]
    fn what_prints_no_answer_is_refused() {
        assert!(matches!(
            require(Path::new("/bin/true"), &[]),
            Err(ProbeError::Answer { .. })
        ));
        assert!(matches!(
            require(Path::new("/bin/false"), &[]),
            Err(ProbeError::Run { .. })
        ));
    }

    #[test]
    fn a_kept_report_holds_until_the_interpreter_or_its_packages_change() {
        let folder = tempfile::tempdir().unwrap();
        let report = invented_report(folder.path());
        let cache = folder.path().join("cache/probe.json");
        fs::write(&report.executable, "one").unwrap();
        fs::create_dir(folder.path().join("packages")).unwrap();

        keep(&report.executable, &cache, &report);
        assert_eq!(
            kept_report(&report.executable, &cache),
            Some(report.clone())
        );

        fs::create_dir(folder.path().join("packages/torch-2.14.1.dist-info")).unwrap();
        assert_eq!(kept_report(&report.executable, &cache), None);

        keep(&report.executable, &cache, &report);
        assert!(kept_report(&report.executable, &cache).is_some());
        fs::write(&report.executable, "another").unwrap();
        assert_eq!(kept_report(&report.executable, &cache), None);
    }

    #[test]
    fn a_damaged_cache_is_as_good_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("probe.json");
        fs::write(&cache, "{").unwrap();
        assert_eq!(kept_report(&folder.path().join("python"), &cache), None);
    }
}
