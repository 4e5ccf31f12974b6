//! The Python environment of the worker: where it lies, how it is made, what is in it.
//!
//! [`EnvironmentHome`] says where environments are kept, [`Environment::set_up`] makes one from the
//! lock file that ships in the program, [`Environment::locate`] finds one, and
//! [`Environment::probe`] and [`Environment::read_only_paths`] say what is in it and what a sandbox
//! must show to run it. This crate prints nothing, asks nothing, and runs nothing but `uv`, `pip` and
//! Python interpreters; it never runs a submission.

mod child;
mod claim;
mod disk;
mod environment;
mod files;
mod home;
mod installer;
#[cfg(test)]
mod interpreters_for_tests;
mod marker;
mod paths;
mod probe;
mod python;
mod report;
mod requirements;
mod set_up;

pub use child::ChildError;
pub use disk::{DiskError, free_bytes};
pub use environment::{Absence, Environment, InterpreterError, Located, Origin};
pub use home::{EnvironmentHome, HomeError, OVERRIDE_VARIABLE};
pub use installer::Installer;
pub use probe::{ModuleFault, ProbeError};
pub use python::{Interpreter, InterpreterFault, PythonVersion, Rejected};
pub use report::{CudaDevice, CudaReport, EnvironmentReport};
pub use requirements::{LOCK, LockedDownload};
pub use set_up::{InstallerChoice, SetupError, SetupEvent, SetupOptions, SetupPhase, SetupPlan};
