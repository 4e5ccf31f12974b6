//! Builtins that run text, read files or reach attributes by a computed name.

use super::{ErrorCode, Findings, Rule, RuleDocumentation};
use crate::program::Program;
use crate::report::RuleId;

pub(crate) static RULE: Rule = Rule {
    documentation: RuleDocumentation {
        id: RuleId("CRU302"),
        name: "refused-builtin",
        summary: "A builtin is used that runs text, reads files, or reaches attributes and scopes by name.",
        why: "With it a submission can do what cannot be seen in its text.",
        example: "run = eval\nrun('1 + 1')\n",
        instead: "write what you mean directly; `hasattr` is fine, and a function may have a parameter of that name",
    },
    error_code: ErrorCode::SecurityViolation,
    check,
};

fn check(program: &Program<'_>, findings: &mut Findings<'_>) {
    let refused = &program.policy.names.refused_builtins;
    for used in program.names_among(refused.iter().map(String::as_str)) {
        // An alias is reported where it is made, so that one use gives one finding.
        let name = used.name.id.as_str();
        let path = format!("builtins.{name}");
        if program.may_be(used.expression, used.scope, &path) {
            findings.report(&RULE, used.name.range, format!("the builtin `{name}`"));
        }
    }
}
