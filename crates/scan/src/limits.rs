//! Bounds that are checked on bytes and tokens, before any recursive code sees the file.
//!
//! The parser and the rules recurse with the depth of the syntax tree, and a tree node is freed by
//! recursion too. This module bounds that depth from the token stream alone, in one pass and
//! without recursion, so that no input can exhaust the stack.

use ruff_python_ast::token::TokenKind;
use ruff_python_parser::{Mode, lexer};
use ruff_text_size::{TextRange, TextSize};

use crate::policy::Limits;

/// Why a file was refused before it was parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Excess {
    pub(crate) message: String,
    pub(crate) range: TextRange,
}

/// One open bracket, or the statement level, and how deep an expression in it can be.
#[derive(Clone, Copy, Default)]
struct Level {
    /// Tokens since the last separator: each may add one level to the tree.
    links: usize,
    /// Keywords whose operand may itself hold a comma, so that a comma does not end them.
    keywords: usize,
}

/// Checks everything that can be checked on the token stream.
pub(crate) fn check(text: &str, limits: &Limits) -> Result<(), Excess> {
    let Some(message) = first_excess(text, limits) else {
        return Ok(());
    };
    // The number of tokens is a property of the file, and files that exceed it are long.
    if message == too_many_tokens(limits) {
        return Err(excess(message, at(0, 0)));
    }
    let offset = start_of_line_with_excess(text, limits);
    let line = text.get(offset..).unwrap_or("");
    let length = line.find(['\n', '\r']).unwrap_or(line.len());
    Err(excess(message, at(offset, length)))
}

fn too_many_tokens(limits: &Limits) -> String {
    format!("more than {} tokens", limits.max_tokens)
}

/// The line on which a limit is first exceeded. The lexer keeps the place of its tokens to itself,
/// so the line is found by halving: a limit that the first lines exceed, more lines exceed too.
fn start_of_line_with_excess(text: &str, limits: &Limits) -> usize {
    let mut starts = vec![0];
    starts.extend(text.match_indices('\n').map(|(offset, _)| offset + 1));
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    let ends: Vec<usize> = ends.collect();
    let line = ends.partition_point(|&end| {
        text.get(..end)
            .is_some_and(|prefix| first_excess(prefix, limits).is_none())
    });
    starts.get(line).copied().unwrap_or(0)
}

/// What exceeds a limit first, `None` when nothing does.
fn first_excess(text: &str, limits: &Limits) -> Option<String> {
    let mut lexer = lexer::lex(text, Mode::Module);
    let mut levels = vec![Level::default()];
    let mut outer_links = 0_usize;
    let mut indentation = 0_usize;
    let mut tokens = 0_usize;
    let mut previous = TokenKind::Newline;
    loop {
        let kind = lexer.next_token();
        if kind == TokenKind::EndOfFile {
            return None;
        }
        tokens += 1;
        if tokens > limits.max_tokens {
            return Some(too_many_tokens(limits));
        }
        let is_bracketed = levels.len() > 1;
        let level = levels.last_mut()?;
        match kind {
            TokenKind::Lpar
            | TokenKind::Lsqb
            | TokenKind::Lbrace
            | TokenKind::FStringStart
            | TokenKind::TStringStart => {
                level.links += 1;
                outer_links += level.links + level.keywords;
                levels.push(Level::default());
                if levels.len() > limits.max_bracket_depth {
                    return Some(format!(
                        "brackets nested more than {} deep",
                        limits.max_bracket_depth
                    ));
                }
            }
            TokenKind::Rpar
            | TokenKind::Rsqb
            | TokenKind::Rbrace
            | TokenKind::FStringEnd
            | TokenKind::TStringEnd => {
                if levels.len() > 1 {
                    levels.pop();
                    if let Some(outer) = levels.last() {
                        outer_links -= outer.links + outer.keywords;
                    }
                }
            }
            TokenKind::Indent => {
                indentation += 1;
                if indentation > limits.max_indentation {
                    return Some(format!(
                        "blocks nested more than {} deep",
                        limits.max_indentation
                    ));
                }
            }
            TokenKind::Dedent => indentation = indentation.saturating_sub(1),
            TokenKind::Newline | TokenKind::Semi => *level = Level::default(),
            // A comma at statement level separates no expressions that could be counted apart:
            // `lambda a, b: lambda c, d: ...` is one expression.
            TokenKind::Comma if is_bracketed => level.links = 0,
            // Implicitly concatenated strings are one node, however many there are.
            TokenKind::String if previous == TokenKind::String => {}
            TokenKind::Comment | TokenKind::NonLogicalNewline | TokenKind::FStringMiddle => {}
            TokenKind::Lambda
            | TokenKind::If
            | TokenKind::Else
            | TokenKind::For
            | TokenKind::While
            | TokenKind::With
            | TokenKind::Try
            | TokenKind::Def
            | TokenKind::Class => level.keywords += 1,
            _ => level.links += 1,
        }
        if kind != TokenKind::NonLogicalNewline && kind != TokenKind::Comment {
            previous = kind;
        }
        let depth = outer_links
            + levels
                .last()
                .map_or(0, |level| level.links + level.keywords);
        if depth > limits.max_expression_length {
            return Some(format!(
                "an expression of more than {} linked parts",
                limits.max_expression_length
            ));
        }
    }
}

