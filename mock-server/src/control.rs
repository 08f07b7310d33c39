//! The paths that are not work: `/heartbeat`, `/stats`, `/metrics`, `/control`, and the path of probes.
//!
//! They never queue, take no service time, draw no lot and are not counted as requests. So a reader of these paths does
//! not change the results of a run. A stalled server does not respond to heartbeats and probes. It does respond to
//! stats, metrics and control, because `/control` must be able to end the stall.

use std::rc::Rc;

use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;

use crate::answer::{self, Answer};
use crate::endpoint::Endpoint;
use crate::shared::{Session, Shared};
use crate::stats::{Stats, metrics_text};
use crate::switches::Change;
use crate::work::method_not_allowed;

const BODY_MAX_BYTES: usize = 64 * 1024;
/// Requests in service and waiting.
const IN_FLIGHT: HeaderName = HeaderName::from_static("x-in-flight");
/// The latency of [`Load`](crate::load::Load).
const LATENCY: HeaderName = HeaderName::from_static("x-latency-ms");

pub(crate) async fn serve(session: &Rc<Session>, endpoint: Endpoint, request: Request<Incoming>) -> Answer {
    let shared = &session.local.shared;
    if matches!(endpoint, Endpoint::Heartbeat | Endpoint::Probe) {
        shared.switches.until_not_stalled().await;
    }
    if !endpoint.allows(request.method()) {
        return method_not_allowed(endpoint, request.method());
    }
    match endpoint {
        Endpoint::Heartbeat => answer::empty(StatusCode::OK),
        Endpoint::Probe => probe(session),
        Endpoint::Metrics => {
            let mut answer = answer::ok(metrics_text(&Stats::of(shared)));
            answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4"));
            answer
        }
        Endpoint::Control if request.method() == Method::POST => change(shared, request.into_body()).await,
        Endpoint::Control => json(&shared.switches.state()),
        _ => json(&Stats::of(shared)),
    }
}

/// The load now: as JSON, and its numbers that a balancer compares also as headers.
fn probe(session: &Session) -> Answer {
    let load = session.local.load();
    let mut answer = json(&load);
    let headers = answer.headers_mut();
    headers.insert(IN_FLIGHT, HeaderValue::from(load.in_flight + load.queued));
    // A number in ASCII is always a value.
    if let Ok(latency) = HeaderValue::try_from(load.latency_ms.to_string()) {
        headers.insert(LATENCY, latency);
    }
    answer
}

/// Reads a change, applies all or nothing of it, and returns the new state.
async fn change(shared: &Shared, body: Incoming) -> Answer {
    let bad_request = |reason: &str| answer::error(StatusCode::BAD_REQUEST, reason);
    let body = match Limited::new(body, BODY_MAX_BYTES).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return bad_request(&error.to_string()),
    };
    let change: Change = match serde_json::from_slice(&body) {
        Ok(change) => change,
        Err(error) => return bad_request(&error.to_string()),
    };
    if let Err(error) = change.check() {
        return bad_request(&error.to_string());
    }
    shared.apply(&change);
    json(&shared.switches.state())
}

fn json(value: &impl serde::Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(body) => answer::ok(body),
        Err(error) => answer::error(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}
