//! Writing: arrivals, changes of status, judgements. Each is one transaction.

use crusades_core::{ErrorCode, SubmissionStatus};
use rusqlite::{OptionalExtension, Transaction, TransactionBehavior, params};
use sha2::{Digest, Sha256};

use crate::names::{metric_word, verdict_word};
use crate::record::{Arrival, Check, Evaluation, JudgedRun, Judgement, UnixMicros};
use crate::{Store, StoreError};

impl Store {
    /// Stores a submission that has just arrived, as `pending`. One that is stored already stays as
    /// it is.
    ///
    /// # Errors
    /// [`StoreError::CodeChanged`] if it is stored with other code, and where SQLite refuses.
    pub fn record_arrival(&mut self, arrival: &Arrival) -> Result<(), StoreError> {
        let operation = format!("store submission `{}`", arrival.submission_id);
        self.write(&operation, |transaction| {
            insert_arrival(transaction, arrival)
        })
    }

    /// Moves a submission on before it is judged, or back into the queue. The outcome of an earlier
    /// judgement is forgotten; its evaluations stay until the next one replaces them.
    ///
    /// # Errors
    /// [`StoreError::NeedsJudgement`] for a status other than `pending`, `validating` and
    /// `evaluating`, [`StoreError::UnknownSubmission`], and where SQLite refuses.
    pub fn set_status(
        &mut self,
        submission_id: &str,
        status: SubmissionStatus,
        at: UnixMicros,
    ) -> Result<(), StoreError> {
        match status {
            SubmissionStatus::Pending
            | SubmissionStatus::Validating
            | SubmissionStatus::Evaluating => {}
            SubmissionStatus::Finished
            | SubmissionStatus::FailedValidation
            | SubmissionStatus::FailedEvaluation
            | SubmissionStatus::Error => {
                return Err(StoreError::NeedsJudgement {
                    submission_id: submission_id.to_owned(),
                    status,
                });
            }
        }
        let operation = format!("change the status of submission `{submission_id}`");
        let path = self.path.clone();
        self.write(&operation, |transaction| {
            let changed = transaction.execute(
                "UPDATE submissions SET status = ?2, updated_at = ?3, final_score = NULL,
                     error_code = NULL, error_message = NULL
                 WHERE submission_id = ?1",
                params![submission_id, status.as_str(), at.0],
            )?;
            if changed == 0 {
                return Err(WriteError::Refused(StoreError::UnknownSubmission {
                    submission_id: submission_id.to_owned(),
                    path,
                }));
            }
            Ok(())
        })
    }

    /// Stores a judgement with all that belongs to it, or nothing of it. An earlier judgement of
    /// the same submission is replaced; the time of arrival stays the first one.
    ///
    /// # Errors
    /// [`StoreError::CodeChanged`] if the submission is stored with other code, and where SQLite
    /// refuses: also a score that is NaN, a seed that is not 64 hex digits, a failed
    /// check without an error code, a report that is not
    /// JSON, and an `evaluation_id` that another submission has.
    pub fn record_judgement(&mut self, judgement: &Judgement) -> Result<(), StoreError> {
        let submission_id = &judgement.arrival.submission_id;
        let operation = format!("store the judgement of submission `{submission_id}`");
        self.write(&operation, |transaction| {
            insert_arrival(transaction, &judgement.arrival)?;
            update_outcome(transaction, judgement)?;
            transaction.execute(
                "DELETE FROM evaluations WHERE submission_id = ?1",
                [submission_id],
            )?;
            for JudgedRun { evaluation, checks } in &judgement.evaluations {
                insert_evaluation(transaction, submission_id, evaluation)?;
                insert_checks(transaction, &evaluation.evaluation_id, checks)?;
            }
            transaction.execute(
                "INSERT INTO reports (submission_id, report) VALUES (?1, ?2)
                 ON CONFLICT (submission_id) DO UPDATE SET report = excluded.report",
                params![submission_id, judgement.report],
            )?;
            Ok(())
        })
    }

    /// Does `change` in one transaction that has the right to write from its beginning, so that it
    /// waits at the start for another writer, and never has to give up half-way.
    fn write(
        &mut self,
        operation: &str,
        change: impl FnOnce(&Transaction<'_>) -> Result<(), WriteError>,
    ) -> Result<(), StoreError> {
        let path = &self.path;
        let failed = |source| StoreError::from_sqlite(operation, path, source);
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed)?;
        // An error drops, and so rolls back, the transaction.
        change(&transaction).map_err(|error| match error {
            WriteError::Refused(refusal) => refusal,
            WriteError::Sqlite(source) => failed(source),
        })?;
        transaction.commit().map_err(failed)
    }
}

/// Why a change was given up within its transaction.
enum WriteError {
    /// A rule of the store forbids it.
    Refused(StoreError),
    /// SQLite failed; the transaction's owner knows the operation to name.
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for WriteError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// Stores a submission as `pending` unless it is there already.
fn insert_arrival(transaction: &Transaction<'_>, arrival: &Arrival) -> Result<(), WriteError> {
    let code_hash = sha256_hex(&arrival.code);
    let stored: Option<String> = transaction
        .query_row(
            "SELECT code_hash FROM submissions WHERE submission_id = ?1",
            [&arrival.submission_id],
            |row| row.get(0),
        )
        .optional()?;
    match stored {
        Some(stored) if stored == code_hash => return Ok(()),
        Some(stored) => {
            return Err(WriteError::Refused(StoreError::CodeChanged {
                submission_id: arrival.submission_id.clone(),
                stored,
                offered: code_hash,
            }));
        }
        None => {}
    }
    transaction.execute(
        "INSERT INTO code (code_hash, code) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
        params![code_hash, arrival.code],
    )?;
    transaction.execute(
        "INSERT INTO submissions (submission_id, name, miner_hotkey, miner_uid, code_hash, status,
             metric, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8)",
        params![
            arrival.submission_id,
            arrival.name,
            arrival.miner_hotkey,
            arrival.miner_uid,
            code_hash,
            SubmissionStatus::Pending.as_str(),
            metric_word(arrival.metric),
            arrival.created_at.0,
        ],
    )?;
    Ok(())
}

