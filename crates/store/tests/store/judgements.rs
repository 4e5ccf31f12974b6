//! What is written comes back, whole or not at all.

use std::error::Error as _;

use crusades_core::{ErrorCode, Metric, SubmissionStatus};
use crusades_store::{
    Check, CheckVerdict, Failure, JudgedRun, Judgement, Outcome, Store, StoreError, UnixMicros,
};

use crate::samples::{accepted, arrival, judged_run, refused_by_a_check, refused_by_the_scan};

/// What is stored under the id of this judgement is this judgement.
fn assert_stored(store: &Store, judgement: &Judgement) {
    let arrival = &judgement.arrival;
    let id = &arrival.submission_id;
    let stored = store.submission(id).unwrap().unwrap();
    assert_eq!(stored.name, arrival.name);
    assert_eq!(stored.miner_hotkey, arrival.miner_hotkey);
    assert_eq!(stored.miner_uid, arrival.miner_uid);
    assert_eq!(stored.metric, arrival.metric);
    assert_eq!(stored.created_at, arrival.created_at);
    assert_eq!(stored.updated_at, judgement.judged_at);
    assert_eq!(stored.status, judgement.outcome.status());
    assert_eq!(stored.final_score, judgement.outcome.final_score());
    assert_eq!(stored.failure.as_ref(), judgement.outcome.failure());
    assert_eq!(stored.successful_runs, judgement.successful_runs);
    assert_eq!(stored.runs, judgement.runs);
    assert_eq!(
        store.code(&stored.code_hash).unwrap().as_ref(),
        Some(&arrival.code)
    );
    assert_eq!(store.report(id).unwrap().as_ref(), Some(&judgement.report));

    let runs: Vec<JudgedRun> = store
        .evaluations(id)
        .unwrap()
        .into_iter()
        .map(|evaluation| JudgedRun {
            checks: store.checks(&evaluation.evaluation_id).unwrap(),
            evaluation,
        })
        .collect();
    assert_eq!(runs, judgement.evaluations);
}

#[test]
fn every_kind_of_judgement_comes_back_as_it_was_stored_also_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let carried_out_in_vain = Judgement {
        outcome: Outcome::Error(Failure {
            code: ErrorCode::SandboxFailed,
            message: "the sandbox could not be started".to_owned(),
        }),
        ..refused_by_the_scan("unlucky", 4)
    };
    let judgements = [
        accepted("honest", 1, &[40.0, 41.0, 42.0]),
        refused_by_a_check("lazy", 2),
        refused_by_the_scan("forbidden", 3),
        carried_out_in_vain,
    ];
    let mut store = Store::open(&path).unwrap();
    for judgement in &judgements {
        store.record_judgement(judgement).unwrap();
    }
    for store in [store, Store::open(&path).unwrap()] {
        for judgement in &judgements {
            assert_stored(&store, judgement);
        }
        assert_eq!(store.submission("nobody").unwrap(), None);
        assert_eq!(store.report("nobody").unwrap(), None);
        assert_eq!(store.code(&"0".repeat(64)).unwrap(), None);
        assert_eq!(store.evaluations("nobody").unwrap(), []);
        assert_eq!(store.checks("nobody/1").unwrap(), []);
    }
}

#[test]
fn code_is_kept_byte_for_byte_under_its_sha256() {
    let mut store = Store::open_in_memory().unwrap();
    // The digest of "abc" is the first example of FIPS 180-2.
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    for (id, code) in [
        ("text", b"abc".to_vec()),
        ("not utf-8", vec![0xff, 0, 0xc3]),
    ] {
        let mut arrival = arrival(id, 1);
        arrival.code.clone_from(&code);
        store.record_arrival(&arrival).unwrap();
        let stored = store.submission(id).unwrap().unwrap();
        assert_eq!(store.code(&stored.code_hash).unwrap(), Some(code));
    }
    assert_eq!(store.submission("text").unwrap().unwrap().code_hash, abc);
}

