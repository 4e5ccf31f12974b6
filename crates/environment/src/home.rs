//! Where environments are kept: a folder with one subfolder per lock file and Python series.
//!
//! Reading the process's variables happens only in [`EnvironmentHome::from_variables`].

use std::path::{Path, PathBuf};

use directories::BaseDirs;
use thiserror::Error;

use crate::python::PythonVersion;
use crate::requirements::Requirements;

/// The variable that names the folder to keep environments in, instead of the user's data folder.
pub const OVERRIDE_VARIABLE: &str = "CRUSADES_ENV_DIR";

/// Why no folder for environments could be named.
#[derive(Debug, Error)]
pub enum HomeError {
    /// Neither the override nor the user's home folder is known.
    #[error(
        "no folder for the environment is known: set {OVERRIDE_VARIABLE}, XDG_DATA_HOME or HOME"
    )]
    Unknown,
    /// A relative folder was given and the current folder cannot be read.
    #[error("cannot make {path} absolute")]
    Relative {
        /// The folder as given.
        path: PathBuf,
        /// Why it could not be made absolute.
        #[source]
        source: std::io::Error,
    },
}

/// The folder in which environments are kept. It need not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentHome {
    root: PathBuf,
}

impl EnvironmentHome {
    /// The folder named by [`OVERRIDE_VARIABLE`], else `crusades/env` in the user's data folder
    /// (`$XDG_DATA_HOME`, else `~/.local/share`).
    ///
    /// # Errors
    /// [`HomeError::Unknown`] where no variable tells; [`HomeError::Relative`] as for [`Self::at`].
    pub fn from_variables() -> Result<Self, HomeError> {
        match std::env::var_os(OVERRIDE_VARIABLE) {
            Some(root) if !root.is_empty() => Self::at(root),
            _ => {
                let base = BaseDirs::new().ok_or(HomeError::Unknown)?;
                Self::at(base.data_dir().join("crusades").join("env"))
            }
        }
    }

    /// The given folder, made absolute.
    ///
    /// # Errors
    /// [`HomeError::Relative`] if `root` is relative and there is no current folder.
    pub fn at(root: impl Into<PathBuf>) -> Result<Self, HomeError> {
        let root = root.into();
        let root = std::path::absolute(&root)
            .map_err(|source| HomeError::Relative { path: root, source })?;
        Ok(Self { root })
    }

    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The paths of the environment that `requirements` ask for on `python`'s series.
    pub(crate) fn layout(&self, requirements: &Requirements, python: PythonVersion) -> Layout {
        let folder = self.root.join(requirements.key(python));
        Layout {
            lock: folder.with_extension("lock"),
            folder,
        }
    }

    /// Where the cached probe of an interpreter that was given by path is kept.
    pub(crate) fn given_probe(&self, interpreter: &Path) -> PathBuf {
        let key = crate::requirements::hex_sha256(&[interpreter.as_os_str().as_encoded_bytes()]);
        self.root
            .join("probes")
            .join(format!("{}.json", key.get(..12).unwrap_or(&key)))
    }
}

/// The files and folders of one environment.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// Holds all but the lock.
    pub(crate) folder: PathBuf,
    /// Beside the folder, since it outlives the folder's removal.
    pub(crate) lock: PathBuf,
}

impl Layout {
    /// The virtual environment.
    pub(crate) fn venv(&self) -> PathBuf {
        self.folder.join("venv")
    }

    /// The interpreter to run.
    pub(crate) fn python(&self) -> PathBuf {
        self.venv().join("bin").join("python")
    }

    /// What the installer has fetched: kept when a set-up is interrupted, removed when it is done.
    pub(crate) fn downloads(&self) -> PathBuf {
        self.folder.join("downloads")
    }

    /// What the installer is in the middle of fetching or unpacking; worth nothing once it has ended.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.downloads().join("scratch")
    }

    /// The lock file's text, for the installer to read.
    pub(crate) fn requirements(&self) -> PathBuf {
        self.folder.join("requirements.lock")
    }

    /// Written last: with it the environment is complete.
    pub(crate) fn marker(&self) -> PathBuf {
        self.folder.join("environment.json")
    }

    /// The cached probe.
    pub(crate) fn probe(&self) -> PathBuf {
        self.folder.join("probe.json")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_home_becomes_absolute_and_an_absolute_one_stays() {
        assert!(
            EnvironmentHome::at("some/where")
                .unwrap()
                .root()
                .is_absolute()
        );
        assert_eq!(
            EnvironmentHome::at("/some/where").unwrap().root(),
            Path::new("/some/where")
        );
    }

    #[test]
    fn each_python_series_has_its_own_folder_and_patch_releases_share_one() {
        let home = EnvironmentHome::at("/h").unwrap();
        let requirements = Requirements::shipped();
        let folder = |minor, patch| {
            home.layout(&requirements, PythonVersion::new(3, minor, patch))
                .folder
        };
        assert_ne!(folder(11, 0), folder(12, 0));
        assert_eq!(folder(11, 0), folder(11, 7));
        assert_eq!(folder(11, 0).file_name().unwrap().len(), 12);
    }
}
