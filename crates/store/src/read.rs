//! Reading: single records, the leaderboard, and what was refused. Nothing here writes.

use crusades_core::score::lower_median;
use crusades_core::{ErrorCode, Metric, SubmissionStatus};
use rusqlite::{Connection, OptionalExtension, Params, Row, params};

use crate::names::{error_code, failure, metric_from_word, metric_word, verdict_from_word, word};
use crate::record::{
    Check, Evaluation, Failure, LeaderboardEntry, Refusal, Submission, UnixMicros,
};
use crate::{Store, StoreError};

impl Store {
    /// The submission with this id, if there is one.
    ///
    /// # Errors
    /// [`StoreError`] where SQLite refuses, or a stored word is not known.
    pub fn submission(&self, submission_id: &str) -> Result<Option<Submission>, StoreError> {
        self.connection
            .query_row(
                "SELECT * FROM submissions WHERE submission_id = ?1",
                [submission_id],
                submission,
            )
            .optional()
            .map_err(|source| self.failed(&format!("read submission `{submission_id}`"), source))
    }

    /// The best submissions by one metric: the highest score first, and of equal ones the earlier
    /// arrival. At most `limit` of them.
    ///
    /// # Errors
    /// [`StoreError`] where SQLite refuses, or a stored word is not known.
    pub fn leaderboard(
        &self,
        metric: Metric,
        limit: u32,
    ) -> Result<Vec<LeaderboardEntry>, StoreError> {
        let entries = || {
            // One snapshot, so that scores and spreads come from the same judgements.
            let snapshot = self.connection.unchecked_transaction()?;
            let mut statement = snapshot.prepare_cached(
                "SELECT submission_id, name, final_score, successful_runs, runs, created_at
                 FROM submissions WHERE metric = ?1 AND final_score IS NOT NULL
                 ORDER BY final_score DESC, created_at, submission_id LIMIT ?2",
            )?;
            let mut rows = statement.query(params![metric_word(metric), limit])?;
            let mut entries = Vec::new();
            for rank in 1.. {
                let Some(row) = rows.next()? else { break };
                let submission_id: String = row.get("submission_id")?;
                entries.push(LeaderboardEntry {
                    rank,
                    name: row.get("name")?,
                    final_score: row.get("final_score")?,
                    metric,
                    successful_runs: row.get("successful_runs")?,
                    runs: row.get("runs")?,
                    spread: relative_spread(&successful_values(&snapshot, &submission_id, metric)?),
                    created_at: UnixMicros(row.get("created_at")?),
                    submission_id,
                });
            }
            Ok(entries)
        };
        entries().map_err(|source| self.failed("read the leaderboard", source))
    }

    /// The submissions that were refused, in the order of their arrival. Those whose evaluation
    /// could not be carried out (status `error`) are not among them: nobody refused them.
    ///
    /// # Errors
    /// [`StoreError`] where SQLite refuses, or a stored word is not known.
    pub fn refused(&self) -> Result<Vec<Refusal>, StoreError> {
        let statuses = params![
            SubmissionStatus::FailedValidation.as_str(),
            SubmissionStatus::FailedEvaluation.as_str(),
        ];
        self.list(
            "SELECT submission_id, name, status, error_code, error_message, created_at
             FROM submissions WHERE status IN (?1, ?2) ORDER BY created_at, submission_id",
            statuses,
            |row| {
                Ok(Refusal {
                    submission_id: row.get("submission_id")?,
                    name: row.get("name")?,
                    status: word(row, "status", "status", SubmissionStatus::from_name)?,
                    failure: Failure {
                        code: word(row, "error_code", "error code", ErrorCode::from_name)?,
                        message: row.get("error_message")?,
                    },
                    created_at: UnixMicros(row.get("created_at")?),
                })
            },
        )
        .map_err(|source| self.failed("read the refused submissions", source))
    }

    /// The runs of a submission, in order; none if there is no such submission.
    ///
    /// # Errors
    /// [`StoreError`] where SQLite refuses, or a stored word is not known.
    pub fn evaluations(&self, submission_id: &str) -> Result<Vec<Evaluation>, StoreError> {
        self.list(
            "SELECT * FROM evaluations WHERE submission_id = ?1 ORDER BY run",
            [submission_id],
            evaluation,
        )
        .map_err(|source| {
            let operation = format!("read the evaluations of submission `{submission_id}`");
            self.failed(&operation, source)
        })
    }

    /// The checks of one run, in the order in which they were made; none if there is no such run.
    ///
    /// # Errors
    /// [`StoreError`] where SQLite refuses, or a stored word is not known.
    pub fn checks(&self, evaluation_id: &str) -> Result<Vec<Check>, StoreError> {
        self.list(
            "SELECT * FROM checks WHERE evaluation_id = ?1 ORDER BY position",
            [evaluation_id],
            check,
        )
        .map_err(|source| {
            let operation = format!("read the checks of evaluation `{evaluation_id}`");
            self.failed(&operation, source)
        })
    }

