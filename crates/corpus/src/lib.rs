//! Tokenised corpora: rows of tokens of one length, generated or read from local files.
//!
//! - [`generate`] makes a corpus from a seed alone, the same bit for bit on every platform.
//! - [`load`] reads a text, JSON Lines or Parquet file, tokenises it with a `tokenizer.json` once,
//!   keeps the result in a cache folder and maps it into memory.
//!
//! Both give a [`Corpus`], whose digest names exactly what a training run can see of it. Nothing is
//! ever downloaded. This crate knows nothing of training, of plans or of processes.

mod cache;
mod corpus;
mod documents;
mod error;
mod generated;
mod load;
mod tokenise;
mod unfinished;

pub use corpus::Corpus;
pub use error::{CacheError, DocumentError, GenerateError, LoadError, TokenizerError};
pub use generated::{GeneratedSpec, generate};
pub use load::{CorpusSource, Progress, load};
