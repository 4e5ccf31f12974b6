//! Making an environment, from an empty folder to the marker that says it is complete.
//!
//! The marker is written last and everything before it may be lost at any moment: a folder without
//! one is cleared, except for wheels that an installer keeps in its cache, and begun again. A virtual environment cannot be moved,
//! so it is made where it stays, under an exclusive claim.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::child::{self, ChildError, Seen};
use crate::claim::{self, Asked, Claim};
use crate::disk::{DiskError, free_bytes, readable, used_bytes};
use crate::environment::{Environment, Located};
use crate::files::{remove_file, remove_folder};
use crate::home::{EnvironmentHome, Layout};
use crate::installer::Installer;
use crate::marker::{self, Checked, Marker};
use crate::probe::{self, ProbeError};
use crate::python::{self, Interpreter, InterpreterFault, Rejected};
use crate::requirements::{LockedDownload, MACHINES, Requirements, installed_bytes};

/// How often progress is told, at most.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// Counting bytes on disk may take one part in this many of the time.
const COUNTING_SHARE: u32 = 10;

/// How often a claim that another process holds is asked for again.
const CLAIM_INTERVAL: Duration = Duration::from_millis(250);

/// Free space asked for beyond what was measured, in percent: file systems differ.
const DISK_MARGIN_PERCENT: u64 = 10;

/// Which program is to make the environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InstallerChoice {
    /// `uv` if it is found, else `pip`.
    #[default]
    Any,
    /// `uv` only.
    Uv,
    /// `pip` only.
    Pip,
}

/// What to make an environment with.
#[derive(Debug, Clone, Default)]
pub struct SetupOptions {
    /// The interpreter to make it with; without one, the best that is found.
    pub base_python: Option<PathBuf>,
    /// The program to make it with.
    pub installer: InstallerChoice,
    /// Folders in which programs are looked for, in the form of PATH.
    pub search_path: OsString,
}

impl SetupOptions {
    /// Nothing chosen; programs are looked for in PATH.
    #[must_use]
    pub fn from_variables() -> Self {
        Self {
            search_path: std::env::var_os("PATH").unwrap_or_default(),
            ..Self::default()
        }
    }
}

/// The parts of a set-up that take time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetupPhase {
    /// Removing what an interrupted set-up left.
    Clear,
    /// Making an empty virtual environment.
    CreateVenv,
    /// Downloading and installing what the lock names.
    Install,
    /// Importing it once, and bringing it to the disk.
    Check,
}

impl fmt::Display for SetupPhase {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Clear => "clear away an unfinished environment",
            Self::CreateVenv => "create the virtual environment",
            Self::Install => "download and install the packages",
            Self::Check => "check the environment",
        })
    }
}

/// What a set-up is about to do; told before anything is written or downloaded.
#[derive(Debug, Clone)]
pub struct SetupPlan {
    /// The environment's folder, which will hold all of it.
    pub folder: PathBuf,
    /// The interpreter that it is made with.
    pub base_python: Interpreter,
    /// The program that makes it.
    pub installer: Installer,
    /// What is downloaded, with sizes, in order of name.
    pub downloads: Vec<LockedDownload>,
    /// Bytes to download in all, unless an earlier set-up or a cache already has them.
    pub download_bytes: u64,
    /// Bytes that the environment takes in the end, about.
    pub installed_bytes: u64,
    /// Bytes that must be free to begin, with a margin; what an interrupted set-up downloaded is
    /// taken off.
    pub needed_bytes: u64,
    /// Bytes that are free.
    pub free_bytes: u64,
}

