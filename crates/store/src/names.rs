//! The words under which closed sets of values stand in the database, and the way back.
//!
//! A word that is not known is an error that quotes it, never a guess.

use crusades_core::{ErrorCode, Metric};
use rusqlite::types::{Type, ValueRef};
use rusqlite::{Row, RowIndex};
use thiserror::Error;

use crate::record::{CheckVerdict, Failure};

/// A word in the database that means nothing to this program.
#[derive(Debug, Error)]
#[error("`{word}` is not a known {what}")]
struct UnknownWord {
    what: &'static str,
    word: String,
}

/// The word of a metric: the one that `hparams.json` uses.
pub(crate) fn metric_word(metric: Metric) -> &'static str {
    match metric {
        Metric::Mfu => "mfu",
        Metric::Tps => "tps",
    }
}

/// The metric of a word.
pub(crate) fn metric_from_word(word: &str) -> Option<Metric> {
    [Metric::Mfu, Metric::Tps]
        .into_iter()
        .find(|metric| metric_word(*metric) == word)
}

/// The word of a check's verdict.
pub(crate) fn verdict_word(verdict: CheckVerdict) -> &'static str {
    match verdict {
        CheckVerdict::Passed => "passed",
        CheckVerdict::Failed => "failed",
        CheckVerdict::NotRequired => "not_required",
        CheckVerdict::NotMade => "not_made",
    }
}

/// The verdict of a word.
pub(crate) fn verdict_from_word(word: &str) -> Option<CheckVerdict> {
    [
        CheckVerdict::Passed,
        CheckVerdict::Failed,
        CheckVerdict::NotRequired,
        CheckVerdict::NotMade,
    ]
    .into_iter()
    .find(|verdict| verdict_word(*verdict) == word)
}

/// Reads what failed from the columns `error_code` and `error_message`.
pub(crate) fn failure(row: &Row<'_>) -> rusqlite::Result<Option<Failure>> {
    let Some(code) = error_code(row)? else {
        return Ok(None);
    };
    let message = row.get("error_message")?;
    Ok(Some(Failure { code, message }))
}

/// Reads the column `error_code`, which may be empty.
pub(crate) fn error_code(row: &Row<'_>) -> rusqlite::Result<Option<ErrorCode>> {
    match row.get_ref("error_code")? {
        ValueRef::Null => Ok(None),
        _ => word(row, "error_code", "error code", ErrorCode::from_name).map(Some),
    }
}

/// Reads a column that holds one of a closed set of words; `what` names the set.
pub(crate) fn word<T>(
    row: &Row<'_>,
    column: &str,
    what: &'static str,
    parse: impl Fn(&str) -> Option<T>,
) -> rusqlite::Result<T> {
    let word: String = row.get(column)?;
    parse(&word).ok_or_else(|| {
        let index = column.idx(row.as_ref()).unwrap_or_default();
        let unknown = UnknownWord { what, word };
        rusqlite::Error::FromSqlConversionFailure(index, Type::Text, Box::new(unknown))
    })
}

#[cfg(test)]
mod tests {
    use crusades_core::Metric;

    use super::{metric_from_word, metric_word};

    #[test]
    fn a_metric_has_the_word_of_the_hparams() {
        for metric in [Metric::Mfu, Metric::Tps] {
            let word = metric_word(metric);
            assert_eq!(
                serde_json::to_string(&metric).unwrap(),
                format!("\"{word}\"")
            );
            assert_eq!(metric_from_word(word), Some(metric));
        }
        assert_eq!(metric_from_word("flops"), None);
    }
}
