//! Rewrites every refused fixture in ways that keep its meaning, singly and in pairs, and demands
//! that the same rule still refuses it.

use std::collections::BTreeMap;

use crusades_scan::{Policy, ScanOptions, scan};
use ruff_python_ast::statement_visitor::{StatementVisitor, walk_stmt};
use ruff_python_ast::token::TokenKind;
use ruff_python_ast::{Expr, Stmt, StmtAssign};
use ruff_python_parser::parse_module;
use ruff_text_size::{Ranged, TextRange};

mod corpus;

use corpus::{Fixture, fixtures};

/// A rewrite; `None` where it does not apply.
type Rewrite = fn(&str) -> Option<String>;

/// Rules about the file as a whole, which rewriting its text does not keep.
const WHOLE_FILE_RULES: [&str; 8] = [
    "CRU001", "CRU002", "CRU003", "CRU004", "CRU005", "CRU101", "CRU102", "CRU103",
];

const REWRITES: &[(&str, Rewrite)] = &[
    ("in a function", in_function),
    ("in a class", in_class),
    ("in a branch", |source| in_block(source, "if True:\n", "")),
    ("in a try", |source| {
        in_block(source, "try:\n", "finally:\n    pass\n")
    }),
    ("in a loop", |source| {
        in_block(source, "for _round in range(1):\n", "")
    }),
    ("in a while", |source| {
        in_block(source, "while True:\n", "    break\n")
    }),
    ("in a match", |source| {
        in_block(source, "match 0:\n  case _:\n", "")
    }),
    ("with noise", with_noise),
    ("with other quotes", with_other_quotes),
    ("with split strings", with_split_strings),
    ("with halved strings", with_halved_strings),
    ("with hexadecimal strings", with_hexadecimal_strings),
    ("renamed", renamed),
    ("with aliases", with_aliases),
    ("with from imports", with_from_imports),
    ("with brackets", with_brackets),
    ("with carriage returns", |source| {
        Some(source.replace('\n', "\r\n"))
    }),
    ("with tabs", |source| Some(source.replace("    ", "\t"))),
    ("with wide letters", with_wide_letters),
    ("with continued lines", with_continued_lines),
    ("by unpacking", |source| {
        assignments(source, |target, value| {
            format!("[({target}), _rest] = {value}, 0")
        })
    }),
    ("by starred unpacking", |source| {
        names_only(source, |target, value| {
            format!("*_first, {target} = 0, {value}")
        })
    }),
    ("by walrus", |source| {
        names_only(source, |target, value| format!("({target} := {value})"))
    }),
    ("by loop", |source| {
        assignments(source, |target, value| {
            format!("for {target} in [{value}]: pass")
        })
    }),
    ("by with", |source| {
        let body = assignments(source, |target, value| {
            format!("with _contextlib.nullcontext({value}) as ({target}): pass")
        })?;
        Some(format!("import contextlib as _contextlib\n{body}"))
    }),
    ("by default", |source| {
        assignments(source, |target, value| {
            format!("{target} = (lambda _value=({value}): _value)()")
        })
    }),
    ("by argument", |source| {
        assignments(source, |target, value| {
            format!("{target} = (lambda _value: _value)({value})")
        })
    }),
    ("by comprehension", |source| {
        assignments(source, |target, value| {
            format!("{target} = [_value for _value in [{value}]][0]")
        })
    }),
    ("by dictionary", |source| {
        assignments(source, |target, value| {
            format!("{target} = {{0: {value}}}[0]")
        })
    }),
    ("by condition", |source| {
        assignments(source, |target, value| {
            format!("{target} = ({value}) if True else None")
        })
    }),
    ("by or", |source| {
        assignments(source, |target, value| {
            format!("{target} = None or ({value})")
        })
    }),
    ("by chain", |source| {
        assignments(source, |target, value| {
            format!("_again = {target} = {value}")
        })
    }),
];

