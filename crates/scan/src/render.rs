//! Findings as text for people: the line, a caret under what is refused, and what to write
//! instead.

use std::fmt::Write;

use crate::report::{Finding, ScanReport};
use crate::rules::rules;

/// Longest part of a source line that is shown, in characters.
const MAX_SHOWN: usize = 120;

struct Style {
    error: &'static str,
    quiet: &'static str,
    strong: &'static str,
    reset: &'static str,
}

const PLAIN: Style = Style {
    error: "",
    quiet: "",
    strong: "",
    reset: "",
};

const COLOR: Style = Style {
    error: "\x1b[1;31m",
    quiet: "\x1b[34m",
    strong: "\x1b[1m",
    reset: "\x1b[0m",
};

/// All findings of a report, each with its source line, in the order of the report. `source` is
/// the text that was scanned; empty when there is nothing to show.
#[must_use]
pub fn findings(report: &ScanReport, source: &str, file_name: &str, color: bool) -> String {
    let style = if color { &COLOR } else { &PLAIN };
    let normalized = source
        .strip_prefix('\u{feff}')
        .unwrap_or(source)
        .replace("\r\n", "\n")
        .replace('\r', "\n");
    let lines: Vec<&str> = normalized.split('\n').collect();
    let mut text = String::new();
    for finding in &report.findings {
        one(&mut text, finding, &lines, file_name, style);
        text.push('\n');
    }
    text
}

fn one(text: &mut String, finding: &Finding, lines: &[&str], file_name: &str, style: &Style) {
    let Style {
        error,
        quiet,
        strong,
        reset,
    } = style;
    let name = rules()
        .iter()
        .find(|rule| rule.id == finding.rule)
        .map_or("", |rule| rule.name);
    let message = printable(&finding.message);
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "{error}{}{reset} {strong}{name}: {message}{reset}",
        finding.rule
    );
    let _ = writeln!(
        text,
        "  {quiet}-->{reset} {}:{}:{}",
        printable(file_name),
        finding.line,
        finding.column
    );
    let line_number = finding.line as usize;
    if let Some(line) = lines
        .get(line_number.saturating_sub(1))
        .filter(|line| !line.is_empty())
    {
        let start = (finding.column as usize).saturating_sub(1);
        let end = if finding.end_line == finding.line {
            (finding.end_column as usize).saturating_sub(1)
        } else {
            line.chars().count()
        };
        // Of a long line only the part around the finding is shown.
        let first = start.saturating_sub(MAX_SHOWN / 3);
        let shown: String =
            printable(&line.chars().skip(first).take(MAX_SHOWN).collect::<String>());
        let width = end
            .saturating_sub(start)
            .clamp(1, MAX_SHOWN - (start - first));
        let number = finding.line.to_string();
        let margin = " ".repeat(number.len());
        let lead = if first > 0 { "..." } else { "" };
        let indent = " ".repeat(start - first + lead.len());
        let _ = writeln!(text, "{margin} {quiet}|{reset}");
        let _ = writeln!(text, "{quiet}{number} |{reset} {lead}{shown}");
        let _ = writeln!(
            text,
            "{margin} {quiet}|{reset} {indent}{error}{}{reset}",
            "^".repeat(width)
        );
    }
    let _ = writeln!(
        text,
        "  {quiet}={reset} instead: {}",
        printable(&finding.hint)
    );
}

/// One character for each, with none that a terminal would act on.
fn printable(text: &str) -> String {
    text.chars()
        .map(|character| match character {
            '\t' => ' ',
            character if character.is_control() || is_bidirectional_control(character) => {
                '\u{fffd}'
            }
            character => character,
        })
        .collect()
}

/// Characters that change the order in which a terminal shows the others.
fn is_bidirectional_control(character: char) -> bool {
    matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::findings;
    use crate::{Policy, ScanOptions, scan};

    fn rendered(source: &str, color: bool) -> String {
        let report = scan(
            source.as_bytes(),
            &Policy::builtin(),
            &ScanOptions::default(),
        );
        findings(&report, source, "train.py", color)
    }

    const FUNCTION: &str =
        "def inner_steps(model, data_iterator, optimizer, num_steps, device):\n    return None\n";

    #[test]
    fn the_caret_stands_under_what_is_refused() {
        let text = rendered(&format!("import os\n{FUNCTION}"), false);
        assert_eq!(
            text,
            "CRU201 refused-import: import of `os`\n  --> train.py:1:8\n  |\n1 | import os\n  |        ^^\n  = instead: remove the import; code for local testing may import it inside `if __name__ == \"__main__\":`\n\n"
        );
    }

    #[test]
    fn color_is_only_there_when_asked_for() {
        let source = format!("import os\n{FUNCTION}");
        assert!(rendered(&source, true).contains("\x1b[1;31m"));
        assert!(!rendered(&source, false).contains('\x1b'));
    }

    #[test]
    fn the_source_cannot_send_control_sequences_to_the_terminal() {
        let source = format!("import os; x = '\x1b]0;title\x07'\n{FUNCTION}");
        assert!(!rendered(&source, false).contains('\x1b'));
    }

    #[test]
    fn an_accepted_file_renders_as_nothing() {
        assert_eq!(rendered(FUNCTION, false), "");
    }
}
