//! A corpus made from a seed alone: a Zipf vocabulary with local structure, so that a language
//! model's loss falls first to the entropy of single tokens and then, as it learns which token
//! follows which, below it.
//!
//! Only integer arithmetic is used: a corpus must be the same on every platform, or two validators
//! would judge by different data.

use crate::corpus::Corpus;
use crate::error::GenerateError;

/// What to generate. [`Default`] is a small corpus that suits a model of a few million parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GeneratedSpec {
    /// Fixes every token. The default never changes.
    pub seed: u64,
    /// Distinct tokens, numbered from the most to the least frequent.
    pub vocabulary_size: u32,
    /// Tokens in each row.
    pub sequence_length: usize,
    /// Rows. Each depends only on the other fields and its own index, so a corpus with more rows
    /// starts with the same ones.
    pub rows: usize,
}

impl Default for GeneratedSpec {
    fn default() -> Self {
        Self {
            seed: 0x0063_7275_7361_6465,
            vocabulary_size: 4096,
            sequence_length: 128,
            rows: 2048,
        }
    }
}

/// The most tokens that a generated corpus may have: it is held in memory, in 4 bytes each.
const MAX_TOKENS: usize = 1 << 28;

/// The largest vocabulary: the table of cumulative weights takes 8 bytes for each token.
const MAX_VOCABULARY: u32 = 1 << 20;

/// Topics; which token follows which depends on the topic.
const TOPICS: u64 = 8;

/// In 256ths, how often the topic changes before a token: about twice in a row of 128.
const TOPIC_CHANGE: u64 = 4;

/// In 256ths, how often a token is one of the fixed successors of the one before it.
const FOLLOWS: u64 = 192;

/// Generates the corpus that `spec` describes.
///
/// # Errors
///
/// When `spec` asks for nothing, for rows with no next token, or for more than fits in memory.
pub fn generate(spec: GeneratedSpec) -> Result<Corpus, GenerateError> {
    if !(2..=MAX_VOCABULARY).contains(&spec.vocabulary_size) {
        return Err(GenerateError::VocabularySize {
            found: spec.vocabulary_size,
            limit: MAX_VOCABULARY,
        });
    }
    if spec.sequence_length < 2 {
        return Err(GenerateError::SequenceLength(spec.sequence_length));
    }
    let total = spec
        .rows
        .checked_mul(spec.sequence_length)
        .filter(|total| (1..=MAX_TOKENS).contains(total))
        .ok_or(GenerateError::Size {
            rows: spec.rows,
            sequence_length: spec.sequence_length,
            limit: MAX_TOKENS,
        })?;
    let zipf = Zipf::new(spec.vocabulary_size);
    let mut tokens = Vec::with_capacity(total);
    for row in 0..spec.rows as u64 {
        append_row(&mut tokens, &zipf, &spec, row);
    }
    Ok(Corpus::in_memory(
        tokens,
        spec.sequence_length,
        spec.vocabulary_size,
    ))
}

fn append_row(tokens: &mut Vec<u32>, zipf: &Zipf, spec: &GeneratedSpec, row: u64) {
    let mut random = SplitMix64(mix(spec.seed) ^ mix(row.wrapping_add(1)));
    let mut topic = random.below(TOPICS);
    let mut token = zipf.token(random.next());
    tokens.push(token);
    for _ in 1..spec.sequence_length {
        if random.below(256) < TOPIC_CHANGE {
            topic = random.below(TOPICS);
        }
        token = if random.below(256) < FOLLOWS {
            // Four successors, the first with half of the weight.
            let branch = u64::from(random.next().leading_zeros().min(3));
            let context = (topic << 34) | (branch << 32) | u64::from(token);
            // Drawn by the same law as a token of its own, so that the whole stays a Zipf one.
            zipf.token(mix(spec.seed ^ mix(context)))
        } else {
            zipf.token(random.next())
        };
        tokens.push(token);
    }
}

/// Draws token `n` with a probability in proportion to `1 / (n + 1)`.
struct Zipf {
    /// For each token, the sum of its weight and those of all before it.
    cumulative: Vec<u64>,
    total: u64,
}

impl Zipf {
    fn new(vocabulary_size: u32) -> Self {
        let mut total = 0;
        let cumulative = (1..=u64::from(vocabulary_size))
            .map(|rank| {
                total += (1 << 40) / rank;
                total
            })
            .collect();
        Self { cumulative, total }
    }

    /// The token for a number drawn evenly from all of `u64`.
    fn token(&self, random: u64) -> u32 {
        let point = scale(random, self.total);
        let index = self.cumulative.partition_point(|&sum| sum <= point);
        // Below the size of the vocabulary, because the point is below the last sum.
        u32::try_from(index).unwrap_or(u32::MAX)
    }
}

/// The generator of Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014).
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        let value = mix(self.0);
        self.0 = self.0.wrapping_add(GOLDEN_GAMMA);
        value
    }

    /// A number below `bound`, with a bias below `bound / 2^64`.
    fn below(&mut self, bound: u64) -> u64 {
        scale(self.next(), bound)
    }
}

/// 2^64 over the golden ratio, made odd.
const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// The output function of [`SplitMix64`] after one step from `state`.
fn mix(state: u64) -> u64 {
    let mut bits = state.wrapping_add(GOLDEN_GAMMA);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Maps all of `u64` evenly onto the numbers below `bound`.
fn scale(random: u64, bound: u64) -> u64 {
    // The upper half of a product with `bound` is below `bound`, so it fits.
    ((u128::from(random) * u128::from(bound)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_gives_the_published_sequence() {
        // First outputs of the authors' reference implementation for seed 1234567.
        let mut random = SplitMix64(1_234_567);
        assert_eq!(random.next(), 6_457_827_717_110_365_317);
        assert_eq!(random.next(), 3_203_168_211_198_807_973);
        assert_eq!(random.next(), 9_817_491_932_198_370_423);
    }

    #[test]
    fn the_ends_of_the_range_give_the_first_and_the_last_token() {
        let zipf = Zipf::new(1000);
        assert_eq!(zipf.token(0), 0);
        assert_eq!(zipf.token(u64::MAX), 999);
    }
}
