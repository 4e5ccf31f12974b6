//! Files that are being written in a cache folder, and what is left of those whose writer was
//! killed.
//!
//! A writer holds a lock on its file, which ends with the writer however it ends, so an unlocked
//! file is an abandoned one. A lock on the folder keeps anyone from seeing a file between its
//! making and its locking. Where the file system has no such locks nothing is ever removed.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use tempfile::{Builder, NamedTempFile};

const PREFIX: &str = ".unfinished-";

/// Makes a file in `folder` that is removed when dropped, and removes abandoned ones.
pub(crate) fn create(folder: &Path) -> io::Result<NamedTempFile> {
    let folder_handle = File::open(folder)?;
    let locks_work = folder_handle.lock().is_ok();
    if locks_work {
        remove_abandoned(folder)?;
    }
    let file = Builder::new().prefix(PREFIX).tempfile_in(folder)?;
    if locks_work {
        file.as_file().lock()?;
    }
    Ok(file)
}

fn remove_abandoned(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        // A file that cannot be opened or removed is left: it is in nobody's way.
        let path = entry.path();
        if File::open(&path).is_ok_and(|file| file.try_lock().is_ok()) {
            let _ = fs::remove_file(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_abandoned_file_is_removed_and_one_in_work_or_of_another_name_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let in_work = create(folder.path()).unwrap();
        let abandoned = folder.path().join(".unfinished-abandoned");
        let other = folder.path().join("other");
        fs::write(&abandoned, "x").unwrap();
        fs::write(&other, "x").unwrap();

        let second = create(folder.path()).unwrap();
        assert!(!abandoned.exists());
        assert!(other.exists());
        assert!(in_work.path().exists());
        assert!(second.path().exists());
    }
}
