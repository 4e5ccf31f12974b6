//! Free and used bytes on disk.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Bytes that `st_blocks` counts in, whatever the file system's own block size.
const STAT_BLOCK_BYTES: u64 = 512;

/// Why the free space could not be told.
#[derive(Debug, Error)]
#[error("cannot tell the free space at {path}")]
pub struct DiskError {
    path: PathBuf,
    #[source]
    source: std::io::Error,
}

/// Bytes that an ordinary user can still write at `path`. What does not exist yet is judged by the
/// nearest folder above it that does.
///
/// # Errors
/// [`DiskError`] if the file system does not answer.
pub fn free_bytes(path: &Path) -> Result<u64, DiskError> {
    let existing = path
        .ancestors()
        .find(|above| above.exists())
        .unwrap_or(Path::new("/"));
    let volume = rustix::fs::statvfs(existing).map_err(|errno| DiskError {
        path: existing.to_owned(),
        source: errno.into(),
    })?;
    Ok(volume.f_bavail.saturating_mul(volume.f_frsize))
}

/// Bytes that the files below `folder` take on disk, each once however many names it has. What
/// vanishes or cannot be read while counting is left out: installers move files all the time.
pub(crate) fn used_bytes(folder: &Path) -> u64 {
    let mut counted = HashSet::new();
    let mut folders = vec![folder.to_owned()];
    let mut total = 0;
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries.flatten() {
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if metadata.is_dir() {
                folders.push(entry.path());
            }
            if metadata.nlink() < 2
                || metadata.is_dir()
                || counted.insert((metadata.dev(), metadata.ino()))
            {
                total += metadata.blocks() * STAT_BLOCK_BYTES;
            }
        }
    }
    total
}

/// "3.1 GB" and the like, in powers of 1000.
pub(crate) fn readable(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)];
    for (unit, size) in UNITS {
        if bytes >= size {
            let tenths = bytes / (size / 10);
            return format!("{}.{} {unit}", tenths / 10, tenths % 10);
        }
    }
    format!("{bytes} bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_two_names_is_counted_once() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("one"), vec![1_u8; 100_000]).unwrap();
        let before = used_bytes(folder.path());
        assert!(before >= 100_000);
        fs::hard_link(folder.path().join("one"), folder.path().join("two")).unwrap();
        assert_eq!(used_bytes(folder.path()), before);
        fs::write(folder.path().join("three"), vec![1_u8; 100_000]).unwrap();
        assert!(used_bytes(folder.path()) >= before + 100_000);
    }

    #[test]
    fn free_space_below_a_missing_folder_is_that_of_the_folder_above() {
        let folder = tempfile::tempdir().unwrap();
        assert!(free_bytes(&folder.path().join("not/there/yet")).unwrap() > 0);
    }

    #[test]
    fn bytes_are_readable() {
        assert_eq!(readable(999), "999 bytes");
        assert_eq!(readable(1_500), "1.5 kB");
        assert_eq!(readable(3_061_680_000), "3.0 GB");
    }
}
