//! `POST /backends/{id}/drain|ready|weight`: what such a request asks for.
//!
//! Invariants: pure; an id or pool name is percent-decoded exactly once and must be UTF-8.

use std::borrow::Cow;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::query::pairs;
use crate::config::DEFAULT_POOL;
use crate::control::Change;
use crate::course::{deadline, weight};

/// The path of one backend's action, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target<'a> {
    pub(super) id: Cow<'a, str>,
    pub(super) action: Action,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Drain,
    Ready,
    Weight,
}

/// The pool that the query names, else `default`.
pub(super) fn pool_of(query: Option<&str>) -> Result<String, String> {
    let mut pool = None;
    for (key, value) in pairs(query)? {
        match key.as_str() {
            "pool" if pool.is_none() => pool = Some(value),
            "pool" => return Err("pool is given twice".to_owned()),
            other => return Err(format!("unknown parameter {other:?}; known here: pool")),
        }
    }
    Ok(pool.unwrap_or_else(|| DEFAULT_POOL.to_owned()))
}

// === impl Target ===

impl<'a> Target<'a> {
    /// `None` when `path` is not of the form `/backends/{id}/{action}`.
    pub(super) fn of(path: &'a str) -> Option<Self> {
        let (id, action) = path.strip_prefix("/backends/")?.split_once('/')?;
        let action = match action {
            "drain" => Action::Drain,
            "ready" => Action::Ready,
            "weight" => Action::Weight,
            _ => return None,
        };
        let id = percent_decode_str(id).decode_utf8().ok().filter(|id| !id.is_empty())?;
        Some(Self { id, action })
    }
}

// === impl Action ===

impl Action {
    /// The change, with what the body says. A weight needs one, a drain may have one.
    pub(super) fn change(self, body: &[u8]) -> Result<Change, String> {
        match self {
            Self::Drain if body.trim_ascii().is_empty() => Ok(Change::Drain),
            Self::Drain => parse_deadline(body).map(Change::DrainWithin),
            Self::Ready => Ok(Change::Ready),
            Self::Weight => parse_weight(body).map(Change::Weight),
        }
    }
}

fn parse_weight(body: &[u8]) -> Result<u16, String> {
    const WANTED: &str = r#"send {"weight":N}, N from 0 to 256"#;
    if body.trim_ascii().is_empty() {
        return Err(format!("no body: {WANTED}"));
    }
    weight(&only(body, "weight", WANTED)?).map_err(|sentence| format!("weight: {sentence}"))
}

fn parse_deadline(body: &[u8]) -> Result<Duration, String> {
    const WANTED: &str = r#"send {"deadline_ms":N}, N from 0 to 86400000, or no body"#;
    deadline(&only(body, "deadline_ms", WANTED)?).map_err(|sentence| format!("deadline_ms: {sentence}"))
}

/// The value of `key`, which must be the only key of the body. `wanted` says what to send.
fn only(body: &[u8], key: &str, wanted: &str) -> Result<Value, String> {
    let mut value: Value =
        serde_json::from_slice(body).map_err(|error| format!("the body is not valid JSON ({error}); {wanted}"))?;
    match value.as_object_mut() {
        Some(object) if object.len() == 1 => object.remove(key).ok_or_else(|| wanted.to_owned()),
        _ => Err(wanted.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_decoded_once() {
        let target = Target::of("/backends/Server%201/drain");
        assert_eq!(target, Some(Target { id: "Server 1".into(), action: Action::Drain }));
        assert_eq!(Target::of("/backends/a%2520/ready").unwrap().id, "a%20");
        assert_eq!(Target::of("/backends/a%2Fb/weight").unwrap().id, "a/b");
        for path in
            ["/backends//drain", "/backends/a", "/backends/a/", "/backends/a/drain/", "/backends/%ff/drain", "/rep"]
        {
            assert_eq!(Target::of(path), None, "{path}");
        }
    }

    #[test]
    fn the_query_may_name_a_pool_and_nothing_else() {
        assert_eq!(pool_of(None).unwrap(), "default");
        assert_eq!(pool_of(Some("pool=my+pool")).unwrap(), "my pool");
        assert_eq!(pool_of(Some("pool=a%20b")).unwrap(), "a b");
        assert!(pool_of(Some("pol=a")).unwrap_err().contains("\"pol\""));
        assert!(pool_of(Some("pool=a&pool=b")).is_err());
    }

    #[test]
    fn a_drain_may_have_a_deadline_in_a_body() {
        let ms = |ms| Ok(Change::DrainWithin(Duration::from_millis(ms)));
        assert_eq!(Action::Drain.change(br#"{"deadline_ms":0}"#), ms(0));
        assert_eq!(Action::Drain.change(br#"{"deadline_ms":86400000}"#), ms(86_400_000));
        assert_eq!(Action::Drain.change(b" \r\n"), Ok(Change::Drain));
        for body in ["5", "{}", r#"{"deadline_ms":-1}"#, r#"{"deadline_ms":86400001}"#, r#"{"deadline":1}"#] {
            assert!(Action::Drain.change(body.as_bytes()).unwrap_err().contains("deadline_ms"), "{body}");
        }
    }

    #[test]
    fn a_weight_comes_in_a_body() {
        assert_eq!(Action::Weight.change(br#"{"weight":5}"#), Ok(Change::Weight(5)));
        assert_eq!(Action::Drain.change(b""), Ok(Change::Drain));
        for body in
            ["", "5", "{}", r#"{"weight":257}"#, r#"{"weight":-1}"#, r#"{"weight":1.5}"#, r#"{"weight":1,"x":2}"#]
        {
            assert!(Action::Weight.change(body.as_bytes()).is_err(), "{body}");
        }
        for body in ["", " \r\n"] {
            let sentence = Action::Weight.change(body.as_bytes()).unwrap_err();
            assert_eq!(sentence, r#"no body: send {"weight":N}, N from 0 to 256"#);
        }
    }
}
