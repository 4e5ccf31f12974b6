//! The static scan of a submission's Python source.
//!
//! Input is bytes, output is a value: every finding of every rule, with its place and what to
//! write instead. This crate never runs the code, opens no file and no connection, and keeps no
//! state. It is fast feedback and defence in depth; the safety of a validator does not rest on it.
//!
//! A hostile file gets a finding, never a panic, a hang or an exhausted stack: size and nesting
//! are bounded on bytes and tokens first, and all recursion happens on a thread whose stack
//! suffices for what the bounds let through.

use std::thread;

use ruff_python_ast::ModModule;
use ruff_python_parser::{ParseError, parse_module};
use ruff_text_size::{TextLen, TextRange, TextSize};

pub mod annotate;
mod builtins;
mod documentation;
mod fold;
mod guard;
mod index;
mod limits;
mod paths;
mod policy;
mod program;
pub mod render;
mod report;
mod resolve;
mod rules;
mod scope;
mod semantics;
mod source;
mod strategy;

pub use documentation::rules_markdown;
pub use policy::{Attributes, Imports, Limits, Names, Policy, PolicyError, Strings, Torch};
pub use report::{Finding, NamedStrategy, RuleId, ScanOptions, ScanReport, Strategy};
pub use rules::{RuleDocumentation, rules};

use index::index;
use program::Program;
use rules::{Findings, Rule};
use source::Source;

/// Stack of the thread that recurses over the syntax tree. The bounds of [`Limits`] let through
/// trees of some 4,000 levels at most; a level costs below 4 KiB in an unoptimised build. The
/// memory is only reserved: pages that are not touched cost nothing. The C library keeps stacks up
/// to 40 MiB for the next thread, which then starts on pages that it need not clear.
const STACK_BYTES: usize = 32 << 20;

/// Scans a submission against a policy.
///
/// Every file gets a report; see [`ScanReport::accepted`] and [`ScanReport::error_code`].
#[must_use]
pub fn scan(source: &[u8], policy: &Policy, options: &ScanOptions) -> ScanReport {
    let refused = |rule: &Rule, text: &str, range: TextRange, message: String| {
        let lines = Source::new(text);
        let mut findings = Findings::new(&lines);
        findings.report(rule, range, message);
        ScanReport {
            findings: findings.into_vec(),
            runnable_source: None,
            strategy: None,
            source_bytes: source.len(),
        }
    };
    let limits = &policy.limits;
    if source.len() > limits.max_source_bytes {
        let message = format!(
            "{} bytes, the limit is {}",
            source.len(),
            limits.max_source_bytes
        );
        return refused(
            &rules::source_too_large::RULE,
            "",
            TextRange::default(),
            message,
        );
    }
    let text = match std::str::from_utf8(source) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => {
            let (valid, _) = source.split_at(error.valid_up_to());
            let valid = String::from_utf8_lossy(valid);
            let message = format!("byte {} is no valid UTF-8", error.valid_up_to());
            let range = TextRange::empty(valid.as_ref().text_len());
            return refused(&rules::not_utf8::RULE, &valid, range, message);
        }
    };
    if let Err(excess) = limits::check_encoding(text) {
        return refused(&rules::not_utf8::RULE, text, excess.range, excess.message);
    }
    if let Err(excess) = limits::check(text, limits) {
        return refused(
            &rules::too_complex::RULE,
            text,
            excess.range,
            excess.message,
        );
    }
    let incomplete = |what: String| {
        refused(
            &rules::scan_incomplete::RULE,
            text,
            TextRange::default(),
            what,
        )
    };
    on_own_stack(STACK_BYTES, || {
        scan_text(text, source.len(), policy, options)
    })
    .unwrap_or_else(|fault| incomplete(fault.to_owned()))
}

/// Runs work that recurses on a thread with a stack of its own, and says what kept it from its
/// end: a fault of the scanner must refuse a file and not let it pass.
fn on_own_stack<T: Send>(
    stack_bytes: usize,
    work: impl FnOnce() -> T + Send,
) -> Result<T, &'static str> {
    thread::scope(|scope| {
        let worker = thread::Builder::new()
            .name("scan".to_owned())
            .stack_size(stack_bytes)
            .spawn_scoped(scope, work)
            .map_err(|_| "there is no thread to scan on")?;
        worker.join().map_err(|_| "the scanner failed on this file")
    })
}

