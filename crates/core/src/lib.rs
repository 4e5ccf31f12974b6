//! The domain of crusades: statuses, error codes, hparams and scoring.
//!
//! Everything here is a pure function over values. This crate never does I/O, never reads a clock
//! and never waits: whoever calls it brings the bytes and the numbers.

pub mod error_code;
pub mod hparams;
pub mod score;
pub mod status;

pub use error_code::{ErrorCode, Fault};
pub use hparams::{Hparams, HparamsError, Metric};
pub use score::{Score, ScoreError};
pub use status::SubmissionStatus;
