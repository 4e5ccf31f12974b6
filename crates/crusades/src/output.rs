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

/// A line of text from a submission without what would steer a terminal or turn the reading direction.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|character| match character {
            '\t' => ' ',
            // Marks and embeddings of direction (Unicode UAX #9, table of explicit formatting).
            '\u{61c}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}' => '\u{fffd}',
            control if control.is_control() => '\u{fffd}',
            plain => plain,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn what_steers_a_terminal_is_replaced_and_other_text_is_not() {
        assert_eq!(
            printable("a\u{1b}[31mb\u{7}\tc\n"),
            "a\u{fffd}[31mb\u{fffd} c\u{fffd}"
        );
        assert_eq!(printable("a\u{202e}b\u{9b}1m"), "a\u{fffd}b\u{fffd}1m");
        assert_eq!(printable("größer ≥ 1"), "größer ≥ 1");
    }
}
