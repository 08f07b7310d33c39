//! The record of one request: numbers as they are, texts copied into one buffer that is reused.
//!
//! Invariants: recording formats nothing, and allocates only until the buffer has grown. Every text has a limit, so a
//! record has a limit, whatever clients send.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use http::Version;

use crate::telemetry::{ErrorReason, HedgeResult};

/// The data of one request.
#[derive(Debug)]
pub struct Record {
    /// The time at which its head was complete.
    pub started: Instant,
    pub client: SocketAddr,
    pub version: Version,
    pub status: u16,
    /// Bytes of the request's body; not of a tunnel.
    pub bytes_in: u64,
    /// Bytes of the response's body; not of a tunnel.
    pub bytes_out: u64,
    /// The number of backends tried.
    pub attempts: u32,
    /// How its hedge ended, if one began.
    pub hedge: Option<HedgeResult>,
    /// The generation of the last pick; 0 without a pick.
    pub generation: u64,
    /// From the request's complete head to the last byte of the response.
    pub total_ns: u64,
    /// The duration of the last pick.
    pub pick_ns: Option<u64>,
    /// The time in the queue, over all attempts; `None` if it did not wait.
    pub queue_ns: Option<u64>,
    /// The duration of opening the last connection to a backend; `None` for a kept connection.
    pub connect_ns: Option<u64>,
    /// From the last attempt's start to the head of its response.
    pub head_ns: Option<u64>,
    pub error: Option<ErrorReason>,
    /// The client asked for an explanation of the response.
    pub is_asked: bool,
    /// The host's fallback picked, and not the strategy.
    pub is_fallback: bool,
    /// Chosen for a line even if the request succeeds.
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
    /// The address to which the client connected.
    Listener,
    Method,
    Host,
    /// The path as the client sent it, with or without its query.
    Path,
    UserAgent,
    Pool,
    Backend,
    Strategy,
    /// The key of the request; not in the log.
    Key,
    /// What picked the backend, and why; not in the log.
    Reason,
}

/// The place of a text.
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
    /// Records a text, or the part that is kept. The last text of a kind counts; an empty one counts as none.
    #[inline]
    pub fn note(&mut self, text: Text, bytes: &[u8]) {
        let kept = &bytes[..bytes.len().min(text.bytes_max())];
        let begin = self.bytes.len() as u32;
        self.bytes.extend_from_slice(kept);
        self.texts[text as usize] = Span { begin, length: kept.len() as u16, is_cut: kept.len() < bytes.len() };
    }

    /// A text's bytes, and whether it was cut; `None` if there is none.
    #[inline]
    pub fn text(&self, text: Text) -> Option<(&[u8], bool)> {
        let Span { begin, length, is_cut } = self.texts[text as usize];
        let begin = begin as usize;
        (length > 0).then(|| (&self.bytes[begin..begin + length as usize], is_cut))
    }

    /// All recorded texts.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether the request failed, so that it gets a line in any case.
    pub(super) fn has_failed(&self) -> bool {
        self.error.is_some() || self.status >= 500
    }

    /// Resets everything but the memory and the time.
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
            hedge: None,
            generation: 0,
            total_ns: 0,
            pick_ns: None,
            queue_ns: None,
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
