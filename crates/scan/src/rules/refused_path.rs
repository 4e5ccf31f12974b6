//! Functions and classes of allowed modules that the policy names.

use super::{ErrorCode, Findings, Rule, RuleDocumentation};
use crate::index::ImportUse;
use crate::policy::longest_match;
use crate::program::Program;
use crate::report::RuleId;

pub(crate) static RULE: Rule = Rule {
    documentation: RuleDocumentation {
        id: RuleId("CRU303"),
        name: "refused-path",
        summary: "A function or class of an allowed module is used that the policy refuses.",
        why: "Some functions of allowed modules read or write files, load native code, evaluate text or reach around attribute writes.",
        example: "from torch import load\nimport functools\nfunctools.update_wrapper(a, b)\n",
        instead: "use the ordinary functions of torch",
    },
    error_code: ErrorCode::SecurityViolation,
    check,
};

fn check(program: &Program<'_>, findings: &mut Findings<'_>) {
    let refused = &program.policy.names.refused_paths;
    for import in &program.index.imports {
        let (path, range) = match import {
            ImportUse::Module(alias) => (alias.name.to_string(), alias.range),
            ImportUse::From(statement, alias) => {
                let module = statement
                    .module
                    .as_ref()
                    .map_or("", |module| module.as_str());
                (format!("{module}.{}", alias.name), alias.range)
            }
        };
        if longest_match(refused, &path).is_some() {
            findings.report(&RULE, range, format!("import of `{path}`"));
        }
    }
    // Names below a refused one are refused where the refused one stands.
    for (used, path) in program.attributes_standing_for(|path| refused.contains(path)) {
        findings.report(&RULE, used.attribute.range, format!("`{path}`"));
    }
}
