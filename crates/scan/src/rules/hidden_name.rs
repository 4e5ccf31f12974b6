//! Names that are refused must not come back as text, written out or put together.

use ruff_python_ast::{Expr, InterpolatedStringElement};
use ruff_text_size::{Ranged, TextRange};

use super::{ErrorCode, Findings, Rule, RuleDocumentation};
use crate::fold::Constant;
use crate::index::TextUse;
use crate::policy::{Policy, is_dunder};
use crate::program::Program;
use crate::report::RuleId;

pub(crate) static RULE: Rule = Rule {
    documentation: RuleDocumentation {
        id: RuleId("CRU601"),
        name: "hidden-name",
        summary: "A string spells a name that is refused, written out or put together from parts.",
        why: "Text becomes a name again through any function that looks names up. A string that is put together to spell a builtin or a module has no honest use.",
        example: "key = \"__glo\" + \"bals__\"\n",
        instead: "remove the string; a docstring or comment may hold the word",
    },
    error_code: ErrorCode::SecurityViolation,
    check,
};

fn check(program: &Program<'_>, findings: &mut Findings<'_>) {
    let texts = &program.index.texts;
    for (position, constant) in &program.texts.outermost {
        let Some(used) = texts.get(*position) else {
            continue;
        };
        let is_written_out = is_written_out(used.expression);
        if let Some(name) = constant_name(program.policy, constant, is_written_out) {
            report(findings, used, &name);
        }
    }
    for (used, is_known) in texts.iter().zip(&program.texts.is_known) {
        if let (Expr::FString(literal), false) = (used.expression, is_known) {
            let parts = literal
                .value
                .elements()
                .filter_map(InterpolatedStringElement::as_literal);
            let text: String = parts.map(|part| part.value.as_ref()).collect();
            if let Some(name) = hidden_name(program.policy, &text, true) {
                report(findings, used, &name);
            }
        }
    }
    if program.texts.exceeded {
        findings.report_with_hint(
            &RULE,
            TextRange::default(),
            "more constant text is put together than can be followed",
            "write long constants out",
        );
    }
}

fn report(findings: &mut Findings<'_>, used: &TextUse<'_>, name: &str) {
    findings.report(
        &RULE,
        used.expression.range(),
        format!("a string that spells `{name}`"),
    );
}

fn is_written_out(expression: &Expr) -> bool {
    match expression {
        Expr::StringLiteral(literal) => !literal.value.is_implicit_concatenated(),
        Expr::BytesLiteral(literal) => !literal.value.is_implicit_concatenated(),
        _ => false,
    }
}

fn constant_name(policy: &Policy, constant: &Constant, is_written_out: bool) -> Option<String> {
    match constant {
        Constant::Text(text) => hidden_name(policy, text, is_written_out),
        Constant::Bytes(bytes) => {
            let text: String = bytes.iter().copied().map(char::from).collect();
            hidden_name(policy, &text, is_written_out)
        }
        Constant::Sequence(items) => items
            .iter()
            .find_map(|item| constant_name(policy, item, true)),
        Constant::Mapping(items) => items.iter().find_map(|(key, value)| {
            constant_name(policy, key, true).or_else(|| constant_name(policy, value, true))
        }),
        Constant::Integer(_) => None,
    }
}

/// The first refused name in a text: any dunder that no attribute may have, or a listed name
/// that is the whole text. Builtins and modules count only where the text was put together, since
/// words such as `input` and `time` are ordinary text otherwise.
fn hidden_name(policy: &Policy, text: &str, is_written_out: bool) -> Option<String> {
    let whole = text.trim();
    let is_listed = policy.strings.refused.contains(whole)
        || (!is_written_out
            && (policy.names.refused_builtins.contains(whole)
                || policy.imports.refused.contains(whole)
                || policy.attributes.refused.contains(whole)));
    if is_listed {
        return Some(whole.to_owned());
    }
    text.split(|character: char| !(character.is_alphanumeric() || character == '_'))
        .find(|word| is_dunder(word) && *word != "__main__" && policy.refuses_attribute(word))
        .map(str::to_owned)
}
