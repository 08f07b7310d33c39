//! The routes of the admin port.
//!
//! Invariants: [`ROUTES`] is the only list of routes and methods. The body of a GET or HEAD is not read; of any other
//! body at most [`BODY_BYTES_MAX`] bytes are used.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, HOST, HeaderValue, RETRY_AFTER};
use http::{Method, Request, Response, StatusCode, request};
use http_body_util::{BodyExt, Either, Full, LengthLimitError, Limited};
use hyper::body::Incoming;

use super::answer::Answer;
use super::backends::{Target, pool_of};
use super::events::{Events, last_seen};
use super::index::INDEX;
use super::places::Place;
use super::server::Shared;
use super::{explain, health, openapi, page, reload, strategies};
use crate::config::DEFAULT_POOL;
use crate::course;
use crate::telemetry::CONTENT_TYPE;

/// 1 MiB: ten thousand backends fit.
const BODY_BYTES_MAX: usize = 1 << 20;
/// The time limit for a body to arrive.
const BODY_TIME_MAX: Duration = Duration::from_secs(10);
/// The limit on bytes read and dropped of a body that is too large; see [`discard`].
const DISCARD_BYTES_MAX: usize = 16 << 20;
const DISCARD_TIME_MAX: Duration = Duration::from_secs(2);

/// Every route with its methods. `{id}` stands for one segment.
pub(super) const ROUTES: [(&str, &str); 21] = [
    ("/", "GET, HEAD"),
    ("/openapi.json", "GET, HEAD"),
    ("/rep", "GET, HEAD"),
    ("/add", "POST"),
    ("/rm", "DELETE"),
    ("/metrics", "GET, HEAD"),
    ("/healthz", "GET, HEAD"),
    ("/readyz", "GET, HEAD"),
    ("/status", "GET, HEAD"),
    ("/backends", "GET, HEAD"),
    ("/explain", "GET, HEAD"),
    ("/strategies", "GET, HEAD"),
    ("/ring", "GET, HEAD"),
    ("/events", "GET"),
    ("/reload", "POST"),
    ("/rollback", "POST"),
    ("/login", "POST, GET, HEAD"),
    ("/logout", "POST"),
    ("/backends/{id}/drain", "POST"),
    ("/backends/{id}/ready", "POST"),
    ("/backends/{id}/weight", "POST"),
];

/// The routes that a reserved place serves.
const KEPT_FREE_FOR: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// A whole body, or a stream of events.
pub(super) type Body = Either<Full<Bytes>, Events>;

/// The response to one request from `peer`.
pub(super) async fn respond(
    shared: &Shared,
    peer: IpAddr,
    place: &Place,
    request: Request<Incoming>,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    let answer = match allowed(shared, place, &head) {
        Ok(()) if head.uri.path() == "/events" => match shared.feed.join(last_seen(&head.headers)) {
            Ok(events) => {
                place.set_busy();
                return events.into_response().map(Either::Right);
            }
            Err(answer) => answer,
        },
        Ok(()) => match read(&head, body).await {
            Ok(body) => {
                place.set_busy();
                route(shared, &head, &body).await
            }
            Err(answer) => answer,
        },
        Err(refused) => page::or_login(&head, refused),
    };
    let is_refused = answer.status == StatusCode::UNAUTHORIZED;
    let is_guess = is_refused && (head.uri.path() == "/login" || head.headers.contains_key(AUTHORIZATION));
    if is_refused && (is_guess || !is_reading(&head.method)) {
        shared.brake.tell();
    } else if !is_reading(&head.method) {
        let (method, path) = (&head.method, head.uri.path());
        tracing::info!(%method, path, status = answer.status.as_u16(), "admin request");
    }
    let mut answer = if is_guess {
        place.set_held_back();
        shared.brake.slow(peer, answer).await
    } else {
        place.set_idle();
        answer
    };
    if place.is_reserved() {
        answer.headers.push((CONNECTION, HeaderValue::from_static("close")));
    }
    answer.into_response().map(Either::Left)
}

