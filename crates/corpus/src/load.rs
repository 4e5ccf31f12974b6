//! From a local file to a corpus: hash what the tokens follow from, map the cache file if there is
//! one for it, else tokenise and make it.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::cache::{self, CacheKey, CacheWriter, Lookup};
use crate::corpus::Corpus;
use crate::documents::DocumentFile;
use crate::error::{CacheError, LoadError, TokenizerError};
use crate::tokenise::{DocumentTokenizer, TokenizerFiles};

/// Raised whenever the same file and tokenizer give other tokens than before, also by a new version
/// of the `tokenizers` crate.
const TOKENISATION_VERSION: u32 = 1;

/// Text that is tokenised at a time, in bytes and in documents: enough for all cores, little enough
/// for the memory, since a document takes many times its length while it is tokenised, and for
/// progress to be told several times a second.
const BATCH_BYTES: usize = 1 << 20;
const BATCH_DOCUMENTS: usize = 4096;

/// A local file and how to make rows of tokens from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorpusSource {
    /// A `.txt` file, whose documents are separated by blank lines; a `.jsonl` or `.json` file with
    /// one object on each line; or a `.parquet` file. Folders are not taken.
    pub path: PathBuf,
    /// The `tokenizer.json`. Each document is followed by the end token that the
    /// `tokenizer_config.json` beside it names, or, where that is missing or silent, by the first
    /// well-known end token in the vocabulary, if any.
    pub tokenizer: PathBuf,
    /// The field or column with the text; of no meaning for `.txt`.
    pub text_field: String,
    /// Only the first so many documents, not counting those without text.
    pub max_samples: Option<usize>,
    /// Tokens in each row, at least 2. Rows go across documents; what is left after the last whole
    /// row is dropped.
    pub sequence_length: usize,
}

/// How far [`load`] is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Progress {
    /// The source is being hashed, to see whether it was tokenised before.
    Hashing {
        /// Bytes hashed.
        bytes: u64,
        /// Bytes in all.
        total_bytes: u64,
    },
    /// A cache file was found that cannot be used; it is being made anew.
    CacheDiscarded {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// There is no cache file, so the documents are being tokenised.
    Tokenising {
        /// Documents tokenised.
        documents: u64,
        /// Tokens that they gave.
        tokens: u64,
        /// The share of the work that is done, from 0 to 1.
        share: f64,
    },
}

/// Loads the corpus of `source`, tokenising it only if `cache_folder` does not have it yet. The
/// folder is made if need be. `progress` is called several times a second while there is work.
///
/// # Errors
///
/// See [`LoadError`]. Nothing is left in the cache folder then.
pub fn load(
    source: &CorpusSource,
    cache_folder: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Corpus, LoadError> {
    if source.sequence_length < 2 {
        return Err(LoadError::SequenceLength(source.sequence_length));
    }
    if source.max_samples == Some(0) {
        return Err(LoadError::NoSamples);
    }
    let mut file = DocumentFile::open(&source.path)?;
    let tokenizer_files = TokenizerFiles::read(&source.tokenizer)?;
    let key = cache_key(source, &tokenizer_files, &mut file, progress)?;
    fs::create_dir_all(cache_folder).map_err(|source| CacheError::MakeFolder {
        path: cache_folder.to_owned(),
        source,
    })?;
    match cache::open(&key.path_in(cache_folder), key)? {
        Lookup::Found(corpus) => return Ok(corpus),
        Lookup::Absent => {}
        Lookup::Discarded(reason) => progress(Progress::CacheDiscarded { reason }),
    }
    let tokenizer = tokenizer_files.parse()?;
    let writer = CacheWriter::create(
        cache_folder,
        key,
        source.sequence_length,
        tokenizer.vocabulary_size(),
    )?;
    tokenise(source, &tokenizer, &mut file, writer, progress)
}

fn cache_key(
    source: &CorpusSource,
    tokenizer: &TokenizerFiles,
    file: &mut DocumentFile,
    progress: &mut dyn FnMut(Progress),
) -> Result<CacheKey, LoadError> {
    let mut hash = Sha256::new();
    // Every part of no fixed length follows its length, so that no two sources hash the same bytes.
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(&TOKENISATION_VERSION.to_le_bytes());
    part(source.text_field.as_bytes());
    part(&(source.max_samples.unwrap_or(usize::MAX) as u64).to_le_bytes());
    part(&(source.sequence_length as u64).to_le_bytes());
    part(tokenizer.tokenizer());
    part(&[u8::from(tokenizer.config().is_some())]);
    part(tokenizer.config().unwrap_or_default());
    part(file.kind_name().as_bytes());
    let total_bytes = file.length();
    let mut bytes = 0;
    file.read_bytes(|piece| {
        hash.update(piece);
        bytes += piece.len() as u64;
        progress(Progress::Hashing { bytes, total_bytes });
    })?;
    Ok(CacheKey(hash.finalize().into()))
}

fn tokenise(
    source: &CorpusSource,
    tokenizer: &DocumentTokenizer,
    file: &mut DocumentFile,
    mut writer: CacheWriter,
    progress: &mut dyn FnMut(Progress),
) -> Result<Corpus, LoadError> {
    let mut reader = file.documents(&source.text_field)?;
    let wanted = source.max_samples.map_or(u64::MAX, |most| most as u64);
    let mut documents = 0;
    let mut tokens = 0;
    let mut unwritten = Vec::new();
    loop {
        let mut batch = Vec::new();
        let mut batch_bytes = 0;
        while batch.len() < BATCH_DOCUMENTS
            && batch_bytes < BATCH_BYTES
            && documents + (batch.len() as u64) < wanted
        {
            let Some(document) = reader.next_document()? else {
                break;
            };
            batch_bytes += document.len();
            batch.push(document);
        }
        if batch.is_empty() {
            break;
        }
        let first = documents + 1;
        documents += batch.len() as u64;
        let already = unwritten.len();
        tokenizer
            .append_tokens(batch, &mut unwritten)
            .map_err(|error| TokenizerError::Encode {
                path: source.path.clone(),
                first,
                last: documents,
                source: error,
            })?;
        tokens += (unwritten.len() - already) as u64;
        writer.take_rows(&mut unwritten)?;
        progress(Progress::Tokenising {
            documents,
            tokens,
            share: reader.share_read().max(documents as f64 / wanted as f64),
        });
    }
    file.check_unchanged()?;
    if writer.rows() == 0 {
        return Err(LoadError::TooFewTokens {
            path: source.path.clone(),
            documents,
            tokens,
            sequence_length: source.sequence_length,
        });
    }
    Ok(writer.finish()?)
}
