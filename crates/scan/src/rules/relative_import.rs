//! A submission is one file; there is nothing beside it.

use super::{ErrorCode, Findings, Rule, RuleDocumentation};
use crate::index::ImportUse;
use crate::program::Program;
use crate::report::RuleId;

pub(crate) static RULE: Rule = Rule {
    documentation: RuleDocumentation {
        id: RuleId("CRU203"),
        name: "relative-import",
        summary: "An import is relative.",
        why: "A submission is one file and belongs to no package, so a relative import could only reach into the worker.",
        example: "from . import helpers\n",
        instead: "put the code into the file itself",
    },
    error_code: ErrorCode::SecurityViolation,
    check,
};

fn check(program: &Program<'_>, findings: &mut Findings<'_>) {
    for import in &program.index.imports {
        if let ImportUse::From(statement, _) = import
            && statement.level > 0
        {
            findings.report(&RULE, statement.range, "relative import");
        }
    }
}
