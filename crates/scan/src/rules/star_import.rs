//! Names must be visible where they come from.

use super::{ErrorCode, Findings, Rule, RuleDocumentation};
use crate::index::ImportUse;
use crate::program::Program;
use crate::report::RuleId;

pub(crate) static RULE: Rule = Rule {
    documentation: RuleDocumentation {
        id: RuleId("CRU204"),
        name: "star-import",
        summary: "An import takes all names of a module.",
        why: "It binds names that cannot be seen in the file, among them names of builtins.",
        example: "from torch.nn.functional import *\n",
        instead: "import the names you use, or the module",
    },
    error_code: ErrorCode::SecurityViolation,
    check,
};

fn check(program: &Program<'_>, findings: &mut Findings<'_>) {
    for import in &program.index.imports {
        if let ImportUse::From(statement, alias) = import
            && alias.name.as_str() == "*"
        {
            findings.report(
                &RULE,
                alias.range,
                format!(
                    "star import from `{}`",
                    statement
                        .module
                        .as_ref()
                        .map_or(".", |module| module.as_str())
                ),
            );
        }
    }
}