#[test]
fn the_same_judgement_twice_is_stored_once_and_a_new_one_replaces_it() {
    let mut store = Store::open_in_memory().unwrap();
    let first = accepted("a", 1, &[40.0, 41.0, 42.0]);
    store.record_judgement(&first).unwrap();
    store.record_judgement(&first).unwrap();
    assert_stored(&store, &first);

    let mut second = refused_by_a_check("a", 1);
    second.judged_at = UnixMicros(99);
    store.record_judgement(&second).unwrap();
    assert_stored(&store, &second);
    assert_eq!(store.checks("a/3").unwrap(), []);
    assert_eq!(store.leaderboard(Metric::Mfu, 10).unwrap(), []);
}

#[test]
fn judging_again_does_not_move_the_arrival() {
    let mut store = Store::open_in_memory().unwrap();
    store.record_judgement(&accepted("a", 5, &[40.0])).unwrap();
    store.record_judgement(&accepted("a", 9, &[40.0])).unwrap();
    let stored = store.submission("a").unwrap().unwrap();
    assert_eq!(stored.created_at, UnixMicros(5));
    assert_eq!(stored.updated_at, UnixMicros(10));
}

#[test]
fn a_judgement_that_breaks_a_rule_of_the_schema_leaves_the_earlier_one_whole() {
    let mut store = Store::open_in_memory().unwrap();
    store
        .record_judgement(&accepted("other", 1, &[1.0]))
        .unwrap();
    let good = accepted("a", 2, &[40.0, 41.0]);
    store.record_judgement(&good).unwrap();

    type Spoil = fn(&mut Judgement);
    let broken: [(&str, Spoil); 7] = [
        ("score", |judgement| {
            judgement.outcome = Outcome::Finished {
                final_score: f64::NAN,
            };
        }),
        ("seed", |judgement| {
            judgement.evaluations[1].evaluation.seed = "F".repeat(64);
        }),
        ("report", |judgement| judgement.report = "{".to_owned()),
        ("run", |judgement| {
            judgement.evaluations[1].evaluation.run = 1;
        }),
        ("evaluation id", |judgement| {
            judgement.evaluations[1].evaluation.evaluation_id = "other/1".to_owned();
        }),
        ("runs", |judgement| judgement.runs = 1),
        ("failed check", |judgement| {
            let check = &mut judgement.evaluations[1].checks[1];
            check.verdict = CheckVerdict::Failed;
        }),
    ];
    for (what, spoil) in broken {
        let mut judgement = accepted("a", 2, &[50.0, 51.0]);
        spoil(&mut judgement);
        let error = store.record_judgement(&judgement).unwrap_err();
        assert!(
            matches!(error, StoreError::Sqlite { .. }),
            "{what}: {error:?}"
        );
        assert_eq!(
            error.to_string(),
            "cannot store the judgement of submission `a` in :memory:"
        );
        assert_stored(&store, &good);
    }
    let better = accepted("a", 2, &[50.0, 51.0]);
    store.record_judgement(&better).unwrap();
    assert_stored(&store, &better);
}

#[test]
fn a_submission_keeps_the_code_that_it_arrived_with() {
    let mut store = Store::open_in_memory().unwrap();
    let first = accepted("a", 1, &[40.0]);
    store.record_arrival(&first.arrival).unwrap();
    let mut swapped = first.clone();
    swapped.arrival.code.push(b'#');
    let error = store.record_judgement(&swapped).unwrap_err();
    assert!(matches!(error, StoreError::CodeChanged { .. }), "{error:?}");
    store.record_judgement(&first).unwrap();
    assert_stored(&store, &first);
}

