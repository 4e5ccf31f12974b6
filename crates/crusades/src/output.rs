//! Writing to standard output and standard error, where the reader may be gone.

use std::io::{self, ErrorKind, Write};

use crate::complaint::Complaint;

/// Writes results to standard output. A reader that went away, such as `head`, has had enough: that
/// is no error.
///
/// # Errors
/// A complaint if the output cannot be written, such as to a full disk.
pub(crate) fn print(text: &str) -> Result<(), Complaint> {
    let mut stdout = anstream::stdout();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        Err(error) => {
            Err(Complaint::infrastructure("the result could not be printed").because(&error))
        }
    }
}

/// Writes a line to standard error. There is nowhere to tell that it failed.
pub(crate) fn note(line: &str) {
    let _: io::Result<()> = writeln!(anstream::stderr(), "{line}");
}
