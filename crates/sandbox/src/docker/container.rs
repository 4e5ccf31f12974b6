//! One container, from the supervisor's side: made, started, handed its order, and removed when dropped.
//! From its start on it is a body like any other, watched by the same code as a native sandbox.

use std::cell::Cell;
use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags};

use crate::docker::engine::Engine;
use crate::docker::host_identity::HostIdentity;
use crate::docker::leftovers;
use crate::docker::options::{ContainerPlan, create_body};
use crate::docker::own_program::{OwnProgram, PLACE};
use crate::docker::run_folder::RunFolder;
use crate::error::{During, Fault};
use crate::native::protocol::{CONTAINER_ARGUMENT, ContainerOrder, Order, send_order};
use crate::native::{Body, Given, Group, INSIDE, Identity};
use crate::request::{EmbeddedFile, Mount};

/// How long a started container's first process may take until it connects.
const CONNECT_PATIENCE: Duration = Duration::from_secs(30);

/// How often it is asked meanwhile whether it still lives.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// A container that exists, removed when dropped.
#[derive(Debug)]
pub(crate) struct Container {
    engine: Engine,
    id: String,
    /// Whether the engine has frozen it.
    paused: Cell<bool>,
    /// Whether it was ever asked to. What was asked in vain may still have happened.
    pause_asked: Cell<bool>,
    /// Dropped after the container that shows it is gone.
    _folder: RunFolder,
}

impl Container {
    /// Freezes it by the engine. `Ok(false)` if that was not done by the deadline.
    pub(crate) fn pause(&self, deadline: Instant) -> io::Result<bool> {
        if self.paused.get() {
            return Ok(true);
        }
        self.pause_asked.set(true);
        let done = self.engine.pause(&self.id, deadline)?;
        self.paused.set(done);
        Ok(done)
    }

    /// Undoes [`Self::pause`].
    pub(crate) fn unpause(&self, deadline: Instant) -> io::Result<bool> {
        if !self.paused.get() {
            return Ok(true);
        }
        let done = self.engine.unpause(&self.id, deadline)?;
        self.paused.set(!done);
        Ok(done)
    }

    /// Whether the engine may have frozen it.
    pub(crate) fn may_be_paused(&self) -> bool {
        self.pause_asked.get()
    }

    /// Kills it by the engine, frozen or not.
    pub(crate) fn kill(&self) -> Result<(), Fault> {
        self.engine.kill(&self.id)
    }

    /// Starts the first process and waits until it has connected.
    fn start(&self, listener: &UnixListener) -> Result<UnixStream, Fault> {
        self.engine.start(&self.id)?;
        let deadline = Instant::now() + CONNECT_PATIENCE;
        let operation = "wait for the first process of the container";
        while Instant::now() < deadline {
            if is_readable(listener, LOOK_INTERVAL) {
                let (connection, _) = listener.accept().during(|| operation)?;
                return Ok(connection);
            }
            if let Some(reason) = self.engine.why_ended(&self.id) {
                return Err(Fault::plain(operation, reason));
            }
        }
        Err(Fault::plain(
            operation,
            format!("it did not connect within {CONNECT_PATIENCE:?}"),
        ))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // What the engine cannot remove now is removed by a later start.
        let _left = self.engine.remove(&self.id);
    }
}

