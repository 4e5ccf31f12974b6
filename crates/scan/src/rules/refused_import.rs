//! Modules that the policy names must not be imported.

use super::{ErrorCode, Findings, Rule, RuleDocumentation};
use crate::policy::{Imports, longest_match};
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
    for (path, range) in program.imported_paths() {
        if verdict(&program.policy.imports, &path) == Verdict::Refused {
            findings.report(&RULE, range, format!("import of `{path}`"));
        }
    }
}

/// What the policy says about importing a dotted name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Allowed,
    Refused,
    Unlisted,
}

/// The longest entry that stands for a name decides; a refusal wins a tie.
pub(super) fn verdict(imports: &Imports, path: &str) -> Verdict {
    let refused = longest_match(&imports.refused, path).map(str::len);
    let allowed = longest_match(&imports.allowed, path).map(str::len);
    match (refused, allowed) {
        (None, None) => Verdict::Unlisted,
        (None, Some(_)) => Verdict::Allowed,
        (Some(refused), Some(allowed)) if allowed > refused => Verdict::Allowed,
        (Some(_), _) => Verdict::Refused,
    }
}
