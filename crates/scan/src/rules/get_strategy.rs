//! Several GPUs need a `get_strategy` that can be read without running it.

use ruff_text_size::TextRange;

use super::{ErrorCode, Findings, Rule, RuleDocumentation};
use crate::program::Program;
use crate::report::{RuleId, Strategy};
use crate::strategy;

pub(crate) static RULE: Rule = Rule {
    documentation: RuleDocumentation {
        id: RuleId("CRU103"),
        name: "get-strategy",
        summary: "With more than one GPU, `get_strategy` is missing, is no literal, or does not fit the number of GPUs.",
        why: "The strategy decides how the worker is started, so it is read from the text and the function is never called.",
        example: "def get_strategy():\n    return 'd' + 'dp'\n",
        instead: "write `def get_strategy(): return \"ddp\"` (or \"fsdp\", \"tp\", or {\"dp_size\": D, \"tp_size\": T} with D * T GPUs)",
    },
    error_code: ErrorCode::MissingInnerSteps,
    check,
};

fn check(program: &Program<'_>, findings: &mut Findings<'_>) {
    let num_gpus = program.options.num_gpus;
    if num_gpus <= 1 {
        return;
    }
    let Some(found) = strategy::find(program.module) else {
        findings.report(
            &RULE,
            TextRange::default(),
            format!("no `get_strategy` at module level, needed for {num_gpus} GPUs"),
        );
        return;
    };
    match found.strategy {
        Err(unreadable) => findings.report(&RULE, unreadable.range, unreadable.message),
        Ok(Strategy::Grid { dp_size, tp_size })
            if u64::from(dp_size) * u64::from(tp_size) != u64::from(num_gpus) =>
        {
            findings.report(
                &RULE,
                found.range,
                format!("`get_strategy` asks for {dp_size} x {tp_size} GPUs, there are {num_gpus}"),
            );
        }
        Ok(_) => {}
    }
}
