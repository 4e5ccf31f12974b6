//! Findings for other programs: SARIF 2.1.0 and the annotation lines of GitHub workflows.

use std::fmt::Write;

use serde::Serialize;

use crate::report::{Finding, ScanReport};
use crate::rules::rules;

/// Where the rules are documented, relative to the repository.
const DOCUMENTATION: &str = "docs/rules.md";

#[derive(Serialize)]
struct Log {
    #[serde(rename = "$schema")]
    schema: &'static str,
    version: &'static str,
    runs: [Run; 1],
}

#[derive(Serialize)]
struct Run {
    tool: Tool,
    #[serde(rename = "columnKind")]
    column_kind: &'static str,
    results: Vec<SarifResult>,
}

#[derive(Serialize)]
struct Tool {
    driver: Driver,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Driver {
    name: &'static str,
    semantic_version: &'static str,
    rules: Vec<Descriptor>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    id: &'static str,
    name: &'static str,
    short_description: Message,
    full_description: Message,
    help: Message,
    help_uri: String,
}

#[derive(Serialize)]
struct Message {
    text: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SarifResult {
    rule_id: &'static str,
    level: &'static str,
    message: Message,
    locations: [Location; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Location {
    physical_location: PhysicalLocation,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PhysicalLocation {
    artifact_location: ArtifactLocation,
    region: Region,
}

#[derive(Serialize)]
struct ArtifactLocation {
    uri: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Region {
    start_line: u32,
    start_column: u32,
    end_line: u32,
    end_column: u32,
}

/// The SARIF 2.1.0 log of several scans, as a value to be written as JSON. Each report stands
/// with the name of its file.
#[must_use]
pub fn sarif(reports: &[(&str, &ScanReport)]) -> impl Serialize + use<> {
    let results = reports.iter().flat_map(|(file_name, report)| {
        report.findings.iter().map(|finding| SarifResult {
            rule_id: finding.rule.as_str(),
            level: "error",
            message: Message {
                text: sentence(finding),
            },
            locations: [Location {
                physical_location: PhysicalLocation {
                    artifact_location: ArtifactLocation {
                        uri: uri(file_name),
                    },
                    region: Region {
                        start_line: finding.line,
                        start_column: finding.column,
                        end_line: finding.end_line,
                        end_column: finding.end_column,
                    },
                },
            }],
        })
    });
    let descriptors = rules().iter().map(|rule| Descriptor {
        id: rule.id.as_str(),
        name: rule.name,
        short_description: message(rule.summary),
        full_description: message(rule.why),
        help: message(rule.instead),
        help_uri: format!("{DOCUMENTATION}#{}", rule.id.as_str().to_lowercase()),
    });
    Log {
        schema: "https://json.schemastore.org/sarif-2.1.0.json",
        version: "2.1.0",
        runs: [Run {
            tool: Tool {
                driver: Driver {
                    name: "crusades",
                    semantic_version: env!("CARGO_PKG_VERSION"),
                    rules: descriptors.collect(),
                },
            },
            column_kind: "unicodeCodePoints",
            results: results.collect(),
        }],
    }
}

/// A relative reference: everything but plain characters and slashes is escaped.
fn uri(file_name: &str) -> String {
    let mut uri = String::new();
    for byte in file_name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(uri, "%{byte:02X}");
        }
    }
    uri
}

fn message(text: &str) -> Message {
    Message {
        text: text.to_owned(),
    }
}

fn sentence(finding: &Finding) -> String {
    format!("{}; instead: {}", finding.message, finding.hint)
}

/// One workflow command per finding, which GitHub shows beside the line.
#[must_use]
pub fn github(report: &ScanReport, file_name: &str) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        // Columns may be given only where the annotation stays on one line.
        let columns = if finding.line == finding.end_line {
            format!(
                ",col={},endColumn={}",
                finding.column,
                finding.end_column.max(finding.column)
            )
        } else {
            String::new()
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "::error file={},line={},endLine={}{columns},title={}::{}",
            property(file_name),
            finding.line,
            finding.end_line,
            finding.rule,
            data(&sentence(finding)),
        );
    }
    text
}

/// Escapes what would end the message of a workflow command.
fn data(text: &str) -> String {
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

/// Escapes what would end a property of a workflow command.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::{github, sarif};
    use crate::{Policy, ScanOptions, ScanReport, scan};

    fn report() -> ScanReport {
        let source = "import os\ndef inner_steps(a, b, c, d, e): pass\n";
        scan(
            source.as_bytes(),
            &Policy::builtin(),
            &ScanOptions::default(),
        )
    }

    #[test]
    fn sarif_names_rule_place_and_file() {
        let report = report();
        let log = serde_json::to_value(sarif(&[("a b.py", &report)])).unwrap();
        let result = &log["runs"][0]["results"][0];
        assert_eq!(log["version"], "2.1.0");
        assert_eq!(result["ruleId"], "CRU201");
        let location = &result["locations"][0]["physicalLocation"];
        assert_eq!(location["artifactLocation"]["uri"], "a%20b.py");
        assert_eq!(location["region"]["startColumn"], 8);
        assert_eq!(location["region"]["endColumn"], 10);
        assert_eq!(
            log["runs"][0]["tool"]["driver"]["rules"]
                .as_array()
                .unwrap()
                .len(),
            crate::rules().len()
        );
    }

    #[test]
    fn a_github_annotation_is_one_line_whatever_the_file_is_called() {
        let text = github(&report(), "a,b:c\n.py");
        assert_eq!(text.lines().count(), 1);
        assert!(text.starts_with(
            "::error file=a%2Cb%3Ac%0A.py,line=1,endLine=1,col=8,endColumn=10,title=CRU201::import of `os`"
        ));
    }
}
