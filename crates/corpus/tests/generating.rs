//! The generated corpus.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on from ends it")]

use std::collections::HashMap;

use crusades_corpus::{Corpus, GeneratedSpec, generate};

fn all_tokens(corpus: &Corpus) -> Vec<u32> {
    (0..corpus.rows())
        .flat_map(|row| corpus.row(row).to_vec())
        .collect()
}

/// Mean surprise, in bits, of a symbol whose frequency is counted.
fn entropy<T: std::hash::Hash + Eq>(symbols: impl Iterator<Item = T>) -> f64 {
    let mut counts = HashMap::new();
    let mut total = 0.0;
    for symbol in symbols {
        *counts.entry(symbol).or_insert(0_u32) += 1;
        total += 1.0;
    }
    counts
        .values()
        .map(|&count| f64::from(count) / total)
        .map(|share| -share * share.log2())
        .sum()
}

#[test]
fn the_default_corpus_never_changes() {
    let corpus = generate(GeneratedSpec::default()).unwrap();
    assert_eq!(corpus.rows(), 2048);
    assert_eq!(corpus.sequence_length(), 128);
    assert_eq!(corpus.vocabulary_size(), 4096);
    assert_eq!(
        &corpus.row(0)[..8],
        &[1089, 8, 2715, 1198, 53, 1194, 14, 683]
    );
    assert_eq!(
        corpus.digest(),
        "6496ef0db309edb1ce585c3554bd36fd8a48f7ff9b4af3d410285eb643426c3f"
    );
}

#[test]
fn every_field_of_the_specification_changes_the_digest() {
    let base = GeneratedSpec {
        seed: 1,
        vocabulary_size: 100,
        sequence_length: 16,
        rows: 8,
    };
    let digest = |spec| generate(spec).unwrap().digest();
    assert_eq!(digest(base), digest(base));
    let others = [
        GeneratedSpec { seed: 2, ..base },
        GeneratedSpec {
            vocabulary_size: 101,
            ..base
        },
        GeneratedSpec {
            sequence_length: 8,
            rows: 16,
            ..base
        },
        GeneratedSpec { rows: 9, ..base },
    ];
    for other in others {
        assert_ne!(digest(base), digest(other), "{other:?}");
    }
}

#[test]
fn a_larger_corpus_starts_with_the_rows_of_a_smaller_one() {
    let small = GeneratedSpec {
        rows: 10,
        ..GeneratedSpec::default()
    };
    let large = generate(GeneratedSpec { rows: 20, ..small }).unwrap();
    let small = generate(small).unwrap();
    for row in 0..10 {
        assert_eq!(small.row(row), large.row(row));
    }
    assert_ne!(large.row(10), large.row(11));
}

#[test]
fn tokens_follow_zipf_and_each_tells_much_of_the_next() {
    let spec = GeneratedSpec {
        vocabulary_size: 64,
        rows: 4096,
        ..GeneratedSpec::default()
    };
    let corpus = generate(spec).unwrap();
    let tokens = all_tokens(&corpus);
    assert!(tokens.iter().all(|&token| token < 64));

    let single = entropy(tokens.iter());
    let pairs = (0..corpus.rows()).flat_map(|row| corpus.row(row).windows(2));
    let next_given_token = entropy(pairs) - single;
    assert!((4.0..5.5).contains(&single), "{single} bits for a token");
    assert!(
        next_given_token < single - 0.4,
        "{next_given_token} of {single} bits are left when the token before is known"
    );
}

#[test]
fn the_frequency_of_a_token_is_in_proportion_to_one_over_its_rank() {
    let spec = GeneratedSpec {
        rows: 8192,
        ..GeneratedSpec::default()
    };
    let tokens = all_tokens(&generate(spec).unwrap());
    let share_below = |rank: u32| {
        let count = tokens.iter().filter(|&&token| token < rank).count();
        count as f64 / tokens.len() as f64
    };
    let harmonic = |n: u32| (1..=n).map(|rank| 1.0 / f64::from(rank)).sum::<f64>();
    for rank in [10, 100, 1000] {
        let expected = harmonic(rank) / harmonic(4096);
        let found = share_below(rank);
        assert!(
            (found - expected).abs() < 0.08,
            "tokens below {rank}: {found}, expected {expected}"
        );
    }
}

#[test]
fn a_specification_of_nothing_or_of_too_much_is_refused() {
    let with = |vocabulary_size, sequence_length, rows| {
        generate(GeneratedSpec {
            vocabulary_size,
            sequence_length,
            rows,
            ..GeneratedSpec::default()
        })
        .map(|corpus| corpus.rows())
        .map_err(|error| error.to_string())
    };
    assert_eq!(with(2, 2, 1), Ok(1));
    assert_eq!(
        with(1, 2, 1).unwrap_err(),
        "a generated corpus cannot have 1 distinct tokens, only 2 to 1048576"
    );
    assert!(with(u32::MAX, 2, 1).is_err());
    assert_eq!(
        with(2, 1, 1).unwrap_err(),
        "a row must have at least 2 tokens, not 1"
    );
    assert_eq!(
        with(2, 2, 0).unwrap_err(),
        "a generated corpus must have 1 to 268435456 tokens, not 0 rows of 2"
    );
    assert!(with(2, 1 << 14, (1 << 14) + 1).is_err());
    assert!(with(2, usize::MAX, usize::MAX).is_err());
}
