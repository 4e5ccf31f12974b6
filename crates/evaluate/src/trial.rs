//! A trial of the judge: submissions whose verdicts are known, and what becomes of them.
//!
//! Each is scanned, and then judged with the scan off, so that what stands behind the scan is tried
//! alone.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crusades_core::hparams::ModelDtype;
use crusades_core::{ErrorCode, Fault};
use crusades_scan::{Policy, ScanReport};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::judge::{Admitted, Submission, scan};
use crate::report::{Outcome, Report, RunRecord};
use crate::round::{Observer, Round};

/// The file in a folder of submissions that says what must become of each.
pub const EXPECTATIONS: &str = "expectations.toml";

/// Largest submission that is read here; the scan has a lower limit of its own.
const MAX_SOURCE_BYTES: u64 = 4 << 20;

/// What is expected of the submissions in a folder.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expectations {
    submission: Vec<Expected>,
}

/// What is expected of one submission.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// Its path below the folder.
    pub file: PathBuf,
    /// `honest`, or the kind of cheat.
    pub family: String,
    /// What it does differently from the baseline.
    pub summary: String,
    /// What the scan says.
    pub scan: ScanVerdict,
    /// What becomes of it with the scan off.
    pub verdict: ExpectedVerdict,
    /// Number of timed runs that it takes to show.
    #[serde(default = "one")]
    pub runs: u32,
    /// The only element type for which the verdict holds, if there is one.
    #[serde(default)]
    pub dtype: Option<ModelDtype>,
    /// What else there is to know.
    #[serde(default)]
    pub remarks: Option<String>,
    /// Why a cheat is accepted on purpose.
    #[serde(default)]
    pub accepted_because: Option<String>,
    /// True for one that tries to gain and does not, since it does all the work on the clock.
    #[serde(default)]
    pub harmless: bool,
    /// Why it is harmless.
    #[serde(default)]
    pub harmless_because: Option<String>,
}

fn one() -> u32 {
    1
}

/// What the scan says of a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ScanVerdict {
    /// It found nothing.
    Accepted,
    /// It found something.
    Refused,
}

impl ScanVerdict {
    /// What this scan says.
    #[must_use]
    pub fn of(scanned: &ScanReport) -> Self {
        if scanned.accepted() {
            Self::Accepted
        } else {
            Self::Refused
        }
    }
}

/// What becomes of a submission when it is run.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum ExpectedVerdict {
    /// It is accepted.
    Accepted(AcceptedWord),
    /// It ends with one of these codes.
    Refused(Vec<ErrorCode>),
}

/// The word `accepted`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AcceptedWord {
    /// The word.
    Accepted,
}

impl ExpectedVerdict {
    /// True if `code` is what was expected; none stands for acceptance.
    #[must_use]
    pub fn allows(&self, code: Option<ErrorCode>) -> bool {
        match (self, code) {
            (Self::Accepted(_), None) => true,
            (Self::Refused(codes), Some(code)) => codes.contains(&code),
            _ => false,
        }
    }
}

/// Why there is no trial.
#[derive(Debug, Error)]
pub enum TrialError {
    /// A file could not be read.
    #[error("{path} could not be read")]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The expectations are not of their form.
    #[error("{path} is not a list of expectations")]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: toml::de::Error,
    },
    /// A submission is absurdly long.
    #[error("{path} has {bytes} bytes, and at most {MAX_SOURCE_BYTES} are read")]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// A submission in the folder is not in the list, and would never be tried.
    #[error("{path} is not in {EXPECTATIONS}")]
    Unlisted {
        /// The file.
        path: PathBuf,
    },
    /// A submission is in the list twice.
    #[error("{path} is in {EXPECTATIONS} twice")]
    Twice {
        /// The file.
        path: PathBuf,
    },
    /// An acceptance of a cheat has no reason.
    #[error(
        "{path} is a cheat that is accepted, and {EXPECTATIONS} does not say why (`accepted_because` or `harmless_because`)"
    )]
    NoReason {
        /// The file.
        path: PathBuf,
    },
}

/// One submission of a trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// What is expected of it.
    pub expected: Expected,
    /// Its source.
    pub source: Vec<u8>,
}

/// Reads all submissions below `folder` and what is expected of them.
///
/// # Errors
/// [`TrialError`] if a file is missing or not listed, or an expectation makes no sense.
pub fn read(folder: &Path) -> Result<Vec<Case>, TrialError> {
    let path = folder.join(EXPECTATIONS);
    let text = fs::read_to_string(&path).map_err(|source| TrialError::Read {
        path: path.clone(),
        source,
    })?;
    let expectations: Expectations =
        toml::from_str(&text).map_err(|source| TrialError::Form { path, source })?;
    let mut cases = BTreeMap::new();
    for expected in expectations.submission {
        let path = folder.join(&expected.file);
        let reason = expected
            .accepted_because
            .as_ref()
            .or(expected.harmless_because.as_ref());
        if expected.family != HONEST && expected.verdict.allows(None) && reason.is_none() {
            return Err(TrialError::NoReason { path });
        }
        let source = read_source(&path)?;
        if cases
            .insert(path.clone(), Case { expected, source })
            .is_some()
        {
            return Err(TrialError::Twice { path });
        }
    }
    for path in python_files(folder)? {
        if !cases.contains_key(&path) {
            return Err(TrialError::Unlisted { path });
        }
    }
    Ok(cases.into_values().collect())
}

