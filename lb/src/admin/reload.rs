//! `POST /reload` and `POST /rollback`: query, body and response.
//!
//! Invariants: 200 means that the change is in force (or would work). 409 means that another reload runs. 422 means
//! that nothing has changed, with stage and reason. A malformed request is refused with 400 and never reaches control.
//! An override with a path needs the token (else 403).

use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use super::answer::Answer;
use super::overriding::overriding;
use super::query::pairs;
use crate::control::{Handle, ReloadError, ReloadRequest};
use crate::course::to_json;

#[derive(Serialize, JsonSchema)]
pub(super) struct Refusal<'a> {
    message: String,
    status: &'static str,
    stage: &'a str,
    reason: String,
}

/// `has_token`: this lb requires a token, and so the request has shown it.
pub(super) async fn answer(handle: &Handle, query: Option<&str>, body: &[u8], has_token: bool) -> Answer {
    let request = match request(query, body) {
        Ok(request) => request,
        Err(sentence) => return Answer::failure(StatusCode::BAD_REQUEST, &sentence),
    };
    if let Err(sentence) = may_load(&request, has_token) {
        return Answer::failure(StatusCode::FORBIDDEN, sentence);
    }
    match handle.reload(request).await {
        Ok(report) => Answer::json(&report),
        Err(error) => refusal(&error),
    }
}

pub(super) async fn answer_rollback(handle: &Handle, query: Option<&str>) -> Answer {
    let (pool, dry_run) = match rollback_in(query) {
        Ok(asked) => asked,
        Err(sentence) => return Answer::failure(StatusCode::BAD_REQUEST, &sentence),
    };
    match handle.roll_back(pool, dry_run).await {
        Ok(report) => Answer::json(&report),
        Err(error) => refusal(&error),
    }
}

/// The pool to roll back, where `None` means all pools; and whether to say only which strategies come back.
fn rollback_in(query: Option<&str>) -> Result<(Option<String>, bool), String> {
    let (mut pool, mut dry_run) = (None, false);
    for (name, value) in pairs(query)? {
        match name.as_str() {
            "pool" if !value.is_empty() => pool = Some(value),
            "pool" => return Err("pool is empty: leave it out to mean all pools".to_owned()),
            "dry_run" => dry_run = is_dry(&value)?,
            _ => return Err(format!("the query takes pool and dry_run, not {name:?}")),
        }
    }
    Ok((pool, dry_run))
}

fn is_dry(value: &str) -> Result<bool, String> {
    match value {
        "1" | "true" | "" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err("dry_run is 1 or 0".to_owned()),
    }
}

fn request(query: Option<&str>, body: &[u8]) -> Result<ReloadRequest, String> {
    let mut request = ReloadRequest::default();
    for (name, value) in pairs(query)? {
        request.dry_run = match name.as_str() {
            "dry_run" => is_dry(&value)?,
            _ => return Err(format!("the query takes dry_run, not {name:?}")),
        };
    }
    if !body.trim_ascii().is_empty() {
        request.overriding = Some(overriding(body)?);
    }
    Ok(request)
}

/// The library at a path runs in lb with all its rights. Without a token, any user of this machine could request that.
fn may_load(request: &ReloadRequest, has_token: bool) -> Result<(), &'static str> {
    let has_path = request.overriding.as_ref().is_some_and(|overriding| overriding.strategy.path.is_some());
    match has_path && !has_token {
        false => Ok(()),
        true => {
            Err("an override with a path needs the admin token, and this lb has none: set admin.token_file (lb token \
                     makes one), or put the library into a folder of plugin_dirs and give its name")
        }
    }
}

fn refusal(error: &ReloadError) -> Answer {
    let status = match error {
        ReloadError::Busy => StatusCode::CONFLICT,
        ReloadError::Refused { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        ReloadError::Stopping => StatusCode::SERVICE_UNAVAILABLE,
    };
    let reason = error.to_string();
    let message = format!("<Error> {reason}");
    let body = to_json(&Refusal { message, status: "failure", stage: error.stage(), reason });
    Answer { body, ..Answer::failure(status, "") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_request_is_refused() {
        assert_eq!(request(None, b""), Ok(ReloadRequest::default()));
        assert!(request(Some("dry_run=1"), b" \n").unwrap().dry_run);
        assert!(!request(Some("dry_run=0"), b"").unwrap().dry_run);
        let body = br#"{"strategy":{"name":"x","config":{"a":1}}}"#;
        let overriding = request(None, body).unwrap().overriding.unwrap();
        assert_eq!((&*overriding.pool, overriding.strategy.name.as_deref()), ("default", Some("x")));
        for (query, body) in [
            (Some("dry_run=2"), &b""[..]),
            (Some("dryrun=1"), b""),
            (None, b"[]"),
            (None, b"{"),
            (None, b"{\"strategy\":{\"nam\":\"x\"}}"),
            (None, b"{\"pool\":\"default\"}"),
        ] {
            assert!(request(query, body).is_err(), "{query:?} {body:?}");
        }
    }

    #[test]
    fn an_override_with_a_path_needs_the_token() {
        let asks = |body: &[u8], has_token| may_load(&request(None, body).unwrap(), has_token).is_ok();
        let by_path = br#"{"strategy":{"name":"x","path":"/tmp/x.so"}}"#;
        assert_eq!([asks(by_path, true), asks(by_path, false)], [true, false]);
        assert!(asks(br#"{"strategy":{"name":"x"}}"#, false) && asks(b"", false));
    }

    #[test]
    fn a_rollback_concerns_one_pool_or_all() {
        assert_eq!([rollback_in(None), rollback_in(Some(""))], [Ok((None, false)), Ok((None, false))]);
        assert_eq!(rollback_in(Some("pool=a%20b&dry_run=1")), Ok((Some("a b".to_owned()), true)));
        for query in ["pool=", "pol=x", "dry_run=maybe"] {
            assert!(rollback_in(Some(query)).is_err(), "{query}");
        }
    }

    #[test]
    fn a_refusal_has_stage_and_reason_and_its_own_status() {
        let refused = |error| {
            let answer = refusal(&error);
            (answer.status.as_u16(), serde_json::from_slice::<serde_json::Value>(&answer.body).unwrap())
        };
        let (status, body) = refused(ReloadError::Refused { stage: "elf".into(), reason: "is text".into() });
        let wanted = serde_json::json!({
            "message": "<Error> is text", "status": "failure", "stage": "elf", "reason": "is text"
        });
        assert_eq!((status, body), (422, wanted));
        let (status, body) = refused(ReloadError::Busy);
        assert_eq!((status, &body["stage"]), (409, &"busy".into()));
    }
}
