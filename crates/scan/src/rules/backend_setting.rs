//! Backend settings stay as the worker set them.

use ruff_python_ast::{Expr, ExprContext};

use super::{ErrorCode, Findings, Rule, RuleDocumentation};
use crate::index::{AttributeUse, ImportUse};
use crate::program::Program;
use crate::report::RuleId;
use crate::rules::torch_write::{is_setting, is_writable};

pub(crate) static RULE: Rule = Rule {
    documentation: RuleDocumentation {
        id: RuleId("CRU502"),
        name: "backend-setting",
        summary: "A setting of `torch.backends` is written that the policy does not list, or a function that changes one is used.",
        why: "The reference and the submission must run under the same settings to be comparable. Exactly `cudnn.deterministic = True` and `cudnn.benchmark = False` are accepted when the policy says so, since the worker has set them already; any other value, and any computed one, is refused.",
        example: "torch.backends.cudnn.benchmark = True\ntorch.set_float32_matmul_precision('high')\n",
        instead: "remove it; `torch.backends.cuda.matmul.allow_tf32` and `torch.backends.cudnn.allow_tf32` may be written",
    },
    error_code: ErrorCode::SecurityViolation,
    check,
};

fn check(program: &Program<'_>, findings: &mut Findings<'_>) {
    let setters = &program.policy.torch.refused_setters;
    for used in program.attributes_named(setters.iter().map(String::as_str)) {
        findings.report(
            &RULE,
            used.attribute.attr.range,
            format!("`{}` changes a backend setting", used.attribute.attr),
        );
    }
    for used in &program.index.attributes {
        if matches!(used.attribute.ctx, ExprContext::Load) {
            continue;
        }
        for base in program.paths(&used.attribute.value, used.scope) {
            let path = format!("{base}.{}", used.attribute.attr);
            if is_setting(&path)
                && !is_writable(program.policy, &path)
                && !(program.policy.torch.allow_deterministic_cudnn
                    && repeats_the_worker(&path, used))
            {
                findings.report(&RULE, used.attribute.range, format!("`{path}` written"));
            }
        }
    }
    for import in &program.index.imports {
        if let ImportUse::From(_, alias) = import
            && setters.contains(alias.name.as_str())
        {
            findings.report(
                &RULE,
                alias.range,
                format!(
                    "import of `{}`, which changes a backend setting",
                    alias.name
                ),
            );
        }
    }
}

/// Whether an assignment writes, as a literal, what the worker has set before.
fn repeats_the_worker(path: &str, used: &AttributeUse<'_>) -> bool {
    let expected = match path {
        "torch.backends.cudnn.deterministic" => true,
        "torch.backends.cudnn.benchmark" => false,
        _ => return false,
    };
    matches!(used.assigned, Some(Expr::BooleanLiteral(literal)) if literal.value == expected)
}
