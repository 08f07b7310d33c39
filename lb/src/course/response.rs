//! The form of responses: compact JSON, `message` before `status`, as the course's sheet requires. The admin port uses
//! it for its failures, too.
//!
//! Invariant: the sentence of a failure has the prefix `<Error> ` exactly once.

use bytes::Bytes;
use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use crate::control::ControlError;

#[derive(Serialize, JsonSchema)]
pub(crate) struct Failure<'a> {
    message: &'a str,
    status: &'static str,
}

/// The body of a failure.
pub(crate) fn failure_body(sentence: &str) -> Bytes {
    let prefixed;
    let message = if sentence.starts_with("<Error> ") {
        sentence
    } else {
        prefixed = format!("<Error> {sentence}");
        &prefixed
    };
    to_json(&Failure { message, status: "failure" })
}

/// The sentence of a 405, on both ports.
pub(crate) fn takes(path: &str, allow: &str) -> String {
    format!("{path} takes {allow}")
}

/// The status of an error of control.
pub(crate) fn status_of(error: &ControlError) -> StatusCode {
    match error {
        ControlError::Refused(_) => StatusCode::BAD_REQUEST,
        ControlError::NotFound(_) => StatusCode::NOT_FOUND,
        ControlError::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        ControlError::Stopping => StatusCode::SERVICE_UNAVAILABLE,
    }
}

pub(crate) fn to_json(value: &impl Serialize) -> Bytes {
    // Maps with string keys, strings and numbers always have a JSON form.
    serde_json::to_vec(value).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_gets_its_prefix_once_and_is_escaped() {
        let body = r#"{"message":"<Error> no \"x\"","status":"failure"}"#;
        assert_eq!(failure_body("no \"x\""), body);
        assert_eq!(failure_body("<Error> no \"x\""), body);
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
