//! `crusades corpus run`: submissions whose verdicts are known, and whether the judge reaches them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};

use crusades_core::hparams::ModelDtype;
use crusades_evaluate::trial::{self, Case, Family, Finding};
use crusades_evaluate::{Round, in_parallel};
use crusades_scan::Policy;
use serde::Serialize;

use super::evaluation::{print_json, task_and_settings, unprepared};
use crate::cli::{Corpus, CorpusRun};
use crate::complaint::Complaint;
use crate::console::Console;
use crate::exit_code::Code;
use crate::inputs::Rules;
use crate::output::{self, printable};
use crate::render;

/// All that was found, in JSON.
#[derive(Debug, Serialize)]
struct Results<'a> {
    families: &'a [Family],
    submissions: &'a [Finding],
}

pub(crate) fn run(command: &Corpus) -> Result<Code, Complaint> {
    match command {
        Corpus::Run(flags) => run_all(flags),
    }
}

fn run_all(flags: &CorpusRun) -> Result<Code, Complaint> {
    let mut console = Console::new(flags.evaluation.quiet);
    let rules = Rules::read(&flags.evaluation.hparams, None, &console)?;
    let cases = chosen(flags, &rules)?;
    // Those that need more runs than one have a round of their own.
    let mut by_runs: BTreeMap<u32, Vec<&Case>> = BTreeMap::new();
    for case in &cases {
        by_runs.entry(case.expected.runs).or_default().push(case);
    }
    let mut findings = Vec::with_capacity(cases.len());
    for (runs, cases) in by_runs {
        let mut rules = rules.clone();
        rules.hparams.evaluation_runs = runs;
        let (task, settings) = task_and_settings(&flags.evaluation, &rules, &mut console)?;
        let round = Round::prepare(task, settings, &mut |event| console.event(event));
        console.clear();
        let round = round.map_err(|error| unprepared(&error))?;
        findings.extend(judge_all(
            &cases,
            &round,
            &rules.policy,
            flags.jobs,
            &console,
        ));
    }
    findings.sort_by(|left, right| left.file.cmp(&right.file));
    let families = trial::by_family(&findings);
    if flags.json {
        print_json(&Results {
            families: &families,
            submissions: &findings,
        })?;
    } else {
        output::print(&render::confusion(&families))?;
    }
    let surprises: Vec<&Finding> = findings
        .iter()
        .filter(|finding| !finding.as_expected || !finding.scan_as_expected)
        .collect();
    if surprises.is_empty() {
        return Ok(Code::Accepted);
    }
    let mut complaint = Complaint::infrastructure(format!(
        "{} of {} submissions did not end as expected",
        surprises.len(),
        findings.len()
    ));
    for finding in surprises {
        complaint = complaint.cause(in_words(finding));
    }
    Err(complaint)
}

/// The submissions that the flags ask for and the hparams are for.
fn chosen(flags: &CorpusRun, rules: &Rules) -> Result<Vec<Case>, Complaint> {
    let cases = trial::read(&flags.dir).map_err(|error| {
        Complaint::usage(format!(
            "{} is no corpus of submissions",
            flags.dir.display()
        ))
        .because(&error)
        .help("name its folder with --dir; the project's own is `corpus` in its sources")
    })?;
    // On a CPU, where this is run, automatic means float32.
    let dtype = match rules.hparams.dtype {
        ModelDtype::Auto => ModelDtype::Float32,
        dtype => dtype,
    };
    let wanted = |case: &Case| {
        let expected = &case.expected;
        let name = expected.file.to_string_lossy();
        (flags.family.is_empty() || flags.family.contains(&expected.family))
            && (flags.only.is_empty() || flags.only.iter().any(|text| name.contains(text.as_str())))
            && expected.dtype.is_none_or(|only| only == dtype)
    };
    let cases: Vec<Case> = cases.into_iter().filter(wanted).collect();
    if cases.is_empty() {
        return Err(Complaint::usage("no submission is left to judge")
            .help("--family and --only choose among those in the folder"));
    }
    Ok(cases)
}

/// Judges all cases, several at a time, and says what became of each as it is known.
fn judge_all(
    cases: &[&Case],
    round: &Round,
    policy: &Policy,
    jobs: usize,
    console: &Console,
) -> Vec<Finding> {
    let judged = AtomicUsize::new(0);
    in_parallel(cases, jobs, |_, case| {
        let finding = case.run(round, policy, &mut |_| ());
        let number = judged.fetch_add(1, Ordering::Relaxed) + 1;
        let line = in_words(&finding);
        console.say(&format!("[{number}/{}] {line}", cases.len()));
        ControlFlow::Continue(finding)
    })
}

/// One line on one submission.
fn in_words(finding: &Finding) -> String {
    let mut text = format!("{}: ", finding.file.display());
    if finding.as_expected && finding.scan_as_expected {
        text.push_str("as expected, ");
    } else {
        text.push_str("NOT AS EXPECTED, ");
    }
    match finding.code {
        None => text.push_str("accepted"),
        Some(code) => {
            let _ = write!(text, "{code}");
        }
    }
    if let Some(error) = finding.error_over_limit {
        let _ = write!(text, ", weights' error {error:.2e} of its limit");
    }
    if !finding.scan_as_expected {
        let _ = write!(text, "; the scan: {:?}", finding.scan);
        if let Some(first) = &finding.scan_finding {
            let _ = write!(text, " ({})", printable(first));
        }
    }
    if !finding.as_expected {
        let _ = write!(text, "; {}", printable(&finding.summary));
    }
    text
}
