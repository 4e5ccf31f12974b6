//! Plain text. A document ends at a line that is blank or has only white space, as paragraphs do;
//! its lines keep their breaks (as LF) between them.
//!
//! A whole file as one document would need memory in proportion to the file and could be tokenised
//! by one core only.

use super::lines::Lines;
use super::{Documents, MAX_DOCUMENT_BYTES};
use crate::error::DocumentError;

pub(super) struct TextDocuments {
    lines: Lines,
}

impl TextDocuments {
    pub(super) fn new(lines: Lines) -> Self {
        Self { lines }
    }
}

impl Documents for TextDocuments {
    fn next_document(&mut self) -> Result<Option<String>, DocumentError> {
        let mut document = String::new();
        while let Some(line) = self.lines.next_line()? {
            match (document.is_empty(), line.trim().is_empty()) {
                (true, true) => {}
                (true, false) => document.push_str(line),
                (false, true) => return Ok(Some(document)),
                (false, false) => {
                    if document.len() + 1 + line.len() > MAX_DOCUMENT_BYTES {
                        return Err(self.lines.too_long());
                    }
                    document.push('\n');
                    document.push_str(line);
                }
            }
        }
        Ok((!document.is_empty()).then_some(document))
    }

    fn share_read(&self) -> f64 {
        self.lines.share_read()
    }
}
