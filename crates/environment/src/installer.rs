//! The two programs that can make an environment, and how each is called.
//!
//! The user's configuration of indexes, proxies and certificates is left alone; what would make them
//! install elsewhere, other versions, or from source is not let through.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::child;
use crate::home::Layout;
use crate::python::{NEWEST_SERIES, OLDEST_SERIES, programs};

/// Variables that would lead `uv`, `pip` or Python away from the environment or the lock.
const MISLEADING_VARIABLES: [&str; 26] = [
    "CONDA_PREFIX",
    "PIP_BUILD_CONSTRAINT",
    "PIP_CONSTRAINT",
    "PIP_DRY_RUN",
    "PIP_NO_BINARY",
    "PIP_ONLY_BINARY",
    "PIP_PLATFORM",
    "PIP_PREFIX",
    "PIP_PYTHON",
    "PIP_PYTHON_VERSION",
    "PIP_REQUIREMENT",
    "PIP_ROOT",
    "PIP_TARGET",
    "PIP_USER",
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONHOME",
    "PYTHONPATH",
    "UV_CONSTRAINT",
    "UV_NO_BINARY",
    "UV_ONLY_BINARY",
    "UV_OVERRIDE",
    "UV_PROJECT_ENVIRONMENT",
    "UV_PYTHON",
    "UV_SYSTEM_PYTHON",
    "UV_VENV_SEED",
    "VIRTUAL_ENV",
];

/// How long `uv` has to say which interpreters it manages.
const UV_FIND_LIMIT: Duration = Duration::from_secs(30);

/// The program that makes an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Installer {
    /// `uv`, at this path.
    Uv(PathBuf),
    /// The `venv` and `pip` that come with the interpreter.
    Pip,
}

impl fmt::Display for Installer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uv(path) => write!(out, "uv ({})", path.display()),
            Self::Pip => write!(out, "pip"),
        }
    }
}

impl Installer {
    /// `uv` if it is in one of the folders of `search_path`.
    pub(crate) fn find_uv(search_path: &OsStr) -> Option<Self> {
        programs(search_path, "uv").next().map(Self::Uv)
    }

    /// The newest interpreter that `uv` manages by itself, where it has one that fits.
    pub(crate) fn managed_python(&self) -> Option<PathBuf> {
        let Self::Uv(uv) = self else {
            return None;
        };
        let ((major, oldest), (_, newest)) = (OLDEST_SERIES, NEWEST_SERIES);
        let fitting = format!(">={major}.{oldest},<{major}.{}", newest + 1);
        let mut command = Command::new(uv);
        command.args([
            "python",
            "find",
            "--no-project",
            "--managed-python",
            &fitting,
        ]);
        command.env("UV_PYTHON_DOWNLOADS", "never").current_dir("/");
        let found = child::output(command, UV_FIND_LIMIT).ok()?;
        Some(PathBuf::from(found.trim())).filter(|path| path.is_absolute())
    }

    /// The command that makes an empty virtual environment.
    pub(crate) fn venv_command(&self, python: &Path, layout: &Layout) -> Command {
        let mut command = match self {
            Self::Uv(uv) => {
                let mut command = Command::new(uv);
                command
                    .args(["venv", "--no-project", "--python"])
                    .arg(python);
                command
            }
            Self::Pip => {
                let mut command = Command::new(python);
                command.args(["-I", "-m", "venv"]);
                command
            }
        };
        command.arg(layout.venv());
        prepare(&mut command, layout);
        command
    }

    /// The command that installs what the lock names, wheels only, each checked against its hash.
    pub(crate) fn install_command(&self, layout: &Layout) -> Command {
        let mut command = match self {
            Self::Uv(uv) => {
                let mut command = Command::new(uv);
                command
                    .args(["pip", "install", "--compile-bytecode", "--python"])
                    .arg(layout.python());
                command
            }
            Self::Pip => {
                let mut command = Command::new(layout.python());
                command.args([
                    "-I",
                    "-m",
                    "pip",
                    "install",
                    "--no-input",
                    "--progress-bar",
                    "off",
                ]);
                command
            }
        };
        command.args([
            "--require-hashes",
            "--no-deps",
            "--only-binary",
            ":all:",
            "-r",
        ]);
        command.arg(layout.requirements());
        prepare(&mut command, layout);
        command
    }

    /// Bytes on disk, of what the installer keeps below the environment's folder, when `download_bytes`
    /// of wheels have become `installed_bytes`: at the worst moment, and when it ends.
    pub(crate) fn disk_need(&self, download_bytes: u64, installed_bytes: u64) -> DiskNeed {
        match self {
            // Unpacks while it downloads, and links from its cache.
            Self::Uv(_) => DiskNeed {
                at_worst: installed_bytes,
                at_end: installed_bytes,
            },
            // Holds each wheel twice until all are installed: in its cache and in a temporary folder.
            Self::Pip => DiskNeed {
                at_worst: 2 * download_bytes + installed_bytes,
                at_end: download_bytes + installed_bytes,
            },
        }
    }
}

/// See [`Installer::disk_need`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct DiskNeed {
    pub(crate) at_worst: u64,
    pub(crate) at_end: u64,
}

fn prepare(command: &mut Command, layout: &Layout) {
    for variable in MISLEADING_VARIABLES {
        command.env_remove(variable);
    }
    // A system's /tmp is often too small for wheels of this size.
    command.env("TMPDIR", layout.scratch());
    // A cache that the user chose is used; else one that is kept until the set-up is complete.
    for (variable, cache) in [("UV_CACHE_DIR", "uv"), ("PIP_CACHE_DIR", "pip")] {
        if std::env::var_os(variable).is_none_or(|chosen| chosen.is_empty()) {
            command.env(variable, layout.downloads().join(cache));
        }
    }
    command
        .env("NO_COLOR", "1")
        .env("UV_NO_PROGRESS", "1")
        .env("PIP_DISABLE_PIP_VERSION_CHECK", "1");
    command
        .env("PYTHONUNBUFFERED", "1")
        .current_dir(&layout.folder);
}
