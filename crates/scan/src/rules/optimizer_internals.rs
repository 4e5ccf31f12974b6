//! The optimizer is used as it was given.

use ruff_python_ast::Expr;

use super::{ErrorCode, Findings, Rule, RuleDocumentation};
use crate::program::Program;
use crate::report::RuleId;

pub(crate) static RULE: Rule = Rule {
    documentation: RuleDocumentation {
        id: RuleId("CRU402"),
        name: "optimizer-internals",
        summary: "An attribute is used that reaches into a wrapped optimizer.",
        why: "The worker may wrap the optimizer to see what it did; what is inside is not for the submission.",
        example: "optimizer.optimizer.step()\n",
        instead: "call `optimizer.step()` and `optimizer.zero_grad()`",
    },
    error_code: ErrorCode::SecurityViolation,
    check,
};

fn check(program: &Program<'_>, findings: &mut Findings<'_>) {
    let internals = &program.policy.attributes.optimizer_internals;
    for used in program.attributes_named(internals.iter().map(String::as_str)) {
        let name = used.attribute.attr.as_str();
        let is_own_field = name == "optimizer"
            && matches!(used.attribute.value.as_ref(), Expr::Name(base) if base.id.as_str() == "self");
        if !is_own_field {
            findings.report(
                &RULE,
                used.attribute.attr.range,
                format!("the attribute `{name}`"),
            );
        }
    }
}
