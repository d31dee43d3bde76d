//! The bytes that have come and are not used yet. Lines are found without looking at any byte twice, and room is
//! made so seldom that the work stays in proportion to the bytes, however small the pieces they come in.

use std::ops::Range;

#[derive(Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    /// Where what is not used begins.
    start: usize,
    /// Where the line begins that is being looked for.
    line: usize,
    /// How far that line was searched for its end.
    searched: usize,
}

/// What became of the search for a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Where it is, without its CR LF. The next search is for the line behind it.
    Line(Range<usize>),
    /// Its end has not come.
    Part,
    /// With the lines before it that are not used yet it is longer than allowed.
    TooLong,
    /// It ends with an LF alone, on whose meaning readers of HTTP differ.
    BareLf,
}

impl Buffer {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        // Only when it halves what is held: the bytes moved are then fewer than those used since the last time.
        if self.start > 0 && self.start >= self.bytes.len() - self.start {
            self.bytes.drain(..self.start);
            self.line -= self.start;
            self.searched -= self.start;
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// What is not used yet.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    pub(crate) fn get(&self, range: Range<usize>) -> &[u8] {
        &self.bytes[range]
    }

    /// Looks for the next line; it and those before it that are not used may have `max` bytes, ends included.
    pub(crate) fn line(&mut self, max: usize) -> Found {
        let Some(at) = self.bytes[self.searched..].iter().position(|byte| *byte == b'\n') else {
            self.searched = self.bytes.len();
            return if self.rest().len() > max { Found::TooLong } else { Found::Part };
        };
        let end = self.searched + at + 1;
        if end - self.start > max {
            return Found::TooLong;
        }
        let Some(text) = self.bytes[self.line..end].strip_suffix(b"\r\n") else { return Found::BareLf };
        let range = self.line..self.line + text.len();
        (self.line, self.searched) = (end, end);
        Found::Line(range)
    }

    /// The lines that were found and are not used yet, with their ends.
    pub(crate) fn lines(&self) -> &[u8] {
        &self.bytes[self.start..self.line]
    }

    /// The lines that were found are used.
    pub(crate) fn use_lines(&mut self) {
        self.start = self.line;
    }

    /// Uses up to so many bytes.
    pub(crate) fn take(&mut self, max: usize) -> &[u8] {
        let from = self.start;
        self.start = self.bytes.len().min(from.saturating_add(max));
        (self.line, self.searched) = (self.start, self.start);
        &self.bytes[from..self.start]
    }

    /// The bytes it holds memory for.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_in_whatever_pieces_they_come() {
        let mut buffer = Buffer::default();
        for byte in b"one\r" {
            buffer.push(&[*byte]);
            assert_eq!(buffer.line(9), Found::Part);
        }
        buffer.push(b"\n\r\nx");
        assert_eq!(buffer.line(9), Found::Line(0..3));
        assert_eq!(buffer.line(9), Found::Line(5..5));
        assert_eq!(buffer.lines(), b"one\r\n\r\n");
        buffer.use_lines();
        assert_eq!(buffer.rest(), b"x");
        buffer.push(b"\n");
        assert_eq!(buffer.line(9), Found::BareLf);
    }

    #[test]
    fn a_line_is_too_long_from_the_same_byte_on_whether_its_end_has_come_or_not() {
        let mut buffer = Buffer::default();
        buffer.push(b"abc");
        assert_eq!(buffer.line(3), Found::Part);
        buffer.push(b"\r");
        assert_eq!(buffer.line(3), Found::TooLong);
        let mut whole = Buffer::default();
        whole.push(b"abc\r\n");
        assert_eq!(whole.line(4), Found::TooLong);
        assert_eq!(whole.line(5), Found::Line(0..3));
    }

    #[test]
    fn what_is_used_makes_room() {
        let mut buffer = Buffer::default();
        for _ in 0..1000 {
            buffer.push(b"0123456789");
            assert_eq!(buffer.take(4), b"0123");
            assert_eq!(buffer.take(99), b"456789");
            assert!(buffer.held() <= 20);
        }
    }
}
