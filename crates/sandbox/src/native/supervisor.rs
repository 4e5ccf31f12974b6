//! The process between the host and a sandbox. It has one thread, starts the sandbox, does what the
//! host tells it, and, when the host is gone for whatever reason, ends the sandbox and removes its
//! control groups. It must never outlive what it has to clean up, and never trust the payload.

use std::io::{self, Read, Write};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::WaitOptions;

use crate::docker;
use crate::error::Fault;
use crate::native::access::Scene;
use crate::native::body::{Body, Sample};
use crate::native::cgroup::{self, Group};
use crate::native::filter::Filters;
use crate::native::identity::Identity;
use crate::native::init::{self, Habitat, Plan, exit_now};
use crate::native::payload::{Program, prepare_locked_memory};
use crate::native::probe;
use crate::native::processes;
use crate::native::protocol::{
    Action, CONTAINER_ARGUMENT, Command, InitReport, Launch, Lines, Order, Refusal, Report,
    SUPERVISOR_ARGUMENT, receive_order, to_line,
};
use crate::native::weak;
use crate::outcome::{ExitCause, Usage};
use crate::policy::Surroundings;
use crate::request::{EmbeddedFile, Mount};
use crate::selftest::run_if_attacker;

/// How often memory is looked at where the kernel does not end the whole sandbox by itself.
const WATCH_INTERVAL: Duration = Duration::from_millis(50);

/// A look may cost this share of the time at most; on a machine with many processes it is made less often.
const WATCH_COST: u32 = 20;

/// How long a sandbox is given to die before the next attempt.
const KILL_INTERVAL: Duration = Duration::from_millis(5);

/// Becomes a sandbox supervisor, the first process of a container, or an attacker of the escape suite,
/// and never returns, if this process was started as one. Every program that uses sandboxes calls this as the first statement of `main`,
/// before it starts a thread.
pub fn run_if_supervisor() {
    run_if_attacker();
    let argument = std::env::args_os().nth(1).unwrap_or_default();
    let part = if argument == SUPERVISOR_ARGUMENT {
        run
    } else if argument == CONTAINER_ARGUMENT {
        docker::live_in_container
    } else {
        return;
    };
    // Neither a supervisor nor its children may ever return into the host's program.
    std::panic::set_hook(Box::new(|_| exit_now()));
    part();
    exit_now();
}

fn run() {
    // Only the host's end decides about the life of this process, not a terminal or a service stop.
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT] {
        // SAFETY: ignoring a signal installs no handler.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    // Refused only to the leader of a process group, which has no terminal to be interrupted from.
    let _session = rustix::process::setsid();
    // The same for every payload, whoever the host's user is.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    // SAFETY: the host gives its socket as standard input; nothing else in this process uses it.
    let control = unsafe { OwnedFd::from_raw_fd(0) };
    let mut host = Host {
        socket: UnixStream::from(control),
        lines: Lines::default(),
    };
    let Ok(received) = receive_order(&host.socket) else {
        return;
    };
    match received.order {
        Order::Probe { host_pid } => host.tell(&probe::report(host_pid)),
        Order::ProbeEngine {
            host: engine,
            image,
        } => {
            let found = docker::probe(&engine, &image).map(Box::new);
            host.tell(&Report::EngineProbed(found));
        }
        Order::Launch(launch) => {
            let outcome = Given::sort(*launch, received.embedded, received.descriptors)
                .and_then(|given| supervise(&mut host, given));
            host.tell(&outcome.unwrap_or_else(Report::Failed));
        }
        Order::Contain(launch, order) => {
            let outcome = Given::sort(*launch, received.embedded, received.descriptors)
                .and_then(|given| docker::start(given, &order))
                .map(|(body, reports)| Watch::new(body, Some(reports.into())).run(&mut host));
            host.tell(&outcome.unwrap_or_else(Report::Failed));
        }
        // Only for the first process of a container, which has no supervisor's argument.
        Order::Inside { .. } => {}
    }
}

/// A payload to start, with all that came with its order.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) launch: Launch,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) embedded: Vec<EmbeddedFile>,
    pub(crate) log: OwnedFd,
    pub(crate) inherit: Vec<(OwnedFd, RawFd)>,
}

impl Given {
    /// Gives each descriptor the place that the order names for it.
    pub(crate) fn sort(
        launch: Launch,
        embedded: Vec<EmbeddedFile>,
        descriptors: Vec<OwnedFd>,
    ) -> Result<Self, Fault> {
        let mut descriptors = descriptors.into_iter();
        let incomplete = || Fault::plain("read the request", "descriptors are missing");
        let log = descriptors.next().ok_or_else(incomplete)?;
        let inherit: Vec<(OwnedFd, RawFd)> =
            descriptors.zip(launch.inherit.iter().copied()).collect();
        if inherit.len() != launch.inherit.len() {
            return Err(incomplete());
        }
        let mounts = launch
            .mounts
            .iter()
            .map(|(source, target)| Mount {
                source: source.into(),
                target: target.into(),
            })
            .collect();
        Ok(Self {
            launch,
            mounts,
            embedded,
            log,
            inherit,
        })
    }
}

