//! Starting a supervisor from the host. The host may have any number of threads and any amount of
//! memory: it is never forked, only this executable is started anew, with an empty environment.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::error::StartError;
use crate::native::protocol::{Order, SUPERVISOR_ARGUMENT, send_order};
use crate::request::EmbeddedFile;

/// The running executable, also if its file has been replaced meanwhile.
const OWN_EXECUTABLE: &str = "/proc/self/exe";

/// How long a supervisor may keep the host waiting that wants to tell it something.
const PATIENCE: Duration = Duration::from_secs(10);

/// Starts a supervisor with an order. The socket is the only tie: when its last copy in the host is
/// closed, by whatever end of the host, the supervisor ends everything.
pub(crate) fn start_supervisor(
    launcher: Option<&Path>,
    order: &Order,
    embedded: &[EmbeddedFile],
    descriptors: &[BorrowedFd<'_>],
) -> Result<(Child, UnixStream), StartError> {
    let path = launcher.unwrap_or(Path::new(OWN_EXECUTABLE));
    let host = |operation| move |source| StartError::Host { operation, source };
    let (ours, theirs) = UnixStream::pair().map_err(host("make a socket pair"))?;
    ours.set_write_timeout(Some(PATIENCE))
        .map_err(host("set the timeout of a socket"))?;
    let mut child = Command::new(path)
        .arg(SUPERVISOR_ARGUMENT)
        .env_clear()
        .current_dir("/")
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|source| StartError::Launcher {
            path: path.display().to_string(),
            source,
        })?;
    match send_order(&ours, order, embedded, descriptors) {
        Ok(()) => Ok((child, ours)),
        Err(error) => {
            // A launcher that is no supervisor may run on; it is ours to end. Both calls can fail
            // only if it has ended.
            let _ended = child.kill();
            let _reaped = child.wait();
            Err(match error.kind() {
                std::io::ErrorKind::BrokenPipe => StartError::LauncherSilent,
                _ => StartError::Host {
                    operation: "send the request to the supervisor",
                    source: error,
                },
            })
        }
    }
}
