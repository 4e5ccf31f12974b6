//! Reports for people.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use comfy_table::presets::NOTHING;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table};
use crusades_core::hparams::Profile;
use crusades_evaluate::bench::{Comparison, Side};
use crusades_evaluate::calibrate::LimitComparison;
use crusades_evaluate::calibration::{Calibration, Kind, MeasuredRun};
use crusades_evaluate::report::{Check, CheckVerdict, Failure, Outcome, Phase, Report, RunRecord};
use crusades_evaluate::trial::{Family, HONEST};

use crate::console::{duration, size};
use crate::output::printable;

/// The widest line of free text.
const WIDTH: u16 = 100;

/// The whole report of one judgement.
pub(crate) fn report(report: &Report) -> String {
    let mut text = String::new();
    let line = verdict_line(report);
    let _ = writeln!(text, "{line}\n");
    if let Some(failure) = &report.failure
        && report.outcome != Outcome::RefusedByScan
    {
        text.push_str(&failure_block(failure, report.outcome));
    }
    text.push_str(&facts(report));
    // The run that decided: the failed one, else the first.
    let shown = report
        .runs
        .iter()
        .find(|run| run.failure.is_some())
        .or_else(|| report.runs.first());
    if let Some(run) = shown.filter(|run| !run.checks.is_empty()) {
        let _ = writeln!(text, "\nChecks of run {}", run.run);
        text.push_str(&checks_table(&run.checks));
    }
    if !report.runs.is_empty() {
        let _ = writeln!(text, "\nRuns");
        text.push_str(&runs_table(&report.runs));
    }
    let _ = writeln!(text, "\nTimes");
    text.push_str(&phases_table(report));
    text
}

/// What became of each family of a corpus, and the margins on both sides.
pub(crate) fn confusion(families: &[Family]) -> String {
    let mut table = plain_table();
    table.set_header([
        "family",
        "submissions",
        "refused by scan",
        "refused without scan",
        "accepted without scan",
        "error / limit",
        "not as expected",
    ]);
    for family in families {
        let error = match (family.largest_accepted, family.smallest_refused) {
            (Some(accepted), None) => format!("<= {accepted:.2e}"),
            (None, Some(refused)) => format!(">= {refused:.3}"),
            (Some(accepted), Some(refused)) => format!("<= {accepted:.2e}, >= {refused:.3}"),
            (None, None) => "-".to_owned(),
        };
        table.add_row([
            Cell::new(&family.name),
            right(family.submissions.to_string()),
            right(family.refused_by_scan.to_string()),
            right(family.refused.to_string()),
            right(family.accepted.to_string()),
            right(error),
            right(family.unexpected.to_string()),
        ]);
    }
    let mut text = lines(&table);
    let margin = |name: &str, is_honest: bool| {
        families
            .iter()
            .filter(|family| (family.name == HONEST) == is_honest)
            .filter_map(|family| {
                if is_honest {
                    family.largest_accepted
                } else {
                    family.smallest_refused
                }
            })
            .reduce(if is_honest { f64::max } else { f64::min })
            .map(|value| format!("{name}: {value:.3e} of its limit\n"))
            .unwrap_or_default()
    };
    text.push('\n');
    text.push_str(&margin(
        "largest error of the weights of an honest one",
        true,
    ));
    text.push_str(&margin(
        "smallest error of the weights of one that they gave away",
        false,
    ));
    text
}

