//! Opening a database: what may be opened, its settings, and its migration.
//!
//! Nothing is written to a file before it is known to be a store of a version that this program
//! knows, or to be empty.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::{Store, StoreError};

/// The steps of the schema, in order. The `user_version` of a database is the number of steps that
/// it has taken; a step that was released never changes.
const MIGRATIONS: &[&str] = &[include_str!("../migrations/0001_judgements.sql")];

/// What the first migration sets as `application_id`: "CRUS" in ASCII.
const APPLICATION_ID: i64 = 0x4352_5553;

/// How long a statement waits for another process that writes. A judgement is written in
/// milliseconds, so that only a process that hangs makes anyone wait this long.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Far longer than another process needs to go on from where it was in the way.
const PAUSE_BEFORE_OPENING_AGAIN: Duration = Duration::from_millis(5);

/// Completes "cannot ... in FILE" for all that opening does.
const OPERATION: &str = "open the store";

impl Store {
    /// Opens the database at `path`, and creates it, readable and writable by its owner only, if
    /// there is none. An older schema is brought up to date.
    ///
    /// # Errors
    /// [`StoreError`] for a missing folder, for what is not a file, not SQLite, of another program,
    /// of a newer version, or read-only, and where the operating system or SQLite refuses.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref();
        create_if_missing(path)?;
        // Where several connections make a new database a write-ahead one at the same time, each
        // holds what the others need, and SQLite gives up at once whatever its timeout. A
        // connection that gave up has let go of everything, and opening can be begun again.
        let patience_ends = Instant::now() + BUSY_TIMEOUT;
        loop {
            match Self::connect(path) {
                Err(StoreError::Busy { .. }) if Instant::now() < patience_ends => {
                    std::thread::sleep(PAUSE_BEFORE_OPENING_AGAIN);
                }
                outcome => return outcome,
            }
        }
    }

    fn connect(path: &Path) -> Result<Self, StoreError> {
        // No flag for URIs: a path that begins with `file:` is a path.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)
            .map_err(|source| StoreError::from_sqlite(OPERATION, path, source))?;
        Self::prepare(connection, path.to_owned())
    }

    /// Opens an empty database that is gone when it is dropped.
    ///
    /// # Errors
    /// [`StoreError`] where SQLite refuses.
    pub fn open_in_memory() -> Result<Self, StoreError> {
        let path = PathBuf::from(":memory:");
        let connection = Connection::open_in_memory()
            .map_err(|source| StoreError::from_sqlite(OPERATION, &path, source))?;
        Self::prepare(connection, path)
    }

    fn prepare(connection: Connection, path: PathBuf) -> Result<Self, StoreError> {
        let store = Self { connection, path };
        store.recognise()?;
        store
            .configure()
            .map_err(|source| store.failed(OPERATION, source))?;
        store.migrate()?;
        Ok(store)
    }

    /// Refuses a database that this program must not touch.
    fn recognise(&self) -> Result<(), StoreError> {
        let failed = |source| self.failed(OPERATION, source);
        self.connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
        let tables: i64 = self
            .connection
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
            .map_err(failed)?;
        let application = pragma(&self.connection, "application_id").map_err(failed)?;
        if tables > 0 && application != APPLICATION_ID {
            let path = self.path.clone();
            return Err(StoreError::ForeignDatabase { path });
        }
        // SQLite falls back to reading where it may not write, and would only say so at the first
        // write.
        if self.connection.is_readonly("main").map_err(failed)? {
            return Err(StoreError::ReadOnly {
                operation: OPERATION.to_owned(),
                path: self.path.clone(),
            });
        }
        self.pending_migrations().map(drop)
    }

    fn configure(&self) -> rusqlite::Result<()> {
        // Readers go on while a judgement is written.
        self.connection
            .pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
        // A judgement that was reported as stored must survive a power cut; one more flush per
        // judgement, which takes minutes to reach, costs nothing.
        self.connection.pragma_update(None, "synchronous", "full")?;
        self.connection.pragma_update(None, "foreign_keys", true)
    }

    fn migrate(&self) -> Result<(), StoreError> {
        if self.pending_migrations()?.is_empty() {
            return Ok(());
        }
        let failed = |source| self.failed("bring the schema up to date", source);
        let transaction =
            rusqlite::Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)
                .map_err(failed)?;
        // Asked again: another process may have migrated while this one waited for the lock.
        for migration in self.pending_migrations()? {
            transaction.execute_batch(migration).map_err(failed)?;
        }
        transaction
            .pragma_update(None, "user_version", MIGRATIONS.len())
            .map_err(failed)?;
        transaction.commit().map_err(failed)
    }

    /// The migrations that the database has not had yet.
    fn pending_migrations(&self) -> Result<&'static [&'static str], StoreError> {
        let version = pragma(&self.connection, "user_version")
            .map_err(|source| self.failed(OPERATION, source))?;
        // A negative version was never written by any program of ours.
        let version = usize::try_from(version).unwrap_or(usize::MAX);
        MIGRATIONS
            .get(version..)
            .ok_or_else(|| StoreError::NewerSchema {
                path: self.path.clone(),
                found: version,
                known: MIGRATIONS.len(),
            })
    }
}

/// Creates an empty file, which SQLite takes for an empty database; its companions (`-wal`,
/// `-shm`) get the permissions of the file.
fn create_if_missing(path: &Path) -> Result<(), StoreError> {
    let create = |source: io::Error| StoreError::Create {
        path: path.to_owned(),
        source,
    };
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => return Ok(()),
        Ok(_) => {
            return Err(StoreError::NotAFile {
                path: path.to_owned(),
            });
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(create(error)),
    }
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    if !folder.is_dir() {
        return Err(StoreError::MissingFolder {
            folder: folder.to_owned(),
        });
    }
    let opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match opened {
        Ok(_) => Ok(()),
        // Another process was faster; its file is as good.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(create(error)),
    }
}

fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}