fn update_outcome(transaction: &Transaction<'_>, judgement: &Judgement) -> rusqlite::Result<()> {
    let Judgement {
        arrival, outcome, ..
    } = judgement;
    let failure = outcome.failure();
    transaction.execute(
        "UPDATE submissions SET name = ?2, miner_hotkey = ?3, miner_uid = ?4, status = ?5,
             metric = ?6, final_score = ?7, error_code = ?8, error_message = ?9,
             successful_runs = ?10, runs = ?11, updated_at = ?12
         WHERE submission_id = ?1",
        params![
            arrival.submission_id,
            arrival.name,
            arrival.miner_hotkey,
            arrival.miner_uid,
            outcome.status().as_str(),
            metric_word(arrival.metric),
            outcome.final_score(),
            failure.map(|failure| failure.code.as_str()),
            failure.map(|failure| failure.message.as_str()),
            judgement.successful_runs,
            judgement.runs,
            judgement.judged_at.0,
        ],
    )?;
    Ok(())
}

fn insert_evaluation(
    transaction: &Transaction<'_>,
    submission_id: &str,
    evaluation: &Evaluation,
) -> rusqlite::Result<()> {
    let failure = evaluation.failure.as_ref();
    transaction
        .prepare_cached(
            "INSERT INTO evaluations (evaluation_id, submission_id, run, seed, mfu,
                 tokens_per_second, total_tokens, wall_time_seconds, error_code, error_message,
                 created_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(params![
            evaluation.evaluation_id,
            submission_id,
            evaluation.run,
            evaluation.seed,
            evaluation.mfu,
            evaluation.tokens_per_second,
            evaluation.total_tokens,
            evaluation.wall_time_seconds,
            failure.map(|failure| failure.code.as_str()),
            failure.map(|failure| failure.message.as_str()),
            evaluation.created_at.0,
        ])?;
    Ok(())
}

fn insert_checks(
    transaction: &Transaction<'_>,
    evaluation_id: &str,
    checks: &[Check],
) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached(
        "INSERT INTO checks (evaluation_id, position, name, measured, measured_text, limit_value,
             limit_text, verdict, error_code)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?;
    for (position, check) in checks.iter().enumerate() {
        statement.execute(params![
            evaluation_id,
            position,
            check.name,
            check.measured,
            check.measured_text,
            check.limit,
            check.limit_text,
            verdict_word(check.verdict),
            check.error_code.map(ErrorCode::as_str),
        ])?;
    }
    Ok(())
}

fn sha256_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;

    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crusades_core::Metric;
    use rusqlite::{Connection, TransactionBehavior};

    use crate::{Arrival, Store, StoreError, UnixMicros};

    fn arrival(submission_id: &str, code_bytes: usize) -> Arrival {
        Arrival {
            submission_id: submission_id.to_owned(),
            name: "train.py".to_owned(),
            miner_hotkey: None,
            miner_uid: None,
            code: vec![b'#'; code_bytes],
            metric: Metric::Mfu,
            created_at: UnixMicros(0),
        }
    }

    #[test]
    fn a_full_disk_is_named_and_leaves_what_was_stored() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(folder.path().join("store.db")).unwrap();
        store.record_arrival(&arrival("before", 1)).unwrap();

        // SQLite reports a database that reached this limit as it does a full disk.
        let pages: i64 = store
            .connection
            .pragma_query_value(None, "page_count", |row| row.get(0))
            .unwrap();
        store
            .connection
            .pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
            .unwrap();
        let error = store
            .record_arrival(&arrival("large", 1 << 20))
            .unwrap_err();
        assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
        assert!(error.to_string().ends_with("the disk is full"), "{error}");
        assert!(store.submission("before").unwrap().is_some());
        assert_eq!(store.submission("large").unwrap(), None);

        store
            .connection
            .pragma_update_and_check(None, "max_page_count", pages + 1000, |_| Ok(()))
            .unwrap();
        store.record_arrival(&arrival("large", 1 << 20)).unwrap();
    }

    #[test]
    fn a_writer_waits_for_another_and_names_one_that_never_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let mut store = Store::open(&path).unwrap();
        let mut other = Connection::open(&path).unwrap();

        let lock = other
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .unwrap();
        store
            .connection
            .busy_timeout(Duration::from_millis(50))
            .unwrap();
        let error = store.record_arrival(&arrival("held up", 1)).unwrap_err();
        assert!(matches!(error, StoreError::Busy { .. }), "{error:?}");

        store
            .connection
            .busy_timeout(Duration::from_secs(30))
            .unwrap();
        std::thread::scope(|scope| {
            let writer = scope.spawn(move || store.record_arrival(&arrival("held up", 1)));
            std::thread::sleep(Duration::from_millis(50));
            assert!(!writer.is_finished());
            lock.commit().unwrap();
            writer.join().unwrap().unwrap();
        });
    }
}
