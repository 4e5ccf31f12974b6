//! A running sandbox as its host holds it. One thread for each reads the log and the supervisor's
//! reports; the host's calls only send commands and wait for a bounded time. Nothing that the
//! payload does can block or end the host.

use std::collections::HashMap;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use crate::backend::Backend;
use crate::capabilities::{ask, ask_engine, nothing};
use crate::error::{ControlError, Fault, StartError};
use crate::log::{LogBuffer, LogSnapshot};
use crate::native::cgroup;
use crate::native::launcher::start_supervisor;
use crate::native::protocol::{
    Action, Command, ContainerOrder, Launch, Lines, Order, Refusal, Report, to_line,
};
use crate::outcome::{Exit, ExitCause, Usage};
use crate::request::SandboxRequest;
use crate::tier::{Capabilities, Tier, Walls};

/// How long a dropped sandbox is waited for.
const DROP_PATIENCE: Duration = Duration::from_secs(10);

/// How long the log may go on after the end. Its writers are dead then, so it ends at once, unless
/// the payload was given a way to hand its log to someone else.
const LOG_PATIENCE: Duration = Duration::from_secs(1);

/// How long a supervisor that has closed its socket may take to end.
const SUPERVISOR_PATIENCE: Duration = Duration::from_secs(5);

/// The pause between two looks whether it has.
const LOOK_AGAIN: Duration = Duration::from_micros(100);

/// Bytes of the log that are read at once.
const LOG_PIECE: usize = 64 * 1024;

/// A payload in a sandbox. Dropping it kills the payload and everything that it started.
#[derive(Debug)]
pub struct Sandbox {
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
    standing: Standing,
    init: i32,
}

/// What stands between a payload and the machine, as it is recorded.
#[derive(Debug)]
struct Standing {
    tier: Tier,
    /// Why the tier is not stronger.
    reasons: Vec<String>,
    image_id: Option<String>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Where commands go; locked so that no two are mixed.
    control: Mutex<UnixStream>,
    next_id: AtomicU64,
    log_limit: u64,
}

#[derive(Debug, Default)]
struct State {
    groups: Vec<PathBuf>,
    init: Option<i32>,
    failure: Option<Fault>,
    /// The commands that someone waits for, with their answers once these are there.
    answers: HashMap<u64, Option<Result<Usage, Refusal>>>,
    usage: Usage,
    exit: Option<Exit>,
    flooded: bool,
    log: LogBuffer,
    /// The reader has nothing more to do: the payload has ended, or never started.
    finished: bool,
}

impl Sandbox {
    /// Starts a payload. When this returns, its program runs.
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing of the sandbox is left then.
    pub fn start(request: SandboxRequest) -> Result<Self, StartError> {
        request.validate()?;
        let deadline = Instant::now() + request.start_timeout;
        let container = choose_container(&request)?;
        let (standing, walls) = choose_walls(&request, container.as_ref())?;
        let (log, log_writer) = std::io::pipe().map_err(|source| StartError::Host {
            operation: "make a pipe for the log",
            source,
        })?;
        let limits = request.policy.effective_limits(&request.limits);
        let mut environment = request.environment;
        for (name, value) in request.policy.effective_environment() {
            if !environment.iter().any(|(asked, _)| *asked == *name) {
                environment.push((name.into(), value.into()));
            }
        }
        let (inherit, numbers): (Vec<OwnedFd>, Vec<RawFd>) = request.inherit.into_iter().unzip();
        let launch = Box::new(Launch {
            program: request.program.into_os_string(),
            arguments: request.arguments,
            environment,
            mounts: request
                .mounts
                .into_iter()
                .map(|mount| (mount.source.into(), mount.target.into()))
                .collect(),
            embedded: request
                .embedded
                .iter()
                .map(|file| (file.target.clone().into(), file.contents.len() as u64))
                .collect(),
            inherit: numbers,
            limits: limits.clone(),
            policy: request.policy,
            walls,
            require_control_groups: standing.tier == Tier::One,
            host_pid: std::process::id(),
        });
        let order = match container {
            None => Order::Launch(launch),
            Some(container) => Order::Contain(launch, container),
        };
        let descriptors: Vec<BorrowedFd<'_>> = std::iter::once(log_writer.as_fd())
            .chain(inherit.iter().map(AsFd::as_fd))
            .collect();
        let (supervisor, socket) = start_supervisor(
            request.launcher.as_deref(),
            &order,
            &request.embedded,
            &descriptors,
        )?;
        drop((log_writer, inherit));
        Self::watch(supervisor, socket, log.into(), limits.log_bytes, standing)?
            .await_program(deadline, request.start_timeout)
    }

