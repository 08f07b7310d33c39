//! The course's routes on the proxy's own port, where configured: the one thing on the request path that waits for control.
//!
//! Invariants: without the setting no generation carries the sender, and the paths are as any other; who may call them is decided where
//! they are answered, by the rules of the admin port, so the head goes along whole.

use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::parts::parts_of;
use super::{Context, Request, Response};
use crate::generation::CourseCall;
use crate::http1::RequestHead;
use crate::proxy::body::{Frame, RequestBody};
use crate::proxy::fault::Fault;
use crate::proxy::reply::{self, Reply};

const BODY_MAX_BYTES: u64 = 1 << 20;
/// `/add` waits for new replicas to answer a heartbeat.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// The way to the course's routes, when this request is for one of them.
pub(super) fn door(context: &Context, head: &RequestHead) -> Option<mpsc::Sender<CourseCall>> {
    let view = context.local.view.borrow();
    let door = view.generation.course.as_ref()?;
    matches!(head.target.path(), "/rep" | "/add" | "/rm").then(|| door.clone())
}

/// Asks control and passes its answer on. Not counted as a proxied request.
pub(super) async fn call(context: Rc<Context>, door: mpsc::Sender<CourseCall>, request: Request) -> Response {
    let Request { head, mut body, .. } = request;
    let reply = match timeout(ANSWER_WITHIN, ask(&context, door, &head, &mut body)).await {
        Ok(reply) => reply,
        Err(_) => reply::failure(StatusCode::GATEWAY_TIMEOUT, "the change took too long"),
    };
    Response::own(reply, None, !body.has_ended())
}

async fn ask(context: &Context, door: mpsc::Sender<CourseCall>, head: &RequestHead, body: &mut RequestBody) -> Reply {
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
    let call = CourseCall { head, body, peer: context.peer.address, answer };
    if door.send(call).await.is_err() {
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
