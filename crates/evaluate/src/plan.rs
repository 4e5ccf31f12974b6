//! The plan of a round: everything in it that is random, drawn from one 256-bit seed.
//!
//! The same seed gives the same plan bit for bit, on every machine and in every version of this
//! program: the only source is the ChaCha20 key stream (RFC 8439 block function), and the only
//! sampling is the rejection sampling in this file. Nothing here reads a clock or the system's
//! random numbers; [`Seed::random`] alone does.

use std::collections::HashSet;
use std::fmt;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// Steps of the warm-up (CONTRACT section 3).
pub const WARM_UP_STEPS: u32 = 2;

/// Rows of the last step's logits that a worker is asked for.
pub const LOGIT_ROWS: usize = 64;

/// 256 secret bits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seed([u8; 32]);

impl Seed {
    /// A seed from the system's random numbers.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn random() -> Result<Self, rustix::io::Errno> {
        let mut bytes = [0; 32];
        let mut filled = 0;
        while filled < bytes.len() {
            filled += rustix::rand::getrandom(
                &mut bytes[filled..],
                rustix::rand::GetRandomFlags::empty(),
            )?;
        }
        Ok(Self(bytes))
    }

    /// The seed with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The seed that 64 hexadecimal digits stand for.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
        Some(Self(bytes))
    }

    /// The seed as 64 hexadecimal digits.
    #[must_use]
    pub fn to_hex(self) -> String {
        hex(&self.0)
    }

    /// A seed of its own for each purpose: SHA-256 of this seed, the purpose and an index.
    fn derive(self, purpose: &str, index: u32) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(b"crusades/plan/1\0");
        hasher.update(self.0);
        hasher.update(purpose.as_bytes());
        hasher.update([0]);
        hasher.update(index.to_le_bytes());
        Self(hasher.finalize().into())
    }

    /// `count` different positions in tensor number `tensor` of `population` elements, ascending.
    #[must_use]
    pub(crate) fn positions(self, tensor: u32, count: u64, population: u64) -> Vec<u64> {
        if count >= population {
            return (0..population).collect();
        }
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let mut positions = self
            .derive("weight positions", tensor)
            .stream()
            .distinct_below(count, population);
        positions.sort_unstable();
        positions
    }

    /// `count` random signs, 1 and -1, as bytes.
    #[must_use]
    pub(crate) fn signs(self, count: usize) -> Vec<u8> {
        let mut stream = self.derive("signs", 0).stream();
        let mut signs = Vec::with_capacity(count);
        while signs.len() < count {
            let bits = stream.0.next_u64();
            let left = (count - signs.len()).min(64);
            signs.extend((0..left).map(|bit| if bits >> bit & 1 == 0 { 1 } else { u8::MAX }));
        }
        signs
    }

    fn stream(self) -> Stream {
        Stream(ChaCha20Rng::from_seed(self.0))
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Seeds are secret until their round has ended, and debug output ends up in logs.
        formatter.write_str("Seed(..)")
    }
}

/// Bytes as lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Random numbers whose sequence is fixed by the seed.
struct Stream(ChaCha20Rng);

impl Stream {
    /// A number below `bound`, each equally likely: numbers from the incomplete last interval of
    /// the 64-bit range are drawn again.
    fn below(&mut self, bound: u64) -> u64 {
        debug_assert!(bound > 0);
        let limit = u64::MAX - u64::MAX % bound;
        loop {
            let value = self.0.next_u64();
            if value < limit {
                return value % bound;
            }
        }
    }

    /// `count` different numbers below `bound`, in the order drawn.
    fn distinct_below(&mut self, count: usize, bound: u64) -> Vec<u64> {
        debug_assert!(count as u64 <= bound);
        // Robert Floyd's sampling needs no table of the whole range; the shuffle after it makes
        // every order equally likely.
        let mut seen = HashSet::with_capacity(count);
        let mut drawn = Vec::with_capacity(count);
        for top in bound - count as u64..bound {
            let candidate = self.below(top + 1);
            let chosen = if seen.insert(candidate) {
                candidate
            } else {
                top
            };
            seen.insert(chosen);
            drawn.push(chosen);
        }
        for last in (1..drawn.len()).rev() {
            let other = usize::try_from(self.below(last as u64 + 1)).unwrap_or(last);
            drawn.swap(last, other);
        }
        drawn
    }
}

