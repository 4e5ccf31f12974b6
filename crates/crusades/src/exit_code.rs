//! The exit codes. They are part of the interface: scripts match on them.

use std::process::ExitCode;

use crusades_evaluate::report::Outcome;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// All went well; the submission was accepted.
    Accepted = 0,
    /// The command line or a file it names is wrong. Also clap's code.
    Usage = 2,
    /// The scan refused the submission.
    RefusedByScan = 10,
    /// A check refused what the submission computed.
    RefusedByVerification = 11,
    /// The submission could not be run to its end.
    FailedInExecution = 12,
    /// This machine is at fault; the submission was not judged.
    InfrastructureFault = 20,
}

/// The list for `--help`.
pub(crate) const HELP: &str = "Exit codes:
   0  accepted, or the command did what it was asked
   2  wrong usage: flags, or a file that is missing, unreadable or invalid
  10  refused by the scan
  11  refused by verification
  12  failed in execution
  20  fault of this machine: sandbox, Python environment, model or data";

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

impl From<Outcome> for Code {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Accepted => Self::Accepted,
            Outcome::RefusedByScan => Self::RefusedByScan,
            Outcome::RefusedByVerification => Self::RefusedByVerification,
            Outcome::FailedInExecution => Self::FailedInExecution,
            Outcome::InfrastructureFault => Self::InfrastructureFault,
        }
    }
}
