//! The log of a payload: what it printed, bounded. Bytes of the payload are text for people to read;
//! nothing here or elsewhere may parse them.

use std::collections::VecDeque;

/// Bytes kept from the start of the log, and again from its end.
pub const KEPT_BYTES: usize = 256 * 1024;

/// What is kept of a payload's standard output and standard error, in the order of writing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogSnapshot {
    /// The first [`KEPT_BYTES`] bytes.
    pub head: Vec<u8>,
    /// The last bytes that are not in `head`, at most [`KEPT_BYTES`].
    pub tail: Vec<u8>,
    /// Bytes between the two that were not kept.
    pub dropped_bytes: u64,
    /// All bytes that were printed.
    pub total_bytes: u64,
}

impl LogSnapshot {
    /// The log for a reader, with a line in the place of what was dropped and every invalid UTF-8
    /// sequence replaced.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.head).into_owned();
        if self.dropped_bytes > 0 {
            text.push_str(&format!(
                "\n[... {} bytes dropped ...]\n",
                self.dropped_bytes
            ));
        }
        text.push_str(&String::from_utf8_lossy(&self.tail));
        text
    }
}

/// Collects a log of any length in bounded memory.
#[derive(Debug, Default)]
pub(crate) struct LogBuffer {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    total_bytes: u64,
}

impl LogBuffer {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.total_bytes = self.total_bytes.saturating_add(bytes.len() as u64);
        let (first, rest) = bytes.split_at(bytes.len().min(KEPT_BYTES - self.head.len()));
        self.head.extend_from_slice(first);
        let rest = &rest[rest.len().saturating_sub(KEPT_BYTES)..];
        let excess = (self.tail.len() + rest.len()).saturating_sub(KEPT_BYTES);
        self.tail.drain(..excess);
        self.tail.extend(rest);
    }

    pub(crate) fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    pub(crate) fn snapshot(&self) -> LogSnapshot {
        let kept = (self.head.len() + self.tail.len()) as u64;
        LogSnapshot {
            head: self.head.clone(),
            tail: self.tail.iter().copied().collect(),
            dropped_bytes: self.total_bytes - kept,
            total_bytes: self.total_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{KEPT_BYTES, LogBuffer};

    #[test]
    fn a_short_log_is_kept_whole() {
        let mut buffer = LogBuffer::default();
        buffer.push(b"one ");
        buffer.push(b"two");
        let log = buffer.snapshot();
        assert_eq!(log.to_text(), "one two");
        assert_eq!((log.dropped_bytes, log.total_bytes), (0, 7));
    }

    #[test]
    fn a_long_log_keeps_its_two_ends_and_counts_the_rest() {
        for piece in [1, 1000, KEPT_BYTES, 3 * KEPT_BYTES + 7] {
            let bytes: Vec<u8> = (0..251).cycle().take(5 * KEPT_BYTES).collect();
            let mut buffer = LogBuffer::default();
            bytes.chunks(piece).for_each(|chunk| buffer.push(chunk));
            let log = buffer.snapshot();
            assert_eq!(log.head, bytes[..KEPT_BYTES], "pieces of {piece}");
            assert_eq!(log.tail, bytes[4 * KEPT_BYTES..], "pieces of {piece}");
            assert_eq!(log.dropped_bytes, 3 * KEPT_BYTES as u64);
            assert_eq!(log.total_bytes, bytes.len() as u64);
        }
    }

    #[test]
    fn bytes_that_are_not_text_do_not_break_the_reader() {
        let mut buffer = LogBuffer::default();
        buffer.push(b"a\xffb");
        assert_eq!(buffer.snapshot().to_text(), "a\u{fffd}b");
    }
}
