//! What a request can fail of, and the answers of our own.
//!
//! Invariant: the reason is one word of one closed enum, the same in the answer's header `x-lb-error` and in the metrics.

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};

use crate::telemetry::ErrorReason;

static X_LB_ERROR: HeaderName = HeaderName::from_static("x-lb-error");

/// A request that ends with an answer of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) reason: ErrorReason,
    /// One sentence for the client.
    pub(super) sentence: &'static str,
}

// === impl Failure ===

impl Failure {
    pub(super) const fn new(reason: ErrorReason, sentence: &'static str) -> Self {
        Self { reason, sentence }
    }

    pub(super) fn status(self) -> StatusCode {
        match self.reason {
            ErrorReason::NoBackend | ErrorReason::Overload | ErrorReason::Strategy => StatusCode::SERVICE_UNAVAILABLE,
            ErrorReason::Connect | ErrorReason::Reset | ErrorReason::BadResponse => StatusCode::BAD_GATEWAY,
            // No answer is left to give in a tunnel; the number is for completeness.
            ErrorReason::ConnectTimeout | ErrorReason::Timeout | ErrorReason::TunnelIdle => StatusCode::GATEWAY_TIMEOUT,
            ErrorReason::BadRequest => StatusCode::BAD_REQUEST,
            ErrorReason::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            ErrorReason::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            ErrorReason::ClientTimeout => StatusCode::REQUEST_TIMEOUT,
            // Mostly nobody is there to read it; the number is for the metrics.
            ErrorReason::ClientAbort => StatusCode::from_u16(499).expect("499 is in range"),
        }
    }

    /// The answer: `{"message":"<Error> …","status":"failure"}`.
    pub(super) fn response(self) -> Response<Bytes> {
        // Who only stopped sending hears a number that is HTTP's.
        let status = if self.reason == ErrorReason::ClientAbort { StatusCode::BAD_REQUEST } else { self.status() };
        let mut response = json(status, self.sentence);
        let headers = response.headers_mut();
        headers.insert(X_LB_ERROR.clone(), HeaderValue::from_static(self.reason.as_str()));
        if self.reason == ErrorReason::MethodNotAllowed {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
        }
        match self.reason {
            ErrorReason::NoBackend | ErrorReason::Overload => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            // What is left of the request's body is not read, so the connection cannot go on.
            ErrorReason::BadRequest
            | ErrorReason::MethodNotAllowed
            | ErrorReason::BodyTooLarge
            | ErrorReason::ClientTimeout
            | ErrorReason::ClientAbort => {
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response
    }

    /// The same as raw bytes, for where hyper has not seen a request.
    pub(super) fn raw(self) -> Vec<u8> {
        let body = text(self.sentence);
        format!(
            "HTTP/1.1 {}\r\ncontent-type: application/json\r\nx-lb-error: {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            self.status(),
            self.reason.as_str(),
            body.len()
        )
        .into_bytes()
    }
}

/// An error answer in the course's form.
pub(super) fn json(status: StatusCode, sentence: &str) -> Response<Bytes> {
    let body = Bytes::from(text(sentence));
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let length = HeaderValue::from(response.body().len());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CONTENT_LENGTH, length);
    response
}

fn text(sentence: &str) -> String {
    let message = serde_json::Value::String(format!("<Error> {sentence}"));
    format!("{{\"message\":{message},\"status\":\"failure\"}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_ours_names_its_reason_and_says_when_to_come_back() {
        let response = Failure::new(ErrorReason::NoBackend, "no backend is available").response();
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["x-lb-error"], "no_backend");
        assert_eq!(response.headers()["retry-after"], "1");
        assert_eq!(&response.body()[..], br#"{"message":"<Error> no backend is available","status":"failure"}"#);
    }
}
