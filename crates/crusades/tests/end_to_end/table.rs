//! Tables of judgements: each row a submission and what becomes of it. All rows are judged, and all
//! that were wrong are told at the end, by name.

use std::collections::VecDeque;
use std::sync::{LazyLock, Mutex};
use std::thread;

use jsonschema::Validator;
use serde_json::{Value, json};

use crate::execution::Ended;
use crate::submission::{Scan, source, verify};

/// What becomes of a submission.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Expected {
    Accepted,
    /// A check refused what it computed: one of these codes, and this in the headline.
    Refused(&'static [&'static str], &'static str),
    /// It did not run to its end: code, reason (empty for any), and this in the headline.
    Failed(&'static str, &'static str, &'static str),
}

/// One row.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    name: &'static str,
    scan: Scan,
    module: &'static str,
    body: &'static str,
    changes: Value,
    expected: Expected,
    thorough: bool,
}

impl Row {
    /// A row under the shipped scan and the hparams of these tests.
    pub(crate) fn new(name: &'static str, body: &'static str, expected: Expected) -> Self {
        Self {
            name,
            scan: Scan::Strict,
            module: "",
            body,
            changes: json!({}),
            expected,
            thorough: false,
        }
    }

    /// Judged only with `CRUSADES_ALL_ROWS`: others show most of it already.
    pub(crate) fn thorough(mut self) -> Self {
        self.thorough = true;
        self
    }

    /// Code at the top of the module.
    pub(crate) fn module(mut self, module: &'static str) -> Self {
        self.module = module;
        self
    }

    /// What the scan refuses: judged without it.
    pub(crate) fn past_the_scan(mut self) -> Self {
        self.scan = Scan::Permissive;
        self
    }

    /// Changes to the hparams.
    pub(crate) fn with(mut self, changes: Value) -> Self {
        self.changes = changes;
        self
    }

    fn judge(&self) -> Result<(), String> {
        let ended = verify(
            &source(self.module, self.body),
            self.scan,
            &self.changes,
            &[],
        );
        let report = ended.json()?;
        let mut faults = ended.faults.clone();
        faults.extend(schema_faults(&report));
        faults.extend(self.expected.mismatch(&ended, &report));
        if faults.is_empty() {
            return Ok(());
        }
        Err(format!(
            "{}\n    ({:.1} s) {}\n    log: {}",
            faults.join("\n    "),
            ended.seconds,
            report["summary"],
            report["log"]["text"]
                .as_str()
                .unwrap_or_default()
                .chars()
                .take(600)
                .collect::<String>()
        ))
    }
}

impl Expected {
    fn mismatch(self, ended: &Ended, report: &Value) -> Option<String> {
        let failure = &report["failure"];
        let text = |key: &str| failure[key].as_str().unwrap_or_default();
        let as_expected = match self {
            Self::Accepted => {
                ended.code == Some(0) && report["outcome"] == "accepted" && failure.is_null()
            }
            Self::Refused(codes, headline) => {
                ended.code == Some(11)
                    && report["outcome"] == "refused_by_verification"
                    && codes.contains(&text("code"))
                    && text("headline").contains(headline)
            }
            Self::Failed(code, reason, headline) => {
                ended.code == Some(12)
                    && report["outcome"] == "failed_in_execution"
                    && text("code") == code
                    && (reason.is_empty() || text("reason") == reason)
                    && text("headline").contains(headline)
            }
        };
        (!as_expected).then(|| {
            format!(
                "expected {self:?}, and exit code {:?}, outcome {}, code {}, reason {}, headline {}",
                ended.code,
                report["outcome"],
                failure["code"],
                failure["reason"],
                failure["headline"]
            )
        })
    }
}

/// Where a report breaks its published schema.
pub(crate) fn schema_faults(report: &Value) -> Vec<String> {
    static SCHEMA: LazyLock<Validator> = LazyLock::new(|| {
        let text = crusades_evaluate::report::schema_json().unwrap();
        jsonschema::validator_for(&serde_json::from_str(&text).unwrap()).unwrap()
    });
    SCHEMA
        .iter_errors(report)
        .map(|error| format!("not after the schema: {error} at {}", error.instance_path()))
        .collect()
}

/// Judges all rows, two at a time, and fails with the list of those that went wrong. Thorough rows
/// are judged if `CRUSADES_ALL_ROWS` is set; with `CRUSADES_ROWS` only rows whose name contains it.
pub(crate) fn judge_all(rows: Vec<Row>) {
    let wanted = std::env::var("CRUSADES_ROWS").ok();
    let all = wanted.is_some() || std::env::var_os("CRUSADES_ALL_ROWS").is_some();
    let open: VecDeque<Row> = rows
        .into_iter()
        .filter(|row| all || !row.thorough)
        .filter(|row| wanted.as_ref().is_none_or(|part| row.name.contains(part)))
        .collect();
    let count = open.len();
    let open = Mutex::new(open);
    let wrong = Mutex::new(Vec::new());
    let next = || open.lock().unwrap().pop_front();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(row) = next() {
                    if let Err(fault) = row.judge() {
                        eprintln!("WRONG {}: {fault}\n", row.name);
                        wrong.lock().unwrap().push(row.name);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(
        wrong.is_empty(),
        "{} of {count} rows were judged wrongly: {wrong:#?}",
        wrong.len()
    );
}
