//! Nothing is unpickled.

use ruff_python_ast::Expr;
use ruff_text_size::Ranged;

use super::{ErrorCode, Findings, Rule, RuleDocumentation};
use crate::program::Program;
use crate::report::RuleId;

pub(crate) static RULE: Rule = Rule {
    documentation: RuleDocumentation {
        id: RuleId("CRU404"),
        name: "unsafe-load",
        summary: "A `load` is called with `weights_only` set to anything but `True`.",
        why: "Without it, loading runs code that is stored in the file.",
        example: "checkpoint.load(path, weights_only=False)\n",
        instead: "remove the call; the worker hands you the model",
    },
    error_code: ErrorCode::SecurityViolation,
    check,
};

fn check(program: &Program<'_>, findings: &mut Findings<'_>) {
    for used in &program.index.calls {
        if let Some(keyword) = used.call.arguments.find_keyword("weights_only")
            && !matches!(&keyword.value, Expr::BooleanLiteral(literal) if literal.value)
        {
            findings.report(
                &RULE,
                keyword.range(),
                "`weights_only` set to something other than `True`",
            );
        }
    }
}
