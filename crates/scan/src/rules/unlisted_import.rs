//! Modules that the policy does not know must not be imported.

use super::{ErrorCode, Findings, Rule, RuleDocumentation};
use crate::policy::Verdict;
use crate::program::Program;
use crate::report::RuleId;

pub(crate) static RULE: Rule = Rule {
    documentation: RuleDocumentation {
        id: RuleId("CRU202"),
        name: "unlisted-import",
        summary: "A module is imported that the policy does not list.",
        why: "What a module offers, and whether the worker has it at all, is known only for the listed ones.",
        example: "import antigravity\n",
        instead: "use torch and the other listed modules",
    },
    error_code: ErrorCode::SecurityViolation,
    check,
};

fn check(program: &Program<'_>, findings: &mut Findings<'_>) {
    for import in &program.imported {
        if import.verdict == Verdict::Unlisted {
            findings.report_with_hint(
                &RULE,
                import.range,
                format!("import of `{}`, which is not on the list", import.path),
                format!("listed are: {}", list(program)),
            );
        }
    }
}

fn list(program: &Program<'_>) -> String {
    let names: Vec<&str> = program
        .policy
        .imports
        .allowed
        .iter()
        .map(String::as_str)
        .collect();
    names.join(", ")
}
