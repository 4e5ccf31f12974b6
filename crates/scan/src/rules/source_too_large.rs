//! A file over the size limit. Found before decoding, in `lib.rs`.

use super::{ErrorCode, Rule, RuleDocumentation, never};
use crate::report::RuleId;

pub(crate) static RULE: Rule = Rule {
    documentation: RuleDocumentation {
        id: RuleId("CRU002"),
        name: "source-too-large",
        summary: "The file is larger than the policy allows.",
        why: "Every validator downloads, stores and reads every submission.",
        example: "KERNEL = '...'  # half a megabyte of text\n",
        instead: "make the file smaller; data does not belong in it",
    },
    error_code: ErrorCode::SecurityViolation,
    check: never,
};
