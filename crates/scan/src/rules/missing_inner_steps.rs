//! The file must define `inner_steps` at module level.

use ruff_text_size::TextRange;

use super::{ErrorCode, Findings, Rule, RuleDocumentation};
use crate::index::BindingKind;
use crate::program::Program;
use crate::report::RuleId;
use crate::scope::MODULE;

pub(crate) static RULE: Rule = Rule {
    documentation: RuleDocumentation {
        id: RuleId("CRU101"),
        name: "missing-inner-steps",
        summary: "No function `inner_steps` is defined at module level.",
        why: "The worker calls `inner_steps`; nothing else of the file is called.",
        example: "class Trainer:\n    def inner_steps(self): ...\n",
        instead: "define `def inner_steps(model, data_iterator, optimizer, num_steps, device)` at module level",
    },
    error_code: ErrorCode::MissingInnerSteps,
    check,
};

fn check(program: &Program<'_>, findings: &mut Findings<'_>) {
    let mut is_defined = false;
    for binding in &program.index.bindings {
        if binding.name != "inner_steps" || binding.scope != MODULE {
            continue;
        }
        if binding.kind == BindingKind::Function {
            is_defined = true;
        } else {
            findings.report(
                &RULE,
                binding.range,
                format!("`inner_steps` bound {}", binding.kind.describe()),
            );
        }
    }
    if !is_defined {
        findings.report(
            &RULE,
            TextRange::default(),
            "no function `inner_steps` at module level",
        );
    }
}
