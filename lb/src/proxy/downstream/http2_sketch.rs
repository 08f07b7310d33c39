//! A sketch of HTTP/2 towards clients, in tests only: one connection of hyper's server, whose streams go through the
//! exchange.
//!
//! Why: it keeps the seam open. An exchange that needed HTTP/1.1's connection would not compile here, or would fail.
//! Invariants: a stream is one task, which polls its exchange, its bodies and its timer. A response has no field of
//! HTTP/1.1's framing, because hyper would remove such a field and log it.

use std::cell::Cell;
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as Task, Poll};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, Version};
use hyper::body::{Body, Frame as HyperFrame, Incoming, SizeHint};
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::DuplexStream;
use tokio::time::Instant;

use crate::http1::{Fields, RequestHead, ResponseHead, Target};
use crate::proxy::body::{Frame, RequestBody};
use crate::proxy::exchange::{self, Context, Request, Response, ResponseBody};
use crate::proxy::fault::Fault;
use crate::proxy::interim::Interim;
use crate::proxy::local::Local;
use crate::proxy::peer::Peer;

/// Fields that HTTP/2 does not have (RFC 9113, section 8.2.2).
const HTTP1_FIELDS: [&str; 5] = ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];

/// Runs hyper's tasks on the worker's thread.
#[derive(Clone, Copy)]
struct SameThread;

/// hyper's server has no call for interim responses, so they are dropped.
struct Dropped;

/// A response's body as hyper takes it; `None` for HEAD.
struct Answer(Option<ResponseBody>);

/// Serves one connection until its end.
async fn serve(local: Rc<Local>, peer: Peer, stream: DuplexStream) {
    let service = service_fn(move |request| respond(local.clone(), peer.clone(), request));
    let served = http2::Builder::new(SameThread).serve_connection(TokioIo::new(stream), service).await;
    served.expect("the client ends its connection properly");
}

/// One stream. If the client resets it, hyper drops this future or the body, and the guards inside count the client as
/// gone.
async fn respond(
    local: Rc<Local>,
    peer: Peer,
    request: http::Request<Incoming>,
) -> Result<http::Response<Answer>, Infallible> {
    let (parts, body) = request.into_parts();
    let context =
        Rc::new(Context { local, peer, timer: Rc::default(), interim: Rc::new(Dropped), race: Cell::default() });
    let body = if body.is_end_stream() { RequestBody::empty() } else { RequestBody::hyper(body) };
    let response = match head_of(&parts) {
        Ok(head) => exchange::serve(context, Request { head: Box::new(head), body, arrived: Instant::now() }).await,
        Err(sentence) => exchange::refuse(&context, None, Fault::BadRequest(sentence)),
    };
    Ok(to_hyper(response, parts.method == Method::HEAD))
}

/// A request's head for an exchange: `:authority` as Host, cookies in one field (RFC 9113, sections 8.3.1 and 8.2.3).
fn head_of(parts: &Parts) -> Result<RequestHead, &'static str> {
    let mut target = Target::default();
    target.set(parts.uri.path_and_query().map_or("/", |path| path.as_str()))?;
    let mut fields = Fields::from_header_map(&parts.headers);
    if let Some(authority) = parts.uri.authority() {
        fields.set(b"host", authority.as_str().as_bytes());
    }
    let crumbs: Vec<_> = fields.all(b"cookie").collect();
    if crumbs.len() > 1 {
        let cookie = crumbs.join(&b"; "[..]);
        fields.set(b"cookie", &cookie);
    }
    Ok(RequestHead { method: parts.method.clone(), target, version: Version::HTTP_2, fields })
}

fn to_hyper(response: Response, is_head: bool) -> http::Response<Answer> {
    let Response { head, body, leaves_request: _, switched } = response;
    assert!(switched.is_none(), "only HTTP/1.1 asks for another protocol");
    let fields = head.fields.to_header_map();
    assert_without_http1(&fields);
    let mut response = http::Response::new(Answer((!is_head).then_some(body)));
    (*response.status_mut(), *response.headers_mut()) = (head.status, fields);
    response
}

fn assert_without_http1(fields: &HeaderMap) {
    let found: Vec<_> = HTTP1_FIELDS.iter().filter(|name| fields.contains_key(**name)).collect();
    assert!(found.is_empty(), "{found:?} in {fields:?}");
}

// === impl SameThread ===

impl<F: Future<Output: 'static> + 'static> Executor<F> for SameThread {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

// === impl Dropped ===

impl Interim for Dropped {
    fn has_room(&self) -> bool {
        true
    }

    fn send(&self, _: &ResponseHead) -> bool {
        false
    }
}

// === impl Answer ===

impl Body for Answer {
    type Data = Bytes;
    /// One sentence; hyper resets the stream for it.
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Task<'_>,
    ) -> Poll<Option<Result<HyperFrame<Bytes>, &'static str>>> {
        let Some(body) = &mut self.0 else { return Poll::Ready(None) };
        body.poll_frame(cx).map(|frame| {
            Some(match frame? {
                Ok(Frame::Data(data)) => Ok(HyperFrame::data(data)),
                Ok(Frame::Trailers(trailers)) => Ok(HyperFrame::trailers(trailers.to_header_map())),
                Err(fault) => Err(fault.sentence()),
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|body| body.exact() == Some(0))
    }

    fn size_hint(&self) -> SizeHint {
        let exact = self.0.as_ref().and_then(ResponseBody::exact);
        exact.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests;
