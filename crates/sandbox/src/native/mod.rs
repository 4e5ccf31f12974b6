//! The backend that needs no daemon, and what the other one shares with it: watching and ending what runs,
//! and the last steps before it does. Three processes take part: the host, which is the user of this
//! library; a supervisor, which is the same executable started again; and, in the namespaces that
//! the supervisor makes, an init that starts the payload. Nothing of the host's memory, descriptors
//! or environment reaches the payload but what the request names.

mod access;
mod birth;
mod body;
pub(crate) mod cgroup;
mod filter;
mod identity;
mod init;
pub(crate) mod launcher;
mod payload;
mod probe;
mod processes;
pub(crate) mod protocol;
mod root;
mod supervisor;
mod weak;

pub(crate) use access::{Scene, landlock_abi};
pub(crate) use body::Body;
pub(crate) use cgroup::Group;
pub(crate) use filter::Filters;
pub(crate) use identity::{INSIDE, Identity};
pub(crate) use init::{Plan, exit_with, start as start_payload, tell};
pub(crate) use payload::{Program, resource_limits};
pub(crate) use processes::{cause_of, start_ticks};
pub(crate) use supervisor::Given;
pub use supervisor::run_if_supervisor;
