//! What is kept: submissions, their code, evaluations, checks and reports in one SQLite file.
//!
//! Every write is one transaction, so that a kill at any instant leaves either all of a judgement
//! or nothing of it. This crate stores what it is given: it never judges, scores or reads a clock
//! on its own, and it never changes a file that it does not recognise as its own.

mod error;
mod names;
mod open;
mod read;
mod record;
mod write;

use std::path::PathBuf;

use rusqlite::Connection;

pub use error::StoreError;
pub use record::{
    Arrival, Check, CheckVerdict, Evaluation, Failure, JudgedRun, Judgement, LeaderboardEntry,
    Outcome, Refusal, Submission, UnixMicros,
};

/// A connection to one database of submissions.
///
/// Several stores, in one process or in several, may have the same file open: readers are not held
/// up by a writer, and writers wait for one another for up to ten seconds.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    /// The file, or `:memory:`; for messages.
    path: PathBuf,
}

impl Store {
    /// The error of an operation, which completes "cannot ... in FILE".
    pub(crate) fn failed(&self, operation: &str, source: rusqlite::Error) -> StoreError {
        StoreError::from_sqlite(operation, &self.path, source)
    }
}
