//! The folder that one container shares with its supervisor: a socket, and files given by value. It is
//! open to its owner alone and shown to the container read-only in parts. The socket takes one
//! connection, before any code of the payload runs, and is removed then by whoever listens, so that
//! nothing in the container can race for it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use crate::docker::host_identity::HostIdentity;
use crate::error::{During, Fault};
use crate::request::{EmbeddedFile, Mount};

/// The folder with the socket, in the container.
const SHOWN: &str = "/.crusades/run";

/// The socket, in the container.
pub(crate) const RUN_SOCKET: &str = "/.crusades/run/socket";

/// Every such folder begins so; the identity of its host process follows.
const PREFIX: &str = "crusades-run-";

/// The part that holds the socket.
const SOCKET_PART: &str = "socket";

/// A folder on the host, removed when dropped.
#[derive(Debug)]
pub(crate) struct RunFolder {
    path: PathBuf,
    files: u32,
}

impl RunFolder {
    /// Makes a folder below `parent`, the system's temporary folder.
    pub(crate) fn create(parent: &Path, host: &HostIdentity, run: &str) -> Result<Self, Fault> {
        let path = parent.join(format!("{PREFIX}{}-{run}", host.to_text()));
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .during(|| format!("make the run folder {}", path.display()))?;
        Ok(Self { path, files: 0 })
    }

    /// Listens for the container's first process. Returns what is to be shown to it.
    pub(crate) fn listen(&self) -> Result<(UnixListener, Mount), Fault> {
        let folder = self.path.join(SOCKET_PART);
        let listen = || -> std::io::Result<UnixListener> {
            fs::create_dir(&folder)?;
            let listener = UnixListener::bind(self.socket())?;
            // The container's user is another one. Whoever else has that number cannot get here.
            fs::set_permissions(&folder, Permissions::from_mode(0o755))?;
            fs::set_permissions(self.socket(), Permissions::from_mode(0o666))?;
            Ok(listener)
        };
        let listener = listen().during(|| format!("listen in {}", folder.display()))?;
        let shown = Mount {
            source: folder,
            target: SHOWN.into(),
        };
        Ok((listener, shown))
    }

    /// The socket, on the host.
    pub(crate) fn socket(&self) -> PathBuf {
        self.path.join(SOCKET_PART).join("socket")
    }

    /// Writes a file to be shown at its target.
    pub(crate) fn write(&mut self, file: &EmbeddedFile) -> Result<Mount, Fault> {
        let source = self.path.join(self.files.to_string());
        self.files += 1;
        let write = || -> std::io::Result<()> {
            let mut options = fs::OpenOptions::new();
            let mut open = options
                .write(true)
                .create_new(true)
                .mode(0o444)
                .open(&source)?;
            std::io::Write::write_all(&mut open, &file.contents)
        };
        write().during(|| format!("write {} for {}", source.display(), file.target.display()))?;
        Ok(Mount {
            source,
            target: file.target.clone(),
        })
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        // What cannot be removed now is removed by a later start.
        let _left = fs::remove_dir_all(&self.path);
    }
}

/// Removes the folders of this user's hosts that have ended.
pub(crate) fn remove_abandoned(parent: &Path) {
    let own = rustix::process::geteuid().as_raw();
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let host = name.to_str().and_then(|name| {
            HostIdentity::from_text(name.strip_prefix(PREFIX)?.rsplit_once('-')?.0)
        });
        let abandoned = host.is_some_and(|host| host.has_ended())
            && entry
                .metadata()
                .is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == own);
        if abandoned {
            // Its supervisor may be at it too.
            let _left = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{RunFolder, remove_abandoned};
    use crate::docker::host_identity::HostIdentity;
    use crate::request::EmbeddedFile;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;

    fn names(folder: &std::path::Path) -> usize {
        std::fs::read_dir(folder).expect("list").count()
    }

    #[test]
    fn a_folder_is_private_takes_connections_and_leaves_nothing() {
        let parent = tempfile::tempdir().expect("make a folder");
        let host = HostIdentity::of(std::process::id());
        let mut folder = RunFolder::create(parent.path(), &host, "0a").expect("create");
        let mode = folder
            .path
            .metadata()
            .expect("metadata")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700);
        let (listener, shown) = folder.listen().expect("listen");
        UnixStream::connect(shown.source.join("socket")).expect("connect");
        drop(listener);
        let file = EmbeddedFile {
            target: "/worker.py".into(),
            contents: b"by value".to_vec(),
        };
        let written = folder.write(&file).expect("write");
        assert_eq!(written.target, file.target);
        assert_eq!(std::fs::read(&written.source).expect("read"), b"by value");
        assert_ne!(folder.write(&file).expect("write").source, written.source);
        drop(folder);
        assert_eq!(names(parent.path()), 0);
    }

    #[test]
    fn folders_of_dead_hosts_are_removed_and_those_of_living_ones_and_of_others_are_not() {
        let parent = tempfile::tempdir().expect("make a folder");
        let alive = HostIdentity::of(std::process::id());
        let dead = HostIdentity {
            start_ticks: alive.start_ticks - 1,
            ..alive.clone()
        };
        for host in [&alive, &dead] {
            std::mem::forget(RunFolder::create(parent.path(), host, "0b").expect("create"));
        }
        std::fs::create_dir(parent.path().join("crusades-run-other")).expect("make");
        remove_abandoned(parent.path());
        assert_eq!(names(parent.path()), 2);
        remove_abandoned(&parent.path().join("none"));
    }
}
