//! The host's side of the escape suite: the things to be attacked, made for this purpose, and the
//! sandboxes in which the attackers stand. All of it is gone when the suite is over.

use std::fs::{self, File, Permissions};
use std::io::{self, PipeReader, Read};
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::attacker::ATTACKER_ARGUMENT;
use super::{SelftestError, SelftestOptions};
use crate::backend::Backend;
use crate::docker::own_command;
use crate::error::StartError;
use crate::memory::SharedMemory;
use crate::policy::Policy;
use crate::request::{Limits, Mount, SandboxRequest};
use crate::sandbox::Sandbox;
use crate::tier::Tier;

/// Size of the memory that each attacker shares with the host.
pub(super) const MEMORY_BYTES: usize = 4096;

/// The descriptor of that memory in the attacker.
pub(super) const MEMORY: i32 = 3;

/// The descriptor of the pipe by which the attacker's processes tell that they are ready.
pub(super) const VOICE: i32 = 4;

/// The variable that the attacker is given, and the only one.
pub(super) const GIVEN_VARIABLE: &str = "CRUSADES_SELFTEST";

/// What an attacker may store and print: little, so that its bounds are reached soon.
const STORAGE_BYTES: u64 = 8 << 20;
const LOG_BYTES: u64 = 1 << 20;
const MEMORY_LIMIT_BYTES: u64 = 512 << 20;

/// Where the attacker's program is in a root of its own.
const PROGRAM: &str = "/attacker/program";

/// What an attacker knows of the host: where the things are that it must not reach.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Bait {
    /// A file of the host that everyone there may read.
    pub(super) secret: PathBuf,
    /// A folder of the host that the attacker may read, with a file `file` in it.
    pub(super) shown: PathBuf,
    /// A port of the host's loopback where someone listens.
    pub(super) port: u16,
    /// The name of an abstract socket of the host where someone listens.
    pub(super) abstract_socket: String,
    /// The path of a socket of the host where someone listens.
    pub(super) named_socket: PathBuf,
    /// A process of the host, of the same user as the host.
    pub(super) victim: i32,
    /// Names of all variables of the host's environment.
    pub(super) variables: Vec<String>,
    /// Whether the attacker has namespaces of its own.
    pub(super) namespaces: bool,
    /// Whether the attacker is in a container.
    pub(super) container: bool,
    /// Whether the attacker may read whatever its root holds that is not the host's.
    pub(super) open_root: bool,
    /// Whether `shown` holds a program that would make its caller root.
    pub(super) setuid: bool,
}

/// What an attacker is started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Attempt,
    Control,
    /// To make every system call.
    Calls,
    /// To make several attempts with their harmless twins, each in a process of its own.
    Several,
}

impl Role {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Attempt, "attempt"),
        (Self::Control, "control"),
        (Self::Calls, "calls"),
        (Self::Several, "several"),
    ];

    pub(super) fn named(name: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(_, one)| *one == name);
        found.map(|(role, _)| *role)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Attempt => "attempt",
            Self::Control => "control",
            Self::Calls => "calls",
            Self::Several => "several",
        }
    }
}

/// The things to be attacked.
#[derive(Debug)]
pub(super) struct Scene {
    bait: Bait,
    launcher: PathBuf,
    backend: Backend,
    policy: Policy,
    victim: Child,
    // Held so that they are there to be attacked.
    _folder: TempDir,
    _listeners: (TcpListener, UnixListener, UnixListener),
    _careless: OwnedFd,
}

impl Scene {
    pub(super) fn set(options: &SelftestOptions) -> Result<Self, SelftestError> {
        let during = |operation| move |source| SelftestError { operation, source };
        let launcher = match &options.launcher {
            Some(path) => path.clone(),
            None => std::env::current_exe().map_err(during("find the running executable"))?,
        };
        let folder = TempDir::new().map_err(during("make a folder"))?;
        let (secret, shown) = (folder.path().join("secret"), folder.path().join("shown"));
        let files = || -> io::Result<bool> {
            open(folder.path(), 0o755)?;
            write(&secret, 0o644)?;
            fs::create_dir(&shown)?;
            open(&shown, 0o755)?;
            write(&shown.join("file"), 0o644)?;
            if !rustix::process::geteuid().is_root() {
                return Ok(false);
            }
            write(&shown.join("private"), 0o600)?;
            fs::copy("/bin/cat", shown.join("cat"))?;
            open(&shown.join("cat"), 0o4755)?;
            Ok(true)
        };
        let setuid = files().map_err(during("make files to be attacked"))?;
        let named_socket = folder.path().join("socket");
        let abstract_socket = format!("crusades-selftest-{}", folder.path().display());
        let listen = || -> io::Result<_> {
            let named = UnixListener::bind(&named_socket)?;
            open(&named_socket, 0o777)?;
            let address = SocketAddr::from_abstract_name(&abstract_socket)?;
            let tcp = TcpListener::bind("127.0.0.1:0")?;
            let port = tcp.local_addr()?.port();
            Ok((port, (tcp, UnixListener::bind_addr(&address)?, named)))
        };
        let (port, listeners) = listen().map_err(during("listen on sockets"))?;
        let careless =
            careless_copy(&secret).map_err(during("hold a descriptor to be inherited"))?;
        let victim = Command::new("/bin/sleep")
            .arg("100000")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(during("start a process to be attacked"))?;
        let bait = Bait {
            secret,
            shown,
            port,
            abstract_socket,
            named_socket,
            victim: i32::try_from(victim.id()).unwrap_or(i32::MAX),
            variables: std::env::vars_os()
                .filter_map(|(name, _)| name.into_string().ok())
                .collect(),
            namespaces: true,
            container: options.backend != Backend::Native,
            open_root: false,
            setuid,
        };
        Ok(Self {
            bait,
            launcher,
            backend: options.backend.clone(),
            policy: options.policy.clone(),
            victim,
            _folder: folder,
            _listeners: listeners,
            _careless: careless,
        })
    }

