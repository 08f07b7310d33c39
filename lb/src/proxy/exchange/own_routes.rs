//! Routes on the proxy's port that lb answers itself, if configured: only these requests wait for control.
//!
//! Invariants: without the setting no generation has such routes, and their paths are like any other. The receiver of a
//! call decides whether the client may make it, so the call contains the whole head.

use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::parts::parts_of;
use super::{Context, Request, Response};
use crate::generation::{Call, OwnRoutes};
use crate::http1::RequestHead;
use crate::proxy::body::{Frame, RequestBody};
use crate::proxy::fault::Fault;
use crate::proxy::reply::{self, Reply};

const BODY_MAX_BYTES: u64 = 1 << 20;
/// `/add` waits until new replicas pass a health check.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// The receiver of a request for one of the routes.
#[inline]
pub(super) fn of(context: &Context, head: &RequestHead) -> Option<mpsc::Sender<Call>> {
    let view = context.local.view.borrow();
    let OwnRoutes { paths, calls } = view.generation.own_routes.as_ref()?;
    paths.contains(&head.target.path()).then(|| calls.clone())
}

/// Sends the call and forwards its response. The request does not count as proxied.
pub(super) async fn call(context: Rc<Context>, calls: mpsc::Sender<Call>, request: Request) -> Response {
    let Request { head, mut body, .. } = request;
    let reply = match timeout(ANSWER_WITHIN, ask(&context, calls, &head, &mut body)).await {
        Ok(reply) => reply,
        Err(_) => reply::failure(StatusCode::GATEWAY_TIMEOUT, "the change took too long"),
    };
    Response::own(reply, None, !body.has_ended())
}

async fn ask(context: &Context, calls: mpsc::Sender<Call>, head: &RequestHead, body: &mut RequestBody) -> Reply {
    let head = match parts_of(head) {
        Ok(head) => head,
        Err(fault) => return fault.reply(),
    };
    body.meter(Some(BODY_MAX_BYTES), None, |_| {});
    let within = context.local.view.borrow().settings.timeouts.body_grace;
    let body = match timeout(within, collect(body)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => {
            let words = "Request payload is too large or broke off";
            return reply::failure(StatusCode::PAYLOAD_TOO_LARGE, words);
        }
        Err(_) => return reply::failure(StatusCode::REQUEST_TIMEOUT, "the request's body did not arrive in time"),
    };
    let (answer, answered) = oneshot::channel();
    let call = Call { head, body, peer: context.peer.address, answer };
    if calls.send(call).await.is_err() {
        return stopping();
    }
    let Ok(answer) = answered.await else { return stopping() };
    let mut reply = reply::json(answer.status, answer.body);
    if let Some(allow) = answer.allow {
        reply.head.fields.push(b"allow", allow.as_bytes());
    }
    reply
}

async fn collect(body: &mut RequestBody) -> Result<Bytes, Fault> {
    let mut whole = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| body.poll_frame(cx)).await {
        if let Frame::Data(data) = frame? {
            whole.extend_from_slice(&data);
        }
    }
    Ok(whole.freeze())
}

fn stopping() -> Reply {
    reply::failure(StatusCode::SERVICE_UNAVAILABLE, "the load balancer is stopping")
}