#[test]
fn every_mutant_of_a_refused_file_is_refused() {
    let policy = Policy::builtin();
    let mut applied: BTreeMap<&str, usize> = BTreeMap::new();
    let mut mutants = 0;
    let mut survivors = Vec::new();
    let mut judge = |fixture: &Fixture, how: &str, source: &str| {
        // A rewrite may lead to what Python does not allow; that would be refused for no merit.
        if parse_module(source).is_err() {
            return;
        }
        mutants += 1;
        let options = ScanOptions {
            num_gpus: fixture.num_gpus,
            ..ScanOptions::default()
        };
        let report = scan(source.as_bytes(), &policy, &options);
        if !report
            .findings
            .iter()
            .any(|found| found.rule.as_str() == fixture.rule)
        {
            let rules: Vec<_> = report
                .findings
                .iter()
                .map(|found| found.rule.as_str())
                .collect();
            survivors.push(format!("{} {how}: {rules:?}\n{source}", fixture.name));
        }
    };
    for (number, fixture) in fixtures("refused").unwrap().iter().enumerate() {
        if WHOLE_FILE_RULES.contains(&fixture.rule.as_str()) {
            continue;
        }
        for (first, (name, rewrite)) in REWRITES.iter().enumerate() {
            let Some(once) = rewrite(&fixture.source) else {
                continue;
            };
            *applied.entry(name).or_default() += 1;
            judge(fixture, name, &once);
            for (second, (second_name, rewrite)) in REWRITES.iter().enumerate() {
                // A third of all pairs, another third for each fixture.
                if (first + second + number) % 3 == 0
                    && let Some(twice) = rewrite(&once)
                {
                    judge(fixture, &format!("{name}, {second_name}"), &twice);
                }
            }
        }
    }
    println!("{mutants} mutants; {applied:#?}");
    for (name, _) in REWRITES {
        assert!(applied.contains_key(name), "`{name}` applies to no fixture");
    }
    assert!(mutants >= 2_000, "{mutants} mutants");
    // One survivor of each fixture says enough.
    survivors.dedup_by(|next, kept| next.split(' ').next() == kept.split(' ').next());
    assert!(survivors.is_empty(), "{}", survivors.join("\n----\n"));
}

/// Puts the whole file in a block. Text in several lines would change, so that it stays out.
fn in_block(source: &str, head: &str, tail: &str) -> Option<String> {
    if source.contains("\"\"\"") || source.contains("import *") || source.contains('\\') {
        return None;
    }
    let mut text = head.to_owned();
    for line in source.lines() {
        text.push_str("    ");
        text.push_str(line);
        text.push('\n');
    }
    text.push_str(tail);
    Some(text)
}

/// What is global in a module, or a builtin until it is bound, is neither in a function.
fn in_function(source: &str) -> Option<String> {
    if source.contains("global ") || source.contains("unbound in a function") {
        return None;
    }
    in_block(source, "def _wrapped():\n", "_wrapped()\n")
}

/// A class body is not seen by functions in it, so that it takes flat files only.
fn in_class(source: &str) -> Option<String> {
    let own = source.split("def inner_steps").next()?;
    let is_flat = !["def ", "lambda", "class ", " for "]
        .iter()
        .any(|word| own.contains(word));
    if !is_flat {
        return None;
    }
    in_block(source, "class _Wrapped:\n", "")
}

fn with_noise(source: &str) -> Option<String> {
    parse_module(source).ok()?;
    Some(format!(
        "# a comment: import nothing\n\"\"\"A docstring.\"\"\"\nimport math\n\
         def _noise(a, b=1, *c, d, **e):\n    return [x + b for x in c if x]\n\
         class _Noise:\n    k = {{'a': 1}}\n{source}\n_count = math.floor(2.5) + 1  # done\n"
    ))
}

/// Replaces every token that `replace` has another text for.
fn tokens(source: &str, replace: impl Fn(TokenKind, &str) -> Option<String>) -> Option<String> {
    let parsed = parse_module(source).ok()?;
    let mut edits = Vec::new();
    let mut inside = 0_usize;
    for token in parsed.tokens() {
        match token.kind() {
            TokenKind::FStringStart => inside += 1,
            TokenKind::FStringEnd => inside -= 1,
            kind if inside == 0 => {
                if let Some(text) = replace(kind, &source[token.range()]) {
                    edits.push((token.range(), text));
                }
            }
            _ => {}
        }
    }
    edited(source, edits)
}

