//! A client's connection for HTTP/1.1: the bytes read and not yet taken, and the body that is decoded from them.
//!
//! The connection and the body of its request share the [`Wire`], because both read from the socket and, for `100
//! Continue`, both write to it. Invariants: one request at a time. Between requests the connection holds no buffer. A
//! client that sends only tiny chunks is read in long intervals, so its cost is at most a few per cent of a core.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{StatusCode, Version};
use tokio::time::Instant;

use super::Frame;
use crate::http1::{BodyDecoder, Length, ResponseHead, write};
use crate::net::{Buffers, Inbox, Outbox, Stream, Timer};
use crate::proxy::fault::Fault;
use crate::proxy::interim::Interim;

/// If at least [`CRUMBS_IN_A_ROW`] chunks have fewer bytes than this on average, reading pauses.
const CRUMB_BYTES: u64 = 16;
const CRUMBS_IN_A_ROW: u64 = 16;
/// The pause for each such chunk: 64,000 a second. A faster client is slowed down by the window of its connection,
/// which also saves wake-ups.
const CRUMB_PAUSE: Duration = Duration::from_nanos(15_625);
/// The most bytes that are read of an unwanted body, to keep its connection.
const DISCARD_MAX_BYTES: usize = 64 * 1024;

/// The socket, and the bytes on either side of it.
pub(in crate::proxy) struct Wire {
    pub(in crate::proxy) stream: RefCell<Stream>,
    pub(in crate::proxy) inbox: RefCell<Inbox>,
    pub(in crate::proxy) outbox: RefCell<Outbox>,
    pub(in crate::proxy) timer: Rc<Timer>,
    buffers: Rc<Buffers>,
    /// Of the request's body.
    decoder: RefCell<BodyDecoder>,
    /// Interim responses may still be sent: the client speaks HTTP/1.1, and the response has not begun.
    pub(in crate::proxy) takes_interim: Cell<bool>,
    /// The client waits for `100 Continue`.
    pub(in crate::proxy) awaits_continue: Cell<bool>,
}

/// A request's body over HTTP/1.1.
pub(in crate::proxy) struct ClientBody {
    wire: Rc<Wire>,
    /// Chunks and bytes since the last check.
    crumbs: (u64, u64),
    pause: Option<Instant>,
}

// === impl Wire ===

impl Wire {
    pub(in crate::proxy) fn new(stream: Stream, buffers: Rc<Buffers>) -> Rc<Self> {
        Rc::new(Self {
            stream: RefCell::new(stream),
            inbox: RefCell::default(),
            outbox: RefCell::new(Outbox::default()),
            timer: Rc::default(),
            buffers,
            decoder: RefCell::new(BodyDecoder::new(Length::Exact(0))),
            takes_interim: Cell::new(false),
            awaits_continue: Cell::new(false),
        })
    }

    /// Waits for bytes and reads them; 0 means the end. `wanted`: the number of bytes that should have room.
    pub(in crate::proxy) fn poll_fill(&self, cx: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        self.inbox.borrow_mut().poll_fill(&mut self.stream.borrow_mut(), &self.buffers, cx, wanted)
    }

    /// Frees empty buffers between two requests.
    pub(in crate::proxy) fn rest(&self) {
        self.inbox.borrow_mut().rest(&self.buffers);
        let mut outbox = self.outbox.borrow_mut();
        if outbox.is_empty() {
            self.buffers.give_back_outbox(std::mem::take(&mut outbox));
        }
    }

    /// Begins a request whose body is framed by `length`.
    pub(in crate::proxy) fn begin(&self, length: Length, takes_interim: bool, awaits_continue: bool) {
        self.decoder.borrow_mut().begin(length);
        self.takes_interim.set(takes_interim);
        self.awaits_continue.set(awaits_continue);
        let mut outbox = self.outbox.borrow_mut();
        if outbox.is_empty() {
            *outbox = self.buffers.take_outbox();
        }
    }

    /// Whether the whole request was read.
    pub(in crate::proxy) fn has_whole_request(&self) -> bool {
        self.decoder.borrow().is_done()
    }

