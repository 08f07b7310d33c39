//! The assignment: the routes `/rep`, `/add` and `/rm`, with the response bodies of its sheet.
//!
//! Both ports use [`answer`]. The admin port calls it directly; the proxy's port sends [`Call`]s to [`serve_calls`],
//! which calls it. Parsing and formatting are pure. `control::membership` carries the commands out.
//! Invariants: bodies are compact JSON in the sheet's key order. A wrong body changes nothing, and the response names
//! the mistake in one sentence.

mod body;
mod calls;
mod json;
mod response;

use bytes::Bytes;
use http::{Method, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::mpsc;

pub(crate) use body::{DEADLINE_MS_MAX, deadline, kind, weight};
pub use body::{parse_add, parse_remove};
pub use calls::serve_calls;
pub(crate) use response::{Failure, failure_body, status_of, takes, to_json};

use crate::control::{ControlError, Handle, Replicas};
use crate::generation::{Call, CallAnswer, OwnRoutes};

/// The message that replaces a backend's 404, in the sheet's words.
pub const MISSING_PATH: &str = "'{path}' endpoint does not exist in server replicas";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Rep,
    Add,
    Rm,
}

/// The sheet's body for success.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Success<'a> {
    message: Message<'a>,
    status: &'static str,
}

#[derive(Serialize, JsonSchema)]
struct Message<'a> {
    #[serde(rename = "N")]
    n: usize,
    replicas: &'a [String],
}

/// The routes of the course on the proxy's port. [`serve_calls`] receives from `calls`.
pub fn own_routes(calls: mpsc::Sender<Call>) -> OwnRoutes {
    OwnRoutes { paths: &["/rep", "/add", "/rm"], calls }
}

/// The methods of a route of the course; `None` for any other path.
pub fn allowed_methods(path: &str) -> Option<&'static str> {
    Some(match Route::of(path)? {
        Route::Rep => "GET, HEAD",
        Route::Add => "POST",
        Route::Rm => "DELETE",
    })
}

/// Carries the command out and returns the sheet's response.
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
}
