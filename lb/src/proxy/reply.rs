//! Responses of lb's own: small JSON bodies of known length.

use bytes::Bytes;
use http::StatusCode;

use crate::http1::ResponseHead;

/// A whole response.
#[derive(Clone, Debug)]
pub(in crate::proxy) struct Reply {
    pub(in crate::proxy) head: Box<ResponseHead>,
    pub(in crate::proxy) body: Bytes,
}

/// A JSON body with its fields.
pub(in crate::proxy) fn json(status: StatusCode, body: Bytes) -> Reply {
    let mut head = Box::new(ResponseHead { status, ..ResponseHead::default() });
    head.fields.push(b"content-type", b"application/json");
    head.fields.push(b"content-length", body.len().to_string().as_bytes());
    Reply { head, body }
}

/// An error in the course's form: `{"message":"<Error> …","status":"failure"}`.
pub(in crate::proxy) fn failure(status: StatusCode, sentence: &str) -> Reply {
    let message = serde_json::Value::String(format!("<Error> {sentence}"));
    json(status, Bytes::from(format!("{{\"message\":{message},\"status\":\"failure\"}}")))
}
