//! Classes are written as classes.

use ruff_text_size::Ranged;

use super::{ErrorCode, Findings, Rule, RuleDocumentation};
use crate::program::Program;
use crate::report::RuleId;

pub(crate) static RULE: Rule = Rule {
    documentation: RuleDocumentation {
        id: RuleId("CRU305"),
        name: "type-creation",
        summary: "`type` is called with anything but one argument.",
        why: "With three arguments it makes a class whose methods and name are computed.",
        example: "type(\"T\", (), {\"__getattr__\": f})\n",
        instead: "write a `class` statement; `type(x)` is fine",
    },
    error_code: ErrorCode::SecurityViolation,
    check,
};

fn check(program: &Program<'_>, findings: &mut Findings<'_>) {
    for used in &program.index.calls {
        let arguments = &used.call.arguments;
        let is_plain = arguments.keywords.is_empty()
            && arguments.args.len() == 1
            && !arguments
                .args
                .iter()
                .any(ruff_python_ast::Expr::is_starred_expr);
        if is_plain {
            continue;
        }
        if program.may_be(&used.call.func, used.scope, "builtins.type") {
            findings.report(
                &RULE,
                used.call.func.range(),
                "`type` called with anything but one argument",
            );
        }
    }
}
