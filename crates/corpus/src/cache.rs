//! The cache file of a tokenised corpus: one header, then all tokens as little-endian `u32`.
//!
//! A file is written beside its place and renamed into it once it is whole and on the disk, so a
//! reader sees all of it or none. Whatever does not match its header, the key it is asked for or
//! its digest is discarded, never repaired and never used.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use tempfile::NamedTempFile;

use crate::corpus::{Corpus, CorpusDigest, CorpusDigester};
use crate::error::CacheError;
use crate::unfinished;

#[cfg(target_endian = "big")]
compile_error!("cache files are mapped as little-endian tokens");

const MAGIC: [u8; 16] = *b"crusades-corpus\0";

/// Raised whenever a file of an older program must not be read any more.
const FORMAT_VERSION: u32 = 1;

/// A multiple of the size and alignment of a token.
const HEADER_BYTES: usize = 128;

const TOKEN_BYTES: usize = size_of::<u32>();

/// The digest of everything that the tokens in a cache file follow from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CacheKey(pub(crate) [u8; 32]);

impl CacheKey {
    /// Where the file with this key is in `folder`.
    pub(crate) fn path_in(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{}.corpus", CorpusDigest(self.0)))
    }
}

/// What was found at the place of a cache file.
pub(crate) enum Lookup {
    Found(Corpus),
    Absent,
    /// Something that this program did not write for this key, or that is damaged.
    Discarded(&'static str),
}

/// The tokens of a cache file, mapped.
pub(crate) struct MappedTokens(Mmap);

impl MappedTokens {
    pub(crate) fn as_slice(&self) -> &[u32] {
        // SAFETY: every four bytes are a valid `u32`.
        let (before, tokens, after) = unsafe { self.0[HEADER_BYTES..].align_to::<u32>() };
        debug_assert!(before.is_empty() && after.is_empty());
        tokens
    }
}

struct Header {
    sequence_length: u64,
    rows: u64,
    vocabulary_size: u32,
    key: CacheKey,
    digest: CorpusDigest,
}

impl Header {
    fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..16].copy_from_slice(&MAGIC);
        bytes[16..20].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.vocabulary_size.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.sequence_length.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.rows.to_le_bytes());
        bytes[40..72].copy_from_slice(&self.key.0);
        bytes[72..104].copy_from_slice(&self.digest.0);
        bytes
    }

    fn from_bytes(bytes: &[u8; HEADER_BYTES]) -> Result<Self, &'static str> {
        if bytes[..16] != MAGIC {
            return Err("it is not a corpus cache file");
        }
        if field::<4>(bytes, 16) != FORMAT_VERSION.to_le_bytes() {
            return Err("it has another format version");
        }
        Ok(Self {
            vocabulary_size: u32::from_le_bytes(field(bytes, 20)),
            sequence_length: u64::from_le_bytes(field(bytes, 24)),
            rows: u64::from_le_bytes(field(bytes, 32)),
            key: CacheKey(field(bytes, 40)),
            digest: CorpusDigest(field(bytes, 72)),
        })
    }

    /// The length of the whole file, if it is a possible one.
    fn file_bytes(&self) -> Option<u64> {
        self.rows
            .checked_mul(self.sequence_length)?
            .checked_mul(TOKEN_BYTES as u64)?
            .checked_add(HEADER_BYTES as u64)
    }
}

fn field<const N: usize>(bytes: &[u8; HEADER_BYTES], start: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[start..start + N]);
    field
}

/// Maps the cache file at `path` if it is the one for `key`, is whole and has its digest.
pub(crate) fn open(path: &Path, key: CacheKey) -> Result<Lookup, CacheError> {
    let read_error = |source| CacheError::Read {
        path: path.to_owned(),
        source,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(Lookup::Absent),
        Err(source) => return Err(read_error(source)),
    };
    if !file.metadata().map_err(read_error)?.is_file() {
        return Err(read_error(io::Error::from(io::ErrorKind::IsADirectory)));
    }
    // SAFETY: the file was renamed into place when it was complete, and no program of this project
    // writes to one after that; it is only ever replaced as a whole.
    let map = unsafe { Mmap::map(&file) }.map_err(read_error)?;
    Ok(match corpus_of(map, key) {
        Ok(corpus) => Lookup::Found(corpus),
        Err(reason) => Lookup::Discarded(reason),
    })
}

