//! What a scan hands back: findings with their place, the source that will run, the strategy.
//! Values only; this module knows neither how findings are found nor how they are printed.

use schemars::JsonSchema;
use serde::Serialize;

use crate::rules;

/// The stable identifier of a rule, `CRU` and three digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct RuleId(pub(crate) &'static str);

impl RuleId {
    /// The identifier as text, for example `CRU201`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

impl std::fmt::Display for RuleId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.0)
    }
}

/// One thing in the source that the policy refuses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Finding {
    /// The rule that refuses it.
    pub rule: RuleId,
    /// What was found, as a lowercase fragment.
    pub message: String,
    /// First line of the refused text, counted from 1.
    pub line: u32,
    /// First column of the refused text, counted from 1 in characters.
    pub column: u32,
    /// Line on which the refused text ends, counted from 1.
    pub end_line: u32,
    /// Column just after the refused text, counted from 1 in characters.
    pub end_column: u32,
    /// What to write instead.
    pub hint: String,
}

/// Most findings of one report. Whoever has as many learns nothing from more of them, and a
/// hostile file must not make a report that is larger than itself.
const MAX_FINDINGS: usize = 200;

/// At most [`MAX_FINDINGS`] findings and one that says how many were left out. It stands at the
/// first of these and bears the rule that decides on the error code among them.
pub(crate) fn bounded(mut findings: Vec<Finding>) -> Vec<Finding> {
    let left_out = findings.split_off(MAX_FINDINGS.min(findings.len()));
    let decisive = left_out
        .iter()
        .min_by_key(|finding| rules::error_code(finding.rule));
    if let (Some(first), Some(decisive)) = (left_out.first(), decisive) {
        findings.push(Finding {
            rule: decisive.rule,
            message: format!("and {} more findings, not shown", left_out.len()),
            hint: "correct what is shown and scan again".to_owned(),
            ..first.clone()
        });
    }
    findings
}

/// How the work is spread over several GPUs, as `get_strategy` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Strategy {
    /// One of the named strategies, over all GPUs.
    Named(NamedStrategy),
    /// A grid of data-parallel and tensor-parallel ranks.
    Grid {
        /// Number of data-parallel groups, at least 1.
        dp_size: u32,
        /// Number of GPUs that share one copy of the model, at least 1.
        tp_size: u32,
    },
}

/// The strategies that `get_strategy` may name by a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NamedStrategy {
    /// Every GPU holds the whole model and its own data.
    Ddp,
    /// Every GPU holds a shard of the model and its own data.
    Fsdp,
    /// All GPUs share one model and the same data.
    Tp,
}

impl Strategy {
    /// How many different batches are in flight at once when the strategy runs on `num_gpus` GPUs.
    #[must_use]
    pub fn data_parallel_size(self, num_gpus: u32) -> u32 {
        match self {
            Self::Named(NamedStrategy::Ddp | NamedStrategy::Fsdp) => num_gpus,
            Self::Named(NamedStrategy::Tp) => 1,
            Self::Grid { dp_size, .. } => dp_size,
        }
    }
}

/// What the caller knows about the submission besides its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanOptions {
    /// Name shown in messages and annotations; never opened.
    pub file_name: String,
    /// Number of GPUs of one evaluation; above 1, `get_strategy` is required.
    pub num_gpus: u32,
}

impl Default for ScanOptions {
    fn default() -> Self {
        Self {
            file_name: "train.py".to_owned(),
            num_gpus: 1,
        }
    }
}

/// The result of one scan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ScanReport {
    /// The findings, sorted by position, none twice. Of very many the last one says how many more
    /// there are. Empty when the submission is accepted.
    pub findings: Vec<Finding>,
    /// The text that will run: `__main__` blocks blanked, every other character where it was.
    /// `None` when the file does not parse.
    pub runnable_source: Option<String>,
    /// What `get_strategy` returns, when it is there and is a literal of the right form.
    pub strategy: Option<Strategy>,
    /// Size of the file as it was given, in bytes.
    pub source_bytes: usize,
}

impl ScanReport {
    /// Whether the submission may run.
    #[must_use]
    pub fn accepted(&self) -> bool {
        self.findings.is_empty()
    }

    /// The error code of the refusal, `None` when the submission is accepted.
    ///
    /// Each rule belongs to one code; of several the first in this order counts: `no_code`,
    /// `syntax_error` (also: not UTF-8), `security_violation` (also: too large or too deeply
    /// nested), `missing_inner_steps` (also: a wrong signature, or no usable `get_strategy`).
    #[must_use]
    pub fn error_code(&self) -> Option<&'static str> {
        self.findings
            .iter()
            .map(|finding| rules::error_code(finding.rule))
            .min()
            .map(rules::ErrorCode::as_str)
    }
}