/// While all other places are in use by connections that are not idle, only probes and scrapes are served.
fn has_room(place: &Place, path: &str) -> Result<(), Answer> {
    if !place.is_reserved() || KEPT_FREE_FOR.contains(&path) {
        return Ok(());
    }
    let sentence = "too many requests to the admin port are under way: only probes and scrapes are answered meanwhile";
    let answer = Answer::failure(StatusCode::SERVICE_UNAVAILABLE, sentence);
    Err(Answer { headers: vec![(RETRY_AFTER, HeaderValue::from_static("1"))], ..answer })
}

/// Refuses a request that the guard refuses, that names no route, or that has a wrong method or query. The guard is
/// first, so a client without access cannot learn which routes exist.
fn allowed(shared: &Shared, place: &Place, head: &request::Parts) -> Result<(), Answer> {
    has_room(place, head.uri.path())?;
    shared.guard.check(head)?;
    match methods_of(head.uri.path()) {
        None => {
            let sentence = format!("there is nothing at {}; GET / lists what there is", head.uri.path());
            Err(Answer::failure(StatusCode::NOT_FOUND, &sentence))
        }
        Some(methods) if !methods.split(", ").any(|method| method == head.method.as_str()) => {
            Err(Answer::wrong_method(head.uri.path(), methods))
        }
        Some(_) => takes_query(head.uri.path(), head.uri.query()),
    }
}

/// A course route refuses any query. Otherwise lb would ignore `?pool=NAME` and change the pool `default`.
fn takes_query(path: &str, query: Option<&str>) -> Result<(), Answer> {
    match query {
        Some(query) if !query.is_empty() && course::allowed_methods(path).is_some() => {
            let sentence = format!("{path} takes no query: it is about the pool {DEFAULT_POOL} and no other");
            Err(Answer::failure(StatusCode::BAD_REQUEST, &sentence))
        }
        _ => Ok(()),
    }
}

fn methods_of(path: &str) -> Option<&'static str> {
    let is_served = |route: &str| match route.split_once("{id}") {
        None => route == path,
        Some((_, action)) => Target::of(path).is_some() && path.ends_with(action),
    };
    ROUTES.iter().find(|(route, _)| is_served(route)).map(|(_, methods)| *methods)
}

async fn route(shared: &Shared, head: &request::Parts, body: &[u8]) -> Answer {
    let path = head.uri.path();
    match path {
        "/" if page::is_wanted(head) => page::page(),
        "/" => page::vary(Answer::text(StatusCode::OK, index_for(head))),
        "/openapi.json" => openapi::answer(&shared.guard),
        "/metrics" => Answer { content_type: CONTENT_TYPE, ..Answer::text(StatusCode::OK, shared.metrics.render()) },
        "/healthz" => health::healthz(shared).await,
        "/readyz" => health::readyz(shared),
        "/status" => shared.handle.status().await.map_or_else(Answer::from, |status| Answer::json(&status)),
        "/backends" => shared.handle.backends().await.map_or_else(Answer::from, |backends| Answer::json(&backends)),
        "/explain" => explain::answer(&shared.handle, head.uri.query()).await,
        "/strategies" => strategies::list(&shared.handle).await,
        "/ring" => strategies::ring(&shared.handle, head.uri.query()).await,
        "/reload" => reload::answer(&shared.handle, head.uri.query(), body, shared.guard.has_token()).await,
        "/rollback" => reload::answer_rollback(&shared.handle, head.uri.query()).await,
        "/login" if is_reading(&head.method) => page::home(None),
        "/login" => page::login(&shared.guard, body),
        "/logout" => page::logout(&shared.guard, &head.headers),
        "/rep" | "/add" | "/rm" => course::answer(&shared.handle, &head.method, path, body).await.into(),
        _ => change(shared, head, body).await,
    }
}

/// The index. Its commands use the host that the client's request names.
fn index_for(head: &request::Parts) -> String {
    let host = head.headers.get(HOST).and_then(|host| host.to_str().ok());
    INDEX.replace("HOST", host.unwrap_or("HOST"))
}

