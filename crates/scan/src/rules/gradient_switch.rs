//! Every parameter trains.

use ruff_python_ast::ExprContext;

use super::{ErrorCode, Findings, Rule, RuleDocumentation};
use crate::index::ImportUse;
use crate::program::Program;
use crate::report::RuleId;

pub(crate) static RULE: Rule = Rule {
    documentation: RuleDocumentation {
        id: RuleId("CRU503"),
        name: "gradient-switch",
        summary: "Gradients are switched off or on: `requires_grad`, `set_grad_enabled`, `inference_mode`.",
        why: "All parameters must be trained; a frozen layer is work that was skipped.",
        example: "for p in model.parameters():\n    p.requires_grad = False\n",
        instead: "leave it out; `torch.no_grad()` around code that needs no gradient is fine",
    },
    error_code: ErrorCode::SecurityViolation,
    check,
};

fn check(program: &Program<'_>, findings: &mut Findings<'_>) {
    let switches = &program.policy.torch.gradient_switches;
    let names = switches.iter().map(String::as_str);
    for used in program.attributes_named(names.chain(["requires_grad"])) {
        let name = used.attribute.attr.as_str();
        if switches.contains(name) {
            findings.report(&RULE, used.attribute.attr.range, format!("`{name}` used"));
        } else if name == "requires_grad" && !matches!(used.attribute.ctx, ExprContext::Load) {
            findings.report(&RULE, used.attribute.attr.range, "`requires_grad` written");
        }
    }
    for import in &program.index.imports {
        if let ImportUse::From(_, alias) = import
            && switches.contains(alias.name.as_str())
        {
            findings.report(&RULE, alias.range, format!("import of `{}`", alias.name));
        }
    }
}
