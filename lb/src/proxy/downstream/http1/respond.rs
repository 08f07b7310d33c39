//! A request's way through its exchange, and the response's way to the client.
//!
//! The exchange is polled until it has a response. Meanwhile interim ones are flushed, and the socket is watched: a
//! client that resets its connection ends the exchange, whose guards count it as gone. Then frames are gathered while
//! they are ready and sent together. Invariants: exactly one framing is sent (none, a length, chunks, or the
//! connection's end), chosen from the head and the body. An incomplete response never looks complete.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context as Task, Poll, ready};

use http::{Method, StatusCode, Version};
use tokio::time::Instant;

use super::{After, Arrived, Client, READ_AHEAD_BYTES};
use crate::generation::Settings;
use crate::http1::{Fields, Length, RequestHead, ResponseHead, write};
use crate::net::Outbox;
use crate::proxy::body::{ClientBody, Frame, RequestBody};
use crate::proxy::exchange::{self, Request, Response, ResponseBody, Switched};
use crate::proxy::fault::Fault;

/// The data of the request that the response needs.
struct Asked {
    is_head: bool,
    version: Version,
    keep_alive: bool,
    settings: Rc<Settings>,
}

/// How the client finds the end of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// No body is sent.
    NoBody,
    Length,
    Chunked,
    Close,
}

/// The progress of writing.
struct Writing {
    ending: Ending,
    /// All of the body is in the outbox, or no more of it arrives.
    is_done: bool,
    /// The backend closed early.
    is_broken: bool,
    /// The time since which the client takes nothing.
    stalled: Option<Instant>,
}

/// How writing a response ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    Whole,
    /// The backend closed early.
    Part,
    /// The client takes no more.
    Gone,
}

// === impl Client ===

impl Client {
    /// Serves a request.
    pub(super) async fn respond(&self, request: Arrived) -> After {
        let Arrived { head, framing, at: arrived } = request;
        self.note_progress(true);
        let settings = self.settings();
        let asked = Asked {
            is_head: head.method == Method::HEAD,
            version: head.version,
            keep_alive: framing.keep_alive,
            settings,
        };
        let has_body = framing.body != Length::Exact(0);
        let is_current = head.version == Version::HTTP_11;
        let expects = || head.fields.get(b"expect").is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue"));
        self.wire.begin(framing.body, is_current, has_body && is_current && expects());
        let body = if has_body { RequestBody::http1(ClientBody::new(&self.wire)) } else { RequestBody::empty() };
        // Pinned in place, because it is large.
        let exchange = pin!(exchange::serve(self.context.clone(), Request { head, body, arrived }));
        match self.drive(exchange, &asked).await {
            Some(response) => self.write(response, asked).await,
            None => After::Close,
        }
    }

    /// Responds to a malformed request. `head` is the readable part.
    pub(in crate::proxy::downstream) async fn refuse(&self, head: Option<Box<RequestHead>>, fault: Fault) -> After {
        self.wire.begin(Length::Exact(0), false, false);
        let settings = self.settings();
        let asked = Asked { is_head: false, version: Version::HTTP_11, keep_alive: false, settings };
        self.write(exchange::refuse(&self.context, head, fault), asked).await
    }

    fn settings(&self) -> Rc<Settings> {
        self.context.local.view.borrow().settings.clone()
    }

    /// Polls the exchange until it has a response; `None` if the client is gone.
    async fn drive(&self, mut exchange: Pin<&mut impl Future<Output = Response>>, asked: &Asked) -> Option<Response> {
        poll_fn(|cx| {
            loop {
                if let Poll::Ready(response) = exchange.as_mut().poll(cx) {
                    return Poll::Ready(Some(response));
                }
                let has_interim = !self.wire.outbox.borrow().is_empty();
                match self.wire.poll_flush(cx) {
                    // There is room for more.
                    Poll::Ready(Ok(())) if has_interim => self.note_progress(true),
                    Poll::Ready(Err(_)) => return Poll::Ready(None),
                    _ => return self.poll_gone(cx, &asked.settings).map(|()| None),
                }
            }
        })
        .await
    }

