//! A file without a statement. Found before parsing or just after it, in `lib.rs`.

use super::{ErrorCode, Rule, RuleDocumentation, never};
use crate::report::RuleId;

pub(crate) static RULE: Rule = Rule {
    documentation: RuleDocumentation {
        id: RuleId("CRU001"),
        name: "no-code",
        summary: "The file holds no code.",
        why: "There is nothing to run.",
        example: "# only a comment\n",
        instead: "define `inner_steps` in the file",
    },
    error_code: ErrorCode::NoCode,
    check: never,
};