fn edited(source: &str, mut edits: Vec<(TextRange, String)>) -> Option<String> {
    if edits.is_empty() {
        return None;
    }
    edits.sort_by_key(|(range, _)| range.start());
    let mut text = String::new();
    let mut copied = 0;
    for (range, replacement) in edits {
        text.push_str(&source[copied..range.start().to_usize()]);
        text.push_str(&replacement);
        copied = range.end().to_usize();
    }
    text.push_str(&source[copied..]);
    Some(text)
}

/// Prefix and content of a plain string token.
fn plain_string(kind: TokenKind, text: &str) -> Option<(&str, &str)> {
    if kind != TokenKind::String || text.contains('\\') || text.contains("\"\"\"") {
        return None;
    }
    let start = text.find(['"', '\''])?;
    let content = text.get(start + 1..text.len() - 1)?;
    (!content.contains(['"', '\''])).then_some((text.get(..start)?, content))
}

fn with_other_quotes(source: &str) -> Option<String> {
    tokens(source, |kind, text| {
        let (prefix, content) = plain_string(kind, text)?;
        let quote = if text.ends_with('"') { '\'' } else { '"' };
        Some(format!("{prefix}{quote}{content}{quote}"))
    })
}

/// In patterns a string must stay whole, a docstring would cease to be one, and adjacent strings
/// are one already.
fn may_split(source: &str) -> bool {
    let Ok(parsed) = parse_module(source) else {
        return false;
    };
    let kinds: Vec<TokenKind> = parsed.tokens().iter().map(|token| token.kind()).collect();
    let has_adjacent = kinds
        .windows(2)
        .any(|pair| pair == [TokenKind::String, TokenKind::String]);
    !has_adjacent && !source.contains("match ") && !source.contains("\"\"\"")
}

fn with_split_strings(source: &str) -> Option<String> {
    if !may_split(source) {
        return None;
    }
    tokens(source, |kind, text| {
        let (prefix, content) = plain_string(kind, text)?;
        let characters: Vec<char> = content.chars().collect();
        let (left, right) = characters.split_at(characters.len() / 2);
        let (left, right): (String, String) = (left.iter().collect(), right.iter().collect());
        Some(format!("({prefix}'{left}' + {prefix}'{right}')"))
    })
}

fn with_halved_strings(source: &str) -> Option<String> {
    tokens(source, |kind, text| {
        let (prefix, content) = plain_string(kind, text)?;
        let characters: Vec<char> = content.chars().collect();
        let (left, right) = characters.split_at(characters.len() / 2);
        let (left, right): (String, String) = (left.iter().collect(), right.iter().collect());
        Some(format!("{prefix}'{left}' {prefix}\"{right}\""))
    })
}

fn with_hexadecimal_strings(source: &str) -> Option<String> {
    tokens(source, |kind, text| {
        let (prefix, content) = plain_string(kind, text)?;
        if !content.is_ascii() || prefix.contains(['r', 'R']) {
            return None;
        }
        let escaped: String = content
            .bytes()
            .map(|byte| format!("\\x{byte:02x}"))
            .collect();
        Some(format!("{prefix}'{escaped}'"))
    })
}

/// Names that fixtures choose freely.
const FREE_NAMES: [&str; 25] = [
    "t", "c", "x", "d", "u", "v", "part", "parts", "reach", "make", "makers", "patch", "box",
    "Box", "P", "H", "h", "l", "run", "tools", "helper", "A", "B", "found", "registry",
];

fn renamed(source: &str) -> Option<String> {
    tokens(source, |kind, text| {
        (kind == TokenKind::Name && FREE_NAMES.contains(&text)).then(|| format!("{text}_renamed"))
    })
}

