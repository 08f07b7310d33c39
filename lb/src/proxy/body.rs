//! The body of a request on its way from a client to a backend, for any protocol of the client.
//!
//! Back-pressure: a backend's connection asks for the next frame only while its outbox has room. Invariants: the limit
//! on its length is enforced here. Bytes are counted once, here, however often they are sent. After its end or an
//! error, a body returns nothing more until it [rewinds](RequestBody::rewind). A strategy may ask for the first part of
//! it before the pick: [`Held`].

mod held;
mod http1;
mod kept;

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use self::held::Held;
pub(super) use self::http1::{ClientBody, Wire};
use self::kept::Kept;
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
    /// Something was taken by an attempt, be it only the end.
    is_touched: bool,
    /// The part that was read before the pick.
    held: Option<Box<Held>>,
    /// What was taken, if another attempt may need it.
    kept: Option<Box<Kept>>,
    shard: Option<Arc<PoolShard>>,
    /// The filter of the trailers.
    rule: fn(&mut Fields),
}

enum Source {
    /// There is no body, or no more of it.
    End,
    /// The held part, then the rest of the source that it is from.
    Held,
    /// The kept part, then the rest of the source that it is from.
    Again,
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
        Self {
            source,
            left: u64::MAX,
            bytes: 0,
            is_awaited: false,
            is_touched: false,
            held: None,
            kept: None,
            shard: None,
            rule: |_| {},
        }
    }

    /// Allows at most `limit` bytes. They are counted in `shard`, and trailers are filtered by `rule`.
    pub(super) fn meter(&mut self, limit: Option<u64>, shard: Option<Arc<PoolShard>>, rule: fn(&mut Fields)) {
        self.left = limit.unwrap_or(u64::MAX);
        (self.shard, self.rule) = (shard, rule);
    }

    /// Keeps what is taken from now on, up to `most` bytes, so that it can be sent again. A body that declares more is
    /// not kept at all.
    pub(super) fn keep(&mut self, most: u64) {
        let length = self.exact();
        if length.unwrap_or(1) <= most {
            self.kept = Some(Box::new(Kept::new(most, length)));
        }
    }

    /// Begins to hold its first `most` bytes, before any of it was taken.
    pub(super) fn hold(&mut self, most: u32) {
        self.held = Some(Box::new(Held::new(most, self.exact())));
    }

    /// Ready when they are here, or the whole body is.
    pub(super) fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        while !self.has_ended() && self.held.as_ref().is_some_and(|held| !held.is_full()) {
            match (ready!(self.poll_client(cx)), &mut self.held) {
                (Some(Ok(frame)), Some(held)) => held.put(frame),
                (Some(Err(fault)), _) => return Poll::Ready(Err(fault)),
                (None, _) | (_, None) => break,
            }
        }
        if let Some(held) = &mut self.held {
            held.close(std::mem::replace(&mut self.source, Source::Held));
        }
        Poll::Ready(Ok(()))
    }

    /// At most `most` of the held bytes.
    #[inline]
    pub(super) fn prefix(&self, most: u32) -> &[u8] {
        self.held.as_ref().map_or(&[], |held| held.prefix(most))
    }

    /// The length of all of it, also after a part was taken; `None` if it is not known.
    #[inline]
    pub(super) fn length(&self) -> Option<u64> {
        match (&self.held, &self.kept) {
            (Some(held), _) => held.length,
            (None, Some(kept)) => kept.length,
            (None, None) if self.is_touched => None,
            (None, None) => self.exact(),
        }
    }

    /// The present attempt is the last one.
    pub(super) fn keep_no_more(&mut self) {
        match &mut self.held {
            Some(held) if !held.is_taken() => held.is_last = true,
            _ => self.held = None,
        }
        match (&self.source, &mut self.kept) {
            (Source::Again, Some(kept)) => kept.is_last = true,
            _ => self.kept = None,
        }
    }

    /// Whether the next attempt can send all that was taken.
    pub(super) fn can_be_sent_again(&self) -> bool {
        !self.is_touched || self.kept.is_some()
    }

    /// Whether that will be so whatever is taken: there is no body, or its known length is kept.
    pub(super) fn is_kept_or_absent(&self) -> bool {
        self.has_ended() || (self.kept.is_some() && self.exact().is_some())
    }

    /// The next attempt begins: what was taken is returned again, then the rest.
    pub(super) fn rewind(&mut self) {
        let Some(kept) = self.kept.as_mut().filter(|_| self.is_touched) else { return };
        kept.begin_again();
        if !matches!(self.source, Source::Again) {
            kept.rest = std::mem::replace(&mut self.source, Source::Again);
        }
    }

    /// Whether all of it was taken, or no more can be.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.source, Source::End)
    }

    /// The length that the head declares; `None` if only the end shows it.
    pub(super) fn exact(&self) -> Option<u64> {
        match &self.source {
            Source::End => Some(0),
            Source::Held => self.held.as_ref().and_then(|held| held.declared),
            Source::Again => self.kept.as_ref().and_then(|kept| kept.length),
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
        let taken = match &self.source {
            Source::Held => self.take_held(),
            Source::Again => match self.take_again() {
                Some(frame) => return Poll::Ready(Some(Ok(frame))),
                None => return self.poll_frame(cx),
            },
            _ => None,
        };
        let polled = match taken {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => self.poll_client(cx),
        };
        let Poll::Ready(polled) = polled else { return Poll::Pending };
        self.is_touched = true;
        if let Some(Ok(frame)) = &polled
            && self.kept.as_mut().is_some_and(|kept| !kept.keep(frame))
        {
            self.kept = None;
        }
        Poll::Ready(polled)
    }

    /// The next frame from the client, counted.
    fn poll_client(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, Fault>>> {
        let polled = match &mut self.source {
            Source::End | Source::Held | Source::Again => Poll::Ready(None),
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

    /// The next frame of the held part; `None` if it is empty. After the last one the source is that of the rest.
    #[cold]
    fn take_held(&mut self) -> Option<Frame> {
        self.is_awaited = false;
        let Some(held) = &mut self.held else {
            self.source = Source::End;
            return None;
        };
        let frame = held.take();
        if held.is_taken() {
            self.source = std::mem::replace(&mut held.rest, Source::End);
            if held.is_last {
                self.held = None;
            }
        }
        frame
    }

    /// The next frame of the kept part. After the last one the source is that of the rest.
    fn take_again(&mut self) -> Option<Frame> {
        self.is_awaited = false;
        let Some(kept) = &mut self.kept else {
            self.source = Source::End;
            return None;
        };
        let (frame, is_last) = kept.next();
        if is_last {
            self.source = std::mem::replace(&mut kept.rest, Source::End);
            if kept.is_last {
                self.kept = None;
            }
        }
        frame
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

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::http1::Length;
    use crate::net::{Buffers, Descriptors, Stream};

    #[tokio::test(flavor = "current_thread")]
    async fn only_a_known_length_within_the_limit_is_kept_for_certain() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let wire =
            Wire::new(Stream::Plain(near, Descriptors::of_process(1).take().unwrap()), Rc::new(Buffers::default()));
        for (length, is_certain) in [(Length::Exact(7), true), (Length::Exact(8), false), (Length::Chunked, false)] {
            wire.begin(length, true, false);
            let mut body = RequestBody::http1(ClientBody::new(&wire));
            assert!(!body.is_kept_or_absent());
            body.keep(7);
            assert_eq!(body.is_kept_or_absent(), is_certain, "{length:?}");
        }
        assert!(RequestBody::empty().is_kept_or_absent());
    }
}