fn corpus_of(map: Mmap, key: CacheKey) -> Result<Corpus, &'static str> {
    let header = map.first_chunk().ok_or("it is shorter than its header")?;
    let header = Header::from_bytes(header)?;
    if header.key != key {
        return Err("it was made from something else");
    }
    if header.file_bytes() != Some(map.len() as u64) {
        return Err("its length is not what its header says");
    }
    let sequence_length = usize::try_from(header.sequence_length)
        .ok()
        .filter(|&length| length > 0 && header.rows > 0)
        .ok_or("it has no rows")?;
    let tokens = MappedTokens(map);
    let mut digester = CorpusDigester::new(sequence_length, header.vocabulary_size);
    digester.update(tokens.as_slice());
    if digester.finish() != header.digest {
        return Err("its tokens do not have its digest");
    }
    Ok(Corpus::mapped(
        tokens,
        sequence_length,
        header.vocabulary_size,
        header.digest,
    ))
}

/// Writes a cache file, row by row. Dropped before [`finish`](Self::finish), it leaves nothing.
pub(crate) struct CacheWriter {
    path: PathBuf,
    folder: PathBuf,
    key: CacheKey,
    sequence_length: usize,
    vocabulary_size: u32,
    rows: u64,
    digester: CorpusDigester,
    file: BufWriter<NamedTempFile>,
}

impl CacheWriter {
    pub(crate) fn create(
        folder: &Path,
        key: CacheKey,
        sequence_length: usize,
        vocabulary_size: u32,
    ) -> Result<Self, CacheError> {
        let path = key.path_in(folder);
        let start = || {
            let mut file = BufWriter::new(unfinished::create(folder)?);
            file.write_all(&[0; HEADER_BYTES])?;
            Ok(file)
        };
        let file = start().map_err(|source| CacheError::Write {
            path: path.clone(),
            source,
        })?;
        Ok(Self {
            path,
            folder: folder.to_owned(),
            key,
            sequence_length,
            vocabulary_size,
            rows: 0,
            digester: CorpusDigester::new(sequence_length, vocabulary_size),
            file,
        })
    }

    /// Whole rows written so far.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Moves all whole rows from the start of `tokens` into the file.
    pub(crate) fn take_rows(&mut self, tokens: &mut Vec<u32>) -> Result<(), CacheError> {
        let rows = tokens.len() / self.sequence_length;
        let whole = &tokens[..rows * self.sequence_length];
        self.digester.update(whole);
        for token in whole {
            let written = self.file.write_all(&token.to_le_bytes());
            written.map_err(|source| self.write_error(source))?;
        }
        self.rows += rows as u64;
        tokens.drain(..rows * self.sequence_length);
        Ok(())
    }

    /// Puts the file in its place, on the disk, and maps it.
    pub(crate) fn finish(self) -> Result<Corpus, CacheError> {
        let Self {
            path,
            folder,
            key,
            digester,
            file,
            ..
        } = self;
        let header = Header {
            sequence_length: self.sequence_length as u64,
            rows: self.rows,
            vocabulary_size: self.vocabulary_size,
            key,
            digest: digester.finish(),
        };
        let publish = || {
            let mut file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&header.to_bytes())?;
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|error| error.error)?;
            // The rename itself is on the disk only when its folder is.
            File::open(&folder)?.sync_all()
        };
        publish().map_err(|source| CacheError::Write {
            path: path.clone(),
            source,
        })?;
        match open(&path, key)? {
            Lookup::Found(corpus) => Ok(corpus),
            Lookup::Absent => Err(CacheError::ReadBack {
                path,
                reason: "it is not there",
            }),
            Lookup::Discarded(reason) => Err(CacheError::ReadBack { path, reason }),
        }
    }

    fn write_error(&self, source: io::Error) -> CacheError {
        CacheError::Write {
            path: self.path.clone(),
            source,
        }
    }
}
