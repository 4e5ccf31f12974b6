//! What must be installed: the lock file that ships in the program and the sizes of its wheels.
//!
//! The lock names no index: where packages come from is the user's configuration of `uv` or `pip`.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::python::PythonVersion;

/// The pinned and hashed requirements of the worker, as `pip` and `uv` read them.
pub const LOCK: &str = include_str!("../../../worker/requirements.lock");

/// Sizes of the wheels in [`LOCK`], by target; `relock.py` writes both.
const DOWNLOADS: &str = include_str!("../downloads.tsv");

/// What the worker imports by name.
pub(crate) const WORKER_MODULES: [&str; 4] = ["torch", "transformers", "safetensors", "numpy"];

/// Machines for which every locked package has a wheel.
pub(crate) const MACHINES: [&str; 2] = ["x86_64", "aarch64"];

/// Bytes on disk after installation per 100 bytes of wheels, with compiled Python files. Measured
/// with the shipped lock on x86-64: 3.06 GB of wheels became 5.96 GB.
const INSTALLED_PERCENT: u64 = 195;

/// One wheel that a set-up fetches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockedDownload {
    /// Name of the package.
    pub package: String,
    /// Its exact version.
    pub version: String,
    /// Size of the wheel in bytes.
    pub bytes: u64,
}

/// A lock file, the sizes of what it names, and the modules that must import in the end.
#[derive(Debug, Clone)]
pub(crate) struct Requirements {
    pub(crate) lock: Cow<'static, str>,
    pub(crate) downloads: Cow<'static, str>,
    pub(crate) modules: Vec<&'static str>,
}

impl Requirements {
    /// Those of the worker.
    pub(crate) fn shipped() -> Self {
        Self {
            lock: Cow::Borrowed(LOCK),
            downloads: Cow::Borrowed(DOWNLOADS),
            modules: WORKER_MODULES.to_vec(),
        }
    }

    /// SHA-256 of the lock file, in hex.
    pub(crate) fn lock_sha256(&self) -> String {
        hex_sha256(&[self.lock.as_bytes()])
    }

    /// The first 12 hex digits of SHA-256 over the lock file followed by Python's series ("3.11").
    pub(crate) fn key(&self, python: PythonVersion) -> String {
        let mut key = hex_sha256(&[self.lock.as_bytes(), python.series().as_bytes()]);
        key.truncate(12);
        key
    }

    /// The wheels that an installer fetches for this Python and machine, in order of name.
    pub(crate) fn downloads_for(
        &self,
        python: PythonVersion,
        machine: &str,
    ) -> Vec<LockedDownload> {
        let target = format!("{}/{machine}", python.series());
        self.downloads
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| {
                let mut columns = line.split('\t');
                let (package, version, bytes) = (columns.next()?, columns.next()?, columns.next()?);
                columns
                    .next()?
                    .split(',')
                    .find(|listed| *listed == target)?;
                Some(LockedDownload {
                    package: package.to_owned(),
                    version: version.to_owned(),
                    bytes: bytes.parse().ok()?,
                })
            })
            .collect()
    }
}

/// Bytes that wheels of `download_bytes` in all take once installed, about.
pub(crate) fn installed_bytes(download_bytes: u64) -> u64 {
    download_bytes / 100 * INSTALLED_PERCENT
}

/// SHA-256 over the parts one after the other, in lower-case hex.
pub(crate) fn hex_sha256(parts: &[&[u8]]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher
        .finalize()
        .iter()
        .fold(String::with_capacity(64), |mut hex, byte| {
            // Writing to a string cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::python::{NEWEST_SERIES, OLDEST_SERIES};

    #[test]
    fn every_line_of_the_size_table_is_pinned_in_the_lock() {
        for line in DOWNLOADS.lines().filter(|line| !line.starts_with('#')) {
            let columns: Vec<&str> = line.split('\t').collect();
            assert_eq!(columns.len(), 4, "{line}");
            let pin = format!("{}=={} ", columns[0], columns[1]);
            assert!(LOCK.lines().any(|locked| locked.starts_with(&pin)), "{pin}");
        }
    }

    #[test]
    fn the_size_table_covers_every_supported_python_and_machine() {
        for minor in OLDEST_SERIES.1..=NEWEST_SERIES.1 {
            for machine in MACHINES {
                let wheels =
                    Requirements::shipped().downloads_for(PythonVersion::new(3, minor, 0), machine);
                for module in WORKER_MODULES {
                    assert!(
                        wheels.iter().any(|wheel| wheel.package == module),
                        "{module} 3.{minor}/{machine}"
                    );
                }
                let total: u64 = wheels.iter().map(|wheel| wheel.bytes).sum();
                assert!((1_000_000_000..6_000_000_000).contains(&total), "{total}");
            }
        }
    }

    #[test]
    fn a_python_that_the_lock_does_not_know_has_no_wheels() {
        assert!(
            Requirements::shipped()
                .downloads_for(PythonVersion::new(3, 9, 0), "x86_64")
                .is_empty()
        );
    }

    #[test]
    fn the_lock_is_hashed_throughout_and_names_no_place() {
        let pins = LOCK
            .lines()
            .filter(|line| line.contains("==") && !line.starts_with([' ', '#']))
            .count();
        assert!(pins > 40);
        assert!(LOCK.matches("--hash=sha256:").count() >= pins);
        for place in ["://", "--index-url", "--find-links", "file:"] {
            assert!(!LOCK.contains(place), "{place}");
        }
    }

    #[test]
    fn sha256_is_the_published_one() {
        assert_eq!(
            hex_sha256(&[b"a", b"bc"]),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
