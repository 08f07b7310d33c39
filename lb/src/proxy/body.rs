//! The body of a request on its way from a client to a backend, for any protocol of the client.
//!
//! Back-pressure: a backend's connection asks for the next frame only while its outbox has room. Invariants: the limit
//! on its length is enforced here. Bytes are counted once, here. After its end or an error, a body returns nothing
//! more.

mod http1;

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

pub(super) use self::http1::{ClientBody, Wire};
use super::fault::Fault;
use crate::http1::Fields;
use crate::telemetry::PoolShard;

/// A piece of a body in either direction.
#[derive(Debug)]
pub(super) enum Frame {
    Data(Bytes),
    /// The fields behind a body; the last frame.
    Trailers(Box<Fields>),
}

/// The body of a request.
pub(super) struct RequestBody {
    source: Source,
    /// The most bytes that may still come.
    left: u64,
    bytes: u64,
    is_awaited: bool,
    shard: Option<Arc<PoolShard>>,
    /// The filter of the trailers.
    rule: fn(&mut Fields),
}

enum Source {
    /// There is no body, or no more of it.
    End,
    Http1(Box<ClientBody>),
    #[cfg(test)]
    Hyper(Box<hyper::body::Incoming>),
}

// === impl RequestBody ===

impl RequestBody {
    pub(super) fn empty() -> Self {
        Self::new(Source::End)
    }

    pub(super) fn http1(body: ClientBody) -> Self {
        Self::new(Source::Http1(Box::new(body)))
    }

    #[cfg(test)]
    pub(super) fn hyper(body: hyper::body::Incoming) -> Self {
        Self::new(Source::Hyper(Box::new(body)))
    }

    fn new(source: Source) -> Self {
        Self { source, left: u64::MAX, bytes: 0, is_awaited: false, shard: None, rule: |_| {} }
    }

    /// Allows at most `limit` bytes. They are counted in `shard`, and trailers are filtered by `rule`.
    pub(super) fn meter(&mut self, limit: Option<u64>, shard: Option<Arc<PoolShard>>, rule: fn(&mut Fields)) {
        self.left = limit.unwrap_or(u64::MAX);
        (self.shard, self.rule) = (shard, rule);
    }

    /// Whether all of it was taken, or no more can be.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.source, Source::End)
    }

    /// The length that the head declares; `None` if only the end shows it.
    pub(super) fn exact(&self) -> Option<u64> {
        match &self.source {
            Source::End => Some(0),
            Source::Http1(body) => body.exact(),
            #[cfg(test)]
            Source::Hyper(body) => hyper::body::Body::size_hint(body).exact(),
        }
    }

    /// The bytes taken so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the last poll waited for the client.
    pub(super) fn is_awaited(&self) -> bool {
        self.is_awaited
    }

    /// The next frame; `None` at the end.
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, Fault>>> {
        let polled = match &mut self.source {
            Source::End => Poll::Ready(None),
            Source::Http1(body) => body.poll_frame(cx),
            #[cfg(test)]
            Source::Hyper(body) => hyper_frame(body, cx),
        };
        self.is_awaited = polled.is_pending();
        let polled = polled.map(|frame| frame.map(|frame| frame.and_then(|frame| self.count(frame))));
        let is_last = match &polled {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Some(Ok(Frame::Data(_)))) => matches!(&self.source, Source::Http1(body) if body.is_at_end()),
            Poll::Ready(Some(Ok(Frame::Trailers(_)))) => true,
            Poll::Ready(None | Some(Err(_))) => true,
        };
        if is_last {
            self.source = Source::End;
        }
        polled
    }

    fn count(&mut self, mut frame: Frame) -> Result<Frame, Fault> {
        match &mut frame {
            Frame::Trailers(trailers) => (self.rule)(trailers),
            Frame::Data(data) => {
                let bytes = data.len() as u64;
                self.bytes += bytes;
                if let Some(shard) = &self.shard {
                    shard.request_bytes.add(bytes);
                }
                self.left = self.left.checked_sub(bytes).ok_or(Fault::BodyTooLarge)?;
            }
        }
        Ok(frame)
    }
}

#[cfg(test)]
fn hyper_frame(body: &mut hyper::body::Incoming, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, Fault>>> {
    use hyper::body::Body;
    std::pin::Pin::new(body).poll_frame(cx).map(|frame| {
        let frame = frame?.map_err(|_| Fault::BodyBrokeOff);
        Some(frame.map(|frame| match frame.into_data() {
            Ok(data) => Frame::Data(data),
            Err(other) => {
                let trailers = other.into_trailers().unwrap_or_default();
                Frame::Trailers(Box::new(Fields::from_header_map(&trailers)))
            }
        }))
    })
}
