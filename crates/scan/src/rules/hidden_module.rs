//! A refused module must not be reached through another one.

use super::{ErrorCode, Findings, Rule, RuleDocumentation};
use crate::program::Program;
use crate::report::RuleId;

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
    let refused = &program.policy.imports.refused;
    for (used, path) in program.attributes_standing_for(|path| refused.contains(path)) {
        findings.report(
            &RULE,
            used.attribute.attr.range,
            format!("the module `{path}`, reached as an attribute"),
        );
    }
    for used in program.unbounded_attributes() {
        findings.report_with_hint(
            &RULE,
            used.attribute.attr.range,
            "a name of a library with more parts or more meanings than can be followed",
            "use the shortest name of what you need, and bind each name once",
        );
    }
}
