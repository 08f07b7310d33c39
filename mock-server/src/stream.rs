//! `/stream`: a body of an exact length, in chunks, with pauses, with or without a declared length, or cut off.
//!
//! Proxies often fail at long and broken bodies. Each byte follows from its offset, so a test can tell a lost chunk
//! from a repeated one.
//!
//! Invariants: exactly `bytes` bytes are sent, or exactly `abort_after` bytes, and then the connection is closed.
//! Chunks are made only as the client takes them: hyper asks for the next chunk when it has room.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use thiserror::Error;

use crate::counters::add;
use crate::shared::Session;

const CHUNK_MAX: u64 = 1 << 20;
const INTERVAL_MS_MAX: u64 = 3_600_000;
/// The byte at offset o is the letter number o mod 26.
const ALPHABET: &[u8; 26] = b"abcdefghijklmnopqrstuvwxyz";

/// The parameters in the query.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) bytes: u64,
    pub(crate) chunk: u64,
    pub(crate) interval: Duration,
    /// Whether the length is declared; otherwise the body is chunked.
    pub(crate) has_length: bool,
    pub(crate) abort_after: Option<u64>,
}

#[derive(Debug, Error, PartialEq)]
pub(crate) enum BadQuery {
    #[error("{0:?} is not a number for {1}")]
    Number(String, &'static str),
    #[error("{0} must be from {1} to {2}")]
    Range(&'static str, u64, u64),
    #[error("unknown parameter {0:?}: /stream takes bytes, chunk, interval_ms, length, abort_after")]
    Unknown(String),
}

/// A body while it is sent.
pub(crate) struct Stream {
    plan: Plan,
    session: Rc<Session>,
    filler: Bytes,
    sent: u64,
    wait: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

/// Enough of the alphabet to cut a chunk of any allowed size at any offset without copying.
pub(crate) fn filler() -> Bytes {
    ALPHABET.iter().copied().cycle().take(CHUNK_MAX as usize + ALPHABET.len()).collect()
}

// === impl Plan ===

impl Plan {
    /// Reads the query. Defaults: 65,536 bytes in chunks of 16,384 without pause, length not declared, not aborted.
    pub(crate) fn parse(query: Option<&str>) -> Result<Self, BadQuery> {
        let mut plan =
            Self { bytes: 65_536, chunk: 16_384, interval: Duration::ZERO, has_length: false, abort_after: None };
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            match key {
                "bytes" => plan.bytes = number(value, "bytes", 0, u64::MAX)?,
                "chunk" => plan.chunk = number(value, "chunk", 1, CHUNK_MAX)?,
                "interval_ms" => {
                    plan.interval = Duration::from_millis(number(value, "interval_ms", 0, INTERVAL_MS_MAX)?);
                }
                "length" => plan.has_length = number(value, "length", 0, 1)? == 1,
                "abort_after" => plan.abort_after = Some(number(value, "abort_after", 0, u64::MAX)?),
                _ => return Err(BadQuery::Unknown(key.to_owned())),
            }
        }
        match plan.abort_after {
            Some(abort_after) if abort_after > plan.bytes => Err(BadQuery::Range("abort_after", 0, plan.bytes)),
            _ => Ok(plan),
        }
    }
}

fn number(text: &str, name: &'static str, min: u64, max: u64) -> Result<u64, BadQuery> {
    let number: u64 = text.parse().map_err(|_| BadQuery::Number(text.to_owned(), name))?;
    if !(min..=max).contains(&number) {
        return Err(BadQuery::Range(name, min, max));
    }
    Ok(number)
}

// === impl Stream ===

impl Stream {
    pub(crate) fn new(plan: Plan, session: Rc<Session>) -> Self {
        let filler = session.local.filler();
        Self { plan, session, filler, sent: 0, wait: None }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.sent == self.plan.bytes && self.plan.abort_after.is_none()
    }

    pub(crate) fn declared_len(&self) -> Option<u64> {
        self.plan.has_length.then(|| self.plan.bytes - self.sent)
    }

    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            if self.session.end.is_closed() {
                return Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into())));
            }
            if let Some(wait) = &mut self.wait {
                ready!(wait.as_mut().poll(cx));
                self.wait = None;
            }
            let shared = self.session.local.shared.clone();
            if shared.switches.is_stalled() {
                self.wait = Some(Box::pin(async move { shared.switches.until_not_stalled().await }));
                continue;
            }
            let until = self.plan.abort_after.unwrap_or(self.plan.bytes);
            if self.sent == until {
                if self.plan.abort_after.is_none() {
                    return Poll::Ready(None);
                }
                // The bytes sent so far must arrive, so the connection ends after the flush, which wakes this task.
                self.session.end.close_after_flush();
                return Poll::Pending;
            }
            return Poll::Ready(Some(Ok(self.next_chunk(until))));
        }
    }

    fn next_chunk(&mut self, until: u64) -> Bytes {
        let len = self.plan.chunk.min(until - self.sent) as usize;
        let from = (self.sent % ALPHABET.len() as u64) as usize;
        self.sent += len as u64;
        add(&self.session.local.shared.counters.body_bytes_sent, len as u64);
        if !self.plan.interval.is_zero() && self.sent < until {
            let sleep = self.session.local.timer.sleep_until(Instant::now() + self.plan.interval);
            self.wait = Some(Box::pin(sleep));
        }
        self.filler.slice(from..from + len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_sets_every_parameter_and_missing_ones_have_defaults() {
        let default = Plan::parse(None).unwrap();
        assert_eq!((default.bytes, default.chunk, default.has_length), (65_536, 16_384, false));
        let plan = Plan::parse(Some("bytes=10&chunk=3&interval_ms=7&length=1&abort_after=4")).unwrap();
        let expected =
            Plan { bytes: 10, chunk: 3, interval: Duration::from_millis(7), has_length: true, abort_after: Some(4) };
        assert_eq!(plan, expected);
    }

    #[test]
    fn bad_numbers_and_unknown_names_are_refused() {
        for query in [
            "bytes=x",
            "bytes=-1",
            "bytes=",
            "bytes",
            "bytes=18446744073709551616",
            "chunk=0",
            "chunk=1048577",
            "interval_ms=1.5",
            "length=2",
            "bytes=10&abort_after=11",
            "byte=10",
            "=1",
        ] {
            assert!(Plan::parse(Some(query)).is_err(), "{query}");
        }
    }

    #[test]
    fn the_filler_has_room_for_the_largest_chunk_at_every_offset() {
        assert!(filler().len() >= CHUNK_MAX as usize + ALPHABET.len() - 1);
        assert_eq!(&filler()[26..30], b"abcd");
    }
}
