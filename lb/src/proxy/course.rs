//! The course's routes on the proxy's own port, where configured: the one thing on the request path that waits for control.
//!
//! Invariants: without the setting no generation carries the sender, and the paths are as any other; who may call them is decided where
//! they are answered, by the rules of the admin port, so the head goes along whole.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::body::ResponseBody;
use super::client::Client;
use super::error;
use crate::generation::CourseCall;

const BODY_MAX_BYTES: usize = 1 << 20;
/// `/add` waits for new replicas to answer a heartbeat.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// The way to the course's routes, when this request is for one of them.
pub(super) fn door(client: &Client, request: &Request<Incoming>) -> Option<mpsc::Sender<CourseCall>> {
    let view = client.worker.view.borrow();
    let door = view.generation.course.as_ref()?;
    matches!(request.uri().path(), "/rep" | "/add" | "/rm").then(|| door.clone())
}

/// Asks control and passes its answer on. Not counted as a proxied request.
pub(super) async fn call(
    client: &Rc<Client>,
    door: mpsc::Sender<CourseCall>,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    let response = match timeout(ANSWER_WITHIN, ask(client, door, request)).await {
        Ok(response) => response,
        Err(_) => error::json(StatusCode::GATEWAY_TIMEOUT, "the change took too long"),
    };
    client.request_ended(Instant::now());
    response.map(ResponseBody::uncounted)
}

async fn ask(client: &Client, door: mpsc::Sender<CourseCall>, request: Request<Incoming>) -> Response<Bytes> {
    let (parts, body) = request.into_parts();
    let within = client.worker.view.borrow().settings.timeouts.body_grace;
    let body = match timeout(within, Limited::new(body, BODY_MAX_BYTES).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => return error::json(StatusCode::PAYLOAD_TOO_LARGE, "Request payload is too large or broke off"),
        Err(_) => return error::json(StatusCode::REQUEST_TIMEOUT, "the request's body did not arrive in time"),
    };
    client.body_unread.set(false);
    let (answer, answered) = oneshot::channel();
    let call = CourseCall { head: parts, body, peer: client.peer, answer };
    if door.send(call).await.is_err() {
        return stopping();
    }
    let Ok(answer) = answered.await else { return stopping() };
    let length = HeaderValue::from(answer.body.len());
    let mut response = Response::new(answer.body);
    *response.status_mut() = answer.status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CONTENT_LENGTH, length);
    if let Some(allow) = answer.allow {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    }
    response
}

fn stopping() -> Response<Bytes> {
    error::json(StatusCode::SERVICE_UNAVAILABLE, "the load balancer is stopping")
}
