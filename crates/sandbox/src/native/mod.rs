//! The backend that needs no daemon. Three processes take part: the host, which is the user of this
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

pub(crate) use access::landlock_abi;
pub(crate) use init::exit_with;
pub use supervisor::run_if_supervisor;
