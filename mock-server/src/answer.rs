//! Responses: their body type, and the functions that make them.
//!
//! The body type is our own for two reasons. A worker's slot stays taken until the last byte is handed over, and a
//! connection may have to end after its last response. Both are tied to the drop of the body, which always happens.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use hyper::body::{Body, Frame, SizeHint};
use serde_json::json;

use crate::gate::Slot;
use crate::shared::Session;
use crate::stream::Stream;

pub(crate) type Answer = Response<AnswerBody>;

/// The id of the server.
pub(crate) const X_SERVER_ID: HeaderName = HeaderName::from_static("x-server-id");
/// The reason of an injected 500 (`failure`) or of a 503 (`queue_full`).
pub(crate) const X_MOCK_ERROR: HeaderName = HeaderName::from_static("x-mock-error");

pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");

pub(crate) struct AnswerBody {
    content: Content,
    trailers: Option<Trailers>,
    slot: Option<Slot>,
    last: Option<LastAnswer>,
}

/// Makes the trailers when the content is over.
pub(crate) type Trailers = Box<dyn FnOnce() -> HeaderMap>;

enum Content {
    Whole(Bytes),
    Stream(Box<Stream>),
}

/// Its drop ends the connection. It is part of the last response.
struct LastAnswer(Rc<Session>);

/// 200 with a JSON body.
pub(crate) fn ok(body: impl Into<Bytes>) -> Answer {
    with_type(StatusCode::OK, JSON, body)
}

pub(crate) fn with_type(status: StatusCode, content_type: HeaderValue, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(AnswerBody::from(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    answer
}

pub(crate) fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(AnswerBody::from(Bytes::new()));
    *answer.status_mut() = status;
    answer
}

/// An error in the course's form.
pub(crate) fn error(status: StatusCode, reason: &str) -> Answer {
    let body = json!({ "message": format!("<Error> {reason}"), "status": "failure" });
    with_type(status, JSON, body.to_string())
}

// === impl AnswerBody ===

impl AnswerBody {
    pub(crate) fn stream(stream: Stream) -> Self {
        Self { content: Content::Stream(Box::new(stream)), trailers: None, slot: None, last: None }
    }

    /// Keeps the worker busy until this body is over.
    pub(crate) fn hold(&mut self, slot: Slot) {
        self.slot = Some(slot);
    }

    /// Ends the connection, without notice, when this body is over.
    pub(crate) fn end_connection(&mut self, session: Rc<Session>) {
        self.last = Some(LastAnswer(session));
    }

    /// Whether its length is not known in advance. Only such a body may have trailers.
    pub(crate) fn is_chunked(&self) -> bool {
        self.size_hint().exact().is_none()
    }

    /// Sends trailers when the content is over.
    pub(crate) fn end_with(&mut self, trailers: Trailers) {
        self.trailers = Some(trailers);
    }

    /// The length of a whole body; 0 for a stream, whose bytes are made while it is sent.
    pub(crate) fn whole_len(&self) -> u64 {
        match &self.content {
            Content::Whole(bytes) => bytes.len() as u64,
            Content::Stream(_) => 0,
        }
    }
}

impl From<Bytes> for AnswerBody {
    fn from(bytes: Bytes) -> Self {
        Self { content: Content::Whole(bytes), trailers: None, slot: None, last: None }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut self.content {
            Content::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Content::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Content::Stream(stream) => match ready!(stream.poll_next(cx)) {
                Some(data) => Poll::Ready(Some(data.map(Frame::data))),
                None => Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers())))),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        if self.trailers.is_some() {
            return false;
        }
        match &self.content {
            Content::Whole(bytes) => bytes.is_empty(),
            Content::Stream(stream) => stream.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Stream(stream) => stream.declared_len().map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}

// === impl LastAnswer ===

impl Drop for LastAnswer {
    fn drop(&mut self) {
        self.0.end.close_after_flush();
    }
}
