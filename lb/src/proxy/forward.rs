//! One request, told from top to bottom: generation → route → key → pick → connection → send → stream back → finish once.
//!
//! Invariants: no generation is held over an await; every way out ends attempt and request exactly once (their guards see to it); an
//! attempt is repeated at most once, and only when the backend cannot have acted on it.

use std::convert::Infallible;
use std::rc::Rc;

use bytes::Bytes;
use http::header::CONNECTION;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, response};
use hyper::body::{Body, Incoming};
use tokio::time::Instant;

use super::attempt::{Attempt, RequestGuard};
use super::body::{RequestBody, ResponseBody};
use super::choose::choose;
use super::client::Client;
use super::error::Failure;
use super::fields::Fields;
use super::request_id::X_REQUEST_ID;
use super::tunnel::Tunnel;
use super::upstream::{Patience, Upstream};
use super::view::Pool;
use super::{body, course, error, headers, notes};
use crate::access_log::Record;
use crate::generation::Settings;
use crate::pool::{Key, key};
use crate::telemetry::{ErrorReason, RetryReason};

/// What a backend answered, with all that has to be ended with it.
struct Answer {
    head: response::Parts,
    upstream: Box<Upstream>,
    attempt: Attempt,
}

/// Whether the connection ends with the answer, as HTTP/1.0 has it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Closing {
    /// HTTP/1.1: hyper knows, and says so.
    Unsaid,
    /// HTTP/1.0, but the client wants the connection to stay: it does if the answer tells its length.
    WithoutLength,
    Always,
}

/// What an attempt failed of.
struct Failed {
    failure: Failure,
    /// Set where the backend cannot have acted on it.
    again: Option<Again>,
}

/// What a second attempt needs.
struct Again {
    reason: RetryReason,
    body: RequestBody,
    /// The backend that failed, by its number in the contract.
    tried: u64,
}

/// What stays the same over the attempts of one request.
struct Circumstances<'a> {
    client: &'a Rc<Client>,
    pool: &'a Rc<Pool>,
    settings: &'a Settings,
    key: Option<Key>,
    started: Instant,
}

/// Answers one request; errors are answers, too.
pub(super) async fn serve(
    client: Rc<Client>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let started = Instant::now();
    let closing = Closing::of(&request);
    if let Some(door) = course::door(&client, &request) {
        let mut response = course::call(&client, door, request).await;
        closing.tell(&mut response);
        return Ok(response);
    }
    let (mut parts, body) = request.into_parts();
    let (pool, settings, route) = {
        let view = client.worker.view.borrow();
        let route = headers::path(&parts).map(|path| view.generation.route(headers::host(&parts), &path));
        (view.pools[route.unwrap_or(0)].clone(), view.settings.clone(), route)
    };
    let id = settings.request_id.then(|| client.worker.settle_request_id(&mut parts.headers));
    let mut guard = RequestGuard::begin(client.clone(), pool.clone(), parts.method.clone(), started);
    guard.record = notes::begin(&client, &pool, &settings, &parts, id.as_ref(), started);
    let missing_path = (settings.missing_path_is_400 && parts.method == Method::GET).then(|| parts.uri.clone());
    let answer = match route {
        Ok(_) => get_answer(&client, &pool, &settings, parts, body, &mut guard).await,
        Err(failure) => Err(failure),
    };
    let explanation = notes::explanation(guard.record.as_deref(), answer.as_ref().err().copied());
    let mut response = match answer {
        Ok(answer) if answer.head.status == StatusCode::SWITCHING_PROTOCOLS => switch(&client, answer, guard),
        Ok(answer) => match missing_path {
            Some(uri) if answer.head.status == StatusCode::NOT_FOUND => {
                missing(&client, &settings, answer, guard, uri.path()).await
            }
            _ => pass_on(&client, answer, guard),
        },
        Err(failure) => refuse(failure, guard),
    };
    closing.tell(&mut response);
    if let Some(id) = id {
        response.headers_mut().insert(&X_REQUEST_ID, id);
    }
    if let Some(explanation) = explanation {
        response.headers_mut().insert(&notes::X_LB_EXPLAIN, explanation);
    }
    Ok(response)
}