/// What each variant of a calibration came to, the limits, and which of the fixed limits would refuse
/// honest runs.
pub(crate) fn calibration(
    calibration: &Calibration,
    profile: Profile,
    fixed: &[LimitComparison],
) -> String {
    let mut text = variants_table(&calibration.evidence);
    for left_out in &calibration.left_out {
        let variant = printable(&left_out.variant);
        let _ = writeln!(text, "{variant} left out: {}", printable(&left_out.reason));
    }
    let bold = Style::new().bold();
    let limits = &calibration.limits;
    let margins = &calibration.margins;
    let mut table = plain_table();
    table.add_row([
        Cell::new("update_relative_error_max"),
        right(format!("{:.2e}", limits.update_relative_error_max)),
        Cell::new(format!(
            "{:.1} times the largest honest value",
            margins.update_error_over_honest
        )),
    ]);
    table.add_row([
        Cell::new("step_coefficient_max_deviation"),
        right(format!("{:.2e}", limits.step_coefficient_max_deviation)),
        Cell::new(margins.coefficient_over_honest.map_or_else(
            || "the default: no honest run tells its steps apart".to_owned(),
            |margin| format!("{margin:.1} times the largest honest value"),
        )),
    ]);
    let _ = writeln!(text, "\n{bold}Limits{bold:#}\n{}", lines(&table));
    match &margins.weakest_cheat {
        Some(weakest) => {
            let _ = writeln!(
                text,
                "weakest cheat that is found: {}, {:.1} times its limit",
                weakest.variant, weakest.over_limit
            );
        }
        None => text.push_str("no cheat was found\n"),
    }
    for cheat in &calibration.not_found {
        let _ = writeln!(text, "NOT FOUND: {cheat}");
    }
    let name = match profile {
        Profile::Crusades => "crusades",
        Profile::Tournament => "tournament",
    };
    let _ = writeln!(
        text,
        "\n{bold}Fixed limits against honest runs (profile {name}){bold:#}"
    );
    text.push_str(&fixed_limits_table(fixed));
    text
}

fn variants_table(evidence: &[MeasuredRun]) -> String {
    let mut table = plain_table();
    table.set_header([
        "variant (worst run)",
        "kind",
        "update",
        "|c - 1|",
        "loss",
        "logits",
        "changed",
    ]);
    let mut names: Vec<&str> = Vec::new();
    for run in evidence {
        if names.contains(&run.variant.as_str()) {
            continue;
        }
        names.push(&run.variant);
        let runs = || evidence.iter().filter(|other| other.variant == run.variant);
        // Of an honest variant the run that is farthest off, of a cheat the one that shows it least.
        let (kind, worst): (_, fn(f64, f64) -> f64) = match run.kind {
            Kind::Honest => ("honest", f64::max),
            Kind::Cheat => ("cheat", f64::min),
        };
        let number = |metric: fn(&MeasuredRun) -> Option<f64>| {
            let value = runs().filter_map(metric).reduce(worst);
            right(value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1e}")))
        };
        let changed = runs()
            .map(|run| run.changed_share)
            .fold(f64::INFINITY, f64::min);
        table.add_row([
            Cell::new(printable(&run.variant)),
            Cell::new(kind),
            number(|run| Some(run.update_error)),
            number(|run| run.coefficient_deviation),
            number(|run| Some(run.loss_difference)),
            number(|run| run.logits_difference),
            right(format!("{:.2} %", 100.0 * changed)),
        ]);
    }
    lines(&table)
}

fn fixed_limits_table(fixed: &[LimitComparison]) -> String {
    let mut table = plain_table();
    table.set_header(["limit", "value", "worst honest", "honest runs"]);
    for limit in fixed {
        let worst = limit
            .worst_honest
            .map_or_else(|| "-".to_owned(), |value| format!("{value:.2e}"));
        let beyond = match limit.beyond.len() {
            0 => "pass".to_owned(),
            _ => format!("BEYOND IT: {}", printable(&limit.beyond.join(", "))),
        };
        table.add_row([
            Cell::new(limit.key),
            right(format!("{}", limit.limit)),
            right(worst),
            Cell::new(beyond),
        ]);
    }
    lines(&table)
}

fn verdict_line(report: &Report) -> String {
    let color = match report.outcome {
        Outcome::Accepted => AnsiColor::Green,
        Outcome::InfrastructureFault => AnsiColor::Yellow,
        _ => AnsiColor::Red,
    };
    let style = Style::new().bold().fg_color(Some(color.into()));
    format!("{style}{}{style:#}", printable(&report.summary))
}

