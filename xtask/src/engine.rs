//! A container engine for the tests of the Docker backend: one that runs already, or else a private one in a
//! temporary folder, without a network and apart from everything else on the machine. A private engine
//! ends with this program, however that ends.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::command::{self, Failed};
use crate::tools;

/// Says where the engine listens; the tests and Docker's own client read it.
pub(crate) const DOCKER_HOST: &str = "DOCKER_HOST";

/// Where an engine listens if nothing else is said.
const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// Packages of Debian and Ubuntu that bring the engine.
const PACKAGES: [&str; 2] = ["docker.io", "iptables"];

/// Asks an engine whether it is one.
const PING: &[u8] = b"GET /_ping HTTP/1.0\r\n\r\n";

/// How long a private engine may take to start; it takes less than a second.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// How long it may take to end.
const END_PATIENCE: Duration = Duration::from_secs(30);

/// The pause between two looks whether it has done so.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Runs an engine in the folder `$1` until the standard input or the engine ends; then prints the last line
/// of its log and removes the folder. A process of its own, so that this happens even if the one
/// that started it is killed.
const GUARD: &str = r#"
trap '' HUP
dockerd --data-root "$1/data" --exec-root "$1/exec" --pidfile "$1/pid" --host "unix://$1/socket" \
    --bridge=none --iptables=false --ip6tables=false --ip-forward=false --ip-masq=false \
    >"$1/log" 2>&1 </dev/null &
engine=$!
exec 3<&0
{ cat <&3; kill $engine; } >/dev/null 2>&1 &
wait $engine
tail -n 1 "$1/log"
cut -d' ' -f2 /proc/mounts | grep "^$1/" | sort -r | xargs -r umount
rm -rf --one-file-system "$1"
"#;

/// An engine that answers.
#[derive(Debug)]
pub(crate) struct Engine {
    socket: PathBuf,
    /// The guard of a private engine.
    guard: Option<Child>,
}

impl Engine {
    /// The engine that runs, or a private one. The error says why there is none.
    pub(crate) fn find_or_start() -> Result<Self, String> {
        let socket = configured_socket()?;
        let Err(reason) = ping(&socket) else {
            return Ok(Self {
                socket,
                guard: None,
            });
        };
        if !is_root() {
            return Err(format!("{reason}; only root can start one"));
        }
        if !tools::is_installed("dockerd") {
            return Err(format!(
                "{reason}; `dockerd` is not on the PATH\n  on Debian or Ubuntu: sudo apt-get install {}, \
                 or run this with --install",
                PACKAGES.join(" ")
            ));
        }
        Self::start()
    }

