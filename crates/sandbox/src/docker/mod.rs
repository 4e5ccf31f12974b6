//! The backend that puts a payload into a container of a Docker engine. It is the native one with another
//! birth: the same supervisor asks the engine for a container in which this program is the first
//! process, hands the descriptors to it by a socket, and from then on watches, freezes, kills and
//! measures as it does natively. The engine builds the walls from the declared policy; the first
//! process adds the native filter and Landlock behind them. Nothing is left to the engine's defaults
//! that the policy names, and no image is ever downloaded.

mod container;
mod engine;
mod host_identity;
mod inside;
mod leftovers;
mod options;
mod own_program;
mod run_folder;
mod seccomp_profile;

pub(crate) use container::{Container, start};
pub(crate) use engine::{Offer, probe};
pub(crate) use inside::live_in_container;
pub(crate) use own_program::own_command;
pub(crate) use run_folder::RUN_SOCKET;