/// A descriptor to read from.
struct Source<'a>(&'a OwnedFd);

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(self.0, buffer)?)
    }
}

/// The host as this process sees it: a socket that ends when the host does.
#[derive(Debug)]
struct Host {
    socket: UnixStream,
    lines: Lines,
}

impl Host {
    fn tell(&mut self, report: &Report) {
        // A host that does not listen is gone; that is noticed by reading.
        let _unheard = to_line(report).and_then(|line| self.socket.write_all(&line));
    }
}

fn supervise(host: &mut Host, given: Given) -> Result<Report, Fault> {
    let Given {
        launch,
        mounts,
        embedded,
        log,
        inherit,
    } = given;
    let group = make_group(&launch)?;
    host.tell(&Report::Groups(group.directories()));
    let resources = launch.policy.effective_resources();
    prepare_locked_memory(&resources);
    let calls = launch.policy.system_calls_in(Surroundings {
        namespaces: launch.walls.namespaces,
        counted_memory: group.limits(),
    });
    let filters = Filters::compile(&calls)?;
    let identity = Identity::choose();
    identity.give(&log)?;
    if launch.walls.namespaces {
        let program = Program::new(&launch.program, &launch.arguments, &launch.environment)?;
        let files = launch.policy.effective_files();
        let plan = Plan {
            program,
            limits: launch.limits.clone(),
            resources,
            files: files.clone(),
            landlock: launch.walls.landlock,
            filters,
            log,
            inherit,
            scene: Scene::OwnRoot,
            own_user: true,
        };
        let habitat = Habitat::prepare(
            files,
            mounts,
            embedded,
            launch.limits.storage_bytes,
            identity,
            &group,
        )?;
        let newborn = habitat.populate(&group, |habitat, pipes| init::run(habitat, plan, pipes))?;
        let body = Body::with_init(newborn.pid, newborn.pidfd, group, launch.limits);
        let end = Watch::new(body, Some(newborn.reports.into())).run(host);
        drop(newborn.tie);
        Ok(end)
    } else {
        let (leader, pidfd) =
            weak::start(&launch, &mounts, embedded, log, inherit, &filters, identity)?;
        let body = Body::without_init(leader, pidfd, launch.limits);
        host.tell(&Report::Running {
            init: leader.as_raw_nonzero().get(),
        });
        Ok(Watch::new(body, None).run(host))
    }
}

fn make_group(launch: &Launch) -> Result<Group, Fault> {
    if !launch.walls.control_groups {
        return Ok(Group::default());
    }
    let own = rustix::process::getpid()
        .as_raw_nonzero()
        .get()
        .unsigned_abs();
    let (group, reason) = Group::create(&cgroup::directory_name(launch.host_pid, own));
    if launch.require_control_groups && !group.limits() {
        return Err(Fault::plain(
            "limit memory and processes by control groups",
            reason,
        ));
    }
    cgroup::remove_stale(&group);
    group.set_limits(&launch.limits)?;
    Ok(group)
}

/// The life of one sandbox, seen by its supervisor.
#[derive(Debug)]
struct Watch {
    body: Body,
    /// What the sandbox's init tells; none where there is no init. Its end lets a container's go.
    reports: Option<OwnedFd>,
    lines: Lines,
    running: bool,
    failure: Option<Fault>,
    /// How the payload itself ended.
    end: Option<ExitCause>,
    leader_gone: bool,
    /// Why the sandbox is being killed.
    killing: Option<ExitCause>,
    next_look: Instant,
    sample: Sample,
}

impl Watch {
    fn new(body: Body, reports: Option<OwnedFd>) -> Self {
        Self {
            body,
            running: reports.is_none(),
            reports,
            lines: Lines::default(),
            failure: None,
            end: None,
            leader_gone: false,
            killing: None,
            next_look: Instant::now() + WATCH_INTERVAL,
            sample: Sample::default(),
        }
    }

    /// Serves the host until nothing of the sandbox is left.
    fn run(mut self, host: &mut Host) -> Report {
        let mut host_lives = true;
        loop {
            let (told, reported) = self.sleep(host, host_lives);
            if told {
                host_lives = self.obey(host);
                if !host_lives {
                    self.kill(ExitCause::Killed);
                }
            }
            if reported {
                self.listen(host);
            }
            self.reap();
            if self.leader_gone && self.body.is_empty() {
                // What was written before the end has not been read if both came together.
                self.listen(host);
                if self.killing == Some(ExitCause::LogFlood) && !self.running {
                    // Whoever floods the log runs, though the init was killed before it said so.
                    self.note_running(host);
                }
                return self.conclude();
            }
            if self.is_ending() {
                self.body.kill();
            } else {
                self.look();
            }
        }
    }