    fn watch(
        supervisor: Child,
        socket: UnixStream,
        log: OwnedFd,
        log_limit: u64,
        standing: Standing,
    ) -> Result<Self, StartError> {
        let host = |operation| move |source| StartError::Host { operation, source };
        let commands = socket.try_clone().map_err(host("copy a socket"))?;
        rustix::io::ioctl_fionbio(&log, true)
            .map_err(|error| host("make the log non-blocking")(error.into()))?;
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            control: Mutex::new(commands),
            next_id: AtomicU64::new(0),
            log_limit,
        });
        let reader = Reader {
            shared: Arc::clone(&shared),
            supervisor,
            socket,
            lines: Lines::default(),
            log: Some(File::from(log)),
        };
        let reader = std::thread::Builder::new()
            .name("sandbox".into())
            .spawn(move || reader.run())
            .map_err(host("start a thread"))?;
        Ok(Self {
            shared,
            reader: Some(reader),
            standing,
            init: 0,
        })
    }

    fn await_program(mut self, deadline: Instant, allowed: Duration) -> Result<Self, StartError> {
        let state = self
            .shared
            .wait_until(deadline, |state| state.init.is_some() || state.finished);
        match (state.init, state.failure.clone(), state.finished) {
            (Some(init), ..) => {
                drop(state);
                self.init = init;
                Ok(self)
            }
            (None, Some(fault), true) => Err(fault.into_start_error()),
            (None, None, true) => Err(StartError::LauncherSilent),
            (None, _, false) => Err(StartError::TimedOut(allowed)),
        }
    }

    /// The strength of this sandbox.
    #[must_use]
    pub fn tier(&self) -> Tier {
        self.standing.tier
    }

    /// Why it is not stronger; empty in tier 1.
    #[must_use]
    pub fn tier_reasons(&self) -> &[String] {
        &self.standing.reasons
    }

    /// The id of the image that a container was made from, whatever it was named by.
    #[must_use]
    pub fn image_id(&self) -> Option<&str> {
        self.standing.image_id.as_deref()
    }

    /// The number, in the host's eyes, of the first process of the sandbox.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.init
    }

    /// Stops every process of the payload. When this returns, none changes memory any more. Work that
    /// was handed to a device before may still finish there.
    ///
    /// # Errors
    ///
    /// [`ControlError`]; after [`ControlError::TimedOut`] it may still become frozen.
    pub fn freeze(&self, timeout: Duration) -> Result<(), ControlError> {
        self.command("freeze", Action::Freeze { timeout }, timeout)
            .map(drop)
    }

    /// Lets a frozen payload run again.
    ///
    /// # Errors
    ///
    /// [`ControlError`].
    pub fn thaw(&self, timeout: Duration) -> Result<(), ControlError> {
        self.command("thaw", Action::Thaw { timeout }, timeout)
            .map(drop)
    }

    /// Kills the payload and everything that it started, also if frozen or stopped, and waits until
    /// nothing is left. Does nothing if it has ended already.
    ///
    /// # Errors
    ///
    /// [`ControlError::TimedOut`] if something still lived then.
    pub fn kill(&self, timeout: Duration) -> Result<(), ControlError> {
        self.shared.send_kill(ExitCause::Killed);
        match self.wait(timeout) {
            Some(_) => Ok(()),
            None => Err(ControlError::TimedOut {
                operation: "kill",
                timeout,
            }),
        }
    }

    /// Waits for the end. `None` if the payload still runs after `timeout`.
    #[must_use]
    pub fn wait(&self, timeout: Duration) -> Option<Exit> {
        let deadline = Instant::now() + timeout;
        let state = self.shared.wait_until(deadline, |state| state.finished);
        state.exit.filter(|_| state.finished)
    }

    /// What has been used so far; after the end, in all. If the supervisor does not answer in time,
    /// what it told last.
    #[must_use]
    pub fn usage(&self, timeout: Duration) -> Usage {
        // After the end there is no one to ask, and nothing new to know.
        let fresh = self.command("measure", Action::Usage, timeout);
        fresh.unwrap_or_else(|_| self.shared.lock().usage)
    }

    /// What the payload has printed so far.
    #[must_use]
    pub fn log(&self) -> LogSnapshot {
        self.shared.lock().log.snapshot()
    }

    fn command(
        &self,
        operation: &'static str,
        action: Action,
        timeout: Duration,
    ) -> Result<Usage, ControlError> {
        let deadline = Instant::now() + timeout;
        let id = self.shared.next_id.fetch_add(1, Ordering::Relaxed);
        self.shared.lock().answers.insert(id, None);
        let sent = self.shared.send(id, action);
        let mut state = self.shared.wait_until(deadline, |state| {
            let waits = matches!(state.answers.get(&id), Some(None));
            state.finished || sent.is_err() || !waits
        });
        match state.answers.remove(&id).flatten() {
            Some(Ok(usage)) => Ok(usage),
            Some(Err(Refusal::Failed(reason))) => Err(ControlError::Refused { operation, reason }),
            None if state.finished || sent.is_err() => Err(ControlError::Ended { operation }),
            Some(Err(Refusal::TimedOut)) | None => {
                Err(ControlError::TimedOut { operation, timeout })
            }
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if self.kill(DROP_PATIENCE).is_err() {
            // The supervisor ends everything when it sees the end of its socket. It cannot be
            // waited for any longer; the reader goes on until it is gone.
            let _closed = self.shared.control().shutdown(Shutdown::Both);
            return;
        }
        if let Some(reader) = self.reader.take() {
            // The reader never panics; if it did, there would be nothing to do about it here.
            let _ended = reader.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn control(&self) -> MutexGuard<'_, UnixStream> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a condition holds, or the deadline has come; which of them, the caller sees.
    fn wait_until(
        &self,
        deadline: Instant,
        holds: impl Fn(&State) -> bool,
    ) -> MutexGuard<'_, State> {
        let left = deadline.saturating_duration_since(Instant::now());
        let waited = self
            .changed
            .wait_timeout_while(self.lock(), left, |state| !holds(state));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    fn send(&self, id: u64, action: Action) -> std::io::Result<()> {
        let line = to_line(&Command { id, action })?;
        self.control().write_all(&line)
    }

    fn send_kill(&self, cause: ExitCause) {
        // A supervisor that cannot be told has ended, or will be ended by the end of the socket.
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let _gone = self.send(id, Action::Kill(cause));
    }
}

/// The thread that takes in everything that comes from a sandbox.
#[derive(Debug)]
struct Reader {
    shared: Arc<Shared>,
    supervisor: Child,
    socket: UnixStream,
    lines: Lines,
    log: Option<File>,
}

impl Reader {
    fn run(mut self) {
        while self.read_once() {}
        self.reap_supervisor();
        self.remove_what_a_lost_supervisor_left();
        self.read_log_to_its_end();
        self.shared.change(|state| {
            if state.init.is_some() && state.exit.is_none() {
                state.exit = Some(Exit {
                    cause: ExitCause::SupervisorLost,
                });
            }
            if let Some(exit) = state.exit.as_mut().filter(|_| state.flooded) {
                exit.cause = ExitCause::LogFlood;
            }
            state.finished = true;
        });
    }

    /// The supervisor has said its last word and ends by itself, or was killed. What does neither is
    /// a launcher that is no supervisor.
    fn reap_supervisor(&mut self) {
        let deadline = Instant::now() + SUPERVISOR_PATIENCE;
        while matches!(self.supervisor.try_wait(), Ok(None)) {
            if Instant::now() >= deadline {
                // Fails only if it ends just now.
                let _ended = self.supervisor.kill();
                let _reaped = self.supervisor.wait();
                return;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Waits for something and takes it in. `false` when the supervisor has no more to say.
    fn read_once(&mut self) -> bool {
        let mut descriptors = vec![PollFd::new(&self.socket, PollFlags::IN)];
        if let Some(log) = &self.log {
            descriptors.push(PollFd::new(log, PollFlags::IN));
        }
        if let Err(error) = poll(&mut descriptors, None) {
            return error == rustix::io::Errno::INTR;
        }
        let ready = |index: usize| {
            descriptors
                .get(index)
                .is_some_and(|one: &PollFd<'_>| !one.revents().is_empty())
        };
        let (reported, printed) = (ready(0), ready(1));
        if printed {
            self.read_log();
        }
        !reported || self.read_reports()
    }

    fn read_reports(&mut self) -> bool {
        let open = self.lines.read(&self.socket).unwrap_or(false);
        loop {
            match self.lines.next() {
                Ok(Some(report)) => self.take(report),
                Ok(None) => return open,
                Err(_) => return false,
            }
        }
    }

    fn take(&self, report: Report) {
        self.shared.change(|state| match report {
            Report::Groups(groups) => state.groups = groups,
            Report::Running { init } => state.init = Some(init),
            Report::Failed(fault) => state.failure = Some(fault),
            Report::Answer { id, outcome } => {
                if let Ok(usage) = &outcome {
                    state.usage = *usage;
                }
                if let Some(answer) = state.answers.get_mut(&id) {
                    *answer = Some(outcome);
                }
            }
            Report::Ended { cause, usage } => {
                state.usage = usage;
                state.exit = Some(Exit { cause });
            }
            // Answers to questions that were not asked here.
            Report::Probed { .. } | Report::EngineProbed(_) => {}
        });
    }

    /// Reads one piece of the log. `false` if there was none.
    fn read_log(&mut self) -> bool {
        let Some(log) = &mut self.log else {
            return false;
        };
        let mut piece = [0; LOG_PIECE];
        match log.read(&mut piece) {
            Ok(0) => {
                self.log = None;
                false
            }
            Ok(count) => {
                let mut state = self.shared.lock();
                state.log.push(&piece[..count]);
                let flood = state.log.total_bytes() > self.shared.log_limit;
                let first = flood && !state.flooded;
                state.flooded |= flood;
                drop(state);
                if first {
                    self.shared.send_kill(ExitCause::LogFlood);
                }
                true
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(_) => {
                self.log = None;
                false
            }
        }
    }

    fn read_log_to_its_end(&mut self) {
        let deadline = Instant::now() + LOG_PATIENCE;
        while Instant::now() < deadline && self.read_log() {}
        self.log = None;
    }

    fn remove_what_a_lost_supervisor_left(&self) {
        // The supervisor removes them itself; then this finds nothing. A later start tries again.
        let groups = std::mem::take(&mut self.shared.lock().groups);
        let _left = cgroup::remove(&groups);
    }
}

/// The container that a request asks for, if it does.
fn choose_container(request: &SandboxRequest) -> Result<Option<ContainerOrder>, StartError> {
    let Backend::Docker(settings) = &request.backend else {
        return Ok(None);
    };
    let host = settings.effective_host();
    let offer = ask_engine(request.launcher.as_deref(), &host, &settings.image)?;
    Ok(Some(ContainerOrder {
        host,
        offer,
        run_folders: std::env::temp_dir().into(),
    }))
}

/// What this machine gives natively. It is asked once.
fn native_capabilities(launcher: Option<&Path>) -> Capabilities {
    static KNOWN: OnceLock<Capabilities> = OnceLock::new();
    match KNOWN.get() {
        Some(known) => known.clone(),
        None => match ask(launcher) {
            Ok(found) => KNOWN.get_or_init(|| found).clone(),
            // A fault of the launcher says nothing about the machine: not to be remembered.
            Err(reason) => nothing(reason),
        },
    }
}

/// The walls for a request, if this machine can give what it asks for.
fn choose_walls(
    request: &SandboxRequest,
    container: Option<&ContainerOrder>,
) -> Result<(Standing, Walls), StartError> {
    let capabilities = match container {
        Some(container) => container.offer.capabilities.clone(),
        None => native_capabilities(request.launcher.as_deref()),
    };
    // A filter that lets through what the standard refuses is no whole wall.
    let strict = request.policy.is_as_strict_as_standard();
    let weakest = if strict { Tier::One } else { Tier::Three };
    let offered = |forced| {
        let found = match container {
            Some(_) => capabilities.container_walls(forced),
            None => capabilities.walls(forced),
        };
        found.map(|(tier, walls)| (tier.max(weakest), walls))
    };
    let mut reasons = capabilities.reasons.clone();
    if !strict {
        reasons.push("the policy allows system calls that the standard policy refuses".into());
    }
    match offered(request.force_tier).filter(|(tier, _)| *tier <= request.minimum_tier) {
        Some((tier, walls)) => {
            if tier == Tier::One {
                reasons.clear();
            } else if request.force_tier.is_some() {
                reasons.push("a weaker tier was asked for".into());
            }
            let standing = Standing {
                tier,
                reasons,
                image_id: container.map(|container| container.offer.image_id.clone()),
            };
            Ok((standing, walls))
        }
        None => Err(StartError::TooWeak {
            minimum: request.force_tier.unwrap_or(request.minimum_tier),
            offered: offered(None).map(|(tier, _)| tier),
            reasons,
        }),
    }
}
