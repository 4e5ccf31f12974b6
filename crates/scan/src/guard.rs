//! Removes `if __name__ == "__main__":` blocks at module level, so that what runs is what was
//! scanned. The worker never runs the file as `__main__`, so such a block is dead; the text that
//! remains has every other character on its old line and column.

use ruff_python_ast::{BoolOp, CmpOp, Expr, ModModule, Operator, Stmt, UnaryOp};
use ruff_text_size::{Ranged, TextRange};

/// A source without its `__main__` blocks.
#[derive(Debug)]
pub(crate) struct Blanked<'a> {
    pub(crate) text: String,
    /// The statements of the original that lost something.
    pub(crate) edited: Vec<&'a Stmt>,
}

/// The source without its `__main__` blocks, or `None` when it has none.
pub(crate) fn blank_main_blocks<'a>(text: &str, module: &'a ModModule) -> Option<Blanked<'a>> {
    let mut edits = Vec::new();
    let mut edited = Vec::new();
    for statement in &module.body {
        if let Stmt::If(branches) = statement {
            let mut tests = vec![(Some(branches.test.as_ref()), branches.body.as_slice())];
            for clause in &branches.elif_else_clauses {
                tests.push((clause.test.as_ref(), clause.body.as_slice()));
            }
            let before = edits.len();
            collect_edits(statement, &tests, &mut edits);
            if edits.len() > before {
                edited.push(statement);
            }
        }
    }
    if edits.is_empty() {
        return None;
    }
    Some(Blanked {
        text: apply(text, &edits),
        edited,
    })
}

/// A change of the text that keeps its shape.
#[derive(Debug)]
enum Edit {
    /// Blank a whole statement.
    Statement(TextRange),
    /// Replace a block by a constant that does nothing.
    Block(TextRange),
    /// Replace a condition by its value.
    Condition(TextRange, bool),
}

/// Decides which branches of one `if` are dead. An `if` of one dead branch goes as a whole; in a
/// longer one the dead blocks become empty and the conditions constants, which keeps the other
/// branches as they are.
fn collect_edits(statement: &Stmt, tests: &[(Option<&Expr>, &[Stmt])], edits: &mut Vec<Edit>) {
    let truths: Vec<Option<bool>> = tests.iter().map(|(test, _)| test.and_then(truth)).collect();
    if let ([_], [Some(false)]) = (tests, truths.as_slice()) {
        edits.push(Edit::Statement(statement.range()));
        return;
    }
    let mut decided = false;
    for ((test, body), truth) in tests.iter().zip(&truths) {
        if let (Some(test), Some(value)) = (test, truth) {
            edits.push(Edit::Condition(test.range(), *value));
        }
        if (decided || *truth == Some(false))
            && let (Some(first), Some(last)) = (body.first(), body.last())
        {
            edits.push(Edit::Block(TextRange::new(first.start(), last.end())));
        }
        decided |= *truth == Some(true);
    }
}

/// The value of a condition on `__name__`, given that it is not `"__main__"`; `None` when the
/// condition says something else.
fn truth(test: &Expr) -> Option<bool> {
    match test {
        Expr::Compare(compare) => {
            let mut left = compare.left.as_ref();
            let mut value = Some(true);
            for (operator, right) in compare.ops.iter().zip(&compare.comparators) {
                match comparison(left, *operator, right) {
                    Some(true) => {}
                    Some(false) => return Some(false),
                    None => value = None,
                }
                left = right;
            }
            value
        }
        Expr::UnaryOp(operation) if operation.op == UnaryOp::Not => {
            truth(&operation.operand).map(|value| !value)
        }
        Expr::BoolOp(operation) => {
            let deciding = operation.op == BoolOp::Or;
            let mut value = Some(!deciding);
            for operand in &operation.values {
                match truth(operand) {
                    Some(operand) if operand == deciding => return Some(deciding),
                    Some(_) => {}
                    None => value = None,
                }
            }
            value
        }
        _ => None,
    }
}