/// The family of those that train as they should.
pub const HONEST: &str = "honest";

fn read_source(path: &Path) -> Result<Vec<u8>, TrialError> {
    let failed = |source| TrialError::Read {
        path: path.to_owned(),
        source,
    };
    let bytes = fs::metadata(path).map_err(failed)?.len();
    if bytes > MAX_SOURCE_BYTES {
        return Err(TrialError::TooLong {
            path: path.to_owned(),
            bytes,
        });
    }
    fs::read(path).map_err(failed)
}

/// Every Python file below `folder`.
fn python_files(folder: &Path) -> Result<Vec<PathBuf>, TrialError> {
    let failed = |source| TrialError::Read {
        path: folder.to_owned(),
        source,
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            found.extend(python_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "py") {
            found.push(path);
        }
    }
    Ok(found)
}

/// What became of one submission.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Finding {
    /// Its path below the folder.
    pub file: PathBuf,
    /// Its family.
    pub family: String,
    /// What the scan says.
    pub scan: ScanVerdict,
    /// What the scan found first, if it was to find nothing.
    pub scan_finding: Option<String>,
    /// True if the scan says what was expected.
    pub scan_as_expected: bool,
    /// The code that it ended with, with the scan off; none if it was accepted.
    pub code: Option<ErrorCode>,
    /// The report's sentence.
    pub summary: String,
    /// True if it ended as expected.
    pub as_expected: bool,
    /// True if the machine was at fault, so that nothing was found out.
    pub machine_failed: bool,
    /// The largest of its weights' errors, each relative to its limit, of all runs; none if no run
    /// got that far. Above 1 is refused.
    pub error_over_limit: Option<f64>,
}

impl Case {
    /// Tries the submission in `round`, which must have as many runs as it needs.
    #[must_use]
    pub fn run(&self, round: &Round, policy: &Policy, observer: Observer<'_>) -> Finding {
        let expected = &self.expected;
        let file = expected.file.to_string_lossy();
        let submission = Submission {
            file: &file,
            source: &self.source,
            length: self.source.len() as u64,
        };
        let scanned = scan(submission, policy, 1);
        let scan_verdict = ScanVerdict::of(&scanned);
        let report = match Admitted::unscanned(submission) {
            Ok(admitted) => round.judge(submission, &admitted, observer),
            Err(report) => *report,
        };
        let code = report
            .failure
            .as_ref()
            .filter(|_| report.outcome != Outcome::Accepted)
            .map(|failure| failure.code);
        Finding {
            file: expected.file.clone(),
            family: expected.family.clone(),
            scan: scan_verdict,
            scan_finding: scanned
                .findings
                .first()
                .map(|finding| format!("{} {}", finding.rule, finding.message)),
            scan_as_expected: scan_verdict == expected.scan,
            machine_failed: code.is_some_and(|code| code.fault() == Fault::Infrastructure),
            as_expected: expected.verdict.allows(code),
            error_over_limit: error_over_limit(&report),
            summary: report.summary,
            code,
        }
    }
}

/// The largest error of the weights relative to its limit.
fn error_over_limit(report: &Report) -> Option<f64> {
    let largest = |run: &RunRecord| {
        run.checks
            .iter()
            .filter(|check| WEIGHT_ERRORS.contains(&check.name.as_str()))
            .filter_map(|check| Some(check.measured? / check.limit?))
            .max_by(f64::total_cmp)
    };
    report
        .runs
        .iter()
        .filter_map(largest)
        .max_by(f64::total_cmp)
}

/// The checks that say how far the weights are off.
const WEIGHT_ERRORS: [&str; 5] = [
    "update_relative_error",
    "tensor_update_error",
    "step_coefficients",
    "sketch_update_error",
    "sketch_step_coefficients",
];

/// What became of one family.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Family {
    /// Its name.
    pub name: String,
    /// Number of submissions.
    pub submissions: usize,
    /// Those that the scan refused.
    pub refused_by_scan: usize,
    /// Those that were refused with the scan off.
    pub refused: usize,
    /// Those that were accepted with the scan off.
    pub accepted: usize,
    /// Those that did not end as expected, by the scan or without it.
    pub unexpected: usize,
    /// Those that the machine failed on.
    pub machine_failed: usize,
    /// Of those that were accepted the largest error of the weights relative to its limit.
    pub largest_accepted: Option<f64>,
    /// Of those whose weights were refused the smallest.
    pub smallest_refused: Option<f64>,
}

