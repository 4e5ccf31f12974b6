//! Only torch compiles.

use super::{ErrorCode, Findings, Rule, RuleDocumentation};
use crate::program::Program;
use crate::report::RuleId;

pub(crate) static RULE: Rule = Rule {
    documentation: RuleDocumentation {
        id: RuleId("CRU403"),
        name: "compile-method",
        summary: "A method or function `compile` is used that is not `torch.compile`.",
        why: "`compile` of other modules makes code from text, and the method of a module compiles in place, out of sight of the rules on `torch.compile`.",
        example: "model.compile()\n",
        instead: "write `compiled = torch.compile(model)`",
    },
    error_code: ErrorCode::SecurityViolation,
    check,
};

fn check(program: &Program<'_>, findings: &mut Findings<'_>) {
    for used in program.attributes_named(["compile"]) {
        let paths = program.paths(used.expression, used.scope);
        let is_torch =
            !paths.is_empty() && paths.iter().all(|path| path.as_ref() == "torch.compile");
        if !is_torch {
            findings.report(
                &RULE,
                used.attribute.attr.range,
                "`.compile` of something other than `torch`",
            );
        }
    }
}
