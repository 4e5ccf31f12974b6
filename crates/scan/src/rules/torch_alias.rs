//! The name `torch` means the module torch, and nothing else does.

use super::{ErrorCode, Findings, Rule, RuleDocumentation};
use crate::index::{BindingKind, ImportUse};
use crate::program::Program;
use crate::report::RuleId;

pub(crate) static RULE: Rule = Rule {
    documentation: RuleDocumentation {
        id: RuleId("CRU301"),
        name: "torch-alias",
        summary: "The module torch is bound to another name or handed on as a value, or `torch` is bound to something else.",
        why: "Rules and readers rely on `torch` being torch. Under another name, or as a value in a container, it is a way around them.",
        example: "import torch as t\nlib = torch\n",
        instead: "write `import torch` and use it as `torch.something`; aliases of submodules (`import torch.nn as nn`) are fine",
    },
    error_code: ErrorCode::SecurityViolation,
    check,
};

fn check(program: &Program<'_>, findings: &mut Findings<'_>) {
    for import in &program.index.imports {
        if let ImportUse::Module(alias) = import
            && alias.name.as_str() == "torch"
            && let Some(name) = &alias.asname
            && name.as_str() != "torch"
        {
            findings.report(&RULE, alias.range, format!("`torch` imported as `{name}`"));
        }
    }
    for import in &program.imported {
        // A plain `import torch` is what is wanted.
        let is_member = import.path == "torch" && import.is_member;
        if is_member {
            findings.report(
                &RULE,
                import.range,
                "the module `torch`, imported from another module",
            );
        }
    }
    for used in &program.index.names {
        if used.is_base {
            continue;
        }
        if program.may_be(used.expression, used.scope, "torch") {
            findings.report(&RULE, used.name.range, "the module `torch` used as a value");
        }
    }
    for (used, _) in program.attributes_standing_for(|path| path == "torch") {
        findings.report(
            &RULE,
            used.attribute.attr.range,
            "the module `torch`, reached as an attribute",
        );
    }
    for binding in &program.index.bindings {
        if binding.name == "torch" && binding.kind != BindingKind::Import {
            let is_plain_alias = binding.kind == BindingKind::ImportAs
                && program.index.imports.iter().any(|import| {
                    matches!(import, ImportUse::Module(alias)
                        if alias.name.as_str() == "torch"
                            && alias.asname.as_ref().is_some_and(|name| name.range == binding.range))
                });
            if !is_plain_alias {
                findings.report(
                    &RULE,
                    binding.range,
                    format!("the name `torch` bound {}", binding.kind.describe()),
                );
            }
        }
    }
}
