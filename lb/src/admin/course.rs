//! The course's routes `/rep`, `/add` and `/rm`, byte for byte as its sheet has them.
//!
//! One place for both ports: the admin server asks [`answer`], and the proxy's port sends [`Call`]s that [`serve_calls`]
//! answers. Parsing and formatting are pure. Invariants: bodies are compact JSON in the sheet's key order; a body with anything wrong in it
//! changes nothing and is told what is wrong in one sentence; a call by the proxy's port passes the admin port's rules on Host and origin.

mod body;

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub(super) use body::weight;
pub use body::{parse_add, parse_remove};

use super::answer::{Answer, failure_body, status_of, takes, to_json};
use super::guard::Guard;
use crate::control::{ControlError, Handle, Replicas};
use crate::generation::{Call, CallAnswer, OwnRoutes};

/// The message that replaces a backend's 404, in the sheet's words.
pub const MISSING_PATH: &str = "'{path}' endpoint does not exist in server replicas";

/// Calls from the proxy's port that are worked on at one time; more wait in the channel.
const CALLS_MAX: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Rep,
    Add,
    Rm,
}

/// The sheet's answer to success.
#[derive(Serialize)]
struct Success<'a> {
    message: Message<'a>,
    status: &'static str,
}

#[derive(Serialize)]
struct Message<'a> {
    #[serde(rename = "N")]
    n: usize,
    replicas: &'a [String],
}

/// The routes of the course on the proxy's port; `calls` is what [`serve_calls`] receives.
pub fn own_routes(calls: mpsc::Sender<Call>) -> OwnRoutes {
    OwnRoutes { paths: &["/rep", "/add", "/rm"], calls }
}

/// Answers calls until their sender, the hall's generations, is gone.
pub async fn serve_calls(mut calls: mpsc::Receiver<Call>, handle: Handle) {
    let guard = Arc::new(Guard::new(None, 0));
    let mut working = JoinSet::new();
    while let Some(call) = calls.recv().await {
        while working.try_join_next().is_some() {}
        if working.len() >= CALLS_MAX {
            working.join_next().await;
        }
        let (handle, guard) = (handle.clone(), guard.clone());
        // each in its own task: an /add that waits for a replica must not hold up a /rep
        working.spawn(async move {
            let (method, path) = (&call.head.method, call.head.uri.path());
            let answer = match guard.check_visitor(&call.head) {
                Ok(()) => answer(&handle, method, path, &call.body).await,
                Err(Answer { status, body, .. }) => CallAnswer { status, body, allow: None },
            };
            if method != Method::GET {
                tracing::info!(peer = %call.peer, %method, path, status = answer.status.as_u16(), "course call");
            }
            let _ = call.answer.send(answer);
        });
    }
    while working.join_next().await.is_some() {}
}

/// What the methods of a course route are; `None` when `path` is none.
pub fn allowed_methods(path: &str) -> Option<&'static str> {
    Some(match Route::of(path)? {
        Route::Rep => "GET, HEAD",
        Route::Add => "POST",
        Route::Rm => "DELETE",
    })
}

/// Does what is asked and says how it went.
pub async fn answer(handle: &Handle, method: &Method, path: &str, body: &[u8]) -> CallAnswer {
    let Some(route) = Route::of(path) else {
        return failure(StatusCode::NOT_FOUND, &format!("no such route {path}"));
    };
    let done = match (route, method) {
        (Route::Rep, &Method::GET | &Method::HEAD) => handle.replicas().await,
        (Route::Add, &Method::POST) => match parse_add(body) {
            Ok(add) => handle.add(add).await,
            Err(sentence) => Err(ControlError::Refused(sentence)),
        },
        (Route::Rm, &Method::DELETE) => match parse_remove(body) {
            Ok(remove) => handle.remove(remove).await,
            Err(sentence) => Err(ControlError::Refused(sentence)),
        },
        _ => {
            let allow = allowed_methods(path);
            let sentence = takes(path, allow.unwrap_or_default());
            return CallAnswer { allow, ..failure(StatusCode::METHOD_NOT_ALLOWED, &sentence) };
        }
    };
    match done {
        Ok(replicas) => CallAnswer { status: StatusCode::OK, body: success_body(&replicas), allow: None },
        Err(error) => failure(status_of(&error), &error.to_string()),
    }
}

/// The sheet's body for success.
fn success_body(replicas: &Replicas) -> Bytes {
    let message = Message { n: replicas.0.len(), replicas: &replicas.0 };
    to_json(&Success { message, status: "successful" })
}

fn failure(status: StatusCode, sentence: &str) -> CallAnswer {
    CallAnswer { status, body: failure_body(sentence), allow: None }
}

// === impl Route ===

impl Route {
    fn of(path: &str) -> Option<Self> {
        match path {
            "/rep" => Some(Self::Rep),
            "/add" => Some(Self::Add),
            "/rm" => Some(Self::Rm),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn success_is_the_sheets_bytes() {
        let three = Replicas(["Server 1", "Server 2", "Server 3"].map(String::from).to_vec());
        assert_eq!(
            success_body(&three),
            r#"{"message":{"N":3,"replicas":["Server 1","Server 2","Server 3"]},"status":"successful"}"#
        );
        assert_eq!(success_body(&Replicas(vec![])), r#"{"message":{"N":0,"replicas":[]},"status":"successful"}"#);
    }

    #[test]
    fn every_refusal_of_control_has_its_status() {
        let sentence = || "no".to_owned();
        let statuses = [
            (ControlError::Refused(sentence()), 400),
            (ControlError::NotFound(sentence()), 404),
            (ControlError::Failed(sentence()), 500),
            (ControlError::Stopping, 503),
        ];
        for (error, status) in statuses {
            assert_eq!(status_of(&error), status, "{error}");
        }
    }
}
