//! What can go wrong with a sandbox. One variant per thing that failed; each message names what and
//! where, and is a fragment that completes "failed to ...".

use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::tier::Tier;

/// Why a sandbox was not started. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The request itself is wrong.
    #[error("start a sandbox: invalid request: {0}")]
    InvalidRequest(String),
    /// This machine cannot isolate as well as was asked.
    #[error(
        "start a sandbox of at least {minimum}: this machine offers {}: {}; allow a weaker sandbox \
         explicitly, or remove the cause",
        offered.map_or_else(|| "none".to_owned(), |tier| tier.to_string()),
        reasons.join("; ")
    )]
    TooWeak {
        /// The weakest tier that was acceptable.
        minimum: Tier,
        /// What could be had.
        offered: Option<Tier>,
        /// Why not more.
        reasons: Vec<String>,
    },
    /// The container engine cannot be used, or does not have the image.
    #[error("use a container engine: {operation}")]
    Engine {
        /// What was asked of it.
        operation: String,
        /// Why it failed, and what can be done about it.
        #[source]
        source: io::Error,
    },
    /// A pipe, socket or thread of the host could not be made.
    #[error("start a sandbox: {operation}")]
    Host {
        /// What was tried.
        operation: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The launcher could not be run.
    #[error("run the sandbox launcher {path}")]
    Launcher {
        /// The executable that was to become the supervisor.
        path: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A step of the set-up failed, in the supervisor or in the sandbox itself.
    #[error("set up the sandbox: {operation}")]
    Setup {
        /// The step, with its path where it has one.
        operation: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The supervisor ended without a word. The usual cause is a launcher whose `main` does not
    /// call [`crate::run_if_supervisor`].
    #[error(
        "start a sandbox: the launcher ended without an answer; does its main() call run_if_supervisor?"
    )]
    LauncherSilent,
    /// The start took longer than allowed.
    #[error("start a sandbox within {0:?}")]
    TimedOut(Duration),
}

/// Why a running sandbox did not do what it was told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// The payload has ended already.
    #[error("{operation} the sandbox: it has ended")]
    Ended {
        /// What was asked.
        operation: &'static str,
    },
    /// It did not happen in time.
    #[error("{operation} the sandbox within {timeout:?}")]
    TimedOut {
        /// What was asked.
        operation: &'static str,
        /// The time that was allowed.
        timeout: Duration,
    },
    /// The supervisor could not do it.
    #[error("{operation} the sandbox: {reason}")]
    Refused {
        /// What was asked.
        operation: &'static str,
        /// Why it failed.
        reason: String,
    },
}

/// A step that failed in the supervisor or in the sandbox, in a form that crosses processes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fault {
    pub(crate) operation: String,
    pub(crate) errno: Option<i32>,
    pub(crate) detail: String,
}

impl Fault {
    pub(crate) fn new(operation: impl Into<String>, source: &io::Error) -> Self {
        Self {
            operation: operation.into(),
            errno: source.raw_os_error(),
            detail: source.to_string(),
        }
    }

    pub(crate) fn plain(operation: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            operation: operation.into(),
            errno: None,
            detail: detail.into(),
        }
    }

    pub(crate) fn into_start_error(self) -> StartError {
        let source = self.source();
        StartError::Setup {
            operation: self.operation,
            source,
        }
    }

    /// The same for a step that asked a container engine before anything was set up.
    pub(crate) fn into_engine_error(self) -> StartError {
        let source = self.source();
        StartError::Engine {
            operation: self.operation,
            source,
        }
    }

    fn source(&self) -> io::Error {
        match self.errno {
            Some(errno) => io::Error::from_raw_os_error(errno),
            None => io::Error::other(self.detail.clone()),
        }
    }

    /// The whole story in one line.
    pub(crate) fn to_line(&self) -> String {
        format!("{}: {}", self.operation, self.detail)
    }
}

/// Names the operation that an error came from.
pub(crate) trait During<T> {
    /// The error, if any, with the operation that it belongs to.
    fn during<Name: Into<String>>(self, operation: impl FnOnce() -> Name) -> Result<T, Fault>;
}

impl<T, Cause: Into<io::Error>> During<T> for Result<T, Cause> {
    fn during<Name: Into<String>>(self, operation: impl FnOnce() -> Name) -> Result<T, Fault> {
        self.map_err(|source| Fault::new(operation(), &source.into()))
    }
}

/// An error with all its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(&format!(": {next}"));
        cause = next.source();
    }
    text
}