/// A failure in the form of the tournament's miner guide.
pub(crate) fn failure_block(failure: &Failure, outcome: Outcome) -> String {
    let title = match outcome {
        Outcome::FailedInExecution => "EXECUTION FAILED",
        Outcome::InfrastructureFault => "NOT JUDGED",
        _ => "VERIFICATION FAILED",
    };
    let mut text = format!("{title}: {}\n\n", printable(&failure.headline));
    if !failure.statistics.is_empty() {
        let _ = writeln!(text, "  {}:", failure.subject);
        let widest = failure
            .statistics
            .iter()
            .map(|statistic| statistic.label.chars().count())
            .max()
            .unwrap_or(0);
        for statistic in &failure.statistics {
            let label = format!("{}:", statistic.label);
            let value = printable(&statistic.value);
            let _ = writeln!(text, "    {label:<0$} {value}", widest + 1);
        }
        text.push('\n');
    }
    if !failure.causes.is_empty() {
        text.push_str("  Possible causes:\n");
        for cause in &failure.causes {
            let _ = writeln!(text, "    - {}", printable(cause));
        }
        text.push('\n');
    }
    if let Some(traceback) = &failure.traceback {
        text.push_str("  Traceback of the submission:\n");
        for line in traceback.lines() {
            let _ = writeln!(text, "    {}", printable(line));
        }
        text.push('\n');
    }
    text
}

fn facts(report: &Report) -> String {
    let mut table = plain_table();
    let mut fact = |name: &str, value: String| {
        table.add_row([name.to_owned(), value]);
    };
    let submission = &report.submission;
    let hash = submission.code_hash.as_deref().unwrap_or("not read");
    fact(
        "submission",
        format!(
            "{}, {} bytes",
            printable(&submission.file),
            submission.bytes
        ),
    );
    fact("sha256", hash.to_owned());
    if let Some(plan) = &report.plan {
        fact(
            "task",
            format!(
                "{} ({} parameters) on {}, {} steps of {} x {} tokens",
                plan.model,
                plan.parameters,
                plan.dataset,
                plan.steps,
                plan.batch_size,
                plan.sequence_length
            ),
        );
        let origin = if plan.peak_measured {
            "measured"
        } else {
            "given"
        };
        fact(
            "peak",
            format!("{:.3} TFLOP/s ({origin})", plan.peak_tflops),
        );
        fact("seed", plan.seed.clone());
    }
    if let Some(machine) = &report.machine {
        fact(
            "machine",
            format!(
                "{}, {} threads, Python {}, torch {}, transformers {}",
                machine.device,
                machine.threads,
                machine.python,
                machine.torch,
                machine.transformers
            ),
        );
        let mut sandbox = format!("tier {}", machine.sandbox_tier);
        if !machine.sandbox_remarks.is_empty() {
            let _ = write!(
                sandbox,
                " (weaker than tier 1: {})",
                machine.sandbox_remarks.join("; ")
            );
        }
        fact("sandbox", sandbox);
    }
    let log = &report.log;
    if log.total_bytes > 0 {
        let kept = if log.dropped_bytes > 0 {
            format!(", {} of them not kept", size(log.dropped_bytes))
        } else {
            String::new()
        };
        fact("printed", format!("{}{kept}", size(log.total_bytes)));
    }
    lines(&table)
}

fn checks_table(checks: &[Check]) -> String {
    let mut table = plain_table();
    table.set_header(["check", "measured", "limit", "verdict"]);
    for check in checks {
        let verdict = match check.verdict {
            CheckVerdict::Passed => "passed".to_owned(),
            CheckVerdict::Failed => check
                .error_code
                .map_or_else(|| "FAILED".to_owned(), |code| format!("FAILED  {code}")),
            CheckVerdict::NotRequired => "-".to_owned(),
            CheckVerdict::NotMade => "not made".to_owned(),
        };
        table.add_row([
            Cell::new(&check.name),
            right(printable(&check.measured_text)),
            right(&check.limit_text),
            Cell::new(verdict),
        ]);
    }
    lines(&table)
}

