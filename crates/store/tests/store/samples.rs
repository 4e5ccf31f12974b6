//! Judgements to store.

use crusades_core::{ErrorCode, Metric};
use crusades_store::{
    Arrival, Check, CheckVerdict, Evaluation, Failure, JudgedRun, Judgement, Outcome, UnixMicros,
};

/// A submission that arrived at `created_at` microseconds.
pub(crate) fn arrival(submission_id: &str, created_at: i64) -> Arrival {
    Arrival {
        submission_id: submission_id.to_owned(),
        name: format!("{submission_id}.py"),
        miner_hotkey: Some("5F3sa2TJAWMqDhXG6jhV4N8ko9SxwGy8TpaNS1repo5EYjQX".to_owned()),
        miner_uid: Some(65535),
        code: format!("# {submission_id}\n").into_bytes(),
        metric: Metric::Mfu,
        created_at: UnixMicros(created_at),
    }
}

/// An accepted submission whose runs reached these values of MFU, scored by the first of them.
pub(crate) fn accepted(submission_id: &str, created_at: i64, mfu: &[f64]) -> Judgement {
    let runs = u32::try_from(mfu.len()).unwrap();
    Judgement {
        arrival: arrival(submission_id, created_at),
        outcome: Outcome::Finished {
            final_score: mfu[0],
        },
        successful_runs: runs,
        runs,
        evaluations: (1..=runs)
            .zip(mfu)
            .map(|(run, &mfu)| judged_run(submission_id, run, mfu))
            .collect(),
        report: format!(r#"{{"score": {:?}}}"#, mfu[0]),
        judged_at: UnixMicros(created_at + 1),
    }
}

/// A successful run with one check that passed and one that has no limit.
pub(crate) fn judged_run(submission_id: &str, run: u32, mfu: f64) -> JudgedRun {
    JudgedRun {
        evaluation: Evaluation {
            evaluation_id: format!("{submission_id}/{run}"),
            run,
            seed: format!("{run:064x}"),
            mfu: Some(mfu),
            tokens_per_second: Some(mfu * 1000.0),
            total_tokens: Some(4096),
            wall_time_seconds: Some(1.25),
            failure: None,
            created_at: UnixMicros(i64::from(run)),
        },
        checks: vec![
            Check {
                name: "update error".to_owned(),
                measured: Some(mfu),
                measured_text: "3e-6".to_owned(),
                limit: Some(0.05),
                limit_text: "at most 0.05".to_owned(),
                verdict: CheckVerdict::Passed,
                error_code: Some(ErrorCode::UpdateMismatch),
            },
            Check {
                name: "logits".to_owned(),
                measured: None,
                measured_text: "not measured".to_owned(),
                limit: None,
                limit_text: "off".to_owned(),
                verdict: CheckVerdict::NotRequired,
                error_code: None,
            },
        ],
    }
}

/// A submission whose only run was refused by the update check.
pub(crate) fn refused_by_a_check(submission_id: &str, created_at: i64) -> Judgement {
    let failure = Failure {
        code: ErrorCode::UpdateMismatch,
        message: "the update is 0.21 from the reference's, and at most 0.05 is allowed".to_owned(),
    };
    let mut run = judged_run(submission_id, 1, 40.0);
    run.evaluation.failure = Some(failure.clone());
    run.checks[0].verdict = CheckVerdict::Failed;
    Judgement {
        outcome: Outcome::FailedEvaluation(failure),
        successful_runs: 0,
        evaluations: vec![run],
        report: "{}".to_owned(),
        ..accepted(submission_id, created_at, &[1.0])
    }
}

/// A submission that the scan refused, so that nothing of it ran.
pub(crate) fn refused_by_the_scan(submission_id: &str, created_at: i64) -> Judgement {
    Judgement {
        outcome: Outcome::FailedValidation(Failure {
            code: ErrorCode::SecurityViolation,
            message: "line 3: `import os` is not allowed".to_owned(),
        }),
        evaluations: Vec::new(),
        successful_runs: 0,
        runs: 0,
        ..accepted(submission_id, created_at, &[1.0])
    }
}