    fn start() -> Result<Self, String> {
        let name = format!("crusades-engine-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        // Users who may use the socket must be able to reach it.
        fs::DirBuilder::new()
            .mode(0o711)
            .create(&folder)
            .map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
        let guard = Command::new("sh")
            .args(["-c", GUARD, "sh"])
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // An interrupt of a terminal is for this program alone; the engine then ends with it.
            .process_group(0)
            .spawn()
            .map_err(|error| format!("cannot start a shell: {error}"))?;
        let mut engine = Self {
            socket: folder.join("socket"),
            guard: Some(guard),
        };
        let deadline = Instant::now() + START_PATIENCE;
        while let Err(reason) = ping(&engine.socket) {
            if Instant::now() >= deadline || engine.has_ended() {
                let last = engine.end();
                return Err(format!("a private engine did not start: {reason}: {last}"));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(engine)
    }

    fn has_ended(&mut self) -> bool {
        let guard = self.guard.as_mut();
        guard.is_some_and(|guard| !matches!(guard.try_wait(), Ok(None)))
    }

    /// Ends a private engine. Returns the last line of its log.
    fn end(&mut self) -> String {
        let Some(mut guard) = self.guard.take() else {
            return String::new();
        };
        drop(guard.stdin.take());
        let deadline = Instant::now() + END_PATIENCE;
        while matches!(guard.try_wait(), Ok(None)) {
            if Instant::now() >= deadline {
                return format!("the engine at {} still runs", self.socket.display());
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        let mut last = String::new();
        if let Some(mut output) = guard.stdout.take() {
            // What cannot be read was not written by the guard.
            let _unread = output.read_to_string(&mut last);
        }
        last.trim().to_owned()
    }

    /// Where it listens, as `DOCKER_HOST` has it.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// What it is, for people.
    pub(crate) fn describe(&self) -> String {
        let kind = match self.guard {
            Some(_) => "a private engine at",
            None => "the engine at",
        };
        format!("{kind} {}", self.host())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.end();
    }
}

/// Installs what an engine needs, where it is missing and can be had.
pub(crate) fn install() -> Result<(), Failed> {
    if configured_socket().is_ok_and(|socket| ping(&socket).is_ok())
        || tools::is_installed("dockerd")
    {
        return Ok(());
    }
    if !is_root() || !tools::is_installed("apt-get") {
        return Err("only root can install packages, and only by apt-get"
            .to_owned()
            .into());
    }
    let apt = |arguments: &[&str]| {
        let mut apt = Command::new("apt-get");
        apt.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        command::run(apt)
    };
    apt(&["update", "--quiet"])?;
    let mut arguments = vec!["install", "--quiet", "--yes", "--no-install-recommends"];
    arguments.extend(PACKAGES);
    apt(&arguments)
}

fn configured_socket() -> Result<PathBuf, String> {
    match std::env::var_os(DOCKER_HOST).filter(|host| !host.is_empty()) {
        None => Ok(DEFAULT_SOCKET.into()),
        Some(host) => socket_of(&host),
    }
}

fn socket_of(host: &OsStr) -> Result<PathBuf, String> {
    host.to_str()
        .and_then(|host| host.strip_prefix("unix://"))
        .map(PathBuf::from)
        .ok_or_else(|| format!("{DOCKER_HOST} is {}, no unix:///PATH", host.display()))
}

/// Asks whether an engine listens there.
fn ping(socket: &Path) -> Result<(), String> {
    let ask = || -> std::io::Result<String> {
        let mut engine = UnixStream::connect(socket)?;
        engine.set_read_timeout(Some(START_PATIENCE))?;
        engine.write_all(PING)?;
        let mut answer = String::new();
        engine.read_to_string(&mut answer)?;
        Ok(answer)
    };
    match ask() {
        Ok(answer) if answer.contains(" 200 ") => Ok(()),
        Ok(_) => Err(format!("{} is no container engine", socket.display())),
        Err(error) => Err(format!("no engine at {}: {error}", socket.display())),
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;
    use std::path::Path;

    use super::{Engine, PING, is_root, ping, socket_of};
    use crate::tools;

    #[test]
    fn only_an_engine_that_answers_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        assert!(ping(&socket).unwrap_err().contains("no engine at"));
        let listener = UnixListener::bind(&socket).unwrap();
        for (answer, expected) in [("HTTP/1.0 200 OK\r\n\r\nOK", true), ("hello", false)] {
            let listener = listener.try_clone().unwrap();
            let answering = std::thread::spawn(move || {
                let (mut connection, _) = listener.accept().unwrap();
                connection.read_exact(&mut [0; PING.len()]).unwrap();
                connection.write_all(answer.as_bytes()).unwrap();
            });
            assert_eq!(ping(&socket).is_ok(), expected, "{answer}");
            answering.join().unwrap();
        }
    }

    #[test]
    fn a_private_engine_ends_with_its_holder_and_leaves_no_file() {
        if !is_root() || !tools::is_installed("dockerd") {
            println!("skipped: needs root and `dockerd`");
            return;
        }
        let engine = match Engine::start() {
            Ok(engine) => engine,
            Err(reason) => {
                println!("skipped: {reason}");
                return;
            }
        };
        let socket = engine.socket.clone();
        assert!(ping(&socket).is_ok());
        assert!(engine.describe().contains("private"));
        drop(engine);
        assert!(ping(&socket).is_err());
        assert!(!socket.parent().unwrap().exists());
    }

    #[test]
    fn only_sockets_of_this_machine_are_used() {
        let socket = socket_of(OsStr::new("unix:///run/engine"));
        assert_eq!(socket.as_deref(), Ok(Path::new("/run/engine")));
        assert!(socket_of(OsStr::new("tcp://elsewhere:2375")).is_err());
    }
}
