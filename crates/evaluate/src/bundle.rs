//! The Python of the worker, packed into one archive that the interpreter runs as it is.

use std::io::{Cursor, Write};

use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// The baseline that every submission is compared with.
pub const BASELINE: &str = include_str!("../../../baseline/train.py");

macro_rules! worker_files {
    ($($name:literal),* $(,)?) => {
        const FILES: &[(&str, &str)] = &[
            $(($name, include_str!(concat!("../../../worker/crusades_worker/", $name))),)*
        ];
    };
}

worker_files![
    "__main__.py",
    "model.py",
    "protocol.py",
    "session.py",
    "shared.py",
    "submission.py",
];

/// The archive. The same bytes each time.
///
/// # Errors
/// The error of the archive writer, which writes to memory.
pub(crate) fn worker_archive() -> Result<Vec<u8>, ZipError> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, contents) in FILES {
        archive.start_file(*name, options)?;
        archive.write_all(contents.as_bytes())?;
    }
    Ok(archive.finish()?.into_inner())
}