    /// Waits for something to do. Tells whether the host and the init have something to say.
    fn sleep(&self, host: &Host, host_lives: bool) -> (bool, bool) {
        let timeout = if self.is_ending() {
            Some(KILL_INTERVAL)
        } else if self.body.needs_watching() {
            Some(self.next_look.saturating_duration_since(Instant::now()))
        } else {
            None
        };
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let readable = |wanted| {
            if wanted {
                PollFlags::IN
            } else {
                PollFlags::empty()
            }
        };
        let mut descriptors = vec![PollFd::from_borrowed_fd(
            self.body.pidfd(),
            readable(!self.leader_gone),
        )];
        if let Some(reports) = &self.reports {
            descriptors.push(PollFd::new(reports, PollFlags::IN));
        }
        if host_lives {
            descriptors.push(PollFd::new(&host.socket, PollFlags::IN));
        }
        if poll(&mut descriptors, timeout.as_ref()).is_err() {
            return (false, false);
        }
        let ready = |index: usize| {
            descriptors
                .get(index)
                .is_some_and(|one| !one.revents().is_empty())
        };
        let reported = self.reports.is_some() && ready(1);
        let told = host_lives && ready(1 + usize::from(self.reports.is_some()));
        (told, reported)
    }

    /// Carries out what the host tells. `false` when the host is gone.
    fn obey(&mut self, host: &mut Host) -> bool {
        if !matches!(host.lines.read(&host.socket), Ok(true)) {
            return false;
        }
        loop {
            let Command { id, action } = match host.lines.next() {
                Ok(Some(command)) => command,
                Ok(None) => return true,
                // Not the host that this supervisor was built with.
                Err(_) => return false,
            };
            let outcome = match action {
                Action::Kill(cause) => {
                    self.kill(cause);
                    Ok(())
                }
                Action::Usage => Ok(()),
                Action::Freeze { .. } | Action::Thaw { .. } if self.killing.is_some() => {
                    Err(Refusal::Failed("it is being killed".into()))
                }
                Action::Freeze { timeout } => self.body.freeze(Instant::now() + timeout),
                Action::Thaw { timeout } => self.body.thaw(Instant::now() + timeout),
            };
            let outcome = outcome.map(|()| self.usage());
            host.tell(&Report::Answer { id, outcome });
        }
    }

    /// Takes in what the sandbox's init tells.
    fn listen(&mut self, host: &mut Host) {
        let Some(reports) = &mut self.reports else {
            return;
        };
        let open = matches!(self.lines.read(Source(reports)), Ok(true));
        while let Ok(Some(report)) = self.lines.next() {
            match report {
                InitReport::Failed(fault) => self.failure = Some(fault),
                InitReport::Running => self.note_running(host),
                InitReport::Ended(cause) => self.end = Some(cause),
            }
        }
        if self.end.is_some() {
            // While a container's account is there.
            self.body.out_of_memory_kills(&mut self.sample);
            self.body.usage(&mut self.sample);
        }
        if !open {
            self.reports = None;
        }
    }

    fn note_running(&mut self, host: &mut Host) {
        self.running = true;
        host.tell(&Report::Running {
            init: self.body.leader().as_raw_nonzero().get(),
        });
    }

    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            if pid == self.body.leader() {
                self.leader_gone = true;
                if !self.body.has_init() {
                    self.end = processes::cause_of(status);
                }
            }
        }
        self.leader_gone |= self.body.container_has_ended();
    }

    /// Whether whatever is left of the sandbox is to be killed.
    fn is_ending(&self) -> bool {
        let over = self.end.is_some() || self.failure.is_some();
        over || self.killing.is_some() || self.leader_gone
    }

    fn kill(&mut self, cause: ExitCause) {
        if self.killing.is_none() {
            // Where the kernel does not account, nobody can tell later what the killed have used.
            self.usage();
            self.killing = Some(cause);
        }
        self.body.kill();
    }

    /// Ends the sandbox if it has used up its memory.
    fn look(&mut self) {
        let start = Instant::now();
        if start < self.next_look || !self.body.needs_watching() {
            return;
        }
        if self.body.is_out_of_memory(&mut self.sample) {
            self.kill(ExitCause::OutOfMemory);
        }
        self.next_look = Instant::now() + WATCH_INTERVAL.max(start.elapsed() * WATCH_COST);
    }

    fn usage(&mut self) -> Usage {
        self.body.usage(&mut self.sample)
    }

    fn conclude(mut self) -> Report {
        let out_of_memory = self.body.out_of_memory_kills(&mut self.sample) > 0;
        let usage = self.usage();
        // Removes the control groups, or the container, so that nothing is left when the host hears of
        // the end.
        drop(self.body);
        if let Some(fault) = self.failure {
            return Report::Failed(fault);
        }
        if !self.running {
            let reason = if out_of_memory {
                "the memory limit is too small to start anything"
            } else {
                "it was killed before the program ran"
            };
            return Report::Failed(Fault::plain("start the init of the sandbox", reason));
        }
        let cause = if out_of_memory {
            ExitCause::OutOfMemory
        } else {
            cause_of_end(self.end, self.killing)
        };
        Report::Ended { cause, usage }
    }
}

/// Why a payload ended: by itself, where it could, or by the kill, whose mark is SIGKILL.
fn cause_of_end(end: Option<ExitCause>, killing: Option<ExitCause>) -> ExitCause {
    let killed = ExitCause::Signaled(libc::SIGKILL);
    match end {
        Some(end) if end != killed => end,
        _ => killing.unwrap_or(killed),
    }
}
