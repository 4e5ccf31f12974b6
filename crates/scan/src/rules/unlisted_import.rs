//! Modules that the policy does not know must not be imported.

use super::{ErrorCode, Findings, Rule, RuleDocumentation};
use crate::program::Program;
use crate::report::RuleId;
use crate::rules::refused_import::{Verdict, verdict};

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
    for (path, range) in program.imported_paths() {
        if verdict(&program.policy.imports, &path) == Verdict::Unlisted {
            findings.report_with_hint(
                &RULE,
                range,
                format!("import of `{path}`, which is not on the list"),
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
