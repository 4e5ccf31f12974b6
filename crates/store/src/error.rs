//! Why the store could not do what it was asked.
//!
//! SQLite's own codes are sorted here into what a person can act on; all else keeps SQLite's error
//! as its source.

use std::io;
use std::path::{Path, PathBuf};

use crusades_core::SubmissionStatus;
use rusqlite::ErrorCode;
use rusqlite::ffi::SQLITE_IOERR_SHMSIZE;
use thiserror::Error;

/// Why a database could not be opened, read or written.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The folder that the database is to lie in does not exist.
    #[error("the folder {} of the database does not exist", folder.display())]
    MissingFolder {
        /// The folder.
        folder: PathBuf,
    },
    /// The path leads to something that is not a regular file.
    #[error("the database {} is not a file", path.display())]
    NotAFile {
        /// The database.
        path: PathBuf,
    },
    /// The file could not be created, or looked at.
    #[error("cannot create the database {}", path.display())]
    Create {
        /// The database.
        path: PathBuf,
        /// The operating system's reason.
        #[source]
        source: io::Error,
    },
    /// The file is not a SQLite database.
    #[error("{} is not a SQLite database", path.display())]
    NotADatabase {
        /// The file.
        path: PathBuf,
    },
    /// The file is a SQLite database that this program has not made.
    #[error("{} is a SQLite database of another program", path.display())]
    ForeignDatabase {
        /// The file.
        path: PathBuf,
    },
    /// The database was written by a newer version of this program.
    #[error(
        "the database {} has schema version {found}, and this program knows versions up to {known}; use the newer program that wrote it",
        path.display()
    )]
    NewerSchema {
        /// The database.
        path: PathBuf,
        /// The version that the file states.
        found: usize,
        /// The last version that is known here.
        known: usize,
    },
    /// The database may be read and not written.
    #[error("cannot {operation} in {}: the database is read-only", path.display())]
    ReadOnly {
        /// What was to be done.
        operation: String,
        /// The database.
        path: PathBuf,
    },
    /// There is no space left for the database. What was stored before is intact.
    #[error("cannot {operation} in {}: the disk is full", path.display())]
    Full {
        /// What was to be done.
        operation: String,
        /// The database.
        path: PathBuf,
    },
    /// Another process kept the database locked for longer than the store waits.
    #[error("cannot {operation} in {}: another process keeps it locked", path.display())]
    Busy {
        /// What was to be done.
        operation: String,
        /// The database.
        path: PathBuf,
    },
    /// The content of the file is damaged.
    #[error("cannot {operation} in {}: the database is damaged", path.display())]
    Damaged {
        /// What was to be done.
        operation: String,
        /// The database.
        path: PathBuf,
        /// SQLite's reason.
        #[source]
        source: rusqlite::Error,
    },
    /// SQLite refused for another reason, such as a value that the schema does not allow.
    #[error("cannot {operation} in {}", path.display())]
    Sqlite {
        /// What was to be done.
        operation: String,
        /// The database.
        path: PathBuf,
        /// SQLite's reason.
        #[source]
        source: rusqlite::Error,
    },
    /// A submission keeps the code that it arrived with.
    #[error(
        "submission `{submission_id}` is stored with code {stored}, and cannot be stored with code {offered}"
    )]
    CodeChanged {
        /// The submission.
        submission_id: String,
        /// SHA-256 of the code that is stored, in hex.
        stored: String,
        /// SHA-256 of the code that was offered, in hex.
        offered: String,
    },
    /// A status that ends an evaluation comes with a judgement only.
    #[error("submission `{submission_id}` becomes `{}` by a judgement only", status.as_str())]
    NeedsJudgement {
        /// The submission.
        submission_id: String,
        /// The status that was asked for.
        status: SubmissionStatus,
    },
    /// There is no such submission.
    #[error("there is no submission `{submission_id}` in {}", path.display())]
    UnknownSubmission {
        /// The submission.
        submission_id: String,
        /// The database.
        path: PathBuf,
    },
}

impl StoreError {
    /// Sorts an error of SQLite that `operation` (which completes "cannot ... in FILE") met.
    pub(crate) fn from_sqlite(operation: &str, path: &Path, source: rusqlite::Error) -> Self {
        let operation = operation.to_owned();
        let path = path.to_owned();
        // SQLite has no code of its own for a disk too full for the index of the log.
        let shm_full = source
            .sqlite_error()
            .is_some_and(|error| error.extended_code == SQLITE_IOERR_SHMSIZE);
        match source.sqlite_error_code() {
            _ if shm_full => Self::Full { operation, path },
            Some(ErrorCode::NotADatabase) => Self::NotADatabase { path },
            Some(ErrorCode::ReadOnly) => Self::ReadOnly { operation, path },
            Some(ErrorCode::DiskFull) => Self::Full { operation, path },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                Self::Busy { operation, path }
            }
            Some(ErrorCode::DatabaseCorrupt) => Self::Damaged {
                operation,
                path,
                source,
            },
            _ => Self::Sqlite {
                operation,
                path,
                source,
            },
        }
    }
}
