//! Torch stays as it was loaded.

use ruff_python_ast::ExprContext;

use super::{ErrorCode, Findings, Rule, RuleDocumentation};
use crate::policy::{Policy, is_at_or_below};
use crate::program::Program;
use crate::report::RuleId;

pub(crate) static RULE: Rule = Rule {
    documentation: RuleDocumentation {
        id: RuleId("CRU501"),
        name: "torch-write",
        summary: "An attribute of a library module, class or function is assigned or deleted.",
        why: "The worker computes with the same classes: whoever changes `torch.Tensor` changes what the worker sees.",
        example: "from torch import Tensor as T\nT.__sub__ = lambda a, b: a\n",
        instead: "write a function of your own, or subclass `torch.nn.Module` and `torch.autograd.Function`",
    },
    error_code: ErrorCode::SecurityViolation,
    check,
};

fn check(program: &Program<'_>, findings: &mut Findings<'_>) {
    for used in &program.index.attributes {
        if matches!(used.attribute.ctx, ExprContext::Load) {
            continue;
        }
        for base in program.paths(&used.attribute.value, used.scope) {
            let path = format!("{base}.{}", used.attribute.attr);
            if is_protected(program.policy, &base)
                && !is_setting(&path)
                && !is_writable(program.policy, &path)
            {
                findings.report(&RULE, used.attribute.range, format!("`{path}` written"));
            }
        }
    }
}

fn is_protected(policy: &Policy, path: &str) -> bool {
    policy
        .torch
        .protected_modules
        .iter()
        .any(|module| is_at_or_below(path, module))
}

/// Backend settings have a rule of their own.
pub(super) fn is_setting(path: &str) -> bool {
    is_at_or_below(path, "torch.backends")
}

/// Whether the policy lists a setting as one that may be written.
pub(super) fn is_writable(policy: &Policy, path: &str) -> bool {
    policy.torch.writable.iter().any(|entry| {
        entry.strip_suffix(".*").map_or(entry == path, |above| {
            path != above && is_at_or_below(path, above)
        })
    })
}
