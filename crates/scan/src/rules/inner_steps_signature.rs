//! `inner_steps` must be callable the way the worker calls it.

use ruff_python_ast::{Stmt, StmtFunctionDef};

use super::{ErrorCode, Findings, Rule, RuleDocumentation};
use crate::program::Program;
use crate::report::RuleId;

pub(crate) static RULE: Rule = Rule {
    documentation: RuleDocumentation {
        id: RuleId("CRU102"),
        name: "inner-steps-signature",
        summary: "`inner_steps` is async, or cannot be called with the five arguments of the worker.",
        why: "The worker calls `inner_steps(model, data_iterator, optimizer, num_steps, device)` and adds `num_gpus` by name if the function names it. A catch-all `*args` does not say what the function takes, so it does not count.",
        example: "async def inner_steps(model, data_iterator, optimizer, num_steps): ...\n",
        instead: "write `def inner_steps(model, data_iterator, optimizer, num_steps, device)`, with `num_gpus=1` after it if you need it",
    },
    error_code: ErrorCode::MissingInnerSteps,
    check,
};

/// Arguments that the worker passes by position.
const POSITIONAL_ARGUMENTS: usize = 5;

fn check(program: &Program<'_>, findings: &mut Findings<'_>) {
    for function in module_functions(&program.module.body) {
        if function.name.as_str() != "inner_steps" {
            continue;
        }
        if function.is_async {
            findings.report(&RULE, function.name.range, "`inner_steps` is async");
        }
        check_parameters(function, findings);
    }
}

fn check_parameters(function: &StmtFunctionDef, findings: &mut Findings<'_>) {
    let parameters = &function.parameters;
    let positional = parameters.posonlyargs.len() + parameters.args.len();
    if positional < POSITIONAL_ARGUMENTS {
        findings.report(
            &RULE,
            function.name.range,
            format!(
                "`inner_steps` has {positional} positional parameters, at least \
                 {POSITIONAL_ARGUMENTS} are needed"
            ),
        );
    }
    let extra = parameters
        .posonlyargs
        .iter()
        .chain(&parameters.args)
        .skip(POSITIONAL_ARGUMENTS)
        .chain(&parameters.kwonlyargs);
    for parameter in extra {
        if parameter.default.is_none() && parameter.parameter.name.as_str() != "num_gpus" {
            findings.report(
                &RULE,
                parameter.range,
                format!(
                    "parameter `{}` has no default and the worker does not pass it",
                    parameter.parameter.name
                ),
            );
        }
    }
}

/// Functions that become names of the module: at its top, or in a branch or block of it.
fn module_functions(body: &[Stmt]) -> Vec<&StmtFunctionDef> {
    let mut found = Vec::new();
    let mut pending: Vec<&[Stmt]> = vec![body];
    while let Some(body) = pending.pop() {
        for statement in body {
            match statement {
                Stmt::FunctionDef(function) => found.push(function),
                Stmt::If(branches) => {
                    pending.push(&branches.body);
                    pending.extend(branches.elif_else_clauses.iter().map(|c| c.body.as_slice()));
                }
                Stmt::Try(attempt) => {
                    pending.extend([
                        attempt.body.as_slice(),
                        attempt.orelse.as_slice(),
                        attempt.finalbody.as_slice(),
                    ]);
                    pending.extend(attempt.handlers.iter().map(|handler| {
                        let ruff_python_ast::ExceptHandler::ExceptHandler(handler) = handler;
                        handler.body.as_slice()
                    }));
                }
                Stmt::With(block) => pending.push(&block.body),
                Stmt::For(block) => pending.extend([block.body.as_slice(), &block.orelse]),
                Stmt::While(block) => pending.extend([block.body.as_slice(), &block.orelse]),
                Stmt::Match(choice) => {
                    pending.extend(choice.cases.iter().map(|case| case.body.as_slice()));
                }
                _ => {}
            }
        }
    }
    found
}