async fn change(shared: &Shared, head: &request::Parts, body: &[u8]) -> Answer {
    let bad = |sentence: String| Answer::failure(StatusCode::BAD_REQUEST, &sentence);
    let Some(target) = Target::of(head.uri.path()) else {
        return Answer::failure(StatusCode::NOT_FOUND, "there is nothing here");
    };
    let pool = match pool_of(head.uri.query()) {
        Ok(pool) => pool,
        Err(sentence) => return bad(sentence),
    };
    let change = match target.action.change(body) {
        Ok(change) => change,
        Err(sentence) => return bad(sentence),
    };
    match shared.handle.change(&pool, &target.id, change).await {
        Ok(backend) => Answer::json(&backend),
        Err(error) => error.into(),
    }
}

/// The whole body of a change. The body of a GET or HEAD has no meaning and is not read.
async fn read(head: &request::Parts, body: Incoming) -> Result<Bytes, Answer> {
    if is_reading(&head.method) {
        return Ok(Bytes::new());
    }
    let too_large = || {
        let sentence = format!("the body is longer than {BODY_BYTES_MAX} bytes");
        Answer::failure(StatusCode::PAYLOAD_TOO_LARGE, &sentence)
    };
    let mut body = body;
    match tokio::time::timeout(BODY_TIME_MAX, Limited::new(&mut body, BODY_BYTES_MAX).collect()).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            discard(body).await;
            Err(too_large())
        }
        Ok(Err(_)) => Err(Answer::failure(StatusCode::BAD_REQUEST, "the body broke off")),
        Err(_) => Err(Answer::failure(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time")),
    }
}

/// Reads and drops more of the body, within limits. If the connection closed while the client sends, the client would
/// get a reset in place of the response.
async fn discard(mut body: Incoming) {
    let some = async {
        let mut left = DISCARD_BYTES_MAX;
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(DISCARD_TIME_MAX, some).await;
}

fn is_reading(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::places::Places;

    #[test]
    fn every_route_has_its_methods_and_nothing_else_is_served() {
        for (route, methods) in ROUTES {
            assert_eq!(methods_of(&route.replace("{id}", "Server%201")), Some(methods), "{route}");
        }
        for path in ["/rep/", "/REP", "/backends/", "/backends/a", "/backends/a/drian", "/page", "//rep"] {
            assert_eq!(methods_of(path), None, "{path}");
        }
    }

    #[test]
    fn a_reserved_place_serves_only_probes_and_scrapes() {
        let places = Places::default();
        let take = || places.take([10, 0, 0, 1].into()).inspect(Place::set_busy).unwrap();
        let all: Vec<Place> = std::iter::repeat_with(take).take_while(|place| !place.is_reserved()).collect();
        let kept = take();
        for path in ["/healthz", "/readyz", "/metrics"] {
            assert_eq!((has_room(&kept, path), has_room(&all[0], path)), (Ok(()), Ok(())), "{path}");
        }
        for path in ["/", "/status", "/login", "/healthz/", "/events"] {
            let refused = has_room(&kept, path).unwrap_err();
            assert_eq!((refused.status, refused.headers.len()), (StatusCode::SERVICE_UNAVAILABLE, 1), "{path}");
            assert_eq!(has_room(&all[0], path), Ok(()), "{path}");
        }
    }

    #[test]
    fn a_course_route_has_the_methods_of_the_course() {
        for path in ["/rep", "/add", "/rm"] {
            assert_eq!(course::allowed_methods(path), methods_of(path));
        }
    }

    #[test]
    fn a_course_route_takes_no_query() {
        for path in ["/rep", "/add", "/rm"] {
            assert_eq!(takes_query(path, Some("pool=api")).unwrap_err().status, 400, "{path}");
            assert_eq!((takes_query(path, None), takes_query(path, Some(""))), (Ok(()), Ok(())), "{path}");
        }
        for path in ["/backends/b1/drain", "/metrics", "/"] {
            assert_eq!(takes_query(path, Some("pool=api")), Ok(()), "{path}");
        }
    }

    #[test]
    fn the_index_names_every_route() {
        for (route, methods) in ROUTES.iter().filter(|(route, _)| *route != "/") {
            let method = methods.split(", ").next().unwrap_or_default();
            let named = INDEX.lines().any(|line| line.split_whitespace().take(2).eq([method, *route]));
            assert!(named, "{method} {route}");
        }
    }
}