/// What became of each family, in the order in which they first appear.
#[must_use]
pub fn by_family(findings: &[Finding]) -> Vec<Family> {
    let mut families: Vec<Family> = Vec::new();
    for finding in findings {
        let index = families
            .iter()
            .position(|family| family.name == finding.family)
            .unwrap_or_else(|| {
                families.push(Family {
                    name: finding.family.clone(),
                    ..Family::default()
                });
                families.len() - 1
            });
        let family = &mut families[index];
        family.submissions += 1;
        family.refused_by_scan += usize::from(finding.scan == ScanVerdict::Refused);
        family.unexpected += usize::from(!finding.scan_as_expected || !finding.as_expected);
        family.machine_failed += usize::from(finding.machine_failed);
        match finding.code {
            None => {
                family.accepted += 1;
                family.largest_accepted =
                    extreme(family.largest_accepted, finding.error_over_limit, f64::max);
            }
            Some(code) if code.fault() == Fault::Submitter => {
                family.refused += 1;
                if code == ErrorCode::UpdateMismatch {
                    family.smallest_refused =
                        extreme(family.smallest_refused, finding.error_over_limit, f64::min);
                }
            }
            Some(_) => {}
        }
    }
    families
}

fn extreme(left: Option<f64>, right: Option<f64>, choose: fn(f64, f64) -> f64) -> Option<f64> {
    match (left, right) {
        (Some(left), Some(right)) => Some(choose(left, right)),
        (left, right) => left.or(right),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use crusades_core::ErrorCode;

    use super::{Finding, ScanVerdict, by_family, read};

    fn folder(expectations: &str, files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("expectations.toml"), expectations).unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "pass").unwrap();
        }
        folder
    }

    fn entry(file: &str, family: &str, verdict: &str) -> String {
        format!(
            "[[submission]]\nfile = \"{file}\"\nfamily = \"{family}\"\nsummary = \"x\"\n\
             scan = \"accepted\"\nverdict = {verdict}\n"
        )
    }

    fn refusal(expectations: &str, files: &[&str]) -> String {
        let folder = folder(expectations, files);
        let error = read(folder.path()).unwrap_err();
        let source = std::error::Error::source(&error).map(ToString::to_string);
        format!("{error}: {}", source.unwrap_or_default())
    }

    #[test]
    fn a_list_that_fits_its_folder_is_read() {
        let list = entry("honest/a.py", "honest", "\"accepted\"")
            + &entry("cheats/b.py", "less_data", "[\"update_mismatch\"]");
        let folder = folder(&list, &["honest/a.py", "cheats/b.py"]);
        let cases = read(folder.path()).unwrap();
        assert_eq!(cases.len(), 2);
        let verdict = |index: usize| cases[index].expected.verdict.clone();
        // In the order of their paths.
        assert!(verdict(1).allows(None));
        assert!(!verdict(1).allows(Some(ErrorCode::UpdateMismatch)));
        assert!(verdict(0).allows(Some(ErrorCode::UpdateMismatch)));
        assert!(!verdict(0).allows(Some(ErrorCode::LossMismatch)));
        assert!(!verdict(0).allows(None));
    }

    #[test]
    fn a_list_that_does_not_fit_is_refused_by_name() {
        let honest = entry("a.py", "honest", "\"accepted\"");
        for (list, files, expected) in [
            (honest.clone(), &["a.py", "b.py"][..], "b.py is not in"),
            (honest.clone() + &honest, &["a.py"], "a.py is in"),
            (honest.clone(), &[], "a.py could not be read"),
            (
                entry("a.py", "tampering", "\"accepted\""),
                &["a.py"],
                "does not say why",
            ),
            (
                entry("a.py", "honest", "\"perhaps\""),
                &["a.py"],
                "not a list of expectations",
            ),
            (
                entry("a.py", "tampering", "[\"no_such_code\"]"),
                &["a.py"],
                "not a list of expectations",
            ),
            (
                honest.clone() + "colour = \"blue\"\n",
                &["a.py"],
                "unknown field `colour`",
            ),
        ] {
            let refused = refusal(&list, files);
            assert!(refused.contains(expected), "{refused}");
        }
        assert!(read(Path::new("/nowhere")).is_err());
    }

    #[test]
    fn families_are_counted_with_the_margins_on_both_sides() {
        let finding = |family: &str, code, error| Finding {
            file: PathBuf::from("a.py"),
            family: family.to_owned(),
            scan: ScanVerdict::Accepted,
            scan_finding: None,
            scan_as_expected: true,
            code,
            summary: String::new(),
            as_expected: family == "honest" || code.is_some(),
            machine_failed: false,
            error_over_limit: error,
        };
        let mismatch = Some(ErrorCode::UpdateMismatch);
        let families = by_family(&[
            finding("honest", None, Some(0.1)),
            finding("honest", None, Some(0.3)),
            finding("less_data", mismatch, Some(50.0)),
            finding("less_data", mismatch, Some(20.0)),
            finding("less_data", Some(ErrorCode::LossMismatch), Some(2.0)),
            finding("less_data", None, Some(0.9)),
        ]);
        assert_eq!(families.len(), 2);
        assert_eq!(families[0].largest_accepted, Some(0.3));
        assert_eq!(families[0].unexpected, 0);
        assert_eq!(families[1].smallest_refused, Some(20.0));
        assert_eq!((families[1].refused, families[1].accepted), (3, 1));
        assert_eq!(families[1].unexpected, 1);
    }
}