/// Attempts until there is an answer or nothing more to try.
async fn get_answer(
    client: &Rc<Client>,
    pool: &Rc<Pool>,
    settings: &Settings,
    mut parts: Parts,
    body: Incoming,
    guard: &mut RequestGuard,
) -> Result<Answer, Failure> {
    let fields = Fields::of(&parts.headers);
    let length = body.size_hint().exact();
    headers::check(&parts, fields, length, settings)?;
    if let (Some(most), Some(length)) = (settings.limits.body_bytes, length)
        && length > most
    {
        return Err(Failure::new(ErrorReason::BodyTooLarge, "the request's body is longer than allowed"));
    }
    let key = take_key(client, pool, &parts);
    let has_body = !body.is_end_stream();
    let asked = headers::forward_request(&mut parts, fields, has_body, client, settings);
    client.body_failure.set(None);
    let body = if has_body {
        RequestBody::new(body, settings.limits.body_bytes, client, pool)
    } else {
        RequestBody::empty(client, pool)
    };
    let circumstances = Circumstances { client, pool, settings, key, started: guard.started };
    let record = &mut guard.record;
    let may_repeat = settings.limits.retries > 0;
    let first = attempt(&circumstances, &parts, body, None, may_repeat, record).await;
    let answer = match first {
        Err(Failed { failure, again: Some(again) }) => {
            let before = Some((again.reason, again.tried));
            match attempt(&circumstances, &parts, again.body, before, false, record).await {
                // Nobody else was there: what the first one failed of says more.
                Err(second) if second.failure.reason == ErrorReason::NoBackend => return Err(failure),
                second => second,
            }
        }
        first => first,
    };
    let mut answer = answer.map_err(|failed| failed.failure)?;
    if answer.head.status == StatusCode::SWITCHING_PROTOCOLS && !headers::is_asked(asked.as_ref(), &answer.head.headers)
    {
        answer.attempt.fail(ErrorReason::BadResponse);
        return Err(Failure::new(
            ErrorReason::BadResponse,
            "the backend switched to a protocol that it was not asked for",
        ));
    }
    Ok(answer)
}

/// One try on one backend. `before`: why and on whom the first one failed.
async fn attempt(
    circumstances: &Circumstances<'_>,
    head: &Parts,
    body: RequestBody,
    before: Option<(RetryReason, u64)>,
    may_repeat: bool,
    record: &mut Option<Box<Record>>,
) -> Result<Answer, Failed> {
    let Circumstances { client, pool, settings, key, started } = circumstances;
    let number = u32::from(before.is_some());
    let now = if before.is_none() { *started } else { Instant::now() };
    let began = record.is_some().then(Instant::now);
    let pick = |tried| choose(client, pool, key.as_ref(), &head.headers, number, tried, now);
    let picked = match (pick(before.map(|(_, tried)| tried)), before) {
        // A connection died of age, its backend did not: without another backend it may try again.
        (Err(_), Some((RetryReason::ReusedConnection, _))) => pick(None),
        (picked, _) => picked,
    };
    if let (Some(record), Some(began)) = (&mut *record, began) {
        notes::note_pick(record, client, pool, key.as_ref(), picked.as_ref(), began.elapsed());
    }
    let picked = picked.map_err(|failure| Failed { failure, again: None })?;
    if let Some((reason, _)) = before {
        pool.count(client.listener, |shard| shard.retry(reason));
    }

    let mut attempt = Attempt::begin(Rc::clone(client), Rc::clone(pool), picked, number, now);
    let member = attempt.member.clone();
    let tried = member.backend.number;
    let repeatable = may_repeat && head.method.is_idempotent() && body.is_end_stream();
    let began = record.is_some().then(Instant::now);
    // A second attempt takes no chance with a kept connection.
    let upstream = match before {
        None => Upstream::get(&member, settings, now, !repeatable).await,
        Some(_) => Upstream::connect(&member, settings).await,
    };
    if let (Some(record), Some(began), true) =
        (&mut *record, began, upstream.as_ref().map_or(true, |upstream| !upstream.reused))
    {
        record.connect_ns = Some(began.elapsed().as_nanos() as u64);
    }
    let mut upstream = match upstream {
        Ok(upstream) => upstream,
        Err(reason) => {
            // Our own lack of descriptors is no fault of the backend's.
            if reason == ErrorReason::Overload {
                attempt.not_sent(reason)
            } else {
                attempt.fail(reason)
            }
            let again = may_repeat.then_some(Again { reason: RetryReason::NotSent, body, tried });
            return Err(Failed { failure: failure(reason), again });
        }
    };
    let total = settings.timeouts.total.map(|total| *started + total);
    let patience = Patience { client, settings, started: now, total };
    match upstream.send(head, body, &member.backend.address, &patience).await {
        Ok(head) => {
            let now = Instant::now();
            attempt.head(head.status.as_u16(), now);
            if let Some(record) = record {
                record.head_ns = Some((now - attempt.started).as_nanos() as u64);
            }
            Ok(Answer { head, upstream, attempt })
        }
        Err(error) => {
            let again = match error.unsent {
                Some(body) if may_repeat => Some(Again { reason: RetryReason::NotSent, body, tried }),
                None if repeatable && upstream.reused && error.no_answer => {
                    let body = RequestBody::empty(client, pool);
                    Some(Again { reason: RetryReason::ReusedConnection, body, tried })
                }
                _ => None,
            };
            if again.is_some() {
                attempt.not_sent(error.reason)
            } else {
                attempt.fail(error.reason)
            }
            Err(Failed { failure: failure(error.reason), again })
        }
    }
}