    /// Ready when the client is gone: it reset the connection, or it closed its sending half and made no progress for
    /// too long. Until the request is read whole, only the body's reader notices that. While the backend takes nothing,
    /// a close stays unnoticed.
    fn poll_gone(&self, cx: &mut Task<'_>, settings: &Settings) -> Poll<()> {
        if !self.wire.has_whole_request() {
            return Poll::Pending;
        }
        self.wire.inbox.borrow_mut().relax();
        loop {
            if let Some(since) = self.half_closed.get() {
                return self.wire.timer.poll(cx, since + settings.timeouts.half_closed);
            }
            if self.wire.inbox.borrow().len() >= READ_AHEAD_BYTES {
                return Poll::Pending;
            }
            match ready!(self.wire.poll_fill(cx, 1)) {
                Ok(1..) => {}
                Ok(0) => self.half_closed.set(Some(Instant::now())),
                Err(error) => {
                    tracing::debug!("a client has gone: {error}");
                    return Poll::Ready(());
                }
            }
        }
    }

    async fn write(&self, response: Response, asked: Asked) -> After {
        let Response { mut head, mut body, leaves_request, switched } = response;
        if let Some(switched) = switched {
            return self.switch(head, switched, asked).await;
        }
        self.wire.takes_interim.set(false);
        let ends = leaves_request || self.context.local.is_draining.get();
        let is_last = ends || self.leaves_body(&body).await || self.has_no_more();
        let keep_alive = asked.keep_alive && !is_last;
        let (ending, keep_alive) = choose_ending(&mut head, &body, &asked, keep_alive);
        self.complete(&mut head, asked.version, keep_alive);
        write::response(self.wire.outbox.borrow_mut().small(), asked.version, head.status, &head.fields);
        self.context.local.responses.give_back(head);
        let is_done = match ending {
            Ending::NoBody => true,
            Ending::Length => body.take_rest(self.wire.outbox.borrow_mut().small()),
            Ending::Chunked | Ending::Close => false,
        };
        let mut writing = Writing { ending, is_done, is_broken: false, stalled: None };
        // This body ends with the connection. Until it is whole, closing resets, so that a cut body does not look
        // complete.
        if ending == Ending::Close {
            self.wire.stream.borrow().reset_on_close(true);
        }
        let written = poll_fn(|cx| self.poll_write(cx, &mut body, &mut writing, &asked.settings)).await;
        drop(body);
        if ending == Ending::Close && written == Written::Whole {
            self.wire.stream.borrow().reset_on_close(false);
        }
        match written {
            Written::Gone | Written::Part => After::Close,
            Written::Whole => {
                let is_read = poll_fn(|cx| Poll::Ready(self.wire.discard_body(cx))).await;
                match (is_read, keep_alive) {
                    (true, true) => After::Next,
                    (true, false) if !self.has_unread() => After::Close,
                    _ => After::Linger,
                }
            }
        }
    }

    /// Whether the client has closed its sending half without a further request.
    fn has_no_more(&self) -> bool {
        self.half_closed.get().is_some() && self.wire.inbox.borrow().is_empty()
    }

    /// Whether part of the request will stay unread. Reads the part of an unwanted body that has arrived. True if the
    /// client still waits for `100 Continue`, because it may or may not send the body.
    async fn leaves_body(&self, response: &ResponseBody) -> bool {
        if self.wire.awaits_continue.get() {
            return true;
        }
        let is_own = matches!(response, ResponseBody::Own(_));
        is_own && !poll_fn(|cx| Poll::Ready(self.wire.discard_body(cx))).await
    }

    /// The backend has switched protocols. Bytes behind the request may be a request to lb or bytes for the backend. So
    /// a client that does not wait for the 101 gets no tunnel.
    async fn switch(&self, mut head: Box<ResponseHead>, switched: Box<Switched>, asked: Asked) -> After {
        if self.has_unread() {
            const EARLY: Fault =
                Fault::BadRequest("data came behind an Upgrade request, before the protocol was switched");
            switched.refuse(EARLY);
            return Box::pin(self.write(Response::uncounted(EARLY), asked)).await;
        }
        self.wire.takes_interim.set(false);
        self.complete(&mut head, asked.version, true);
        write::response(self.wire.outbox.borrow_mut().small(), asked.version, head.status, &head.fields);
        let mut body = ResponseBody::default();
        let mut writing = Writing { ending: Ending::NoBody, is_done: true, is_broken: false, stalled: None };
        let written = poll_fn(|cx| self.poll_write(cx, &mut body, &mut writing, &asked.settings)).await;
        if written == Written::Whole { After::Tunnel(switched) } else { After::Close }
    }

    /// Whether the client has sent more, read or not.
    fn has_unread(&self) -> bool {
        !self.wire.inbox.borrow().is_empty() || self.wire.stream.borrow().has_unread_input()
    }

