//! The text of a submission and the way from byte offsets to lines and columns.
//! Lines end as Python ends them: `\n`, `\r\n` and a lone `\r`.

use std::cell::OnceCell;

use ruff_text_size::{TextLen, TextSize};

/// A decoded source file with the start of every line, looked for when a place is asked for: an
/// accepted file never does.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    text: &'a str,
    lines: OnceCell<Lines>,
}

#[derive(Debug)]
struct Lines {
    starts: Vec<usize>,
    ascii_only: bool,
}

/// Line and column, both counted from 1; columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

impl<'a> Source<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self {
            text,
            lines: OnceCell::new(),
        }
    }

    fn find_lines(&self) -> Lines {
        let bytes = self.text.as_bytes();
        let mut starts = vec![0];
        for (offset, byte) in bytes.iter().enumerate() {
            let ends_line = match byte {
                b'\n' => true,
                b'\r' => bytes.get(offset + 1) != Some(&b'\n'),
                _ => false,
            };
            if ends_line {
                starts.push(offset + 1);
            }
        }
        Lines {
            starts,
            ascii_only: self.text.is_ascii(),
        }
    }

    /// The place of a byte offset; an offset past the end is the end.
    pub(crate) fn position(&self, offset: TextSize) -> Position {
        let lines = self.lines.get_or_init(|| self.find_lines());
        let offset = offset.to_usize().min(self.text.len());
        let line = lines
            .starts
            .partition_point(|&start| start <= offset)
            .saturating_sub(1);
        let start = lines.starts.get(line).copied().unwrap_or(0);
        let column = if lines.ascii_only {
            offset - start
        } else {
            self.text
                .get(start..offset)
                .map_or(offset - start, |text| text.chars().count())
        };
        Position {
            line: count(line + 1),
            column: count(column + 1),
        }
    }

    pub(crate) fn text(&self) -> &'a str {
        self.text
    }

    pub(crate) fn end(&self) -> TextSize {
        self.text.text_len()
    }
}

/// Counts fit: the policy bounds the size of a file far below four gigabytes.
fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use ruff_text_size::TextSize;

    use super::Source;

    fn at(text: &str, offset: u32) -> (u32, u32) {
        let position = Source::new(text).position(TextSize::new(offset));
        (position.line, position.column)
    }

    #[test]
    fn every_line_ending_of_python_ends_a_line() {
        assert_eq!(at("a\nb\r\nc\rd", 0), (1, 1));
        assert_eq!(at("a\nb\r\nc\rd", 2), (2, 1));
        assert_eq!(at("a\nb\r\nc\rd", 5), (3, 1));
        assert_eq!(at("a\nb\r\nc\rd", 7), (4, 1));
    }

    #[test]
    fn columns_count_characters_and_not_bytes() {
        assert_eq!(at("é = ü", 5), (1, 5));
    }

    #[test]
    fn an_offset_past_the_end_is_the_end() {
        assert_eq!(at("ab", 900), (1, 3));
        assert_eq!(at("", 0), (1, 1));
    }
}