/// Refuses text that Python itself refuses whatever its syntax, or that it might read otherwise.
pub(crate) fn check_encoding(text: &str) -> Result<(), Excess> {
    if let Some(offset) = text.find('\0') {
        return Err(excess("a NUL byte in the source".to_owned(), at(offset, 1)));
    }
    if text.starts_with('\u{feff}') {
        return Err(excess("a second byte order mark".to_owned(), at(0, 0)));
    }
    let mut offset = 0;
    for line in text.split_inclusive('\n').take(2) {
        if let Some(name) = declared_encoding(line)
            && !matches!(
                name.to_ascii_lowercase().replace('_', "-").as_str(),
                "utf-8" | "utf8"
            )
        {
            return Err(excess(
                format!("an encoding declaration of `{name}`; only UTF-8 is read"),
                at(offset, line.trim_end().len()),
            ));
        }
        offset += line.len();
    }
    Ok(())
}

/// The encoding that a comment of the first two lines declares, found as PEP 263 finds it.
fn declared_encoding(line: &str) -> Option<&str> {
    let comment = line
        .trim_start_matches([' ', '\t', '\x0c'])
        .strip_prefix('#')?;
    let mut rest = comment;
    while let Some(found) = rest.find("coding") {
        rest = rest.get(found + "coding".len()..)?;
        if let Some(value) = rest.strip_prefix([':', '=']) {
            let value = value.trim_start_matches([' ', '\t']);
            let end = value
                .find(|character: char| {
                    !(character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.'))
                })
                .unwrap_or(value.len());
            if end > 0 {
                return value.get(..end);
            }
        }
    }
    None
}

fn excess(message: String, range: TextRange) -> Excess {
    Excess { message, range }
}

fn at(offset: usize, length: usize) -> TextRange {
    let start = u32::try_from(offset).unwrap_or(u32::MAX);
    let end = u32::try_from(offset.saturating_add(length)).unwrap_or(u32::MAX);
    TextRange::new(TextSize::new(start), TextSize::new(end))
}

#[cfg(test)]
mod tests {
    use super::{check, check_encoding, declared_encoding};
    use crate::policy::Policy;

    fn accepted(text: &str) -> bool {
        check(text, &Policy::builtin().limits).is_ok()
    }

    #[test]
    fn ordinary_depth_is_accepted_and_hostile_depth_refused() {
        assert!(accepted(&format!(
            "x = {}1{}",
            "(".repeat(60),
            ")".repeat(60)
        )));
        assert!(!accepted(&format!(
            "x = {}1{}",
            "(".repeat(300),
            ")".repeat(300)
        )));
        assert!(accepted(&format!("x = {}1", "1 + ".repeat(300))));
        assert!(!accepted(&format!("x = {}1", "1 + ".repeat(3000))));
    }

    #[test]
    fn a_long_list_is_no_depth() {
        assert!(accepted(&format!("x = [{}]", "1, ".repeat(20_000))));
    }

    #[test]
    fn commas_do_not_hide_nested_lambdas() {
        assert!(!accepted(&format!("f({}1)", "lambda a, b: ".repeat(3000))));
    }

    #[test]
    fn many_adjacent_strings_are_no_depth() {
        assert!(accepted(&format!("x = ({})", "'line'\n".repeat(5000))));
    }

    #[test]
    fn only_utf8_may_be_declared() {
        assert!(check_encoding("# -*- coding: utf-8 -*-\n").is_ok());
        assert!(check_encoding("# coding=UTF_8\n").is_ok());
        assert!(check_encoding("\n# vim: set fileencoding=latin-1 :\n").is_err());
        assert!(check_encoding("\n\n# coding: latin-1\n").is_ok());
        assert!(check_encoding("x = 'coding: latin-1'\n").is_ok());
        assert_eq!(declared_encoding("# coding coding:utf-7"), Some("utf-7"));
    }
}
