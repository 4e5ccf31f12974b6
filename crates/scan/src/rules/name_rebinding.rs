//! `__name__` decides which blocks are removed, so nothing may bind it.

use super::{ErrorCode, Findings, Rule, RuleDocumentation};
use crate::index::Index;
use crate::program::Program;
use crate::report::RuleId;

pub(crate) static RULE: Rule = Rule {
    documentation: RuleDocumentation {
        id: RuleId("CRU304"),
        name: "name-rebinding",
        summary: "The name `__name__` is bound, declared or deleted.",
        why: "`__main__` blocks are removed because `__name__` is known. This holds inside such blocks too.",
        example: "__name__ = \"__main__\"\n",
        instead: "leave `__name__` alone",
    },
    error_code: ErrorCode::SecurityViolation,
    check,
};

fn check(program: &Program<'_>, findings: &mut Findings<'_>) {
    check_index(&program.index, findings);
}

/// The rule needs nothing but the index.
pub(super) fn check_index(index: &Index<'_>, findings: &mut Findings<'_>) {
    for binding in &index.bindings {
        if binding.name == "__name__" {
            findings.report(
                &RULE,
                binding.range,
                format!("`__name__` bound {}", binding.kind.describe()),
            );
        }
    }
    for used in &index.attributes {
        if used.attribute.attr.as_str() == "__name__"
            && !matches!(used.attribute.ctx, ruff_python_ast::ExprContext::Load)
        {
            findings.report(&RULE, used.attribute.attr.range, "`__name__` written");
        }
    }
}
