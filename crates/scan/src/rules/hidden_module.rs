//! A refused module must not be reached through another one.

use super::{ErrorCode, Findings, Rule, RuleDocumentation};
use crate::program::Program;
use crate::report::RuleId;
use crate::resolve::Value;

pub(crate) static RULE: Rule = Rule {
    documentation: RuleDocumentation {
        id: RuleId("CRU205"),
        name: "hidden-module",
        summary: "A refused module is reached as an attribute of another module.",
        why: "Library modules keep what they import as attributes, so `torch.os` is the module `os` without an import.",
        example: "import torch.nn.functional as F\nF.torch.os.environ\n",
        instead: "remove it; a submission has no use for the module",
    },
    error_code: ErrorCode::SecurityViolation,
    check,
};

fn check(program: &Program<'_>, findings: &mut Findings<'_>) {
    for used in &program.index.attributes {
        for value in program.values(used.expression, used.scope).iter() {
            match value {
                Value::Path(path) if program.policy.imports.refused.contains(path.as_ref()) => {
                    findings.report(
                        &RULE,
                        used.attribute.attr.range,
                        format!("the module `{path}`, reached as an attribute"),
                    );
                }
                Value::Unbounded => findings.report_with_hint(
                    &RULE,
                    used.attribute.attr.range,
                    "a name of a library with more parts or more meanings than can be followed",
                    "use the shortest name of what you need, and bind each name once",
                ),
                Value::Path(_) | Value::Function(_) => {}
            }
        }
    }
}
