//! `crusades demo`: six example submissions judged in one round, kept in a store, and ranked.

use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use crusades_core::Metric;
use crusades_evaluate::report::{CheckVerdict, Failure, Outcome, Report, RunRecord};
use crusades_evaluate::{Event, Round, Submission, admit};
use crusades_store::{
    Arrival, Check, Evaluation, JudgedRun, Judgement, LeaderboardEntry, Store, StoreError,
    UnixMicros,
};
use uuid::Uuid;

use super::evaluation::{folders, task_and_settings, unprepared};
use crate::cli::Demo;
use crate::complaint::Complaint;
use crate::console::Console;
use crate::exit_code::Code;
use crate::inputs::Rules;
use crate::output::{self, printable};
use crate::render::{self, plain_table, right};

/// A submission that ships with the program, and what a sound installation makes of it.
struct Example {
    file: &'static str,
    source: &'static str,
    expected: Outcome,
}

macro_rules! example {
    ($file:literal, $outcome:ident) => {
        Example {
            file: $file,
            source: include_str!(concat!("../../../../examples/", $file)),
            expected: Outcome::$outcome,
        }
    };
}

const EXAMPLES: [Example; 6] = [
    example!("baseline.py", Accepted),
    example!("prefetching.py", Accepted),
    example!("micro_batched.py", Accepted),
    example!("skips_last_step.py", RefusedByVerification),
    example!("forged_result.py", RefusedByVerification),
    example!("forbidden_import.py", RefusedByScan),
];

pub(crate) fn run(flags: &Demo) -> Result<Code, Complaint> {
    let mut console = Console::new(flags.evaluation.quiet);
    let rules = Rules::read(&flags.evaluation.hparams, flags.runs, &console)?;
    let database = match &flags.db {
        Some(path) => path.clone(),
        None => default_database()?,
    };
    let mut store = Store::open(&database).map_err(|error| stored(&error))?;
    let (task, settings) = task_and_settings(&flags.evaluation, &rules, &mut console)?;
    console.say("Preparing the round: one seed and one reference for all submissions");
    let round = Round::prepare(task, settings, &mut |event| console.event(event));
    console.clear();
    let round = round.map_err(|error| unprepared(&error))?;

    // Several demos may share a database; this one shows its own results.
    let mut ids = Vec::with_capacity(EXAMPLES.len());
    let mut surprises = Vec::new();
    for (index, example) in EXAMPLES.iter().enumerate() {
        console.say(&format!(
            "[{}/{}] {}",
            index + 1,
            EXAMPLES.len(),
            example.file
        ));
        let submission = Submission {
            file: example.file,
            source: example.source.as_bytes(),
            length: example.source.len() as u64,
        };
        let created_at = UnixMicros::from(SystemTime::now());
        let (_, admitted) = admit(submission, &rules.policy, rules.hparams.docker.num_gpus);
        let report = match admitted {
            Err(report) => *report,
            Ok(admitted) => round.judge(submission, &admitted, &mut |event| {
                // Each submission's phases are in its report; here its result is enough.
                if let Event::Started(what) = event {
                    console.spin(what);
                }
            }),
        };
        console.clear();
        console.say(&format!("      {}", printable(&report.summary)));
        if report.outcome != example.expected {
            surprises.push(format!(
                "{}: expected {:?}, and it was {:?}: {}",
                example.file, example.expected, report.outcome, report.summary
            ));
        }
        let judgement = judgement(example, &report, rules.hparams.metric, created_at)?;
        store
            .record_judgement(&judgement)
            .map_err(|error| stored(&error))?;
        ids.push(judgement.arrival.submission_id);
    }
    let summary = summary(&store, rules.hparams.metric, &ids)?;
    output::print(&format!("{summary}\nKept in {}\n", database.display()))?;
    if surprises.is_empty() {
        return Ok(Code::Accepted);
    }
    let mut complaint = Complaint::infrastructure("the demo did not end as it should");
    for surprise in surprises {
        complaint = complaint.cause(surprise);
    }
    Err(complaint.help("look at the times of the runs, and at `crusades env check`"))
}

fn default_database() -> Result<PathBuf, Complaint> {
    let folder = folders()?.data_dir().to_owned();
    fs::create_dir_all(&folder).map_err(|error| {
        Complaint::usage(format!("{} could not be made", folder.display()))
            .because(&error)
            .help("name a database with --db")
    })?;
    Ok(folder.join("demo.db"))
}

fn stored(error: &StoreError) -> Complaint {
    Complaint::infrastructure("the results could not be kept")
        .because(error)
        .help("name another database with --db")
}