#[test]
fn two_submissions_may_have_the_same_code() {
    let mut store = Store::open_in_memory().unwrap();
    for id in ["a", "b"] {
        let mut judgement = accepted(id, 1, &[40.0]);
        judgement.arrival.code = b"same".to_vec();
        store.record_judgement(&judgement).unwrap();
        assert_stored(&store, &judgement);
    }
}

#[test]
fn a_submission_is_pending_from_its_arrival_and_passes_through_the_stages() {
    let mut store = Store::open_in_memory().unwrap();
    let arrival = arrival("a", 7);
    let status = |store: &Store| store.submission("a").unwrap().unwrap().status;
    store.record_arrival(&arrival).unwrap();
    assert_eq!(status(&store), SubmissionStatus::Pending);
    for stage in [SubmissionStatus::Validating, SubmissionStatus::Evaluating] {
        store.set_status("a", stage, UnixMicros(8)).unwrap();
        assert_eq!(status(&store), stage);
        // The same arrival once more changes nothing.
        store.record_arrival(&arrival).unwrap();
        assert_eq!(status(&store), stage);
    }
    assert_eq!(
        store.submission("a").unwrap().unwrap().updated_at,
        UnixMicros(8)
    );
}

#[test]
fn a_status_that_ends_an_evaluation_needs_a_judgement() {
    let mut store = Store::open_in_memory().unwrap();
    store.record_arrival(&arrival("a", 1)).unwrap();
    for status in [
        SubmissionStatus::Finished,
        SubmissionStatus::FailedValidation,
        SubmissionStatus::FailedEvaluation,
        SubmissionStatus::Error,
    ] {
        let error = store.set_status("a", status, UnixMicros(2)).unwrap_err();
        assert!(matches!(error, StoreError::NeedsJudgement { .. }));
    }
    let error = store
        .set_status("b", SubmissionStatus::Evaluating, UnixMicros(2))
        .unwrap_err();
    assert_eq!(error.to_string(), "there is no submission `b` in :memory:");
}

#[test]
fn a_judged_submission_that_goes_back_to_the_queue_has_no_outcome() {
    let mut store = Store::open_in_memory().unwrap();
    for judgement in [accepted("a", 1, &[40.0]), refused_by_a_check("b", 1)] {
        let id = &judgement.arrival.submission_id;
        store.record_judgement(&judgement).unwrap();
        store
            .set_status(id, SubmissionStatus::Pending, UnixMicros(2))
            .unwrap();
        let stored = store.submission(id).unwrap().unwrap();
        assert_eq!((stored.final_score, stored.failure), (None, None));
    }
    assert_eq!(store.leaderboard(Metric::Mfu, 10).unwrap(), []);
    assert_eq!(store.refused().unwrap(), []);
}

#[test]
fn the_leaderboard_ranks_by_score_then_by_arrival_within_one_metric() {
    let mut store = Store::open_in_memory().unwrap();
    store
        .record_judgement(&accepted("late", 3, &[40.0]))
        .unwrap();
    store
        .record_judgement(&accepted("early", 1, &[40.0]))
        .unwrap();
    store
        .record_judgement(&accepted("best", 9, &[50.0, 55.0, 45.0]))
        .unwrap();
    store
        .record_judgement(&refused_by_a_check("lazy", 0))
        .unwrap();
    let mut by_tokens = accepted("tokens", 0, &[1.0, 1.5]);
    by_tokens.arrival.metric = Metric::Tps;
    by_tokens.outcome = Outcome::Finished {
        final_score: 1000.0,
    };
    store.record_judgement(&by_tokens).unwrap();

    let ranked = |metric, limit| -> Vec<(u32, String, Option<f64>)> {
        let entries = store.leaderboard(metric, limit).unwrap();
        entries
            .into_iter()
            .map(|entry| (entry.rank, entry.submission_id, entry.spread))
            .collect()
    };
    assert_eq!(
        ranked(Metric::Mfu, 10),
        [
            (1, "best".to_owned(), Some(0.2)),
            (2, "early".to_owned(), None),
            (3, "late".to_owned(), None)
        ]
    );
    assert_eq!(ranked(Metric::Mfu, 1).len(), 1);
    assert_eq!(ranked(Metric::Mfu, 0), []);
    assert_eq!(
        ranked(Metric::Tps, 10),
        [(1, "tokens".to_owned(), Some(0.5))]
    );
}

