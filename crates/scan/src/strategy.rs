//! Reads `get_strategy` from the syntax tree. The function is never called: it must return a
//! literal, and that literal is the answer.

use ruff_python_ast::{Expr, ModModule, Number, Stmt, StmtFunctionDef};
use ruff_text_size::{Ranged, TextRange};

use crate::report::{NamedStrategy, Strategy};

/// `get_strategy` as it was found in the module.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) strategy: Result<Strategy, Unreadable>,
    pub(crate) range: TextRange,
}

/// Why no strategy could be read, and where.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unreadable {
    pub(crate) message: String,
    pub(crate) range: TextRange,
}

/// The last definition of `get_strategy` at module level; it is the one that counts in Python.
pub(crate) fn find(module: &ModModule) -> Option<Found> {
    module
        .body
        .iter()
        .rev()
        .find_map(|statement| match statement {
            Stmt::FunctionDef(function) if function.name.as_str() == "get_strategy" => {
                Some(Found {
                    strategy: read(function),
                    range: function.name.range,
                })
            }
            _ => None,
        })
}

fn read(function: &StmtFunctionDef) -> Result<Strategy, Unreadable> {
    let name = function.name.range;
    if function.is_async {
        return Err(unreadable("`get_strategy` is async", name));
    }
    if !function.decorator_list.is_empty() {
        return Err(unreadable("`get_strategy` is decorated", name));
    }
    if !function.parameters.is_empty() {
        return Err(unreadable(
            "`get_strategy` takes parameters",
            function.parameters.range,
        ));
    }
    let body = match function.body.as_slice() {
        [Stmt::Expr(docstring), rest @ ..] if docstring.value.is_string_literal_expr() => rest,
        body => body,
    };
    let [Stmt::Return(statement)] = body else {
        return Err(unreadable(
            "the body of `get_strategy` is not a single return of a literal",
            name,
        ));
    };
    match &statement.value {
        Some(value) => literal(value),
        None => Err(unreadable(
            "`get_strategy` returns nothing",
            statement.range,
        )),
    }
}

fn literal(value: &Expr) -> Result<Strategy, Unreadable> {
    match value {
        Expr::StringLiteral(name) => match name.value.to_str() {
            "ddp" => Ok(Strategy::Named(NamedStrategy::Ddp)),
            "fsdp" => Ok(Strategy::Named(NamedStrategy::Fsdp)),
            "tp" => Ok(Strategy::Named(NamedStrategy::Tp)),
            other => {
                let shown: String = other.chars().take(40).collect();
                Err(unreadable(
                    format!("`get_strategy` returns the unknown strategy {shown:?}"),
                    value.range(),
                ))
            }
        },
        Expr::Dict(dict) => {
            let (mut dp_size, mut tp_size) = (None, None);
            for item in &dict.items {
                let slot = match &item.key {
                    Some(Expr::StringLiteral(key)) if key.value.to_str() == "dp_size" => {
                        &mut dp_size
                    }
                    Some(Expr::StringLiteral(key)) if key.value.to_str() == "tp_size" => {
                        &mut tp_size
                    }
                    key => {
                        return Err(unreadable(
                            "`get_strategy` returns a key other than \"dp_size\" and \"tp_size\"",
                            key.as_ref().map_or(item.value.range(), Ranged::range),
                        ));
                    }
                };
                if slot.replace(size(&item.value)?).is_some() {
                    return Err(unreadable(
                        "`get_strategy` returns the same key twice",
                        item.value.range(),
                    ));
                }
            }
            match (dp_size, tp_size) {
                (Some(dp_size), Some(tp_size)) => Ok(Strategy::Grid { dp_size, tp_size }),
                _ => Err(unreadable(
                    "`get_strategy` returns a dict without both \"dp_size\" and \"tp_size\"",
                    value.range(),
                )),
            }
        }
        _ => Err(unreadable(
            "`get_strategy` returns something other than a literal string or dict",
            value.range(),
        )),
    }
}

fn size(value: &Expr) -> Result<u32, Unreadable> {
    let number = match value {
        Expr::NumberLiteral(literal) => match &literal.value {
            Number::Int(number) => number
                .as_i64()
                .and_then(|number| u32::try_from(number).ok()),
            Number::Float(_) | Number::Complex { .. } => None,
        },
        _ => None,
    };
    number.filter(|&number| number > 0).ok_or_else(|| {
        unreadable(
            "`get_strategy` returns a size that is no positive whole number",
            value.range(),
        )
    })
}

fn unreadable(message: impl Into<String>, range: TextRange) -> Unreadable {
    Unreadable {
        message: message.into(),
        range,
    }
}