fn take_key(client: &Client, pool: &Pool, parts: &Parts) -> Option<Key> {
    let current = pool.current();
    let shared = &current.as_ref()?.shared;
    if !shared.wants_hash {
        return None;
    }
    let mut random = client.worker.random.borrow_mut();
    key::of(&shared.hash_on, shared.hash, &parts.uri, &parts.headers, &client.peer_text, &mut random)
}

fn pass_on(client: &Rc<Client>, answer: Answer, guard: RequestGuard) -> Response<ResponseBody> {
    let Answer { mut head, upstream, attempt } = answer;
    headers::forward_response(head.status, &mut head.headers);
    // Each hop speaks its own version: a backend of HTTP/1.0 must not cost the client its connection.
    head.version = Version::HTTP_11;
    let status = head.status.as_u16();
    Response::from_parts(head, ResponseBody::streamed(upstream, attempt, guard, client.clone(), status))
}

/// The course's rule: a backend's 404 to a GET becomes 400 with the sheet's words. The backend's own words are read and dropped, so
/// that the connection stays; the request is over when the client has ours.
async fn missing(
    client: &Rc<Client>,
    settings: &Settings,
    answer: Answer,
    guard: RequestGuard,
    path: &str,
) -> Response<ResponseBody> {
    let Answer { upstream, attempt, .. } = answer;
    let total = settings.timeouts.total.map(|total| guard.started + total);
    body::discard(upstream, attempt, client, settings.timeouts.idle, total).await;
    let status = StatusCode::BAD_REQUEST;
    error::json(status, &format!("'{path}' endpoint does not exist in server replicas"))
        .map(|body| ResponseBody::own(body, guard, status.as_u16(), None))
}

/// A tunnel begins: hyper sends the 101, then the connection's task takes over.
fn switch(client: &Rc<Client>, answer: Answer, guard: RequestGuard) -> Response<ResponseBody> {
    let Answer { mut head, upstream, mut attempt } = answer;
    headers::forward_response(head.status, &mut head.headers);
    let (socket, early, in_use) = upstream.into_socket();
    attempt.upgrade();
    *client.tunnel.borrow_mut() = Some(Tunnel { upstream: socket, early, attempt, guard, _in_use: in_use });
    Response::from_parts(head, ResponseBody::uncounted(Bytes::new()))
}

fn refuse(failure: Failure, guard: RequestGuard) -> Response<ResponseBody> {
    let status = failure.status().as_u16();
    failure.response().map(|body| ResponseBody::own(body, guard, status, Some(failure.reason)))
}

fn failure(reason: ErrorReason) -> Failure {
    let sentence = match reason {
        ErrorReason::Connect => "the backend cannot be reached",
        ErrorReason::ConnectTimeout => "the connection to the backend was not made in time",
        ErrorReason::Timeout => "the backend did not answer in time",
        ErrorReason::BadResponse => "the backend's answer is not HTTP",
        ErrorReason::ClientTimeout => "the request's body did not arrive in time",
        ErrorReason::BodyTooLarge => "the request's body is longer than allowed",
        ErrorReason::ClientAbort => "the request's body broke off",
        ErrorReason::BadRequest => "the request's body is not what its head says",
        ErrorReason::Overload => "the load balancer has no descriptor left for a connection to the backend",
        _ => "the backend closed the connection without an answer",
    };
    Failure::new(reason, sentence)
}

// === impl Closing ===

impl Closing {
    fn of<B>(request: &Request<B>) -> Self {
        match request.version() {
            Version::HTTP_10 if headers::asks_to_stay(request.headers()) => Self::WithoutLength,
            Version::HTTP_10 => Self::Always,
            _ => Self::Unsaid,
        }
    }

    /// hyper ends such a connection without a word. In an answer of HTTP/1.1 it would even promise to keep it.
    fn tell(self, response: &mut Response<ResponseBody>) {
        let is_last = match self {
            Self::Unsaid => false,
            Self::WithoutLength => response.body().size_hint().exact().is_none(),
            Self::Always => true,
        };
        if is_last {
            *response.version_mut() = Version::HTTP_10;
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }
}