    /// The bytes of the code with this SHA-256 (lowercase hex), if they are stored.
    ///
    /// # Errors
    /// [`StoreError`] where SQLite refuses.
    pub fn code(&self, code_hash: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.connection
            .query_row(
                "SELECT code FROM code WHERE code_hash = ?1",
                [code_hash],
                |row| row.get(0),
            )
            .optional()
            .map_err(|source| self.failed(&format!("read code {code_hash}"), source))
    }

    /// The report (JSON) of a submission, if it has been judged.
    ///
    /// # Errors
    /// [`StoreError`] where SQLite refuses.
    pub fn report(&self, submission_id: &str) -> Result<Option<String>, StoreError> {
        self.connection
            .query_row(
                "SELECT report FROM reports WHERE submission_id = ?1",
                [submission_id],
                |row| row.get(0),
            )
            .optional()
            .map_err(|source| {
                let operation = format!("read the report of submission `{submission_id}`");
                self.failed(&operation, source)
            })
    }

    fn list<T>(
        &self,
        sql: &str,
        params: impl Params,
        record: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Vec<T>> {
        self.connection
            .prepare_cached(sql)?
            .query_map(params, record)?
            .collect()
    }
}

fn submission(row: &Row<'_>) -> rusqlite::Result<Submission> {
    Ok(Submission {
        submission_id: row.get("submission_id")?,
        name: row.get("name")?,
        miner_hotkey: row.get("miner_hotkey")?,
        miner_uid: row.get("miner_uid")?,
        code_hash: row.get("code_hash")?,
        status: word(row, "status", "status", SubmissionStatus::from_name)?,
        metric: word(row, "metric", "metric", metric_from_word)?,
        final_score: row.get("final_score")?,
        failure: failure(row)?,
        successful_runs: row.get("successful_runs")?,
        runs: row.get("runs")?,
        created_at: UnixMicros(row.get("created_at")?),
        updated_at: UnixMicros(row.get("updated_at")?),
    })
}

fn evaluation(row: &Row<'_>) -> rusqlite::Result<Evaluation> {
    Ok(Evaluation {
        evaluation_id: row.get("evaluation_id")?,
        run: row.get("run")?,
        seed: row.get("seed")?,
        mfu: row.get("mfu")?,
        tokens_per_second: row.get("tokens_per_second")?,
        total_tokens: row.get("total_tokens")?,
        wall_time_seconds: row.get("wall_time_seconds")?,
        failure: failure(row)?,
        created_at: UnixMicros(row.get("created_at")?),
    })
}

fn check(row: &Row<'_>) -> rusqlite::Result<Check> {
    Ok(Check {
        name: row.get("name")?,
        measured: row.get("measured")?,
        measured_text: row.get("measured_text")?,
        limit: row.get("limit_value")?,
        limit_text: row.get("limit_text")?,
        verdict: word(row, "verdict", "verdict", verdict_from_word)?,
        error_code: error_code(row)?,
    })
}

/// What the successful runs of a submission measured.
fn successful_values(
    connection: &Connection,
    submission_id: &str,
    metric: Metric,
) -> rusqlite::Result<Vec<f64>> {
    let sql = match metric {
        Metric::Mfu => {
            "SELECT mfu FROM evaluations WHERE submission_id = ?1 AND success AND mfu IS NOT NULL"
        }
        Metric::Tps => {
            "SELECT tokens_per_second FROM evaluations
             WHERE submission_id = ?1 AND success AND tokens_per_second IS NOT NULL"
        }
    };
    connection
        .prepare_cached(sql)?
        .query_map([submission_id], |row| row.get(0))?
        .collect()
}

/// (largest - smallest) / lower median; `None` for fewer than two values or a median of 0.
fn relative_spread(values: &[f64]) -> Option<f64> {
    let smallest = values.iter().copied().reduce(f64::min)?;
    let largest = values.iter().copied().reduce(f64::max)?;
    let median = lower_median(values)?;
    (values.len() > 1 && median != 0.0).then(|| (largest - smallest) / median)
}

#[cfg(test)]
mod tests {
    use super::relative_spread;

    #[test]
    fn the_spread_is_relative_to_the_lower_median_and_needs_two_values() {
        assert_eq!(relative_spread(&[9.0, 11.0, 10.0]), Some(0.2));
        assert_eq!(relative_spread(&[4.0, 4.0]), Some(0.0));
        assert_eq!(relative_spread(&[4.0]), None);
        assert_eq!(relative_spread(&[]), None);
        assert_eq!(relative_spread(&[0.0, 0.0]), None);
    }
}
