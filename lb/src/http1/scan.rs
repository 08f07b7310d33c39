//! Finds the lines of a head that arrives in pieces. Each byte is searched once, so the cost is linear even for one
//! byte per read.
//!
//! The same pass finds control characters, so that values need no second one. Invariant: a line ends in CR LF. A bare
//! CR or LF is an error as soon as it is seen, because servers interpret it differently.

use super::class::first_control;

/// How far a head was searched and parsed. It resets itself when the head is complete.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scan {
    /// Offset of the first line that was not taken.
    line: usize,
    /// No line end lies between `line` and this offset.
    seen: usize,
    /// The line has a control character other than a tab.
    has_control: bool,
    /// Empty lines skipped before the head.
    pub(super) skipped: usize,
    /// Fields parsed so far; the head that belongs to this scan holds as many.
    pub(super) fields: usize,
}

/// One line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a> {
    /// With CR LF.
    pub(super) whole: &'a [u8],
    /// There is a control character other than a tab in it.
    pub(super) has_control: bool,
}

/// A CR without an LF behind it, or an LF without a CR before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BareEnd;

// === impl Scan ===

impl Scan {
    /// The first line is not complete yet.
    #[inline]
    pub(super) fn is_at_first_line(&self) -> bool {
        self.line == 0
    }

    /// The length of the lines taken so far, line ends included.
    #[inline]
    pub(super) fn taken(&self) -> usize {
        self.line
    }

    /// Returns the next line of `input`, or `None` if it is incomplete. `input` must start at the same byte in each
    /// call.
    #[inline(always)]
    pub(super) fn next_line<'a>(&mut self, input: &'a [u8]) -> Result<Option<Line<'a>>, BareEnd> {
        let (mut seen, mut has_control) = (self.seen, self.has_control);
        loop {
            seen += first_control(&input[seen..]);
            match (input.get(seen), input.get(seen + 1)) {
                (Some(b'\r'), Some(b'\n')) => {
                    let line = Line { whole: &input[self.line..seen + 2], has_control };
                    *self = Self { line: seen + 2, seen: seen + 2, has_control: false, ..*self };
                    return Ok(Some(line));
                }
                (None, _) | (Some(b'\r'), None) => {
                    (self.seen, self.has_control) = (seen, has_control);
                    return Ok(None);
                }
                (Some(b'\r' | b'\n'), _) => return Err(BareEnd),
                (Some(byte), _) => {
                    has_control |= *byte != b'\t';
                    seen += 1;
                }
            }
        }
    }
}

// === impl Line ===

impl<'a> Line<'a> {
    /// Without CR LF.
    #[inline]
    pub(super) fn bytes(self) -> &'a [u8] {
        &self.whole[..self.whole.len() - 2]
    }

    #[inline]
    pub(super) fn is_empty(self) -> bool {
        self.whole.len() == 2
    }
}
