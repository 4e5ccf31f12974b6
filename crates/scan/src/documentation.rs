//! The rules as a document: `docs/rules.md` is this function's result, so that it cannot drift
//! from the program.

use std::fmt::Write;

use crate::rules::rules;

/// The page on all rules, in Markdown.
#[must_use]
pub fn rules_markdown() -> String {
    let mut text = String::from(
        "# Rules of the scan\n\n\
         What `crusades scan` refuses, why, and what to write instead. This page is generated from \
         the rules\nthemselves. The names that a rule refuses are data: see the policy \
         (`crates/scan/src/policy.toml`).\n\n\
         | rule | name | refuses |\n|---|---|---|\n",
    );
    for rule in rules() {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| [{id}](#{anchor}) | {name} | {summary} |",
            id = rule.id,
            anchor = rule.id.as_str().to_lowercase(),
            name = rule.name,
            summary = rule.summary.replace('|', "\\|"),
        );
    }
    for rule in rules() {
        let _ = write!(
            text,
            "\n## {id}\n\n**{name}.** {summary}\n\n{why}\n\nRefused:\n\n```python\n{example}```\n\n\
             Instead: {instead}.\n",
            id = rule.id,
            name = rule.name,
            summary = rule.summary,
            why = rule.why,
            example = rule.example,
            instead = rule.instead,
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::rules_markdown;
    use crate::rules;

    #[test]
    fn every_rule_has_its_section() {
        let text = rules_markdown();
        for rule in rules() {
            assert_eq!(text.matches(&format!("\n## {}\n", rule.id)).count(), 1);
            assert!(rule.example.ends_with('\n'), "{}", rule.id);
            assert!(!rule.instead.ends_with('.'), "{}", rule.id);
        }
    }
}
