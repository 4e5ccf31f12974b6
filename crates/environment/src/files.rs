//! Small files that are there whole or not at all, even after a crash.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// How long a folder that fills up again is emptied again.
const STRAGGLER_LIMIT: Duration = Duration::from_secs(10);

/// How long to wait before that.
const STRAGGLER_PAUSE: Duration = Duration::from_millis(100);

/// Writes `bytes` beside `path`, makes them durable, and gives them the name `path` in one step.
pub(crate) fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut unfinished = name.to_owned();
    unfinished.push(format!(".{}.new", std::process::id()));
    let unfinished = folder.join(unfinished);
    let mut file = File::create(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    File::open(folder)?.sync_all()
}

/// Removes a folder and all in it; it is no fault if there is none. A process that lost its caller may
/// still be writing there for a moment, so what has filled up again is removed again.
pub(crate) fn remove_folder(path: &Path) -> io::Result<()> {
    let begun = Instant::now();
    loop {
        match fs::remove_dir_all(path) {
            Err(fault) if fault.kind() == io::ErrorKind::NotFound && !path.exists() => {
                return Ok(());
            }
            Err(fault) if is_being_written(&fault) && begun.elapsed() < STRAGGLER_LIMIT => {
                thread::sleep(STRAGGLER_PAUSE);
            }
            other => return other,
        }
    }
}

fn is_being_written(fault: &io::Error) -> bool {
    matches!(
        fault.kind(),
        io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotFound
    )
}

/// Removes a file; it is no fault if there is none.
pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write_durably(&path, b"one").unwrap();
        write_durably(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_is_removed_even_while_a_straggler_writes_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("busy");
        fs::create_dir(&path).unwrap();
        let busy = path.clone();
        let straggler = thread::spawn(move || {
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_millis(300) {
                // Fails once the folder is gone.
                let _ = fs::write(busy.join("file"), "");
            }
        });
        remove_folder(&path).unwrap();
        straggler.join().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn removing_what_is_not_there_is_no_fault() {
        let folder = tempfile::tempdir().unwrap();
        remove_folder(&folder.path().join("none")).unwrap();
        remove_file(&folder.path().join("none")).unwrap();
    }
}
