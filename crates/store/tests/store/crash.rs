//! What readers and the next start see while, and after, a writer is killed.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crusades_core::Metric;
use crusades_store::{Judgement, Store};
use rusqlite::Connection;

use crate::samples::accepted;

/// Tells the child of the kill test which database to write to.
const CHILD_DATABASE: &str = "CRUSADES_STORE_TEST_DATABASE";

/// Submissions that the writers judge again and again.
const SUBMISSIONS: u32 = 5;

/// A judgement all of whose parts tell its generation.
fn judgement_of(submission: u32, generation: u32) -> Judgement {
    let score = 100.0 + f64::from(generation);
    // The spread is then score / 1000, which no mix of two generations has.
    let values = [score, score, score * (1.0 + score / 1000.0)];
    accepted(&format!("s{submission}"), i64::from(submission), &values)
}

/// The generation of a submission, after checking that all its parts are of this one generation.
fn generation(store: &Store, submission: u32) -> u32 {
    let id = format!("s{submission}");
    let score = store.submission(&id).unwrap().unwrap().final_score.unwrap();
    let expected = (0..)
        .map(|generation| (generation, judgement_of(submission, generation)))
        .find(|(_, judgement)| judgement.outcome.final_score() >= Some(score));
    let (generation, expected) = expected.unwrap();
    assert_eq!(expected.outcome.final_score(), Some(score));
    assert_eq!(store.report(&id).unwrap(), Some(expected.report));
    let evaluations = store.evaluations(&id).unwrap();
    assert_eq!(evaluations.len(), expected.evaluations.len());
    for (evaluation, expected) in evaluations.iter().zip(expected.evaluations) {
        assert_eq!(*evaluation, expected.evaluation);
        assert_eq!(
            store.checks(&evaluation.evaluation_id).unwrap(),
            expected.checks
        );
    }
    generation
}

/// Not a test of its own: what the kill test starts, and kills.
#[test]
#[ignore = "started by `a_writer_killed_at_any_instant_leaves_whole_judgements_only`"]
fn write_until_killed() {
    let Some(path) = std::env::var_os(CHILD_DATABASE) else {
        return;
    };
    let mut store = Store::open(path).unwrap();
    let first = (0..SUBMISSIONS)
        .filter(|submission| {
            store
                .submission(&format!("s{submission}"))
                .unwrap()
                .is_some()
        })
        .map(|submission| generation(&store, submission) + 1)
        .max()
        .unwrap_or(0);
    for generation in first.. {
        for submission in 0..SUBMISSIONS {
            store
                .record_judgement(&judgement_of(submission, generation))
                .unwrap();
            // Only now does the parent believe that it is stored.
            let mut stdout = std::io::stdout().lock();
            writeln!(stdout, "stored {submission} {generation}").unwrap();
            stdout.flush().unwrap();
        }
    }
}

/// Runs a writer for about `life` after its first judgement, kills it, and returns the last
/// generation of each submission that it reported as stored.
fn stored_before_the_kill(path: &Path, life: Duration) -> BTreeMap<u32, u32> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "crash::write_until_killed",
            "--ignored",
            "--nocapture",
        ])
        .env(CHILD_DATABASE, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut stored = BTreeMap::new();
    let mut killed = false;
    // After the kill, what is left in the pipe was stored before it.
    while let Some(line) = lines.next().transpose().unwrap() {
        // The first line follows the name of the test, which has no end of line.
        let Some((_, words)) = line.split_once("stored ") else {
            continue;
        };
        let Some((submission, generation)) = words.split_once(' ') else {
            continue;
        };
        stored.insert(submission.parse().unwrap(), generation.parse().unwrap());
        if !killed {
            std::thread::sleep(life);
            child.kill().unwrap();
            killed = true;
        }
    }
    child.wait().unwrap();
    stored
}

#[test]
fn a_writer_killed_at_any_instant_leaves_whole_judgements_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    for round in 0..25 {
        // Steps of a fraction of the milliseconds that one judgement takes.
        let life = Duration::from_micros(1000 + 370 * round);
        let stored = stored_before_the_kill(&path, life);
        assert!(!stored.is_empty(), "the writer stored nothing");

        let store = Store::open(&path).unwrap();
        for submission in 0..SUBMISSIONS {
            let id = format!("s{submission}");
            let found = store
                .submission(&id)
                .unwrap()
                .map(|_| generation(&store, submission));
            let Some(&acknowledged) = stored.get(&submission) else {
                continue;
            };
            // One more may have been stored in the instant before the kill.
            assert!(
                found == Some(acknowledged) || found == Some(acknowledged + 1),
                "{id}: {found:?} is stored, and {acknowledged} was reported"
            );
        }
        let connection = Connection::open(&path).unwrap();
        let integrity: String = connection
            .pragma_query_value(None, "integrity_check", |row| row.get(0))
            .unwrap();
        assert_eq!(integrity, "ok");
        let orphans: i64 = connection
            .query_row("SELECT count(*) FROM pragma_foreign_key_check", [], |row| {
                row.get(0)
            })
            .unwrap();
        assert_eq!(orphans, 0);
    }
}

#[test]
fn a_reader_beside_a_writer_is_never_held_up_and_sees_whole_judgements_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let mut writer = Store::open(&path).unwrap();
    for submission in 0..SUBMISSIONS {
        writer
            .record_judgement(&judgement_of(submission, 0))
            .unwrap();
    }
    let written = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let store = Store::open(&path).unwrap();
            let mut seen = Vec::new();
            while !written.load(Ordering::Relaxed) {
                let entries = store.leaderboard(Metric::Mfu, 10).unwrap();
                assert_eq!(entries.len(), SUBMISSIONS as usize);
                for entry in &entries {
                    let expected = entry.final_score / 1000.0;
                    let spread = entry.spread.unwrap();
                    assert!((spread - expected).abs() < 1e-9, "{entry:?}");
                }
                seen.push(entries[0].final_score);
            }
            seen
        });
        for generation in 1..=100 {
            for submission in 0..SUBMISSIONS {
                writer
                    .record_judgement(&judgement_of(submission, generation))
                    .unwrap();
            }
        }
        written.store(true, Ordering::Relaxed);
        let mut seen = reader.join().unwrap();
        assert!(seen.is_sorted());
        seen.dedup();
        assert!(seen.len() > 1, "the reader saw {seen:?} only");
    });
}
