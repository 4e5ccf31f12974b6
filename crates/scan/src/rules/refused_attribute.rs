//! Attribute names that open the interpreter, on any object.

use super::{ErrorCode, Findings, Rule, RuleDocumentation};
use crate::index::{BindingKind, ImportUse};
use crate::policy::is_dunder;
use crate::program::Program;
use crate::report::RuleId;

pub(crate) static RULE: Rule = Rule {
    documentation: RuleDocumentation {
        id: RuleId("CRU401"),
        name: "refused-attribute",
        summary: "An attribute or method name is used that opens the interpreter: frames, code objects, lookup hooks, class internals.",
        why: "Through these names any object leads to every module that is loaded, whatever was imported.",
        example: "().__class__.__subclasses__()\n",
        instead: "use the ordinary methods of the object; `__init__`, `__call__`, `__name__`, `__class__` and arithmetic are fine",
    },
    error_code: ErrorCode::SecurityViolation,
    check,
};

fn check(program: &Program<'_>, findings: &mut Findings<'_>) {
    let refused = program.policy.attributes.refused.iter().map(String::as_str);
    let dunders = program.index.scopes.symbol_texts();
    let names = refused.chain(dunders.filter(|name| is_dunder(name)));
    for used in program.attributes_named(names) {
        let name = used.attribute.attr.as_str();
        if program.policy.refuses_attribute(name) {
            findings.report(
                &RULE,
                used.attribute.attr.range,
                format!("the attribute `{name}`"),
            );
        } else if is_dunder(name)
            && name != "__name__"
            && !matches!(used.attribute.ctx, ruff_python_ast::ExprContext::Load)
        {
            findings.report(
                &RULE,
                used.attribute.attr.range,
                format!("the attribute `{name}` written"),
            );
        }
    }
    for name in &program.index.pattern_attributes {
        if program.policy.refuses_attribute(name.as_str()) {
            findings.report(
                &RULE,
                name.range,
                format!("the attribute `{name}`, read by a pattern"),
            );
        }
    }
    for import in &program.index.imports {
        if let ImportUse::From(_, alias) = import
            && program.policy.refuses_attribute(alias.name.as_str())
        {
            findings.report(
                &RULE,
                alias.range,
                format!("the attribute `{}`, imported", alias.name),
            );
        }
    }
    for binding in &program.index.bindings {
        let is_definition = matches!(
            binding.kind,
            BindingKind::Function | BindingKind::Class | BindingKind::Assignment
        );
        if is_definition
            && is_dunder(binding.name)
            && binding.name != "__name__"
            && program.policy.refuses_attribute(binding.name)
        {
            findings.report(&RULE, binding.range, format!("`{}` defined", binding.name));
        }
    }
}