/// Scans text that is within all limits. Recurses with the depth of the tree.
fn scan_text(
    text: &str,
    source_bytes: usize,
    policy: &Policy,
    options: &ScanOptions,
) -> ScanReport {
    let original_source = Source::new(text);
    let mut report = ScanReport {
        findings: Vec::new(),
        runnable_source: None,
        strategy: None,
        source_bytes,
    };
    let original = match parse_module(text) {
        Ok(parsed) => parsed.into_syntax(),
        Err(error) => {
            report.findings = does_not_parse(&original_source, &error);
            return report;
        }
    };
    match guard::blank_main_blocks(text, &original) {
        None => {
            scan_module(&original_source, &original, policy, options, &mut report);
            report.runnable_source = Some(text.to_owned());
        }
        Some(blanked) => {
            let source = Source::new(&blanked.text);
            match parse_module(&blanked.text) {
                Ok(parsed) => {
                    let module = parsed.into_syntax();
                    scan_module(&source, &module, policy, options, &mut report);
                }
                Err(error) => {
                    report.findings = does_not_parse(&source, &error);
                    return report;
                }
            }
            let mut findings = Findings::new(&original_source);
            // What was not blanked has been looked at above.
            rules::check_name_rebinding(&index(blanked.edited), &mut findings);
            report.findings.extend(findings.into_vec());
            report.runnable_source = Some(blanked.text);
        }
    }
    report.findings = report::bounded(in_order(report.findings));
    report
}

/// Findings by position, none twice.
fn in_order(mut findings: Vec<Finding>) -> Vec<Finding> {
    findings.sort_by(|a, b| {
        (
            a.line,
            a.column,
            a.rule,
            a.end_line,
            a.end_column,
            &a.message,
        )
            .cmp(&(
                b.line,
                b.column,
                b.rule,
                b.end_line,
                b.end_column,
                &b.message,
            ))
    });
    findings.dedup();
    findings
}

fn scan_module(
    source: &Source<'_>,
    module: &ModModule,
    policy: &Policy,
    options: &ScanOptions,
    report: &mut ScanReport,
) {
    let mut findings = Findings::new(source);
    if module.body.is_empty() {
        findings.report(
            &rules::no_code::RULE,
            TextRange::default(),
            "no statement that would run",
        );
    } else {
        let program = Program::new(module, policy, options);
        rules::check_all(&program, &mut findings);
        for (message, range) in semantics::errors(source.text(), module) {
            findings.report(&rules::syntax_error::RULE, range, message);
        }
        report.strategy = strategy::find(module).and_then(|found| found.strategy.ok());
    }
    report.findings = findings.into_vec();
}

fn does_not_parse(source: &Source<'_>, error: &ParseError) -> Vec<Finding> {
    let mut findings = Findings::new(source);
    let end = source.end().max(TextSize::new(1)) - TextSize::new(1);
    let range = if error.location.start() > end {
        TextRange::empty(end)
    } else {
        error.location
    };
    findings.report(&rules::syntax_error::RULE, range, error.error.to_string());
    findings.into_vec()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::{STACK_BYTES, on_own_stack};

    /// What runs on the scanner's thread in these tests.
    type Work = fn(usize) -> usize;

    #[test]
    fn a_fault_of_the_scanner_is_told_whatever_it_is() {
        let faults: [(&str, Work); 6] = [
            ("a panic", |_| panic!("a message")),
            ("a panic with a value", |number| {
                std::panic::panic_any(number)
            }),
            ("an index", |number| [1, 2, 3][number]),
            ("half a character", |number| "é"[number - 6..].len()),
            ("nothing", |number| (number > 9).then_some(1).unwrap()),
            ("two borrows", |number| {
                let cell = RefCell::new(number);
                let (_first, second) = (cell.borrow_mut(), cell.borrow_mut());
                *second
            }),
        ];
        for (what, work) in faults {
            let outcome = on_own_stack(STACK_BYTES, move || work(7));
            assert_eq!(outcome, Err("the scanner failed on this file"), "{what}");
        }
        let no_memory = on_own_stack(usize::MAX / 4, || 1);
        assert_eq!(no_memory, Err("there is no thread to scan on"));
    }

    #[test]
    fn work_that_ends_gives_its_result() {
        let harmless: [(&str, Work); 4] = [
            ("a caught panic", |number| {
                std::panic::catch_unwind(|| panic!("caught")).map_or(number, |()| 0)
            }),
            ("an index", |number| [5, 6, 7][number - 5]),
            ("deep recursion", |number| {
                fn deep(levels: usize) -> usize {
                    let frame = std::hint::black_box([levels; 256]);
                    if levels == 0 {
                        0
                    } else {
                        deep(frame[7] - 1) + 1
                    }
                }
                deep(4_000) + number - 4_000
            }),
            ("a thread of its own", |number| {
                std::thread::spawn(move || number).join().unwrap_or(0)
            }),
        ];
        for (what, work) in harmless {
            assert_eq!(on_own_stack(STACK_BYTES, move || work(7)), Ok(7), "{what}");
        }
    }
}
