//! Modules that the policy names must not be imported.

use super::{ErrorCode, Findings, Rule, RuleDocumentation};
use crate::policy::Verdict;
use crate::program::Program;
use crate::report::RuleId;

pub(crate) static RULE: Rule = Rule {
    documentation: RuleDocumentation {
        id: RuleId("CRU201"),
        name: "refused-import",
        summary: "A module is imported that reaches the system, the network, the interpreter or a clock.",
        why: "A submission needs tensors and arithmetic; everything else it could import is a way around the measurement.",
        example: "import os.path\nfrom subprocess import run as r\n",
        instead: "remove the import; code for local testing may import it inside `if __name__ == \"__main__\":`",
    },
    error_code: ErrorCode::SecurityViolation,
    check,
};

fn check(program: &Program<'_>, findings: &mut Findings<'_>) {
    for import in &program.imported {
        if import.verdict == Verdict::Refused {
            findings.report(&RULE, import.range, format!("import of `{}`", import.path));
        }
    }
}
