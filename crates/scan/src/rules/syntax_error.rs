//! Source that does not parse. Found by the parser, in `lib.rs`.

use super::{ErrorCode, Rule, RuleDocumentation, never};
use crate::report::RuleId;

pub(crate) static RULE: Rule = Rule {
    documentation: RuleDocumentation {
        id: RuleId("CRU004"),
        name: "syntax-error",
        summary: "The file is not valid Python.",
        why: "What does not parse cannot run.",
        example: "def inner_steps(model:\n",
        instead: "run `python -m py_compile train.py` and correct the error",
    },
    error_code: ErrorCode::SyntaxError,
    check: never,
};