/// A report as the store keeps it.
fn judgement(
    example: &Example,
    report: &Report,
    metric: Metric,
    created_at: UnixMicros,
) -> Result<Judgement, Complaint> {
    let failed =
        |error: serde_json::Error| Complaint::infrastructure("no JSON was made").because(&error);
    let judged_at = UnixMicros::from(SystemTime::now());
    let failure = || stored_failure(report.failure.as_ref(), &report.summary);
    let outcome = match (report.outcome, &report.score) {
        (Outcome::Accepted, Some(score)) => crusades_store::Outcome::Finished {
            final_score: score.value,
        },
        (Outcome::RefusedByScan, _) => crusades_store::Outcome::FailedValidation(failure()),
        (Outcome::Accepted | Outcome::InfrastructureFault, _) => {
            crusades_store::Outcome::Error(failure())
        }
        _ => crusades_store::Outcome::FailedEvaluation(failure()),
    };
    let successful_runs = report.runs.iter().filter(|run| run.success).count();
    Ok(Judgement {
        arrival: Arrival {
            submission_id: Uuid::new_v4().to_string(),
            name: example.file.to_owned(),
            miner_hotkey: None,
            miner_uid: None,
            code: example.source.as_bytes().to_vec(),
            metric,
            created_at,
        },
        outcome,
        successful_runs: u32::try_from(successful_runs).unwrap_or(u32::MAX),
        runs: u32::try_from(report.runs.len()).unwrap_or(u32::MAX),
        evaluations: report
            .runs
            .iter()
            .map(|run| judged_run(run, report, judged_at))
            .collect(),
        report: serde_json::to_string(report).map_err(failed)?,
        judged_at,
    })
}

fn judged_run(run: &RunRecord, report: &Report, created_at: UnixMicros) -> JudgedRun {
    let tokens = report.plan.as_ref().map(|plan| {
        u64::from(plan.steps) * u64::from(plan.batch_size) * u64::from(plan.sequence_length)
    });
    JudgedRun {
        evaluation: Evaluation {
            evaluation_id: Uuid::new_v4().to_string(),
            run: run.run,
            seed: run.seed.clone(),
            mfu: run.mfu,
            tokens_per_second: run.tokens_per_second,
            total_tokens: tokens.filter(|_| run.wall_seconds.is_some()),
            wall_time_seconds: run.wall_seconds,
            failure: run
                .failure
                .as_ref()
                .map(|failure| stored_failure(Some(failure), &failure.headline)),
            created_at,
        },
        checks: run
            .checks
            .iter()
            .map(|check| Check {
                name: check.name.clone(),
                measured: check.measured,
                measured_text: check.measured_text.clone(),
                limit: check.limit,
                limit_text: check.limit_text.clone(),
                verdict: match check.verdict {
                    CheckVerdict::Passed => crusades_store::CheckVerdict::Passed,
                    CheckVerdict::Failed => crusades_store::CheckVerdict::Failed,
                    CheckVerdict::NotRequired => crusades_store::CheckVerdict::NotRequired,
                    CheckVerdict::NotMade => crusades_store::CheckVerdict::NotMade,
                },
                error_code: check.error_code,
            })
            .collect(),
    }
}

fn stored_failure(failure: Option<&Failure>, message: &str) -> crusades_store::Failure {
    crusades_store::Failure {
        code: failure.map_or(crusades_core::ErrorCode::SandboxFailed, |failure| {
            failure.code
        }),
        message: message.to_owned(),
    }
}

/// Leaderboard and refusals of these submissions, from the store.
fn summary(store: &Store, metric: Metric, ids: &[String]) -> Result<String, Complaint> {
    let board = store
        .leaderboard(metric, u32::MAX)
        .map_err(|error| stored(&error))?;
    let mut table = plain_table();
    table.set_header(["#", "submission", "score", "runs", "spread"]);
    let own = board
        .iter()
        .filter(|entry| ids.contains(&entry.submission_id));
    for (position, entry) in own.enumerate() {
        table.add_row(leaderboard_row(position + 1, metric, entry));
    }
    let mut text = format!("\nLeaderboard\n{}\nRefused\n", render::lines(&table));
    for refusal in store.refused().map_err(|error| stored(&error))? {
        if ids.contains(&refusal.submission_id) {
            text.push_str(&format!(
                "  {}\n    {}\n",
                refusal.name,
                printable(&refusal.failure.message)
            ));
        }
    }
    Ok(text)
}

fn leaderboard_row(
    rank: usize,
    metric: Metric,
    entry: &LeaderboardEntry,
) -> [comfy_table::Cell; 5] {
    let spread = entry.spread.map_or_else(
        || "-".to_owned(),
        |spread| format!("{:.1} %", 100.0 * spread),
    );
    [
        right(rank.to_string()),
        comfy_table::Cell::new(&entry.name),
        right(format!("{:.2} {}", entry.final_score, metric.unit())),
        right(format!("{}/{}", entry.successful_runs, entry.runs)),
        right(spread),
    ]
}
