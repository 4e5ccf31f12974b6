//! What became of a payload: how it ended and what it used. Plain values, the same for every backend.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Why a payload runs no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitCause {
    /// It ended by itself with this exit code.
    Exited(i32),
    /// A signal with this number ended it. 31 (SIGSYS) is the answer to a forbidden system call.
    Signaled(i32),
    /// It needed more memory than its limit.
    OutOfMemory,
    /// It printed more than its limit.
    LogFlood,
    /// The host ended it.
    Killed,
    /// The sandbox's supervisor was killed from outside, and the payload with it.
    SupervisorLost,
}

/// The end of a payload; when it is known, nothing that the payload started is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Why it ended.
    pub cause: ExitCause,
}

/// What a payload and all it started have used. `None` where this machine cannot tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time of all threads, user and system.
    pub cpu_time: Option<Duration>,
    /// The most memory at one time, in bytes. Where it is sampled and not accounted by the kernel,
    /// a short peak may be missed.
    pub peak_memory_bytes: Option<u64>,
    /// Processes and threads alive at the last look.
    pub processes: Option<u32>,
}
