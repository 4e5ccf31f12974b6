//! Nesting over the limits. Found on the tokens, in `limits.rs`.

use super::{ErrorCode, Rule, RuleDocumentation, never};
use crate::report::RuleId;

pub(crate) static RULE: Rule = Rule {
    documentation: RuleDocumentation {
        id: RuleId("CRU005"),
        name: "too-complex",
        summary: "Brackets, blocks or expressions are nested more deeply than the policy allows.",
        why: "Nesting without bound exhausts the stack of every program that reads the file.",
        example: "x = ((((((((((  # and so on, 101 deep\n",
        instead: "split the expression over several statements, or the block over several functions",
    },
    error_code: ErrorCode::SecurityViolation,
    check: never,
};