    pub(super) fn bait(&self) -> &Bait {
        &self.bait
    }

    /// The same for an attacker in this tier.
    pub(super) fn bait_in(&self, tier: Tier) -> Bait {
        let container = self.bait.container;
        Bait {
            namespaces: container || tier != Tier::Three,
            open_root: container && tier != Tier::One,
            ..self.bait.clone()
        }
    }

    /// Whether the process to be attacked is as it was.
    pub(super) fn victim_lives(&mut self) -> bool {
        matches!(self.victim.try_wait(), Ok(None))
    }

    /// Starts an attacker for one attack, or for several whose names are divided by commas.
    pub(super) fn start(&self, tier: Tier, name: &str, role: Role) -> Result<Stage, StartError> {
        let host = |operation| move |source| StartError::Host { operation, source };
        let memory =
            SharedMemory::create("selftest", MEMORY_BYTES).map_err(host("make shared memory"))?;
        let (voice, theirs) = io::pipe().map_err(host("make a pipe"))?;
        let shared = memory
            .as_fd()
            .try_clone_to_owned()
            .map_err(host("copy a descriptor"))?;
        let bait = self.bait_in(tier);
        let mut request = SandboxRequest::under(self.policy.clone(), PROGRAM);
        request.backend = self.backend.clone();
        request.mounts = vec![Mount::in_place(&self.bait.shown)];
        if let [program, arguments @ ..] = own_command()
            && bait.container
        {
            // It is there already, with all that it needs.
            request.program = program.into();
            request.arguments = arguments.iter().map(Into::into).collect();
        } else {
            // Without a root of its own the attacker finds things only where they are.
            if !bait.namespaces {
                request.program.clone_from(&self.launcher);
            }
            request.mounts.push(Mount {
                source: self.launcher.clone(),
                target: request.program.clone(),
            });
        }
        let bait = serde_json::to_string(&bait)
            .map_err(|error| host("write what the attacker is told")(error.into()))?;
        let own = [ATTACKER_ARGUMENT, role.name(), name, &bait].map(Into::into);
        request.arguments.extend(own);
        request.environment = vec![(GIVEN_VARIABLE.into(), "given".into())];
        request.inherit = vec![(shared, MEMORY), (theirs.into(), VOICE)];
        request.limits = Limits {
            storage_bytes: STORAGE_BYTES,
            log_bytes: LOG_BYTES,
            memory_bytes: MEMORY_LIMIT_BYTES,
            ..self.policy.limits.clone()
        };
        request.launcher = Some(self.launcher.clone());
        request.force_tier = Some(tier);
        // A policy that is weaker than the standard may be attacked too.
        request.minimum_tier = Tier::Three;
        let sandbox = Sandbox::start(request)?;
        Ok(Stage {
            sandbox,
            memory,
            voice,
        })
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // Fails only if it has ended already.
        let _ended = self.victim.kill();
        let _reaped = self.victim.wait();
    }
}

/// An attacker in its sandbox, with what it shares with the host.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) sandbox: Sandbox,
    pub(super) memory: SharedMemory,
    voice: PipeReader,
}

impl Stage {
    /// Waits until as many bytes have come as processes are to be ready.
    pub(super) fn hear(&mut self, mut voices: usize, patience: Duration) -> io::Result<()> {
        let deadline = Instant::now() + patience;
        let mut buffer = [0; 64];
        while voices > 0 {
            if !readable(&self.voice, deadline)? {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let room = voices.min(buffer.len());
            match self.voice.read(&mut buffer[..room])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => voices -= count,
            }
        }
        Ok(())
    }

    /// Whether no process holds the other end any more.
    pub(super) fn silent(&mut self) -> io::Result<()> {
        if !readable(&self.voice, Instant::now())? {
            return Err(io::Error::other("its pipe is still open"));
        }
        match self.voice.read(&mut [0])? {
            0 => Ok(()),
            _ => Err(io::Error::other("it still writes")),
        }
    }
}

fn readable(pipe: &PipeReader, deadline: Instant) -> io::Result<bool> {
    let left = deadline.saturating_duration_since(Instant::now());
    let left = Timespec::try_from(left).map_err(io::Error::other)?;
    let mut descriptors = [PollFd::new(pipe, PollFlags::IN)];
    Ok(poll(&mut descriptors, Some(&left))? > 0)
}

fn open(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
}

fn write(path: &Path, mode: u32) -> io::Result<()> {
    fs::write(path, "contents\n")?;
    open(path, mode)
}

/// A descriptor that survives `execve`, as a careless host might have one.
fn careless_copy(path: &Path) -> io::Result<OwnedFd> {
    let file = File::open(path)?;
    // SAFETY: duplicating a descriptor touches no memory.
    let copy = unsafe { libc::dup(file.as_raw_fd()) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the copy was just made and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}
