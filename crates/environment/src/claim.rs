//! The exclusive claim to one environment's folder while it is set up.
//!
//! The kernel gives the claim up when its holder ends, however it ends, so none can be left behind.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

/// A held claim; dropping it gives it up.
#[derive(Debug)]
pub(crate) struct Claim {
    _file: File,
}

/// The outcome of asking for a claim.
#[derive(Debug)]
pub(crate) enum Asked {
    /// It is held by the caller now.
    Held(Claim),
    /// Another holds it; its process id, if it wrote one.
    Taken(Option<u32>),
}

/// Asks for the claim whose file is `path`, and does not wait.
pub(crate) fn ask(path: &Path) -> io::Result<Asked> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    // Not truncated on opening: the holder's process id stands in it.
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            writeln!(file, "{}", std::process::id())?;
            Ok(Asked::Held(Claim { _file: file }))
        }
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            // The id is only for people to read.
            let _ = file.take(32).read_to_string(&mut holder);
            Ok(Asked::Taken(holder.trim().parse().ok()))
        }
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_claim_is_refused_while_the_first_is_held_and_granted_after() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("below/claim.lock");
        let Asked::Held(first) = ask(&path).unwrap() else {
            panic!("the first was refused")
        };
        let Asked::Taken(holder) = ask(&path).unwrap() else {
            panic!("the second was granted")
        };
        assert_eq!(holder, Some(std::process::id()));
        drop(first);
        assert!(matches!(ask(&path).unwrap(), Asked::Held(_)));
    }
}