/// What happens during a set-up.
#[derive(Debug, Clone)]
pub enum SetupEvent {
    /// Another process is setting up the same environment, and is waited for. Comes again as long as
    /// that lasts.
    Waiting {
        /// The other's process id, if it is known.
        holder: Option<u32>,
        /// How long it was waited for.
        elapsed: Duration,
    },
    /// What is about to be done.
    Planned(Box<SetupPlan>),
    /// A phase begins.
    Started(SetupPhase),
    /// Time passes in a phase. Comes about twice a second.
    Progress {
        /// The phase.
        phase: SetupPhase,
        /// Bytes in the environment's folder, downloads that are kept for a repetition included.
        bytes: u64,
        /// Bytes expected in it at the end of [`SetupPhase::Install`], about.
        expected_bytes: u64,
        /// Time since the set-up began.
        elapsed: Duration,
    },
    /// The installer printed a line; for people to read.
    Output(String),
    /// A phase ended well.
    Finished {
        /// The phase.
        phase: SetupPhase,
        /// How long it took.
        elapsed: Duration,
    },
}

/// Why no environment was made.
#[derive(Debug, Error)]
pub enum SetupError {
    /// `uv` was asked for.
    #[error("uv is not on PATH")]
    NoUv,
    /// No interpreter was found that an environment can be made with.
    #[error("no Python ({}) that can make an environment is on PATH{}",
        python::locked_range(),
        listed(.rejected))]
    NoPython {
        /// Those that were found and why each was not taken.
        rejected: Vec<Rejected>,
    },
    /// The interpreter that was named cannot make an environment.
    #[error("cannot make an environment with {path}")]
    UnfitPython {
        /// The interpreter.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: InterpreterFault,
    },
    /// There are no packages for this machine.
    #[error("the packages are built for Linux on {}, and this machine is {machine}", MACHINES.join(" and "))]
    UnknownMachine {
        /// What the kernel calls the machine.
        machine: String,
    },
    /// The claim could not be asked for.
    #[error("cannot claim {path}")]
    Claim {
        /// The claim's file.
        path: PathBuf,
        /// Why it could not.
        #[source]
        source: io::Error,
    },
    /// The free space is not known.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The free space is too small.
    #[error("setting up needs {} free in {folder}, and {} are; name another folder by {}",
        readable(*.needed_bytes), readable(*.free_bytes), crate::home::OVERRIDE_VARIABLE)]
    DiskFull {
        /// The environment's folder.
        folder: PathBuf,
        /// Bytes needed.
        needed_bytes: u64,
        /// Bytes free.
        free_bytes: u64,
    },
    /// A file or folder of the environment could not be made or removed.
    #[error("cannot {phase}: cannot change {path}")]
    Change {
        /// What was being done.
        phase: SetupPhase,
        /// The file or folder.
        path: PathBuf,
        /// Why it could not.
        #[source]
        source: io::Error,
    },
    /// The installer failed.
    #[error("cannot {phase} by {installer}")]
    Installer {
        /// What was being done.
        phase: SetupPhase,
        /// By what.
        installer: Installer,
        /// How it failed, with its last lines.
        #[source]
        source: ChildError,
    },
    /// All was installed, and does not work.
    #[error("the environment was made and does not work")]
    Check(#[from] ProbeError),
}

fn listed(rejected: &[Rejected]) -> String {
    rejected
        .iter()
        .map(|rejected| format!("\n  {rejected}"))
        .collect()
}

pub(crate) fn set_up(
    home: &EnvironmentHome,
    requirements: &Requirements,
    options: &SetupOptions,
    on_event: &mut dyn FnMut(SetupEvent),
) -> Result<Environment, SetupError> {
    if options.base_python.is_none()
        && let Located::Ready(environment) = Environment::locate_made(home, requirements)
    {
        return Ok(environment);
    }
    let installer = choose_installer(options)?;
    let base_python = choose_python(options, &installer)?;
    let layout = home.layout(requirements, base_python.version);
    let claim = wait_for_claim(&layout, on_event)?;
    if let Checked::Complete(marker) = marker::check(&layout, requirements) {
        return Ok(Environment::made(home, requirements, &marker));
    }
    let plan = plan(&layout, requirements, installer, base_python)?;
    on_event(SetupEvent::Planned(Box::new(plan.clone())));
    if plan.free_bytes < plan.needed_bytes {
        return Err(SetupError::DiskFull {
            folder: plan.folder,
            needed_bytes: plan.needed_bytes,
            free_bytes: plan.free_bytes,
        });
    }
    let marker = Making {
        layout: &layout,
        plan: &plan,
        on_event,
        begun: Instant::now(),
    }
    .make(requirements)?;
    drop(claim);
    Ok(Environment::made(home, requirements, &marker))
}

