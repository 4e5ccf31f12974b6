//! An environment that the worker can run in, wherever it came from.

use std::fmt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::home::EnvironmentHome;
use crate::marker::{self, Checked, Marker};
use crate::paths;
use crate::probe::{self, ProbeError};
use crate::python::{self, InterpreterFault, PythonVersion};
use crate::report::EnvironmentReport;
use crate::requirements::Requirements;
use crate::set_up::{self, SetupError, SetupEvent, SetupOptions};

/// An interpreter with all that the worker imports.
#[derive(Debug, Clone)]
pub struct Environment {
    python: PathBuf,
    origin: Origin,
    probe_cache: PathBuf,
}

/// Where an environment came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// This program made it, in this folder.
    Made {
        /// The folder that holds all of it.
        folder: PathBuf,
    },
    /// The user named an interpreter.
    Given,
}

/// Why there is no environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Absence {
    /// None was ever made below this folder.
    NeverMade {
        /// The folder that environments are kept in.
        root: PathBuf,
    },
    /// A set-up was begun and not ended, or is going on now.
    Unfinished {
        /// The environment's folder.
        folder: PathBuf,
    },
    /// It was complete once.
    Broken {
        /// The environment's folder.
        folder: PathBuf,
        /// What has changed.
        reason: String,
    },
}

impl fmt::Display for Absence {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverMade { root } => {
                write!(out, "there is no environment in {}", root.display())
            }
            Self::Unfinished { folder } => {
                write!(
                    out,
                    "the environment in {} is not finished",
                    folder.display()
                )
            }
            Self::Broken { folder, reason } => {
                write!(
                    out,
                    "the environment in {} cannot be used: {reason}",
                    folder.display()
                )
            }
        }
    }
}

/// What a search for an environment ended in.
#[derive(Debug)]
pub enum Located {
    /// There is one, and it is complete.
    Ready(Environment),
    /// There is none; it can be made by [`Environment::set_up`].
    Absent(Absence),
}

/// Why an interpreter that the user named cannot be used.
#[derive(Debug, Error)]
pub enum InterpreterError {
    /// It is no interpreter that the worker runs on.
    #[error("cannot use {path} as the worker's Python")]
    Unfit {
        /// The path as given.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: InterpreterFault,
    },
    /// Its path cannot be made absolute.
    #[error("cannot make {path} absolute")]
    Path {
        /// The path as given.
        path: PathBuf,
        /// Why it cannot.
        #[source]
        source: std::io::Error,
    },
    /// It lacks packages, or could not be asked.
    #[error(transparent)]
    Probe(#[from] ProbeError),
}

impl Environment {
    /// Finds the environment that was made from the shipped lock file below `home`, or takes the
    /// interpreter `python` if one is given. Made ones are checked without running them; a given one
    /// is run, unless its last answer still holds.
    ///
    /// # Errors
    /// [`InterpreterError`] if `python` does not run, is older than 3.10, or lacks a package. Without
    /// `python` there is no error: what cannot be used is [`Located::Absent`].
    pub fn locate(
        home: &EnvironmentHome,
        python: Option<&Path>,
    ) -> Result<Located, InterpreterError> {
        match python {
            Some(python) => Self::given(home, python).map(Located::Ready),
            None => Ok(Self::locate_made(home, &Requirements::shipped())),
        }
    }

    /// Makes the environment of the shipped lock file below `home`, unless it is there. Blocks for
    /// minutes; what happens is told to `on_event`. It may be killed at any moment and called again:
    /// what the installer had fetched whole and cached is kept, and nothing unfinished is taken for
    /// complete. While another
    /// process sets up the same environment, it waits.
    ///
    /// # Errors
    /// [`SetupError`] names what failed and where, with the installer's last lines.
    pub fn set_up(
        home: &EnvironmentHome,
        options: &SetupOptions,
        on_event: &mut dyn FnMut(SetupEvent),
    ) -> Result<Self, SetupError> {
        set_up::set_up(home, &Requirements::shipped(), options, on_event)
    }

    /// The interpreter to run; start it with `-I`.
    #[must_use]
    pub fn python(&self) -> &Path {
        &self.python
    }

    /// Where it came from.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// What is in it. The answer is kept beside the environment until the interpreter, its packages,
    /// the GPU driver or the CPUs change; else it takes some seconds, at most 60.
    ///
    /// # Errors
    /// [`ProbeError`] if the interpreter does not run, or lacks a package.
    pub fn probe(&self) -> Result<EnvironmentReport, ProbeError> {
        probe::report(&self.python, &self.probe_cache)
    }

    /// What is in it now, asked anew.
    ///
    /// # Errors
    /// As [`Self::probe`].
    pub fn probe_afresh(&self) -> Result<EnvironmentReport, ProbeError> {
        probe::fresh_report(&self.python, &self.probe_cache)
    }

    /// What of the host's files a sandbox must show, read-only and at the same paths, for the
    /// interpreter to run: folders, and single files where a link lies in a folder that is otherwise
    /// not needed. All exist, and none lies below another.
    ///
    /// # Errors
    /// As [`Self::probe`].
    pub fn read_only_paths(&self) -> Result<Vec<PathBuf>, ProbeError> {
        Ok(paths::read_only_paths(&self.python, &self.probe()?))
    }

    fn given(home: &EnvironmentHome, path: &Path) -> Result<Self, InterpreterError> {
        let absolute = std::path::absolute(path).map_err(|source| InterpreterError::Path {
            path: path.to_owned(),
            source,
        })?;
        let unfit = |source| InterpreterError::Unfit {
            path: path.to_owned(),
            source,
        };
        let found = python::inspect(&absolute).map_err(unfit)?;
        if !found.version.is_new_enough() {
            return Err(unfit(InterpreterFault::TooOld(found.version)));
        }
        let environment = Self {
            probe_cache: home.given_probe(&found.executable),
            // Not the path as given: that may be a launcher, which a sandbox could not run.
            python: found.executable,
            origin: Origin::Given,
        };
        environment.probe()?;
        Ok(environment)
    }

    pub(crate) fn locate_made(home: &EnvironmentHome, requirements: &Requirements) -> Located {
        let mut absence = Absence::NeverMade {
            root: home.root().to_owned(),
        };
        for series in PythonVersion::locked_series() {
            let layout = home.layout(requirements, series);
            match marker::check(&layout, requirements) {
                Checked::Complete(marker) => {
                    return Located::Ready(Self::made(home, requirements, &marker));
                }
                Checked::NoMarker {
                    folder_exists: false,
                } => {}
                Checked::NoMarker {
                    folder_exists: true,
                } => {
                    absence = Absence::Unfinished {
                        folder: layout.folder,
                    };
                }
                Checked::Broken(reason) => {
                    absence = Absence::Broken {
                        folder: layout.folder,
                        reason,
                    }
                }
            }
        }
        Located::Absent(absence)
    }

    pub(crate) fn made(
        home: &EnvironmentHome,
        requirements: &Requirements,
        marker: &Marker,
    ) -> Self {
        let layout = home.layout(requirements, marker.python_version);
        Self {
            python: layout.python(),
            probe_cache: layout.probe(),
            origin: Origin::Made {
                folder: layout.folder,
            },
        }
    }
}
