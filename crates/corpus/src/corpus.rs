//! The corpus itself: rows of tokens, in memory or mapped from a cache file, and their digest.
//!
//! A corpus never changes once it is made, and nothing here knows where it came from.

use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::cache::MappedTokens;

/// Raised whenever the same tokens would get another digest.
const DIGEST_VERSION: u32 = 1;

/// Rows of tokens, all of one length.
pub struct Corpus {
    tokens: Tokens,
    sequence_length: usize,
    vocabulary_size: u32,
    digest: CorpusDigest,
}

enum Tokens {
    InMemory(Vec<u32>),
    Mapped(MappedTokens),
}

impl Corpus {
    /// `tokens` must be whole rows of `sequence_length`, which must not be 0.
    pub(crate) fn in_memory(
        tokens: Vec<u32>,
        sequence_length: usize,
        vocabulary_size: u32,
    ) -> Self {
        let mut digester = CorpusDigester::new(sequence_length, vocabulary_size);
        digester.update(&tokens);
        Self {
            tokens: Tokens::InMemory(tokens),
            sequence_length,
            vocabulary_size,
            digest: digester.finish(),
        }
    }

    /// `tokens` must be whole rows of `sequence_length`, which must not be 0, and `digest` theirs.
    pub(crate) fn mapped(
        tokens: MappedTokens,
        sequence_length: usize,
        vocabulary_size: u32,
        digest: CorpusDigest,
    ) -> Self {
        Self {
            tokens: Tokens::Mapped(tokens),
            sequence_length,
            vocabulary_size,
            digest,
        }
    }

    /// How many rows there are; at least 1.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.tokens().len() / self.sequence_length
    }

    /// Tokens in each row.
    #[must_use]
    pub fn sequence_length(&self) -> usize {
        self.sequence_length
    }

    /// One more than the largest token that the tokenizer can give, so a model needs at least this
    /// many embeddings.
    #[must_use]
    pub fn vocabulary_size(&self) -> u32 {
        self.vocabulary_size
    }

    /// The tokens of row `index`, counted from 0.
    ///
    /// # Panics
    ///
    /// When there is no such row, as indexing a slice does.
    #[must_use]
    pub fn row(&self, index: usize) -> &[u32] {
        let start = index * self.sequence_length;
        &self.tokens()[start..start + self.sequence_length]
    }

    /// SHA-256, in lowercase hexadecimal, over a version, the row length, the size of the
    /// vocabulary and all tokens. Corpora with the same digest are the same to a training run.
    #[must_use]
    pub fn digest(&self) -> String {
        self.digest.to_string()
    }

    fn tokens(&self) -> &[u32] {
        match &self.tokens {
            Tokens::InMemory(tokens) => tokens,
            Tokens::Mapped(tokens) => tokens.as_slice(),
        }
    }
}

impl fmt::Debug for Corpus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Corpus")
            .field("rows", &self.rows())
            .field("sequence_length", &self.sequence_length)
            .field("vocabulary_size", &self.vocabulary_size)
            .field("digest", &self.digest())
            .finish_non_exhaustive()
    }
}

/// The digest of a corpus.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct CorpusDigest(pub(crate) [u8; 32]);

impl fmt::Display for CorpusDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

/// Takes the tokens of a corpus in order, in pieces of any length, and gives its digest.
pub(crate) struct CorpusDigester(Sha256);

impl CorpusDigester {
    pub(crate) fn new(sequence_length: usize, vocabulary_size: u32) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"crusades corpus");
        hash.update(DIGEST_VERSION.to_le_bytes());
        hash.update((sequence_length as u64).to_le_bytes());
        hash.update(vocabulary_size.to_le_bytes());
        Self(hash)
    }

    pub(crate) fn update(&mut self, tokens: &[u32]) {
        // A buffer, because hashing four bytes at a time costs several times as much.
        let mut buffer = [[0_u8; 4]; 1024];
        for tokens in tokens.chunks(buffer.len()) {
            for (bytes, token) in buffer.iter_mut().zip(tokens) {
                *bytes = token.to_le_bytes();
            }
            self.0.update(buffer[..tokens.len()].as_flattened());
        }
    }

    pub(crate) fn finish(self) -> CorpusDigest {
        CorpusDigest(self.0.finalize().into())
    }
}