    /// Fields that every response has.
    fn complete(&self, head: &mut ResponseHead, version: Version, keep_alive: bool) {
        match (version, keep_alive) {
            (Version::HTTP_10, true) => head.fields.set(b"connection", b"keep-alive"),
            (_, false) => head.fields.set(b"connection", b"close"),
            _ => {}
        }
        if !head.fields.has(b"date") {
            head.fields.append(&self.context.local.date.borrow());
        }
    }

    /// Gathers frames while they are ready, then writes them.
    fn poll_write(
        &self,
        cx: &mut Task<'_>,
        body: &mut ResponseBody,
        writing: &mut Writing,
        settings: &Settings,
    ) -> Poll<Written> {
        loop {
            let mut is_waiting = false;
            while !writing.is_done && !is_waiting && self.wire.outbox.borrow().has_room() {
                match body.poll_frame(cx) {
                    Poll::Pending => is_waiting = true,
                    Poll::Ready(frame) => writing.put(frame, &mut self.wire.outbox.borrow_mut()),
                }
            }
            let is_moving = !self.wire.outbox.borrow().is_empty();
            match self.wire.poll_flush(cx) {
                Poll::Ready(Ok(())) => {
                    writing.stalled = None;
                    self.note_progress(is_moving);
                }
                Poll::Ready(Err(error)) => {
                    tracing::debug!("a client takes no more of its response: {error}");
                    return Poll::Ready(Written::Gone);
                }
                Poll::Pending if body.ends_by_cut() => return Poll::Ready(Written::Gone),
                Poll::Pending => {
                    body.send_on(cx);
                    let since = *writing.stalled.get_or_insert_with(Instant::now);
                    let idle = since + body.idle().unwrap_or(settings.timeouts.idle);
                    let deadline = body.total().map_or(idle, |total| total.min(idle));
                    return self.wire.timer.poll(cx, deadline).map(|()| Written::Gone);
                }
            }
            if writing.is_done {
                return Poll::Ready(if writing.is_broken { Written::Part } else { Written::Whole });
            }
            if is_waiting {
                return self.poll_gone(cx, settings).map(|()| Written::Gone);
            }
        }
    }

    /// Restarts the wait for a client that has closed its sending half.
    fn note_progress(&self, is_moving: bool) {
        if is_moving && self.half_closed.get().is_some() {
            self.half_closed.set(Some(Instant::now()));
        }
    }
}

// === impl Writing ===

impl Writing {
    fn put(&mut self, frame: Option<Result<Frame, Fault>>, outbox: &mut Outbox) {
        let is_chunked = self.ending == Ending::Chunked;
        match frame {
            Some(Ok(Frame::Data(data))) if data.is_empty() => {}
            Some(Ok(Frame::Data(data))) if is_chunked => {
                write::chunk_begin(outbox.small(), data.len());
                outbox.push(data, b"\r\n");
            }
            Some(Ok(Frame::Data(data))) => outbox.push(data, b""),
            Some(Ok(Frame::Trailers(trailers))) => self.end(Some(&trailers), outbox),
            None => self.end(None, outbox),
            Some(Err(_)) => (self.is_done, self.is_broken) = (true, true),
        }
    }

    fn end(&mut self, trailers: Option<&Fields>, outbox: &mut Outbox) {
        if self.ending == Ending::Chunked {
            write::last_chunk(outbox.small(), trailers);
        }
        self.is_done = true;
    }
}

/// Chooses how the client finds the body's end, and whether the connection can be used again. Adds the fields for that.
fn choose_ending(head: &mut ResponseHead, body: &ResponseBody, asked: &Asked, keep_alive: bool) -> (Ending, bool) {
    if head.status == StatusCode::NO_CONTENT {
        // Forbidden in this response (RFC 9110, section 8.6).
        head.fields.remove(b"content-length");
    }
    let has_none = matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if asked.is_head || has_none {
        return (Ending::NoBody, keep_alive);
    }
    if head.fields.has(b"content-length") {
        return (Ending::Length, keep_alive);
    }
    match (body.exact(), asked.version) {
        (Some(length), _) => {
            head.fields.push(b"content-length", length.to_string().as_bytes());
            (Ending::Length, keep_alive)
        }
        (None, Version::HTTP_10) => (Ending::Close, false),
        (None, _) => {
            head.fields.push(b"transfer-encoding", b"chunked");
            (Ending::Chunked, keep_alive)
        }
    }
}