/// The sizes that a plan depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanShape {
    /// Rows in the corpus.
    pub corpus_rows: u64,
    /// Training steps of a run.
    pub steps: u32,
    /// Rows per batch.
    pub batch_size: u32,
    /// Tokens per row.
    pub sequence_length: u32,
    /// Number of runs.
    pub runs: u32,
}

/// Everything random about one run.
#[derive(Clone, PartialEq, Eq)]
pub struct RunPlan {
    /// Position in the round, from 0.
    pub index: u32,
    /// The seed that this run's numbers come from.
    pub seed: Seed,
    /// Corpus rows in the order in which they are handed out: `steps * batch_size` of them.
    pub rows: Vec<u64>,
    /// Corpus rows of the warm-up, none of which is in `rows`.
    pub warm_up_rows: Vec<u64>,
    /// Seed of the noise on the weights of the warm-up, below 2^53 (exact in JSON).
    pub warm_up_noise_seed: u64,
    /// Rows of the last logits, flattened over batch and position, that the worker is asked for;
    /// ascending.
    pub logit_rows: Vec<u64>,
    /// The same for the warm-up, which must not tell what the timed run will be asked.
    pub warm_up_logit_rows: Vec<u64>,
}

impl fmt::Debug for RunPlan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RunPlan")
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

/// Everything random about a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The seed of the round.
    pub seed: Seed,
    /// Seed of the model's random initialisation, below 2^53.
    pub initial_weights_seed: u64,
    /// One plan per run.
    pub runs: Vec<RunPlan>,
}

/// Why there is no plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PlanError {
    /// A run would have to use a row twice.
    #[error(
        "the corpus has {rows} rows, and one run with its warm-up needs {needed} different ones \
         (batch size * (steps + {WARM_UP_STEPS}))"
    )]
    CorpusTooSmall {
        /// Rows in the corpus.
        rows: u64,
        /// Rows that one run and its warm-up use.
        needed: u64,
    },
}

impl Plan {
    /// The plan that `seed` gives for this shape.
    ///
    /// # Errors
    /// [`PlanError::CorpusTooSmall`] if one run and its warm-up would have to share rows.
    pub fn new(seed: Seed, shape: PlanShape) -> Result<Self, PlanError> {
        let batch = u64::from(shape.batch_size);
        let timed = u64::from(shape.steps) * batch;
        let needed = timed + u64::from(WARM_UP_STEPS) * batch;
        if needed > shape.corpus_rows {
            return Err(PlanError::CorpusTooSmall {
                rows: shape.corpus_rows,
                needed,
            });
        }
        Ok(Self {
            seed,
            initial_weights_seed: seed.derive("initial weights", 0).stream().below(1 << 53),
            runs: (0..shape.runs)
                .map(|index| RunPlan::new(seed.derive("run", index), index, shape, needed))
                .collect(),
        })
    }
}

impl RunPlan {
    fn new(seed: Seed, index: u32, shape: PlanShape, needed: u64) -> Self {
        let needed = usize::try_from(needed).unwrap_or(usize::MAX);
        let mut rows = seed
            .derive("rows", 0)
            .stream()
            .distinct_below(needed, shape.corpus_rows);
        let timed = (shape.steps * shape.batch_size) as usize;
        let warm_up_rows = rows.split_off(timed);
        let positions = u64::from(shape.batch_size) * u64::from(shape.sequence_length - 1);
        let asked = LOGIT_ROWS.min(usize::try_from(positions).unwrap_or(usize::MAX));
        let logit_rows = |index| {
            let mut rows = seed
                .derive("logit rows", index)
                .stream()
                .distinct_below(asked, positions);
            rows.sort_unstable();
            rows
        };
        Self {
            index,
            seed,
            rows,
            warm_up_rows,
            warm_up_noise_seed: seed.derive("warm-up noise", 0).stream().below(1 << 53),
            logit_rows: logit_rows(0),
            warm_up_logit_rows: logit_rows(1),
        }
    }

    /// What the question on the weights of the timed run is drawn from.
    #[must_use]
    pub fn question_seed(&self) -> Seed {
        self.seed.derive("question", 0)
    }

    /// The same for the warm-up.
    #[must_use]
    pub fn warm_up_question_seed(&self) -> Seed {
        self.seed.derive("question", 1)
    }

