//! Code does not come as bytes.

use ruff_text_size::Ranged;

use super::{ErrorCode, Findings, Rule, RuleDocumentation};
use crate::fold::Constant;
use crate::program::Program;
use crate::report::RuleId;

pub(crate) static RULE: Rule = Rule {
    documentation: RuleDocumentation {
        id: RuleId("CRU603"),
        name: "long-bytes",
        summary: "A bytes constant is longer than the policy allows, written out or put together from parts.",
        why: "Long byte strings hold compiled or packed code; training has no use for them.",
        example: "PAYLOAD = b'...'  # 300 bytes\n",
        instead: "remove it",
    },
    error_code: ErrorCode::SecurityViolation,
    check,
};

fn check(program: &Program<'_>, findings: &mut Findings<'_>) {
    let limit = program.policy.limits.max_bytes_literal;
    for (position, constant) in &program.texts.outermost {
        if let Some(length) = longest_bytes(constant)
            && length > limit
            && let Some(used) = program.index.texts.get(*position)
        {
            findings.report(
                &RULE,
                used.expression.range(),
                format!("{length} constant bytes, the limit is {limit}"),
            );
        }
    }
}

/// The number of elements of the longest bytes in a constant.
fn longest_bytes(constant: &Constant) -> Option<usize> {
    match constant {
        Constant::Bytes(bytes) => Some(bytes.len()),
        Constant::Sequence(items) => items.iter().filter_map(longest_bytes).max(),
        Constant::Mapping(items) => items
            .iter()
            .flat_map(|(key, value)| [longest_bytes(key), longest_bytes(value)])
            .flatten()
            .max(),
        Constant::Text(_) | Constant::Integer(_) => None,
    }
}
