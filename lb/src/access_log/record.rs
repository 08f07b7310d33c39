//! One request as a worker notes it: numbers as they are, texts copied into one buffer that is used again.
//!
//! Invariants: noting formats nothing and allocates only until the buffer has grown; every text has a limit, so a record has one too,
//! whatever clients send.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use http::Version;

use crate::telemetry::ErrorReason;

/// What is known of one request.
#[derive(Debug)]
pub struct Record {
    /// When its head had been read.
    pub started: Instant,
    pub client: SocketAddr,
    pub version: Version,
    pub status: u16,
    /// Of the request's body; not of a tunnel.
    pub bytes_in: u64,
    /// Of the answer's body; not of a tunnel.
    pub bytes_out: u64,
    /// How many backends were tried.
    pub attempts: u32,
    /// The generation that the last pick was made by; 0 when there was none.
    pub generation: u64,
    /// From the head read to the answer's last byte handed over.
    pub total_ns: u64,
    /// What the last pick took.
    pub pick_ns: Option<u64>,
    /// What making the last connection to a backend took; `None` when a kept one served.
    pub connect_ns: Option<u64>,
    /// From the last attempt's start to the head of its answer.
    pub head_ns: Option<u64>,
    pub error: Option<ErrorReason>,
    /// The client asked why the answer comes from where it comes.
    pub is_asked: bool,
    /// The host's fallback picked, and not the strategy.
    pub is_fallback: bool,
    /// It gets a line also if it goes well.
    pub(super) is_drawn: bool,
    bytes: Vec<u8>,
    texts: [Span; Text::COUNT],
}

/// A text of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Text {
    RequestId,
    TraceId,
    /// Where the client connected.
    Listener,
    Method,
    Host,
    /// The path as the client sent it, with or without its query.
    Path,
    UserAgent,
    Pool,
    Backend,
    Strategy,
    /// What the request was hashed by; not in the log.
    Key,
    /// Who picked and why: not in the log.
    Reason,
}

/// Where a text lies.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    begin: u32,
    length: u16,
    is_cut: bool,
}

// === impl Text ===

impl Text {
    const COUNT: usize = Self::Reason as usize + 1;

    /// Longer ones are cut.
    pub const fn bytes_max(self) -> usize {
        match self {
            Self::Path => 512,
            Self::Host => 253,
            Self::UserAgent => 256,
            Self::RequestId | Self::Key => 128,
            Self::Pool | Self::Backend | Self::Strategy | Self::Listener => 64,
            Self::TraceId | Self::Method | Self::Reason => 32,
        }
    }
}

// === impl Record ===

impl Default for Record {
    fn default() -> Self {
        Self::blank(Instant::now(), Vec::new())
    }
}

impl Record {
    /// Notes a text, or as much of it as is kept. Noted again, the newer one counts; an empty one is none.
    #[inline]
    pub fn note(&mut self, text: Text, bytes: &[u8]) {
        let kept = &bytes[..bytes.len().min(text.bytes_max())];
        let begin = self.bytes.len() as u32;
        self.bytes.extend_from_slice(kept);
        self.texts[text as usize] = Span { begin, length: kept.len() as u16, is_cut: kept.len() < bytes.len() };
    }

    /// A text's bytes, and whether it was longer; `None` when there is none.
    #[inline]
    pub fn text(&self, text: Text) -> Option<(&[u8], bool)> {
        let Span { begin, length, is_cut } = self.texts[text as usize];
        let begin = begin as usize;
        (length > 0).then(|| (&self.bytes[begin..begin + length as usize], is_cut))
    }

    /// All texts that were noted.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether it is one that is logged even where only a share is.
    pub(super) fn has_failed(&self) -> bool {
        self.error.is_some() || self.status >= 500
    }

    /// As new, but for the memory and the time.
    pub(super) fn clear(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        *self = Self::blank(self.started, bytes);
    }

    fn blank(started: Instant, bytes: Vec<u8>) -> Self {
        Self {
            started,
            client: (Ipv4Addr::UNSPECIFIED, 0).into(),
            version: Version::HTTP_11,
            status: 0,
            bytes_in: 0,
            bytes_out: 0,
            attempts: 0,
            generation: 0,
            total_ns: 0,
            pick_ns: None,
            connect_ns: None,
            head_ns: None,
            error: None,
            is_asked: false,
            is_fallback: false,
            is_drawn: false,
            bytes,
            texts: [Span::default(); Text::COUNT],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_kept_up_to_their_limit_and_the_newest_counts() {
        let mut record = Record::default();
        assert_eq!(record.text(Text::Path), None);
        record.note(Text::Path, &[b'x'; 600]);
        record.note(Text::Pool, b"default");
        record.note(Text::Backend, b"one");
        record.note(Text::Backend, b"another");
        assert_eq!(record.text(Text::Path), Some((&[b'x'; 512][..], true)));
        assert_eq!(record.text(Text::Pool), Some((&b"default"[..], false)));
        assert_eq!(record.text(Text::Backend), Some((&b"another"[..], false)));
        record.note(Text::Backend, b"");
        assert_eq!(record.text(Text::Backend), None);
        record.clear();
        assert_eq!((record.text(Text::Path), record.bytes.len()), (None, 0));
        assert!(record.bytes.capacity() >= 512, "its memory serves again");
    }

    #[test]
    fn failed_is_a_server_error_or_one_of_ours() {
        let record = |status, error| Record { status, error, ..Record::default() };
        assert!(record(500, None).has_failed() && record(499, Some(ErrorReason::ClientAbort)).has_failed());
        assert!(!record(200, None).has_failed() && !record(404, None).has_failed());
    }
}