fn comparison(left: &Expr, operator: CmpOp, right: &Expr) -> Option<bool> {
    let is_equal = match operator {
        CmpOp::Eq | CmpOp::Is | CmpOp::In => true,
        CmpOp::NotEq | CmpOp::IsNot | CmpOp::NotIn => false,
        CmpOp::Lt | CmpOp::LtE | CmpOp::Gt | CmpOp::GtE => return None,
    };
    let asks_for_main = match operator {
        CmpOp::In | CmpOp::NotIn => is_name(left) && holds_only_main(right),
        _ => (is_name(left) && is_main(right)) || (is_main(left) && is_name(right)),
    };
    asks_for_main.then_some(!is_equal)
}

fn is_name(expression: &Expr) -> bool {
    matches!(expression, Expr::Name(name) if name.id.as_str() == "__name__")
}

fn is_main(expression: &Expr) -> bool {
    constant(expression).is_some_and(|text| text == "__main__")
}

fn holds_only_main(expression: &Expr) -> bool {
    let elements: &[Expr] = match expression {
        Expr::Tuple(tuple) => &tuple.elts,
        Expr::List(list) => &list.elts,
        Expr::Set(set) => &set.elts,
        _ => return is_main(expression),
    };
    !elements.is_empty() && elements.iter().all(is_main)
}

/// The text of a string that is written out or put together with `+`.
fn constant(expression: &Expr) -> Option<String> {
    match expression {
        Expr::StringLiteral(literal) => Some(literal.value.to_str().to_owned()),
        Expr::BinOp(operation) if operation.op == Operator::Add => {
            let mut text = constant(&operation.left)?;
            text.push_str(&constant(&operation.right)?);
            Some(text)
        }
        _ => None,
    }
}

fn apply(text: &str, edits: &[Edit]) -> String {
    let mut edits: Vec<&Edit> = edits.iter().collect();
    edits.sort_by_key(|edit| edit.range().start());
    let mut result = String::with_capacity(text.len());
    let mut copied = 0;
    for edit in edits {
        let (start, end) = (
            edit.range().start().to_usize(),
            edit.range().end().to_usize(),
        );
        let (Some(before), Some(replaced)) = (text.get(copied..start), text.get(start..end)) else {
            continue;
        };
        result.push_str(before);
        match edit {
            Edit::Statement(_) => blank(replaced, |_, _| None, &mut result),
            Edit::Block(_) => {
                blank(
                    replaced,
                    |position, _| (position == 0).then_some('0'),
                    &mut result,
                );
            }
            Edit::Condition(_, value) => {
                // The condition may span lines by brackets of its own, so that brackets must
                // stay around whatever replaces it.
                let last = replaced.chars().count().saturating_sub(1);
                let digit = if *value { '1' } else { '0' };
                let mut written = false;
                blank(
                    replaced,
                    |position, _| {
                        if position == 0 {
                            Some('(')
                        } else if position == last {
                            Some(')')
                        } else if written {
                            None
                        } else {
                            written = true;
                            Some(digit)
                        }
                    },
                    &mut result,
                );
            }
        }
        copied = end;
    }
    result.push_str(text.get(copied..).unwrap_or(""));
    result
}

/// Appends a blank for every character, keeping line ends; `keep` may put another character.
fn blank(replaced: &str, mut keep: impl FnMut(usize, char) -> Option<char>, result: &mut String) {
    for (position, character) in replaced.chars().enumerate() {
        if matches!(character, '\n' | '\r') {
            result.push(character);
        } else {
            result.push(keep(position, character).unwrap_or(' '));
        }
    }
}

impl Edit {
    fn range(&self) -> TextRange {
        match self {
            Self::Statement(range) | Self::Block(range) | Self::Condition(range, _) => *range,
        }
    }
}