#[test]
fn a_run_that_failed_does_not_widen_the_spread() {
    let mut store = Store::open_in_memory().unwrap();
    let mut judgement = accepted("a", 1, &[40.0, 42.0, 90.0]);
    judgement.successful_runs = 2;
    judgement.evaluations[2].evaluation.failure = Some(Failure {
        code: ErrorCode::ImplausibleMfu,
        message: "90 % is beyond 75 %".to_owned(),
    });
    store.record_judgement(&judgement).unwrap();
    let entry = &store.leaderboard(Metric::Mfu, 10).unwrap()[0];
    assert_eq!(
        (entry.spread, entry.successful_runs, entry.runs),
        (Some(0.05), 2, 3)
    );
}

#[test]
fn the_refused_are_listed_with_their_reasons_and_the_rest_is_not() {
    let mut store = Store::open_in_memory().unwrap();
    store
        .record_judgement(&accepted("honest", 1, &[40.0]))
        .unwrap();
    store
        .record_judgement(&refused_by_the_scan("forbidden", 3))
        .unwrap();
    store
        .record_judgement(&refused_by_a_check("lazy", 2))
        .unwrap();
    store.record_arrival(&arrival("new", 0)).unwrap();
    let refused: Vec<_> = store
        .refused()
        .unwrap()
        .into_iter()
        .map(|refusal| (refusal.submission_id, refusal.status, refusal.failure.code))
        .collect();
    assert_eq!(
        refused,
        [
            (
                "lazy".to_owned(),
                SubmissionStatus::FailedEvaluation,
                ErrorCode::UpdateMismatch
            ),
            (
                "forbidden".to_owned(),
                SubmissionStatus::FailedValidation,
                ErrorCode::SecurityViolation
            )
        ]
    );
}

#[test]
fn a_stored_word_that_is_not_known_is_quoted_and_not_guessed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let mut store = Store::open(&path).unwrap();
    store.record_judgement(&refused_by_a_check("a", 1)).unwrap();
    assert!(store.submission("a").is_ok());
    for column in ["metric", "error_code"] {
        let connection = rusqlite::Connection::open(&path).unwrap();
        let update = format!("UPDATE submissions SET {column} = 'sideways'");
        connection.execute(&update, []).unwrap();
        let error = store.submission("a").unwrap_err();
        let source = error.source().unwrap().source().unwrap();
        assert!(source.to_string().starts_with("`sideways` is not a known"));
        store.record_judgement(&refused_by_a_check("a", 1)).unwrap();
    }
}

#[test]
fn a_measured_value_that_is_no_number_comes_back_as_its_text() {
    let mut store = Store::open_in_memory().unwrap();
    let mut judgement = refused_by_a_check("nan", 1);
    let mut run = judged_run("nan", 1, 1.0);
    run.checks = [("NaN", f64::NAN), ("inf", f64::INFINITY)]
        .map(|(text, value)| Check {
            name: "loss".to_owned(),
            measured: Some(value),
            measured_text: text.to_owned(),
            limit: None,
            limit_text: "finite".to_owned(),
            verdict: CheckVerdict::Failed,
            error_code: Some(ErrorCode::LossMismatch),
        })
        .to_vec();
    judgement.evaluations = vec![run];
    store.record_judgement(&judgement).unwrap();
    let checks = store.checks("nan/1").unwrap();
    assert_eq!(
        (checks[0].measured, &*checks[0].measured_text),
        (None, "NaN")
    );
    assert_eq!(checks[1].measured, Some(f64::INFINITY));
}
