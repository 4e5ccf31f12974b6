//! The model does the work it was configured for.

use ruff_python_ast::ExprContext;

use super::{ErrorCode, Findings, Rule, RuleDocumentation};
use crate::program::Program;
use crate::report::RuleId;

pub(crate) static RULE: Rule = Rule {
    documentation: RuleDocumentation {
        id: RuleId("CRU504"),
        name: "model-configuration",
        summary: "A configuration value of the model that lowers the work is written.",
        why: "A sliding window or fewer full-attention layers is less work than the reference does.",
        example: "model.config.sliding_window = 128\n",
        instead: "leave the configuration of the model as it is",
    },
    error_code: ErrorCode::SecurityViolation,
    check,
};

fn check(program: &Program<'_>, findings: &mut Findings<'_>) {
    let settings = &program.policy.torch.model_configuration;
    for used in program.attributes_named(settings.iter().map(String::as_str)) {
        let name = used.attribute.attr.as_str();
        if !matches!(used.attribute.ctx, ExprContext::Load) {
            findings.report(
                &RULE,
                used.attribute.attr.range,
                format!("`{name}` written"),
            );
        }
    }
    for used in &program.index.calls {
        for keyword in &used.call.arguments.keywords {
            if let Some(name) = &keyword.arg
                && settings.contains(name.as_str())
            {
                findings.report(&RULE, keyword.range, format!("`{name}` passed"));
            }
        }
    }
}