/// Starts a payload in a container. Returns its body, and what its first process reports.
pub(crate) fn start(given: Given, order: &ContainerOrder) -> Result<(Body, UnixStream), Fault> {
    let Given {
        mut launch,
        mounts,
        embedded,
        log,
        inherit,
    } = given;
    let engine = Engine::connect(&order.host)?;
    let run_folders = Path::new(&order.run_folders);
    leftovers::remove(&engine, run_folders)?;
    let host = HostIdentity::of(launch.host_pid);
    let run = random_name()?;
    let mut folder = RunFolder::create(run_folders, &host, &run)?;
    let (user, own_user) = choose_user(order.offer.maps_users, &log)?;

    let mut shown = resolve(&mounts)?;
    for file in &embedded {
        shown.push(folder.write(file)?);
    }
    let program = OwnProgram::find()?;
    launch.embedded.clear();
    launch.mounts = shown
        .iter()
        .map(|mount| (mount.source.clone().into(), mount.target.clone().into()))
        .collect();
    // This program is no secret; the escape suite starts it as the attacker.
    launch.mounts.push((PLACE.into(), PLACE.into()));
    shown.extend(program.files);
    shown.push(folder.write(&users(user, &launch.policy.effective_files().home))?);
    // The loader of the first process would load what the image names there.
    shown.push(folder.write(&EmbeddedFile {
        target: "/etc/ld.so.preload".into(),
        contents: Vec::new(),
    })?);
    let (listener, socket) = folder.listen()?;
    shown.push(socket);
    require_distinct(&shown)?;

    let body = create_body(&ContainerPlan {
        image_id: &order.offer.image_id,
        image_variables: &order.offer.image_variables,
        policy: &launch.policy,
        limits: &launch.limits,
        mounts: &shown,
        command: program
            .command
            .iter()
            .copied()
            .chain([CONTAINER_ARGUMENT])
            .map(str::to_owned)
            .collect(),
        user,
        labels: leftovers::labels(&host, &run),
    })?;
    let id = engine.create(&format!("crusades-{}-{run}", host.pid), body)?;
    let socket_path = folder.socket();
    let container = Container {
        engine,
        id,
        paused: Cell::new(false),
        pause_asked: Cell::new(false),
        _folder: folder,
    };
    let connection = container.start(&listener)?;
    // From here on nobody can connect any more, least of all the payload.
    drop(listener);
    std::fs::remove_file(&socket_path).during(|| format!("remove {}", socket_path.display()))?;
    let (leader, pidfd) = first_process(&connection)?;
    let group = Group::of_container(leader, &container.id)?;
    group.require_limits(&launch.limits)?;
    let limits = launch.limits.clone();
    let descriptors: Vec<BorrowedFd<'_>> = std::iter::once(log.as_fd())
        .chain(inherit.iter().map(|(descriptor, _)| descriptor.as_fd()))
        .collect();
    let inside = Order::Inside {
        launch: Box::new(launch),
        own_user,
    };
    send_order(&connection, &inside, &[], &descriptors)
        .during(|| "send the order to the container")?;
    let body = Body::in_container(leader, pidfd, group, limits, container);
    Ok((body, connection))
}

/// The user of the payload, and whether no one else has it.
fn choose_user(engine_maps_users: bool, log: &OwnedFd) -> Result<(u32, bool), Fault> {
    if engine_maps_users {
        // The engine makes it another one outside.
        return Ok((INSIDE, false));
    }
    let identity = Identity::choose();
    identity.give(log)?;
    Ok(match identity {
        Identity::Separate(user) => (user, true),
        Identity::Caller { user: 0, .. } => (INSIDE, false),
        Identity::Caller { user, .. } => (user, false),
    })
}

/// Follows the links of the sources once.
fn resolve(mounts: &[Mount]) -> Result<Vec<Mount>, Fault> {
    let resolve = |mount: &Mount| -> Result<Mount, Fault> {
        let source = mount.source.canonicalize();
        Ok(Mount {
            source: source.during(|| format!("take a view of {}", mount.source.display()))?,
            target: mount.target.clone(),
        })
    };
    mounts.iter().map(resolve).collect()
}

fn require_distinct(mounts: &[Mount]) -> Result<(), Fault> {
    let mut targets = HashSet::new();
    match mounts.iter().find(|mount| !targets.insert(&mount.target)) {
        Some(mount) => Err(Fault::new(
            format!("show {}", mount.target.display()),
            &io::ErrorKind::AlreadyExists.into(),
        )),
        None => Ok(()),
    }
}

/// The file of users, as a native sandbox has it.
fn users(user: u32, home: &Path) -> EmbeddedFile {
    let line = format!(
        "nobody:x:{user}:{user}:nobody:{}:/usr/sbin/nologin\n",
        home.display()
    );
    EmbeddedFile {
        target: PathBuf::from("/etc/passwd"),
        contents: line.into_bytes(),
    }
}

/// Sixteen hexadecimal digits.
fn random_name() -> Result<String, Fault> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .during(|| "draw a random name")?;
    Ok(format!("{:016x}", u64::from_ne_bytes(bytes)))
}

fn is_readable(listener: &UnixListener, patience: Duration) -> bool {
    let patience = Timespec::try_from(patience).ok();
    let mut descriptors = [PollFd::new(listener, PollFlags::IN)];
    poll(&mut descriptors, patience.as_ref()).is_ok_and(|ready| ready > 0)
}

/// The process at the other end of a connection, in the numbers of this process.
fn first_process(connection: &UnixStream) -> Result<(Pid, OwnedFd), Fault> {
    let operation = "find the first process of the container";
    // SAFETY: zeros are a valid credential, which the call fills.
    let mut peer: libc::ucred = unsafe { std::mem::zeroed() };
    let mut length = libc::socklen_t::try_from(size_of::<libc::ucred>()).unwrap_or_default();
    // SAFETY: the place to write to is whole and as long as is said.
    let result = unsafe {
        libc::getsockopt(
            connection.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error()).during(|| operation);
    }
    let pid = Pid::from_raw(peer.pid).ok_or_else(|| {
        Fault::plain(operation, "the engine's processes cannot be seen from here")
    })?;
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).during(|| operation)?;
    Ok((pid, pidfd))
}
