//! Starting, freezing, limiting and killing an untrusted process.
//!
//! A [`SandboxRequest`] names a program and all that it may see and use; [`Sandbox::start`] runs it
//! behind every wall that the machine offers and says by its [`Tier`] how strong they are. What the
//! machine cannot isolate well is refused. This crate knows nothing of what the program is for.
//!
//! There are two backends behind one interface: this program itself, and a container engine. Both
//! start the running executable again as a supervisor, so `main` must call [`run_if_supervisor`]
//! first.

mod backend;
mod capabilities;
mod descriptors;
mod docker;
mod error;
mod log;
mod memory;
mod native;
mod outcome;
mod policy;
mod request;
mod sandbox;
pub mod selftest;
mod tier;

pub use backend::{Backend, DEFAULT_DOCKER_HOST, DockerSettings};
pub use capabilities::{probe, probe_docker, probe_with};
pub use descriptors::{MOST_DESCRIPTORS, send_with_descriptors};
pub use error::{ControlError, StartError};
pub use log::{KEPT_BYTES, LogSnapshot};
pub use memory::{Filling, SealedMemory, SharedMemory};
pub use native::run_if_supervisor;
pub use outcome::{Exit, ExitCause, Usage};
pub use policy::{
    Answer, DeviceInventory, FilePolicy, GpuPolicy, InternetProtocol, IoctlCommand, Namespace,
    NetlinkProtocol, Policy, PolicyError, ResourcePolicy, SocketFamily, StricterCalls,
    Surroundings, SystemCall, SystemCallPolicy, WritableFolder,
};
pub use request::{EmbeddedFile, Limits, Mount, SandboxRequest};
pub use sandbox::Sandbox;
pub use tier::{Capabilities, Tier};