fn choose_installer(options: &SetupOptions) -> Result<Installer, SetupError> {
    let uv = || Installer::find_uv(&options.search_path);
    match options.installer {
        InstallerChoice::Any => Ok(uv().unwrap_or(Installer::Pip)),
        InstallerChoice::Uv => uv().ok_or(SetupError::NoUv),
        InstallerChoice::Pip => Ok(Installer::Pip),
    }
}

fn choose_python(options: &SetupOptions, installer: &Installer) -> Result<Interpreter, SetupError> {
    let needs_venv = *installer == Installer::Pip;
    if let Some(path) = &options.base_python {
        return python::inspect_for_set_up(path, needs_venv).map_err(|source| {
            SetupError::UnfitPython {
                path: path.clone(),
                source,
            }
        });
    }
    python::find(&options.search_path, needs_venv).or_else(|mut rejected| {
        let Some(path) = installer.managed_python() else {
            return Err(SetupError::NoPython { rejected });
        };
        python::inspect_for_set_up(&path, needs_venv).map_err(|fault| {
            rejected.push(Rejected { path, fault });
            SetupError::NoPython { rejected }
        })
    })
}

fn wait_for_claim(
    layout: &Layout,
    on_event: &mut dyn FnMut(SetupEvent),
) -> Result<Claim, SetupError> {
    let begun = Instant::now();
    loop {
        let asked = claim::ask(&layout.lock).map_err(|source| SetupError::Claim {
            path: layout.lock.clone(),
            source,
        })?;
        match asked {
            Asked::Held(claim) => return Ok(claim),
            Asked::Taken(holder) => on_event(SetupEvent::Waiting {
                holder,
                elapsed: begun.elapsed(),
            }),
        }
        thread::sleep(CLAIM_INTERVAL);
    }
}

fn plan(
    layout: &Layout,
    requirements: &Requirements,
    installer: Installer,
    base_python: Interpreter,
) -> Result<SetupPlan, SetupError> {
    let system = rustix::system::uname();
    let machine = system.machine().to_string_lossy().into_owned();
    if !MACHINES.contains(&machine.as_str()) {
        return Err(SetupError::UnknownMachine { machine });
    }
    let downloads = requirements.downloads_for(base_python.version, &machine);
    let download_bytes = downloads.iter().map(|download| download.bytes).sum();
    let installed_bytes = installed_bytes(download_bytes);
    let at_worst = installer
        .disk_need(download_bytes, installed_bytes)
        .at_worst;
    Ok(SetupPlan {
        needed_bytes: (at_worst + at_worst / 100 * DISK_MARGIN_PERCENT)
            .saturating_sub(used_bytes(&layout.folder)),
        free_bytes: free_bytes(&layout.folder)?,
        folder: layout.folder.clone(),
        base_python,
        installer,
        downloads,
        download_bytes,
        installed_bytes,
    })
}

/// A set-up that holds the claim.
struct Making<'a> {
    layout: &'a Layout,
    plan: &'a SetupPlan,
    on_event: &'a mut dyn FnMut(SetupEvent),
    begun: Instant,
}

