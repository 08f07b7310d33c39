//! The path of a request that is work, from its arrival to its response.
//!
//! Arrival (counted, a lot drawn) → body read whole → stall → refused? → failure at once? → queue → service time →
//! stall → failure? → response.
//!
//! Reasons for this order: the lot is drawn at the arrival, so the order of service does not change it. The body is
//! read before the queue, so that a client that goes away while it waits is noticed. A refused request takes no worker.

use std::rc::Rc;
use std::time::{Duration, Instant};

use http::header::{ALLOW, CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use crate::answer::{self, Answer, AnswerBody, JSON, X_MOCK_ERROR};
use crate::counters::{Outcome, add};
use crate::echo;
use crate::endpoint::Endpoint;
use crate::service_time::SERVICE_TIME_MAX;
use crate::shared::Session;
use crate::stream::{Plan, Stream};

/// The service time of one request, in microseconds, instead of the drawn one.
const X_SERVICE_TIME_US: &str = "x-service-time-us";

/// The task for a worker.
enum Task {
    Home,
    Upload,
    Stream(Plan),
    Echo,
    Status(StatusCode),
    Headers,
    Close,
}

/// The response to one request that is work.
pub(crate) async fn serve(session: &Rc<Session>, endpoint: Endpoint, mut request: Request<Incoming>) -> Answer {
    let (local, shared) = (&session.local, &session.local.shared);
    let arrival = shared.counters.arrival();
    let lot = local.generator.borrow_mut().next_lot(shared.options.service_time);

    let Ok(received) = drain(request.body_mut(), &shared.counters.body_bytes_received).await else {
        // The client went away; the arrival's drop counts the request as abandoned.
        return answer::error(StatusCode::BAD_REQUEST, "the request's body broke off");
    };
    shared.switches.until_not_stalled().await;

    let planned = asked_time(request.headers()).and_then(|asked| Ok((asked, plan(endpoint, &request)?)));
    let (asked, task) = match planned {
        Ok(planned) => planned,
        Err(refusal) => {
            arrival.end(Outcome::Refused);
            return count_sent(session, &request, *refusal);
        }
    };
    if shared.switches.fails_at_once(lot.failure_draw) {
        arrival.end(Outcome::Failed);
        return count_sent(session, &request, failure());
    }
    let Ok(slot) = local.gate.enter().await else {
        arrival.end(Outcome::Rejected);
        let mut answer = answer::error(StatusCode::SERVICE_UNAVAILABLE, "the queue is full");
        answer.headers_mut().insert(X_MOCK_ERROR, HeaderValue::from_static("queue_full"));
        return count_sent(session, &request, answer);
    };
    spend(session, asked.unwrap_or(lot.service_time)).await;
    shared.switches.until_not_stalled().await;

    let mut answer = if shared.switches.fails(lot.failure_draw) {
        arrival.end(Outcome::Failed);
        failure()
    } else {
        arrival.end(Outcome::Served);
        perform(session, task, &mut request, received)
    };
    // A tunnel does not keep a worker busy: it may stay open for days.
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        answer.body_mut().hold(slot);
    }
    count_sent(session, &request, answer)
}

fn failure() -> Answer {
    let mut answer = answer::error(StatusCode::INTERNAL_SERVER_ERROR, "injected failure");
    answer.headers_mut().insert(X_MOCK_ERROR, HeaderValue::from_static("failure"));
    answer
}

/// Reads a body to its end and returns its length.
async fn drain(body: &mut Incoming, received: &std::sync::atomic::AtomicU64) -> hyper::Result<u64> {
    let mut len = 0;
    while !body.is_end_stream() {
        let Some(frame) = body.frame().await else { break };
        let data_len = frame?.data_ref().map_or(0, |data| data.len() as u64);
        add(received, data_len);
        len += data_len;
    }
    Ok(len)
}

/// The service time in the request's header, if it has one.
fn asked_time(headers: &HeaderMap) -> Result<Option<Duration>, Box<Answer>> {
    let Some(value) = headers.get(X_SERVICE_TIME_US) else { return Ok(None) };
    let us = value.to_str().ok().and_then(|text| text.parse::<u64>().ok());
    match us.map(Duration::from_micros).filter(|time| *time <= SERVICE_TIME_MAX) {
        Some(time) => Ok(Some(time)),
        None => Err(Box::new(answer::error(
            StatusCode::BAD_REQUEST,
            "x-service-time-us must be a whole number of microseconds, at most an hour",
        ))),
    }
}