fn runs_table(runs: &[RunRecord]) -> String {
    let mut table = plain_table();
    table.set_header([
        "run",
        "verdict",
        "time",
        "tokens/s",
        "MFU",
        "loss",
        "reference",
        "peak memory",
    ]);
    for run in runs {
        let verdict = match &run.failure {
            None => "passed".to_owned(),
            Some(failure) => failure.code.to_string(),
        };
        let number = |value: Option<f64>, decimals: usize| {
            right(value.map_or_else(|| "-".to_owned(), |value| format!("{value:.decimals$}")))
        };
        table.add_row([
            right(run.run.to_string()),
            Cell::new(verdict),
            right(run.wall_seconds.map_or_else(|| "-".to_owned(), duration)),
            number(run.tokens_per_second, 0),
            right(
                run.mfu
                    .map_or_else(|| "-".to_owned(), |mfu| format!("{mfu:.2} %")),
            ),
            number(run.loss, 4),
            number(run.reference_loss, 4),
            right(
                run.usage
                    .map_or_else(|| "-".to_owned(), |usage| size(usage.peak_memory_bytes)),
            ),
        ]);
    }
    lines(&table)
}

/// Every phase outside the runs, and each part of the runs with its sum.
fn phases_table(report: &Report) -> String {
    let mut sums: Vec<Phase> = Vec::new();
    for phase in report.runs.iter().flat_map(|run| &run.phases) {
        match sums.iter_mut().find(|sum| sum.name == phase.name) {
            Some(sum) => sum.seconds += phase.seconds,
            None => sums.push(phase.clone()),
        }
    }
    let mut table = plain_table();
    for phase in &report.phases {
        table.add_row([Cell::new(&phase.name), right(duration(phase.seconds))]);
    }
    for sum in &sums {
        let name = format!("All runs: {}", sum.name);
        table.add_row([Cell::new(name), right(duration(sum.seconds))]);
    }
    table.add_row([
        Cell::new("Together"),
        right(duration(report.total_seconds())),
    ]);
    lines(&table)
}

/// The result of a comparison of speed.
pub(crate) fn comparison(file: &str, result: &Comparison) -> String {
    let faster = if result.ratio >= 1.0 {
        "faster than"
    } else {
        "as fast as"
    };
    let style = Style::new().bold();
    let mut text = format!(
        "{style}{file} is {:.3} times {faster} the baseline{style:#} (spread {:.1} % over {} pairs)\n\n",
        result.ratio,
        100.0 * result.ratio_spread,
        result.ratios.len()
    );
    let mut table = plain_table();
    table.set_header(["", "baseline", "submission"]);
    let sides = [&result.baseline, &result.submission];
    let mut row = |name: &str, value: &dyn Fn(&Side) -> String| {
        table.add_row([
            Cell::new(name),
            right(value(sides[0])),
            right(value(sides[1])),
        ]);
    };
    row("tokens/s", &|side| format!("{:.0}", side.tokens_per_second));
    row("MFU", &|side| format!("{:.2} %", side.mfu));
    row("peak memory", &|side| size(side.peak_memory_bytes));
    row("fastest run", &|side| {
        duration(
            side.wall_seconds
                .iter()
                .copied()
                .fold(f64::INFINITY, f64::min),
        )
    });
    row("slowest run", &|side| {
        duration(side.wall_seconds.iter().copied().fold(0.0, f64::max))
    });
    for (index, phase) in result.baseline.phases.iter().enumerate() {
        row(&format!("  {}", phase.name), &|side| {
            side.phases
                .get(index)
                .map_or_else(String::new, |phase| duration(phase.seconds))
        });
    }
    let _ = writeln!(text, "{}", lines(&table));
    let ratios: Vec<_> = result
        .ratios
        .iter()
        .map(|ratio| format!("{ratio:.3}"))
        .collect();
    let _ = writeln!(
        text,
        "ratios {}\n{} parameters, {} tokens per run, peak {:.3} TFLOP/s; the submission was not verified",
        ratios.join(" "),
        result.parameters,
        result.tokens,
        result.peak_tflops
    );
    text
}

/// A table without lines, as wide as its contents up to a limit.
pub(crate) fn plain_table() -> Table {
    let mut table = Table::new();
    table
        .load_style(NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(WIDTH);
    table
}

/// The lines of a table, without the blanks that fill them up.
pub(crate) fn lines(table: &Table) -> String {
    table.lines().fold(String::new(), |mut text, line| {
        let _ = writeln!(text, "{}", line.trim_end());
        text
    })
}

/// A cell whose contents stand at the right.
pub(crate) fn right(text: impl ToString) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}
