//! The documents of a local file, one after the other, in constant memory.
//!
//! What a document is depends on the kind of file, which its name tells; see the modules. A
//! document that is missing (null) or has nothing but white space is left out and not counted.

mod json_lines;
mod lines;
mod parquet_column;
mod text;

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use crate::error::DocumentError;

/// The most bytes of one line and of one document: tokenising takes many times as much memory.
const MAX_DOCUMENT_BYTES: usize = 64 << 20;

const SUPPORTED: &str = ".txt, .jsonl, .json (one object per line) and .parquet";

/// An ordinary file that is not empty and whose name says how to read it.
pub(crate) struct DocumentFile {
    path: PathBuf,
    file: File,
    kind: Kind,
    opened: Metadata,
}

#[derive(Clone, Copy)]
enum Kind {
    Text,
    JsonLines,
    Parquet,
}

impl Kind {
    fn of(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        match extension.as_str() {
            "txt" => Some(Self::Text),
            "jsonl" | "json" => Some(Self::JsonLines),
            "parquet" => Some(Self::Parquet),
            _ => None,
        }
    }
}

/// Gives the documents of one file.
pub(crate) trait Documents {
    /// The next document, or `None` after the last one. After an error the reader is of no use.
    fn next_document(&mut self) -> Result<Option<String>, DocumentError>;

    /// The share of the file that was read, from 0 to 1.
    fn share_read(&self) -> f64;
}

impl DocumentFile {
    pub(crate) fn open(path: &Path) -> Result<Self, DocumentError> {
        let read_error = |source| DocumentError::Read {
            path: path.to_owned(),
            source,
        };
        // Looked at before it is opened: opening a pipe would wait for a writer.
        let found = path.metadata().map_err(|source| {
            if source.kind() == io::ErrorKind::NotFound {
                DocumentError::Missing(path.to_owned())
            } else {
                read_error(source)
            }
        })?;
        if found.is_dir() {
            return Err(DocumentError::Folder {
                path: path.to_owned(),
                supported: SUPPORTED,
            });
        }
        if !found.is_file() {
            return Err(DocumentError::NotAFile(path.to_owned()));
        }
        let kind = Kind::of(path).ok_or_else(|| DocumentError::UnsupportedKind {
            path: path.to_owned(),
            supported: SUPPORTED,
        })?;
        let file = File::open(path).map_err(read_error)?;
        let opened = file.metadata().map_err(read_error)?;
        if opened.len() == 0 {
            return Err(DocumentError::Empty(path.to_owned()));
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            kind,
            opened,
        })
    }

    /// The length in bytes when it was opened.
    pub(crate) fn length(&self) -> u64 {
        self.opened.len()
    }

    /// The same for all files that are read alike.
    pub(crate) fn kind_name(&self) -> &'static str {
        match self.kind {
            Kind::Text => "text",
            Kind::JsonLines => "json lines",
            Kind::Parquet => "parquet",
        }
    }

    /// Gives all bytes, in pieces, to `take`.
    pub(crate) fn read_bytes(&mut self, mut take: impl FnMut(&[u8])) -> Result<(), DocumentError> {
        self.rewind()?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            match self.file.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(length) => take(&buffer[..length]),
                Err(source) if source.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(self.read_error(source)),
            }
        }
    }

    /// The documents, from the first. `field` names the field or column that holds the text, where
    /// the kind of file has such.
    pub(crate) fn documents(&mut self, field: &str) -> Result<Box<dyn Documents>, DocumentError> {
        self.rewind()?;
        let file = self
            .file
            .try_clone()
            .map_err(|source| self.read_error(source))?;
        let lines = |file| lines::Lines::new(self.path.clone(), file, self.length());
        Ok(match self.kind {
            Kind::Text => Box::new(text::TextDocuments::new(lines(file))),
            Kind::JsonLines => Box::new(json_lines::JsonLinesDocuments::new(lines(file), field)),
            Kind::Parquet => Box::new(parquet_column::ParquetDocuments::open(
                &self.path, file, field,
            )?),
        })
    }

    /// Refuses a file that was written to since it was opened: what was hashed may then not be
    /// what was tokenised.
    pub(crate) fn check_unchanged(&self) -> Result<(), DocumentError> {
        let read_error = |source| self.read_error(source);
        let now = self.file.metadata().map_err(read_error)?;
        let same_time =
            now.modified().map_err(read_error)? == self.opened.modified().map_err(read_error)?;
        if same_time && now.len() == self.opened.len() {
            Ok(())
        } else {
            Err(DocumentError::Changed(self.path.clone()))
        }
    }

    fn rewind(&mut self) -> Result<(), DocumentError> {
        let rewound = self.file.rewind();
        rewound.map_err(|source| self.read_error(source))
    }

    fn read_error(&self, source: io::Error) -> DocumentError {
        DocumentError::Read {
            path: self.path.clone(),
            source,
        }
    }
}