/// The request's task, or the response that refuses it.
fn plan(endpoint: Endpoint, request: &Request<Incoming>) -> Result<Task, Box<Answer>> {
    if !endpoint.allows(request.method()) {
        return Err(Box::new(method_not_allowed(endpoint, request.method())));
    }
    let path = request.uri().path();
    let bad_request = |reason: &str| Box::new(answer::error(StatusCode::BAD_REQUEST, reason));
    match endpoint {
        Endpoint::Home => Ok(Task::Home),
        Endpoint::Upload => Ok(Task::Upload),
        Endpoint::Headers => Ok(Task::Headers),
        Endpoint::Close => Ok(Task::Close),
        Endpoint::Stream => match Plan::parse(request.uri().query()) {
            Ok(plan) => Ok(Task::Stream(plan)),
            Err(error) => Err(bad_request(&error.to_string())),
        },
        Endpoint::Status => {
            let code = path.strip_prefix("/status/").and_then(|code| code.parse::<u16>().ok());
            match code.filter(|code| (200..600).contains(code)).map(StatusCode::from_u16) {
                Some(Ok(code)) => Ok(Task::Status(code)),
                _ => Err(bad_request("/status/ takes a code from 200 to 599")),
            }
        }
        Endpoint::Echo if echo::is_asked_for(request.headers()) => Ok(Task::Echo),
        Endpoint::Echo => {
            let mut answer = answer::error(StatusCode::UPGRADE_REQUIRED, "/echo needs Upgrade: echo");
            answer.headers_mut().insert(UPGRADE, HeaderValue::from_static("echo"));
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
            Err(Box::new(answer))
        }
        Endpoint::Other
        | Endpoint::Heartbeat
        | Endpoint::Stats
        | Endpoint::Metrics
        | Endpoint::Control
        | Endpoint::Probe => {
            let reason = format!("'{path}' endpoint does not exist in server replicas");
            Err(Box::new(answer::error(StatusCode::NOT_FOUND, &reason)))
        }
    }
}

/// The 405, with what is allowed instead.
pub(crate) fn method_not_allowed(endpoint: Endpoint, method: &Method) -> Answer {
    let allow = endpoint.allow().unwrap_or_default();
    let reason = format!("{method} is not allowed here, only {allow}");
    let mut answer = answer::error(StatusCode::METHOD_NOT_ALLOWED, &reason);
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    answer
}

/// Keeps the worker busy for the service time, and records the error of that time.
async fn spend(session: &Session, base: Duration) {
    let shared = &session.local.shared;
    let time = shared.switches.effective(base);
    if time.is_zero() {
        return;
    }
    let deadline = Instant::now() + time;
    session.local.timer.sleep_until(deadline).await;
    shared.counters.service_time_error.record(deadline.elapsed());
}

fn perform(session: &Rc<Session>, task: Task, request: &mut Request<Incoming>, received: u64) -> Answer {
    match task {
        Task::Home => answer::ok(session.local.home.clone()),
        Task::Upload => answer::ok(format!(r#"{{"bytes":{received}}}"#)),
        Task::Stream(plan) => {
            let mut answer = answer::empty(StatusCode::OK);
            *answer.body_mut() = AnswerBody::stream(Stream::new(plan, session.clone()));
            answer
        }
        Task::Echo => echo::switch(session.clone(), hyper::upgrade::on(request)),
        Task::Status(code) => match code {
            StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED => answer::empty(code),
            _ => answer::with_type(code, JSON, format!(r#"{{"code":{}}}"#, code.as_u16())),
        },
        Task::Headers => {
            let pairs: Vec<_> = request
                .headers()
                .iter()
                .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes())))
                .collect();
            answer::ok(serde_json::json!(pairs).to_string())
        }
        Task::Close => {
            let mut answer = answer::ok(session.local.home.clone());
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            answer
        }
    }
}

/// Counts the bytes of a whole body. A stream counts its own bytes while it is sent.
fn count_sent(session: &Session, request: &Request<Incoming>, answer: Answer) -> Answer {
    if request.method() != Method::HEAD {
        add(&session.local.shared.counters.body_bytes_sent, answer.body().whole_len());
    }
    answer
}