    /// A number that the worker has to repeat in its reply to the question at `position`, so that a
    /// reply cannot be sent before its question.
    #[must_use]
    pub fn nonce(&self, position: u32) -> String {
        hex(&self.seed.derive("nonce", position).0[..16])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    use super::{Plan, PlanError, PlanShape, Seed, hex};

    const SHAPE: PlanShape = PlanShape {
        corpus_rows: 1000,
        steps: 5,
        batch_size: 8,
        sequence_length: 128,
        runs: 5,
    };

    fn digest(plan: &Plan) -> String {
        let mut hasher = Sha256::new();
        hasher.update(plan.initial_weights_seed.to_le_bytes());
        for run in &plan.runs {
            hasher.update(run.warm_up_noise_seed.to_le_bytes());
            for numbers in [&run.rows, &run.warm_up_rows, &run.logit_rows] {
                numbers
                    .iter()
                    .for_each(|number| hasher.update(number.to_le_bytes()));
            }
            hasher.update(run.nonce(0));
        }
        hex(&hasher.finalize())
    }

    #[test]
    fn a_seed_gives_the_plan_that_it_always_gave() {
        let plan = Plan::new(Seed::from_bytes([7; 32]), SHAPE).unwrap();
        assert_eq!(
            digest(&plan),
            "a090c24b31eb309f7bfd1f5a8eac062b481a519f34864a5aab4cc0fadcf237b0"
        );
    }

    #[test]
    fn a_seed_gives_the_positions_that_it_always_gave() {
        let seed = Plan::new(Seed::from_bytes([7; 32]), SHAPE).unwrap().runs[1].question_seed();
        assert_eq!(
            seed.positions(3, 6, 1_000_000),
            [43_912, 104_047, 315_378, 405_577, 629_196, 682_506]
        );
        assert_eq!(seed.positions(3, 6, 4), [0, 1, 2, 3]);
    }

    #[test]
    fn another_seed_gives_another_plan() {
        let one = Plan::new(Seed::from_bytes([1; 32]), SHAPE).unwrap();
        let other = Plan::new(Seed::from_bytes([2; 32]), SHAPE).unwrap();
        assert_ne!(digest(&one), digest(&other));
        assert_ne!(one.runs[0].rows, one.runs[1].rows);
        assert_ne!(one.runs[0].nonce(0), one.runs[0].nonce(1));
        assert_ne!(one.runs[0].logit_rows, one.runs[0].warm_up_logit_rows);
        let run = &one.runs[0];
        assert!(run.question_seed() != run.warm_up_question_seed());
    }

    #[test]
    fn a_corpus_with_just_enough_rows_is_used_up_and_one_row_fewer_is_refused() {
        let enough = PlanShape {
            corpus_rows: 56,
            ..SHAPE
        };
        let plan = Plan::new(Seed::from_bytes([3; 32]), enough).unwrap();
        let run = &plan.runs[0];
        let used: HashSet<_> = run.rows.iter().chain(&run.warm_up_rows).collect();
        assert_eq!(used.len(), 56);
        let too_few = PlanShape {
            corpus_rows: 55,
            ..SHAPE
        };
        assert_eq!(
            Plan::new(Seed::from_bytes([3; 32]), too_few),
            Err(PlanError::CorpusTooSmall {
                rows: 55,
                needed: 56
            })
        );
    }

    #[test]
    fn a_seed_survives_the_way_through_hexadecimal_and_wrong_text_does_not() {
        let seed = Seed::random().unwrap();
        assert_eq!(Seed::from_hex(&seed.to_hex()), Some(seed));
        for wrong in ["", "00", &"g".repeat(64), &"é".repeat(32), &"0".repeat(63)] {
            assert_eq!(Seed::from_hex(wrong), None);
        }
    }

    #[test]
    fn debug_output_does_not_show_a_seed() {
        let plan = Plan::new(Seed::from_bytes([0xab; 32]), SHAPE).unwrap();
        assert!(!format!("{plan:?}").contains("ab"));
    }

    proptest! {
        #[test]
        fn rows_are_different_and_exist(seed in any::<[u8; 32]>(), batch_size in 1..9_u32, steps in 1..9_u32, spare in 0..50_u64) {
            let shape = PlanShape { batch_size, steps, corpus_rows: u64::from(batch_size * (steps + 2)) + spare, ..SHAPE };
            for run in Plan::new(Seed::from_bytes(seed), shape).unwrap().runs {
                let all: Vec<_> = run.rows.iter().chain(&run.warm_up_rows).copied().collect();
                prop_assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
                prop_assert!(all.iter().all(|row| *row < shape.corpus_rows));
                prop_assert!(run.logit_rows.windows(2).all(|pair| pair[0] < pair[1]));
            }
        }
    }
}
