//! The list of rules, one per file below this module, and what every rule is made of. A rule
//! looks at the index of the file and reports; it never changes anything and never sees another
//! rule's findings.

use ruff_text_size::TextRange;
use schemars::JsonSchema;
use serde::Serialize;

use crate::index::Index;
use crate::program::Program;
use crate::report::{Finding, RuleId};
use crate::source::Source;

mod backend_setting;
mod compile_method;
mod dynamic_text;
mod get_strategy;
mod gradient_switch;
mod hidden_module;
mod hidden_name;
mod inner_steps_signature;
mod long_bytes;
mod missing_inner_steps;
mod model_configuration;
mod name_rebinding;
pub(crate) mod no_code;
pub(crate) mod not_utf8;
mod optimizer_internals;
mod refused_attribute;
mod refused_builtin;
mod refused_import;
mod refused_path;
mod relative_import;
pub(crate) mod scan_incomplete;
pub(crate) mod source_too_large;
mod star_import;
pub(crate) mod syntax_error;
pub(crate) mod too_complex;
mod torch_alias;
mod torch_write;
mod type_creation;
mod unlisted_import;
mod unsafe_load;

/// What a rule is about, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RuleDocumentation {
    /// Stable identifier.
    pub id: RuleId,
    /// Short name in words joined by hyphens.
    pub name: &'static str,
    /// What the rule refuses, in one sentence.
    pub summary: &'static str,
    /// Why it is refused.
    pub why: &'static str,
    /// Python that the rule refuses.
    pub example: &'static str,
    /// What to write instead.
    pub instead: &'static str,
}

/// The error code that a refusal leads to, in order of precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ErrorCode {
    NoCode,
    SyntaxError,
    SecurityViolation,
    MissingInnerSteps,
}

impl ErrorCode {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::NoCode => "no_code",
            Self::SyntaxError => "syntax_error",
            Self::SecurityViolation => "security_violation",
            Self::MissingInnerSteps => "missing_inner_steps",
        }
    }
}

/// A rule: what it is about, and how it is checked.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) documentation: RuleDocumentation,
    pub(crate) error_code: ErrorCode,
    pub(crate) check: fn(&Program<'_>, &mut Findings<'_>),
}

/// For rules that are decided before there is a tree to check.
fn never(_program: &Program<'_>, _findings: &mut Findings<'_>) {}

/// All rules, by identifier.
static RULES: [&Rule; 30] = [
    &no_code::RULE,
    &source_too_large::RULE,
    &not_utf8::RULE,
    &syntax_error::RULE,
    &too_complex::RULE,
    &scan_incomplete::RULE,
    &missing_inner_steps::RULE,
    &inner_steps_signature::RULE,
    &get_strategy::RULE,
    &refused_import::RULE,
    &unlisted_import::RULE,
    &relative_import::RULE,
    &star_import::RULE,
    &hidden_module::RULE,
    &torch_alias::RULE,
    &refused_builtin::RULE,
    &refused_path::RULE,
    &name_rebinding::RULE,
    &type_creation::RULE,
    &refused_attribute::RULE,
    &optimizer_internals::RULE,
    &compile_method::RULE,
    &unsafe_load::RULE,
    &torch_write::RULE,
    &backend_setting::RULE,
    &gradient_switch::RULE,
    &model_configuration::RULE,
    &hidden_name::RULE,
    &dynamic_text::RULE,
    &long_bytes::RULE,
];

/// The documentation of every rule, by identifier.
#[must_use]
pub fn rules() -> &'static [RuleDocumentation] {
    static DOCUMENTATION: std::sync::OnceLock<Vec<RuleDocumentation>> = std::sync::OnceLock::new();
    DOCUMENTATION.get_or_init(|| RULES.iter().map(|rule| rule.documentation).collect())
}

/// The error code that a rule's findings lead to.
pub(crate) fn error_code(id: RuleId) -> ErrorCode {
    RULES
        .iter()
        .find(|rule| rule.documentation.id == id)
        .map_or(ErrorCode::SecurityViolation, |rule| rule.error_code)
}

/// Runs every rule.
pub(crate) fn check_all(program: &Program<'_>, findings: &mut Findings<'_>) {
    for rule in RULES {
        (rule.check)(program, findings);
    }
}

/// Runs the rule on `__name__` alone: the one rule that also holds inside `__main__` blocks.
pub(crate) fn check_name_rebinding(index: &Index<'_>, findings: &mut Findings<'_>) {
    name_rebinding::check_index(index, findings);
}

/// Collects findings and gives them their place.
#[derive(Debug)]
pub(crate) struct Findings<'a> {
    source: &'a Source<'a>,
    found: Vec<Finding>,
}

impl<'a> Findings<'a> {
    pub(crate) fn new(source: &'a Source<'a>) -> Self {
        Self {
            source,
            found: Vec::new(),
        }
    }

    /// Reports with the rule's own advice.
    pub(crate) fn report(&mut self, rule: &Rule, range: TextRange, message: impl Into<String>) {
        self.report_with_hint(rule, range, message, rule.documentation.instead);
    }

    /// Reports with advice for this very finding.
    pub(crate) fn report_with_hint(
        &mut self,
        rule: &Rule,
        range: TextRange,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let start = self.source.position(range.start());
        let end = self.source.position(range.end());
        self.found.push(Finding {
            rule: rule.documentation.id,
            message: message.into(),
            line: start.line,
            column: start.column,
            end_line: end.line,
            end_column: end.column,
            hint: hint.into(),
        });
    }

    /// The findings so far, in no order.
    pub(crate) fn into_vec(self) -> Vec<Finding> {
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::rules;

    #[test]
    fn identifiers_are_unique_and_in_order() {
        assert!(rules().windows(2).all(|pair| pair[0].id < pair[1].id));
    }

    #[test]
    fn names_are_unique_and_every_text_is_there() {
        let mut names: Vec<_> = rules().iter().map(|rule| rule.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), rules().len());
        for rule in rules() {
            for text in [rule.summary, rule.why, rule.example, rule.instead] {
                assert!(!text.is_empty(), "{}", rule.id);
            }
        }
    }
}
