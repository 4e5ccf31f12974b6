//! The file that says an environment is complete, and the quick check of it.
//!
//! The check runs nothing: it reads one file and looks whether a few others are there.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::files::write_durably;
use crate::home::Layout;
use crate::python::PythonVersion;
use crate::requirements::Requirements;

/// Raised when the marker's meaning changes; environments of another format are made anew.
const FORMAT: u32 = 1;

/// What was made, by what, of what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Marker {
    format: u32,
    /// SHA-256 of the lock file that was installed, in hex.
    lock_sha256: String,
    /// Version of the interpreter.
    pub(crate) python_version: PythonVersion,
    /// The interpreter that the environment's own leads to, with all links resolved.
    base_python: PathBuf,
    /// Versions of the modules that must be there.
    pub(crate) versions: BTreeMap<String, String>,
    /// "uv" or "pip", for people to read.
    installer: String,
}

impl Marker {
    /// The marker of the environment that was just made in `layout`.
    pub(crate) fn of(
        layout: &Layout,
        requirements: &Requirements,
        python_version: PythonVersion,
        versions: BTreeMap<String, String>,
        installer: String,
    ) -> io::Result<Self> {
        Ok(Self {
            format: FORMAT,
            lock_sha256: requirements.lock_sha256(),
            python_version,
            base_python: fs::canonicalize(layout.python())?,
            versions,
            installer,
        })
    }

    /// Writes it durably; from then on the environment is complete.
    pub(crate) fn write(&self, layout: &Layout) -> io::Result<()> {
        write_durably(&layout.marker(), &serde_json::to_vec_pretty(self)?)
    }
}

/// What the quick check found.
#[derive(Debug)]
pub(crate) enum Checked {
    Complete(Marker),
    /// There is no marker; whether there is a folder.
    NoMarker {
        folder_exists: bool,
    },
    /// There is a marker, but what it promises is not there.
    Broken(String),
}

/// Checks the environment in `layout` without running anything.
pub(crate) fn check(layout: &Layout, requirements: &Requirements) -> Checked {
    let text = match fs::read(layout.marker()) {
        Ok(text) => text,
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => {
            return Checked::NoMarker {
                folder_exists: layout.folder.exists(),
            };
        }
        Err(fault) => return Checked::Broken(format!("its marker cannot be read: {fault}")),
    };
    let marker: Marker = match serde_json::from_slice(&text) {
        Ok(marker) => marker,
        Err(fault) => return Checked::Broken(format!("its marker is damaged: {fault}")),
    };
    match promise_broken(&marker, layout, requirements) {
        Some(reason) => Checked::Broken(reason),
        None => Checked::Complete(marker),
    }
}

fn promise_broken(marker: &Marker, layout: &Layout, requirements: &Requirements) -> Option<String> {
    if marker.format != FORMAT {
        return Some(format!(
            "its marker has format {}, not {FORMAT}",
            marker.format
        ));
    }
    if marker.lock_sha256 != requirements.lock_sha256() {
        return Some("it was made from another lock file".to_owned());
    }
    let was = marker.base_python.display();
    match fs::canonicalize(layout.python()) {
        Err(fault) => return Some(format!("its interpreter {was} is gone: {fault}")),
        Ok(now) if now != marker.base_python => {
            return Some(format!(
                "its interpreter was {was} and is now {}",
                now.display()
            ));
        }
        Ok(_) => {}
    }
    let packages = layout
        .venv()
        .join("lib")
        .join(format!("python{}", marker.python_version.series()));
    marker.versions.iter().find_map(|(module, version)| {
        // The folder in which an installer notes the package and version that it installed.
        let note = packages
            .join("site-packages")
            .join(format!("{module}-{version}.dist-info"));
        (!note.is_dir()).then(|| format!("it has no {module} {version} any more"))
    })
}
