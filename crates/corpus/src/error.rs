//! Everything that can go wrong, one variant for each operation, each naming the file it is about.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why no corpus could be generated.
#[derive(Debug, Error)]
pub enum GenerateError {
    /// The vocabulary is too small or too large.
    #[error("a generated corpus cannot have {found} distinct tokens, only 2 to {limit}")]
    VocabularySize {
        /// What was asked for.
        found: u32,
        /// The largest.
        limit: u32,
    },
    /// A row would have no next token to learn.
    #[error("a row must have at least 2 tokens, not {0}")]
    SequenceLength(usize),
    /// There would be no tokens, or too many.
    #[error(
        "a generated corpus must have 1 to {limit} tokens, not {rows} rows of {sequence_length}"
    )]
    Size {
        /// Rows asked for.
        rows: usize,
        /// Tokens in each.
        sequence_length: usize,
        /// The most tokens in all.
        limit: usize,
    },
}

/// Why no corpus could be loaded.
#[derive(Debug, Error)]
pub enum LoadError {
    /// A row would have no next token to learn.
    #[error("a row must have at least 2 tokens, not {0}")]
    SequenceLength(usize),
    /// The limit on documents leaves none.
    #[error("the number of documents to read must be at least 1")]
    NoSamples,
    /// The documents could not be read.
    #[error(transparent)]
    Documents(#[from] DocumentError),
    /// The tokenizer could not be used.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The cache folder could not be used.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// There is not enough text.
    #[error(
        "{} has {tokens} tokens in {documents} documents, fewer than one row of {sequence_length}",
        path.display()
    )]
    TooFewTokens {
        /// The file with the text.
        path: PathBuf,
        /// Documents that were read.
        documents: u64,
        /// Tokens that they gave.
        tokens: u64,
        /// Tokens of one row.
        sequence_length: usize,
    },
}

/// Why the documents of a file could not be read.
#[derive(Debug, Error)]
pub enum DocumentError {
    /// There is nothing at this path.
    #[error("{} does not exist", .0.display())]
    Missing(PathBuf),
    /// It is a folder.
    #[error("{} is a folder; give one file in it ({supported})", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The file names that are understood.
        supported: &'static str,
    },
    /// It is a device, a pipe or a socket.
    #[error("{} is not an ordinary file", .0.display())]
    NotAFile(PathBuf),
    /// Its name does not say how to read it.
    #[error("{} is of an unsupported kind; supported are {supported}", path.display())]
    UnsupportedKind {
        /// The file.
        path: PathBuf,
        /// The file names that are understood.
        supported: &'static str,
    },
    /// It has no bytes.
    #[error("{} is empty", .0.display())]
    Empty(PathBuf),
    /// The operating system refused to give its bytes.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its length or its time of change differ from those when reading began.
    #[error("{} was changed while it was read", .0.display())]
    Changed(PathBuf),
    /// It is not text.
    #[error("{} is not UTF-8 at byte {offset}", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// Bytes before the first wrong one.
        offset: u64,
    },
    /// A line would take too much memory, alone or with the lines of its document before it.
    #[error("line {line} of {} makes a document of more than {limit} bytes", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: u64,
        /// The most bytes of one document.
        limit: usize,
    },
    /// A line is not JSON.
    #[error(
        "line {line} of {} is not valid JSON by itself (column {column}: {reason})",
        path.display()
    )]
    Json {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: u64,
        /// The byte in the line, counted from 1.
        column: usize,
        /// What is wrong there, in the words of the JSON parser less its own position, whose line
        /// is always 1.
        reason: String,
    },
    /// A line is JSON but not an object.
    #[error("line {line} of {} is {found}, not a JSON object", path.display())]
    NotAnObject {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: u64,
        /// What it is instead.
        found: &'static str,
    },
    /// An object lacks the field.
    #[error("line {line} of {} has no field \"{field}\", only {}", path.display(), list(found))]
    NoField {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: u64,
        /// The field that was asked for.
        field: String,
        /// The fields that there are.
        found: Vec<String>,
    },
    /// The field is not text.
    #[error("field \"{field}\" in line {line} of {} is {found}, not a string", path.display())]
    FieldNotText {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: u64,
        /// The field that was asked for.
        field: String,
        /// What it is instead.
        found: &'static str,
    },
    /// The file is not Parquet, is damaged, or uses a compression that is not built in.
    #[error("cannot read {} as Parquet", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: parquet::errors::ParquetError,
    },
    /// The table lacks the column.
    #[error("{} has no column \"{column}\", only {}", path.display(), list(found))]
    NoColumn {
        /// The file.
        path: PathBuf,
        /// The column that was asked for.
        column: String,
        /// The columns that there are.
        found: Vec<String>,
    },
    /// The column is not text.
    #[error("column \"{column}\" of {} is {found}, not a column of strings", path.display())]
    ColumnNotText {
        /// The file.
        path: PathBuf,
        /// The column that was asked for.
        column: String,
        /// What it is instead.
        found: String,
    },
    /// A value of the column would take too much memory.
    #[error(
        "column \"{column}\" of {} has more than {limit} bytes in row {row}",
        path.display()
    )]
    ValueTooLong {
        /// The file.
        path: PathBuf,
        /// The column that was asked for.
        column: String,
        /// The row, counted from 1.
        row: u64,
        /// The most bytes of one document.
        limit: usize,
    },
    /// A value of the column is not UTF-8.
    #[error("column \"{column}\" of {} is not UTF-8 in row {row}", path.display())]
    ValueNotUtf8 {
        /// The file.
        path: PathBuf,
        /// The column that was asked for.
        column: String,
        /// The row, counted from 1.
        row: u64,
    },
}

/// Why a tokenizer could not be used.
#[derive(Debug, Error)]
pub enum TokenizerError {
    /// A file of the tokenizer cannot be read.
    #[error("cannot read the tokenizer file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is not a tokenizer.
    #[error("{} is not a valid tokenizer.json", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The file beside it is not what it should be.
    #[error("{} is not a valid tokenizer_config.json", path.display())]
    InvalidConfig {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// The end-of-text token that the configuration names is not in the vocabulary.
    #[error("{} names the end token \"{token}\", which is not in the vocabulary", path.display())]
    UnknownEndToken {
        /// The file that names it.
        path: PathBuf,
        /// The token.
        token: String,
    },
    /// There are no tokens at all.
    #[error("the tokenizer {} has an empty vocabulary", .0.display())]
    EmptyVocabulary(PathBuf),
    /// The tokenizer refused a text.
    #[error("cannot tokenise documents {first} to {last} of {}", path.display())]
    Encode {
        /// The file with the documents.
        path: PathBuf,
        /// The first of the documents tried together, counted from 1.
        first: u64,
        /// The last of them.
        last: u64,
        /// What is wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Why the cache folder could not be used.
#[derive(Debug, Error)]
pub enum CacheError {
    /// The folder cannot be made.
    #[error("cannot make the cache folder {}", path.display())]
    MakeFolder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A cache file is there but cannot be read.
    #[error("cannot read the cache file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A cache file cannot be written.
    #[error("cannot write the cache file {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A cache file that was just written does not read back as it was written.
    #[error("the cache file {} did not keep what was written: {reason}", path.display())]
    ReadBack {
        /// The file.
        path: PathBuf,
        /// What differs.
        reason: &'static str,
    },
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        return "nothing".to_owned();
    }
    let quoted: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    quoted.join(", ")
}
