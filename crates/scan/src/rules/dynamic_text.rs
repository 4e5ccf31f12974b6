//! Text whose characters are worked out at run time has no honest use in a training step.

use ruff_python_ast::{Arguments, Expr, ExprCall, InterpolatedStringElement, Operator};
use ruff_text_size::Ranged;

use super::{ErrorCode, Findings, Rule, RuleDocumentation};
use crate::fold::{Constant, Folder, is_plain_encoding};
use crate::program::Program;
use crate::report::RuleId;
use crate::scope::ScopeId;

pub(crate) static RULE: Rule = Rule {
    documentation: RuleDocumentation {
        id: RuleId("CRU602"),
        name: "dynamic-text",
        summary: "Text is decoded with an encoding that is computed or unusual, or made from character numbers.",
        why: "Such text can spell any name, and what it spells cannot be seen without running the code.",
        example: "name = bytes(numbers).decode(encoding)\nname = \"%c\" % number\n",
        instead: "write the text out; `.decode()` and `.decode(\"utf-8\")` are fine",
    },
    error_code: ErrorCode::SecurityViolation,
    check,
};

fn check(program: &Program<'_>, findings: &mut Findings<'_>) {
    let folder = program.folder();
    for (used, is_known) in program.index.texts.iter().zip(&program.texts.is_known) {
        // What is known, the rule on hidden names looks at.
        if *is_known {
            continue;
        }
        let (expression, scope) = (used.expression, used.scope);
        let message = match expression {
            Expr::Call(call) => call_message(program, &folder, call, scope),
            Expr::BinOp(operation) if operation.op == Operator::Mod => {
                let is_character = matches!(
                    folder.fold(&operation.left, scope),
                    Some(Constant::Text(template)) if has_percent_character(&template)
                );
                is_character.then_some("a character made from a number")
            }
            Expr::FString(literal) => literal
                .value
                .elements()
                .filter_map(InterpolatedStringElement::as_interpolation)
                .filter_map(|part| part.format_spec.as_ref())
                .any(|specification| {
                    specification
                        .elements
                        .literals()
                        .any(|literal| literal.value.trim_end().ends_with('c'))
                })
                .then_some("a character made from a number"),
            _ => None,
        };
        if let Some(message) = message {
            findings.report(&RULE, expression.range(), message);
        }
    }
}

fn call_message(
    program: &Program<'_>,
    folder: &Folder<'_, '_>,
    call: &ExprCall,
    scope: ScopeId,
) -> Option<&'static str> {
    let arguments = &call.arguments;
    match call.func.as_ref() {
        Expr::Attribute(method) => match method.attr.as_str() {
            "decode" | "encode" => {
                let encoding = encoding(arguments, 0)?;
                let is_stated = arguments.find_keyword("encoding").is_some();
                match folder.fold(encoding, scope) {
                    Some(Constant::Text(name)) => {
                        (!is_plain_encoding(&name)).then_some("an unusual encoding")
                    }
                    // A tokenizer's `decode` takes numbers, so that an argument that is not
                    // known counts only where an encoding must stand.
                    _ if is_stated || is_bytes(folder, &method.value, scope) => {
                        Some("an encoding that is computed")
                    }
                    _ => None,
                }
            }
            "fromhex" => Some("text from computed digits"),
            "format" => match folder.fold(&method.value, scope)? {
                Constant::Text(template) if template.contains("c}") => {
                    let is_character = template.split('{').skip(1).any(|field| {
                        field
                            .split('}')
                            .next()
                            .and_then(|field| field.split_once(':'))
                            .is_some_and(|(_, specification)| specification.ends_with('c'))
                    });
                    is_character.then_some("a character made from a number")
                }
                _ => None,
            },
            _ => None,
        },
        Expr::Name(_) => {
            let encoding = encoding(arguments, 1)?;
            let makes_text = program.paths(&call.func, scope).iter().any(|path| {
                matches!(
                    path.as_ref(),
                    "builtins.str" | "builtins.bytes" | "builtins.bytearray"
                )
            });
            if !makes_text {
                return None;
            }
            match folder.fold(encoding, scope) {
                Some(Constant::Text(name)) if is_plain_encoding(&name) => None,
                Some(Constant::Text(_)) => Some("an unusual encoding"),
                _ => Some("an encoding that is computed"),
            }
        }
        _ => None,
    }
}

fn encoding(arguments: &Arguments, position: usize) -> Option<&Expr> {
    arguments.find_argument_value("encoding", position)
}

/// Whether an expression is bytes for sure.
fn is_bytes(folder: &Folder<'_, '_>, expression: &Expr, scope: ScopeId) -> bool {
    let is_made = matches!(
        expression,
        Expr::Call(call) if matches!(
            call.func.as_ref(),
            Expr::Name(class) if matches!(class.id.as_str(), "bytes" | "bytearray")
        )
    );
    is_made || matches!(folder.fold(expression, scope), Some(Constant::Bytes(_)))
}

/// Whether a `%` template asks for a character anywhere.
fn has_percent_character(template: &str) -> bool {
    template.split('%').skip(1).any(|after| {
        after
            .trim_start_matches(|character: char| {
                character.is_ascii_digit() || "#0- +.*".contains(character)
            })
            .starts_with('c')
    })
}