/// Dotted names, each with an alias for it.
const DOTTED: [(&str, &str); 6] = [
    ("torch.backends.cudnn", "_cudnn"),
    ("torch.backends", "_backends"),
    ("torch.Tensor", "_tensor"),
    ("torch.cuda", "_cuda"),
    ("torch.utils", "_utils"),
    ("torch.nn", "_layers"),
];

/// Replaces a dotted name everywhere but in import statements.
fn replace_dotted(source: &str, dotted: &str, alias: &str) -> Option<String> {
    let mut text = String::new();
    let mut changed = false;
    for line in source.split_inclusive('\n') {
        let is_import =
            line.trim_start().starts_with("import ") || line.trim_start().starts_with("from ");
        if !is_import && line.contains(&format!("{dotted}.")) {
            text.push_str(&line.replace(&format!("{dotted}."), &format!("{alias}.")));
            changed = true;
        } else {
            text.push_str(line);
        }
    }
    changed.then_some(text)
}

fn with_aliases(source: &str) -> Option<String> {
    let (dotted, alias, body) = DOTTED.iter().find_map(|(dotted, alias)| {
        Some((dotted, alias, replace_dotted(source, dotted, alias)?))
    })?;
    Some(format!("import torch\n_a = {alias} = {dotted}\n{body}"))
}

fn with_from_imports(source: &str) -> Option<String> {
    let (dotted, alias, body) = DOTTED.iter().find_map(|(dotted, alias)| {
        Some((dotted, alias, replace_dotted(source, dotted, alias)?))
    })?;
    let (module, member) = dotted.rsplit_once('.')?;
    Some(format!("from {module} import {member} as {alias}\n{body}"))
}

fn with_brackets(source: &str) -> Option<String> {
    replace_dotted(source, "torch", "((torch))")
}

fn with_wide_letters(source: &str) -> Option<String> {
    tokens(source, |kind, text| {
        if kind != TokenKind::Name {
            return None;
        }
        let first = text.chars().next().filter(char::is_ascii_lowercase)?;
        let wide = char::from_u32(u32::from(first) - u32::from('a') + 0xff41)?;
        Some(format!("{wide}{}", &text[1..]))
    })
}

fn with_continued_lines(source: &str) -> Option<String> {
    tokens(source, |kind, _| match kind {
        TokenKind::Dot => Some("\\\n . \\\n ".to_owned()),
        TokenKind::Equal => Some("= \\\n".to_owned()),
        _ => None,
    })
}

#[derive(Default)]
struct Assignments<'a> {
    found: Vec<&'a StmtAssign>,
    in_class: bool,
}

impl<'a> StatementVisitor<'a> for Assignments<'a> {
    fn visit_stmt(&mut self, statement: &'a Stmt) {
        match statement {
            Stmt::Assign(assign) if assign.targets.len() == 1 && !self.in_class => {
                self.found.push(assign)
            }
            Stmt::ClassDef(_) => {
                let outer = std::mem::replace(&mut self.in_class, true);
                walk_stmt(self, statement);
                self.in_class = outer;
            }
            _ => walk_stmt(self, statement),
        }
    }
}

/// Rewrites every plain assignment to one target.
fn assignments(source: &str, rewrite: impl Fn(&str, &str) -> String) -> Option<String> {
    rewritten(source, |_| true, rewrite)
}

/// Rewrites every plain assignment to one name.
fn names_only(source: &str, rewrite: impl Fn(&str, &str) -> String) -> Option<String> {
    rewritten(source, Expr::is_name_expr, rewrite)
}

fn rewritten(
    source: &str,
    applies: impl Fn(&Expr) -> bool,
    rewrite: impl Fn(&str, &str) -> String,
) -> Option<String> {
    let module = parse_module(source).ok()?.into_syntax();
    let mut visitor = Assignments::default();
    visitor.visit_body(&module.body);
    let edits = visitor
        .found
        .into_iter()
        .filter(|assign| applies(&assign.targets[0]) && !assign.value.is_yield_expr())
        .map(|assign| {
            let value = format!("({})", &source[assign.value.range()]);
            let replacement = rewrite(&source[assign.targets[0].range()], &value);
            (assign.range(), replacement)
        })
        .collect();
    edited(source, edits)
}