impl Making<'_> {
    fn make(&mut self, requirements: &Requirements) -> Result<Marker, SetupError> {
        let layout = self.layout;
        let installer = &self.plan.installer;
        if layout.folder.exists() {
            self.phase(SetupPhase::Clear, |_| {
                // The marker first: without it the rest is not taken for complete.
                for file in [layout.marker(), layout.probe()] {
                    remove_file(&file).map_err(fault(SetupPhase::Clear, &file))?;
                }
                for folder in [layout.venv(), layout.scratch()] {
                    remove_folder(&folder).map_err(fault(SetupPhase::Clear, &folder))?;
                }
                Ok(())
            })?;
        }
        self.phase(SetupPhase::CreateVenv, |making| {
            fs::create_dir_all(layout.scratch())
                .map_err(fault(SetupPhase::CreateVenv, &layout.scratch()))?;
            fs::write(layout.requirements(), requirements.lock.as_bytes())
                .map_err(fault(SetupPhase::CreateVenv, &layout.requirements()))?;
            let python = &making.plan.base_python.executable;
            making.run(
                SetupPhase::CreateVenv,
                installer.venv_command(python, layout),
            )
        })?;
        self.phase(SetupPhase::Install, |making| {
            making.run(SetupPhase::Install, installer.install_command(layout))
        })?;
        self.phase(SetupPhase::Check, |making| {
            probe::require(&layout.python(), &requirements.modules)?;
            remove_folder(&layout.downloads())
                .map_err(fault(SetupPhase::Check, &layout.downloads()))?;
            // The marker must not reach the disk before what it vouches for.
            sync_file_system(&layout.folder).map_err(fault(SetupPhase::Check, &layout.folder))?;
            let marker = making
                .marker(requirements)
                .map_err(fault(SetupPhase::Check, &layout.python()))?;
            marker
                .write(layout)
                .map_err(fault(SetupPhase::Check, &layout.marker()))?;
            Ok(marker)
        })
    }

    fn phase<T>(
        &mut self,
        phase: SetupPhase,
        work: impl FnOnce(&mut Self) -> Result<T, SetupError>,
    ) -> Result<T, SetupError> {
        (self.on_event)(SetupEvent::Started(phase));
        let begun = Instant::now();
        let done = work(self)?;
        (self.on_event)(SetupEvent::Finished {
            phase,
            elapsed: begun.elapsed(),
        });
        Ok(done)
    }

    /// Runs one command of the installer, passing on its lines and the bytes on disk.
    fn run(&mut self, phase: SetupPhase, command: Command) -> Result<(), SetupError> {
        let folder = &self.layout.folder;
        let expected_bytes = self
            .plan
            .installer
            .disk_need(self.plan.download_bytes, self.plan.installed_bytes)
            .at_end;
        let mut next = Instant::now();
        let on_event = &mut *self.on_event;
        let begun = self.begun;
        child::run(command, None, &mut |seen| {
            if let Seen::Line(_, line) = seen {
                on_event(SetupEvent::Output(line.to_owned()));
            }
            if Instant::now() < next {
                return;
            }
            let counting = Instant::now();
            let bytes = used_bytes(folder);
            next = Instant::now() + PROGRESS_INTERVAL.max(counting.elapsed() * COUNTING_SHARE);
            on_event(SetupEvent::Progress {
                phase,
                bytes,
                expected_bytes,
                elapsed: begun.elapsed(),
            });
        })
        .map_err(|source| SetupError::Installer {
            phase,
            installer: self.plan.installer.clone(),
            source,
        })
    }

    fn marker(&self, requirements: &Requirements) -> io::Result<Marker> {
        let versions: BTreeMap<String, String> = self
            .plan
            .downloads
            .iter()
            .filter(|download| requirements.modules.contains(&download.package.as_str()))
            .map(|download| (download.package.clone(), download.version.clone()))
            .collect();
        let version = self.plan.base_python.version;
        Marker::of(
            self.layout,
            requirements,
            version,
            versions,
            self.plan.installer.to_string(),
        )
    }
}

fn fault(phase: SetupPhase, path: &Path) -> impl FnOnce(io::Error) -> SetupError {
    let path = path.to_owned();
    move |source| SetupError::Change {
        phase,
        path,
        source,
    }
}

fn sync_file_system(folder: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(folder)?)?)
}

#[cfg(test)]
mod tests;