    /// Takes the rest of an unwanted body, as far as it is here. Returns whether that was all.
    pub(in crate::proxy) fn discard_body(&self, cx: &mut Context<'_>) -> bool {
        let mut left = DISCARD_MAX_BYTES;
        if self.has_whole_request() {
            return true;
        }
        loop {
            let taken = match self.decoder.borrow_mut().take(self.inbox.borrow_mut().bytes()) {
                Ok(data) => data.len(),
                Err(_) => return false,
            };
            if self.has_whole_request() {
                return true;
            }
            left = left.saturating_sub(taken);
            if left == 0 || (taken == 0 && !matches!(self.poll_fill(cx, DISCARD_MAX_BYTES), Poll::Ready(Ok(1..)))) {
                return false;
            }
        }
    }

    /// Writes the outbox.
    pub(in crate::proxy) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut outbox = self.outbox.borrow_mut();
        if outbox.is_empty() {
            return Poll::Ready(Ok(()));
        }
        outbox.poll_flush(&mut self.stream.borrow_mut(), &self.buffers, cx)
    }
}

impl Interim for Wire {
    fn has_room(&self) -> bool {
        self.outbox.borrow().has_room()
    }

    /// Sends `100 Continue` once, and only to a client that waits for it.
    fn send(&self, head: &ResponseHead) -> bool {
        let is_continue = head.status == StatusCode::CONTINUE;
        let is_sent = self.takes_interim.get() && (!is_continue || self.awaits_continue.replace(false));
        if is_sent {
            write::response(self.outbox.borrow_mut().small(), Version::HTTP_11, head.status, &head.fields);
        }
        is_sent
    }
}

// === impl ClientBody ===

impl ClientBody {
    pub(in crate::proxy) fn new(wire: &Rc<Wire>) -> Self {
        Self { wire: wire.clone(), crumbs: (0, 0), pause: None }
    }

    pub(super) fn exact(&self) -> Option<u64> {
        self.wire.decoder.borrow().exact()
    }

    /// Whether nothing more follows and there are no trailers to take.
    pub(super) fn is_at_end(&self) -> bool {
        let decoder = self.wire.decoder.borrow();
        decoder.is_done() && !decoder.has_trailers()
    }

    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, Fault>>> {
        loop {
            if let Some(frame) = self.take() {
                // The client is sending the body, so it does not wait for `100 Continue`.
                self.wire.awaits_continue.set(false);
                return Poll::Ready(frame);
            }
            if let Some(end) = self.pause {
                ready!(self.wire.timer.poll(cx, end));
                self.pause = None;
            }
            // Only now it is certain that a backend or the strategy wants the body.
            if self.wire.awaits_continue.get() {
                self.wire.send(&ResponseHead { status: StatusCode::CONTINUE, ..ResponseHead::default() });
            }
            let wanted = self.wire.decoder.borrow().wants();
            match ready!(self.wire.poll_fill(cx, wanted)) {
                Ok(1..) => {}
                Ok(0) => return Poll::Ready(Some(Err(Fault::BodyBrokeOff))),
                Err(error) => {
                    tracing::debug!("a client's body broke off: {error}");
                    return Poll::Ready(Some(Err(Fault::ClientGone)));
                }
            }
        }
    }

    /// The next part of the body that is here: a frame, or `Some(None)` at its end; `None` if more must arrive first.
    fn take(&mut self) -> Option<Option<Result<Frame, Fault>>> {
        let wire = self.wire.clone();
        let mut decoder = wire.decoder.borrow_mut();
        let seen = decoder.chunks();
        let data = match decoder.take(wire.inbox.borrow_mut().bytes()) {
            Ok(data) => data,
            Err(bad) => return Some(Some(Err(Fault::Malformed(bad.into())))),
        };
        self.note_crumbs(decoder.chunks() - seen, data.len() as u64);
        if !data.is_empty() {
            return Some(Some(Ok(Frame::Data(data))));
        }
        decoder.is_done().then(|| decoder.take_trailers().map(|trailers| Ok(Frame::Trailers(Box::new(trailers)))))
    }

    fn note_crumbs(&mut self, chunks: u64, bytes: u64) {
        let (all_chunks, all_bytes) = (self.crumbs.0 + chunks, self.crumbs.1 + bytes);
        self.crumbs = (all_chunks, all_bytes);
        if all_chunks < CRUMBS_IN_A_ROW {
            return;
        }
        self.crumbs = (0, 0);
        if all_bytes < all_chunks * CRUMB_BYTES {
            let chunks = u32::try_from(all_chunks).unwrap_or(u32::MAX);
            self.pause = Some(Instant::now() + CRUMB_PAUSE.saturating_mul(chunks));
        }
    }
}
