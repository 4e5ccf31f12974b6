//! The lines of a UTF-8 file, with their numbers and with a bound on their length.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::str;

use super::MAX_DOCUMENT_BYTES;
use crate::error::DocumentError;

pub(super) struct Lines {
    path: PathBuf,
    reader: BufReader<File>,
    file_length: u64,
    bytes_read: u64,
    number: u64,
    line: Vec<u8>,
}

impl Lines {
    /// Reads from the current position of `file`, which must be its start.
    pub(super) fn new(path: PathBuf, file: File, file_length: u64) -> Self {
        Self {
            path,
            reader: BufReader::with_capacity(1 << 18, file),
            file_length,
            bytes_read: 0,
            number: 0,
            line: Vec::new(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The number of the last line, counted from 1.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn share_read(&self) -> f64 {
        (self.bytes_read as f64 / self.file_length as f64).min(1.0)
    }

    /// The next line without its line break (LF or CR LF) or a byte order mark.
    pub(super) fn next_line(&mut self) -> Result<Option<&str>, DocumentError> {
        self.line.clear();
        let length = self
            .reader
            .by_ref()
            .take(MAX_DOCUMENT_BYTES as u64 + 1)
            .read_until(b'\n', &mut self.line)
            .map_err(|source| DocumentError::Read {
                path: self.path.clone(),
                source,
            })?;
        if length == 0 {
            return Ok(None);
        }
        self.number += 1;
        if length > MAX_DOCUMENT_BYTES {
            return Err(self.too_long());
        }
        let start = self.bytes_read;
        self.bytes_read += length as u64;
        let line = str::from_utf8(&self.line).map_err(|error| DocumentError::NotUtf8 {
            path: self.path.clone(),
            offset: start + error.valid_up_to() as u64,
        })?;
        let line = line.strip_suffix('\n').unwrap_or(line);
        let line = line.strip_suffix('\r').unwrap_or(line);
        Ok(Some(match line.strip_prefix('\u{feff}') {
            Some(marked) if start == 0 => marked,
            _ => line,
        }))
    }

    /// The error for a document that the last line makes too long.
    pub(super) fn too_long(&self) -> DocumentError {
        DocumentError::TooLong {
            path: self.path.clone(),
            line: self.number,
            limit: MAX_DOCUMENT_BYTES,
        }
    }
}
