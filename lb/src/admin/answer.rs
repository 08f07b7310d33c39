//! A response of the admin port, before it becomes HTTP.
//!
//! It exists so that routes are functions from a request to a value that a test can compare. Invariant: a failure is
//! always compact JSON, `message` before `status`. Its sentence has the prefix `<Error> ` exactly once, as the
//! course's sheet requires.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use http::{Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;

use crate::control::ControlError;
use crate::course::{failure_body, status_of, takes, to_json};
use crate::generation::CallAnswer;

pub(super) const JSON: &str = "application/json";
pub(super) const TEXT: &str = "text/plain; charset=utf-8";
pub(super) const HTML: &str = "text/html; charset=utf-8";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) body: Bytes,
    /// For 405.
    pub(super) allow: Option<&'static str>,
    /// Headers that only some responses have.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
}

// === impl Answer ===

impl Answer {
    pub(super) fn text(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self { status, content_type: TEXT, body: body.into(), allow: None, headers: Vec::new() }
    }

    pub(super) fn json(value: &impl Serialize) -> Self {
        Self { content_type: JSON, ..Self::text(StatusCode::OK, to_json(value)) }
    }

    pub(super) fn failure(status: StatusCode, sentence: &str) -> Self {
        Self { content_type: JSON, ..Self::text(status, failure_body(sentence)) }
    }

    pub(super) fn wrong_method(path: &str, allow: &'static str) -> Self {
        Self { allow: Some(allow), ..Self::failure(StatusCode::METHOD_NOT_ALLOWED, &takes(path, allow)) }
    }

    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(self.body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.extend(self.headers);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        // The content is true only now.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"lb\""));
        }
        response
    }
}

impl From<ControlError> for Answer {
    fn from(error: ControlError) -> Self {
        Self::failure(status_of(&error), &error.to_string())
    }
}

impl From<CallAnswer> for Answer {
    fn from(answer: CallAnswer) -> Self {
        Self { content_type: JSON, allow: answer.allow, ..Self::text(answer.status, answer.body) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_405_names_what_is_allowed() {
        let response = Answer::wrong_method("/rep", "GET, HEAD").into_response();
        assert_eq!(response.status(), 405);
        assert_eq!(response.headers()[ALLOW], "GET, HEAD");
        assert_eq!(response.headers()[CONTENT_TYPE], JSON);
    }
}
