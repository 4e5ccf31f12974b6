//! The scanner itself failed. Raised in `lib.rs`, so that a fault refuses instead of passing.

use super::{ErrorCode, Rule, RuleDocumentation, never};
use crate::report::RuleId;

pub(crate) static RULE: Rule = Rule {
    documentation: RuleDocumentation {
        id: RuleId("CRU006"),
        name: "scan-incomplete",
        summary: "The scan could not be finished.",
        why: "What was not scanned to its end must not run.",
        example: "# no known input leads here\n",
        instead: "scan again; if it stays, report the file as a fault of the scanner",
    },
    error_code: ErrorCode::SecurityViolation,
    check: never,
};
