//! Text that is not plainly UTF-8. Found before parsing, in `lib.rs`.

use super::{ErrorCode, Rule, RuleDocumentation, never};
use crate::report::RuleId;

pub(crate) static RULE: Rule = Rule {
    documentation: RuleDocumentation {
        id: RuleId("CRU003"),
        name: "not-utf8",
        summary: "The file is not UTF-8, declares another encoding, or holds a NUL byte.",
        why: "Bytes that can be read in two ways could be scanned in one way and run in the other.",
        example: "# -*- coding: utf-7 -*-\n",
        instead: "save the file as UTF-8 and remove the encoding declaration",
    },
    error_code: ErrorCode::SyntaxError,
    check: never,
};
