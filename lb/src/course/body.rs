//! Parses a body of `/add` or `/rm`. The error is one sentence that names the mistake.
//!
//! Parsed by hand and not by serde, because the sentences are for students. They name the key, the value found and the
//! value wanted. Invariants: no input panics; an unknown key is an error, so a mistyped `hostname` is not ignored.

use std::time::Duration;

use serde_json::{Map, Value};

use super::json::{self, JsonError};
use crate::config::{Labels, check_weight};
use crate::control::{Add, AttachedBackend, Remove};

/// A day, in milliseconds.
pub(crate) const DEADLINE_MS_MAX: i64 = 86_400_000;
const ADD_EXAMPLE: &str = r#"{"n":2,"hostnames":["S1","S2"]}"#;
const REMOVE_EXAMPLE: &str = r#"{"n":1,"hostnames":["S1"]}"#;

/// `{"n":…,"hostnames":[…]}` to launch, `{"backends":[…]}` to attach.
pub fn parse_add(body: &[u8]) -> Result<Add, String> {
    let object = object(body, ADD_EXAMPLE)?;
    known_keys(&object, "", &["n", "hostnames", "backends"])?;
    let Some(backends) = object.get("backends") else {
        let (n, hostnames) = count_and_names(&object, "newly added", ADD_EXAMPLE)?;
        return Ok(Add::Launch { n, hostnames });
    };
    if object.len() > 1 {
        return Err("give either n and hostnames, to launch, or backends, to attach; not both".to_owned());
    }
    let Value::Array(backends) = backends else {
        return Err(format!("backends must be a list of objects, not {}", kind(backends)));
    };
    if backends.is_empty() {
        return Err("backends is empty: nothing to attach".to_owned());
    }
    backends.iter().enumerate().map(|(index, value)| backend(index, value)).collect::<Result<_, _>>().map(Add::Attach)
}

/// `{"n":…,"hostnames":[…],"deadline_ms":…}`.
pub fn parse_remove(body: &[u8]) -> Result<Remove, String> {
    let object = object(body, REMOVE_EXAMPLE)?;
    known_keys(&object, "", &["n", "hostnames", "deadline_ms"])?;
    let (n, hostnames) = count_and_names(&object, "removable", REMOVE_EXAMPLE)?;
    let deadline = object.get("deadline_ms").map(deadline).transpose();
    Ok(Remove { n, hostnames, deadline: deadline.map_err(|sentence| format!("deadline_ms: {sentence}"))? })
}

fn object(body: &[u8], example: &str) -> Result<Map<String, Value>, String> {
    if body.trim_ascii().is_empty() {
        return Err(format!("the request has no body; send JSON such as {example}"));
    }
    match json::parse(body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => Err(format!("the body must be a JSON object such as {example}, not {}", kind(&other))),
        Err(JsonError::Syntax(error)) => {
            Err(format!("the body is not valid JSON ({error}); send for example {example}"))
        }
        Err(JsonError::Repeated(what)) => Err(format!("in the body, {what}; send each key once")),
    }
}

fn known_keys(object: &Map<String, Value>, place: &str, known: &[&str]) -> Result<(), String> {
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => Err(format!("{place}unknown key {key:?}; known here: {}", known.join(", "))),
    }
}

/// `n` and the optional `hostnames`; `which` is the sheet's word for the instances meant.
fn count_and_names(object: &Map<String, Value>, which: &str, example: &str) -> Result<(usize, Vec<String>), String> {
    let n = match object.get("n") {
        None => return Err(format!("n is missing; send for example {example}")),
        Some(value) => match whole(value) {
            Some(n) if n >= 1 => usize::try_from(n).map_err(|_| format!("n is too large: {n}"))?,
            Some(n) => return Err(format!("n must be at least 1, not {n}")),
            None if value.is_u64() => return Err(format!("n is too large: {value}")),
            None if value.is_number() => return Err(format!("n must be a whole number, not {value}")),
            None => return Err(format!("n must be a whole number, not {}", kind(value))),
        },
    };
    let hostnames = match object.get("hostnames") {
        None => Vec::new(),
        Some(Value::Array(names)) => names.iter().map(hostname).collect::<Result<_, _>>()?,
        Some(other) => return Err(format!("hostnames must be a list of strings, not {}", kind(other))),
    };
    if hostnames.len() > n {
        return Err(format!("Length of hostname list is more than {which} instances"));
    }
    Ok((n, hostnames))
}

fn hostname(value: &Value) -> Result<String, String> {
    match value {
        Value::String(name) => Ok(name.clone()),
        other => Err(format!("hostnames must be a list of strings, but {} is in it", kind(other))),
    }
}

fn backend(index: usize, value: &Value) -> Result<AttachedBackend, String> {
    let place = format!("backends[{index}]");
    let Value::Object(object) = value else {
        return Err(format!("{place} must be an object with id and address, not {}", kind(value)));
    };
    known_keys(object, &format!("{place}: "), &["id", "address", "weight", "backup", "labels"])?;
    let text = |key: &str| match object.get(key) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => Err(format!("{place}.{key} must be a string, not {}", kind(other))),
        None => Err(format!("{place}.{key} is missing")),
    };
    let weight = match object.get("weight") {
        None => 1,
        Some(value) => weight(value).map_err(|sentence| format!("{place}.weight: {sentence}"))?,
    };
    let backup = match object.get("backup") {
        None => false,
        Some(Value::Bool(backup)) => *backup,
        Some(other) => return Err(format!("{place}.backup must be a boolean, not {}", kind(other))),
    };
    let labels = match object.get("labels") {
        None => Labels::default(),
        Some(Value::Object(labels)) => Labels::from_json(labels).map_err(|wrong| format!("{place}.{wrong}"))?,
        Some(other) => return Err(format!("{place}.labels must be an object, not {}", kind(other))),
    };
    Ok(AttachedBackend { id: text("id")?, address: text("address")?, weight, backup, labels })
}

/// A weight in JSON.
pub(crate) fn weight(value: &Value) -> Result<u16, String> {
    match whole(value) {
        Some(weight) => check_weight(weight),
        None if value.is_number() => Err(format!("must be a whole number, not {value}")),
        None => Err(format!("must be a whole number, not {}", kind(value))),
    }
}

/// The time of a drain, in milliseconds, in JSON.
pub(crate) fn deadline(value: &Value) -> Result<Duration, String> {
    match whole(value) {
        Some(ms @ 0..=DEADLINE_MS_MAX) => Ok(Duration::from_millis(ms.unsigned_abs())),
        Some(other) => Err(format!("must be from 0 to {DEADLINE_MS_MAX}, not {other}")),
        None if value.is_number() => Err(format!("must be a whole number, not {value}")),
        None => Err(format!("must be a whole number, not {}", kind(value))),
    }
}

/// The type of a value, with its article.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A whole number. JSON has one type of number, so 2.0 is whole, too.
fn whole(value: &Value) -> Option<i64> {
    /// Above it not every whole number is an `f64`.
    const EXACT_MAX: f64 = (1_u64 << 53) as f64;
    let is_whole = |number: &f64| number.fract() == 0.0 && number.abs() <= EXACT_MAX;
    value
        .as_i64()
        .or_else(|| value.as_f64().filter(|number| value.is_f64() && is_whole(number)).map(|number| number as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_sheets_own_examples_are_understood() {
        let add = parse_add(br#"{"n":4,"hostnames":["S5","S4","S10","S11"]}"#);
        assert_eq!(add, Ok(Add::Launch { n: 4, hostnames: names(&["S5", "S4", "S10", "S11"]) }));
        let remove = parse_remove(br#"{"n":3,"hostnames":["S5","S4"]}"#);
        assert_eq!(remove, Ok(Remove { n: 3, hostnames: names(&["S5", "S4"]), deadline: None }));
        assert_eq!(parse_add(br#" {"n": 1} "#), Ok(Add::Launch { n: 1, hostnames: vec![] }));
    }

    #[test]
    fn too_many_names_get_the_sheets_texts() {
        assert_eq!(
            parse_add(br#"{"n":1,"hostnames":["a","b"]}"#).unwrap_err(),
            "Length of hostname list is more than newly added instances"
        );
        assert_eq!(
            parse_remove(br#"{"n":1,"hostnames":["a","b"]}"#).unwrap_err(),
            "Length of hostname list is more than removable instances"
        );
    }

    #[test]
    fn a_whole_number_may_have_a_fraction_of_zero() {
        assert_eq!(parse_remove(br#"{"n":2.0}"#), Ok(Remove { n: 2, hostnames: vec![], deadline: None }));
        assert_eq!(weight(&serde_json::json!(5.0)), Ok(5));
        for number in ["1.5", "1e300", "9007199254740994.0", "-0.5"] {
            assert!(parse_remove(format!("{{\"n\":{number}}}").as_bytes()).is_err(), "{number}");
        }
    }

    #[test]
    fn a_removal_may_have_a_deadline() {
        let remove = parse_remove(br#"{"n":1,"deadline_ms":2500}"#).unwrap();
        assert_eq!(remove.deadline, Some(Duration::from_millis(2500)));
        for (value, sentence) in [
            ("-1", "deadline_ms: must be from 0 to 86400000, not -1"),
            ("86400001", "deadline_ms: must be from 0 to 86400000, not 86400001"),
            ("1.5", "deadline_ms: must be a whole number, not 1.5"),
            ("null", "deadline_ms: must be a whole number, not null"),
        ] {
            let body = format!(r#"{{"n":1,"deadline_ms":{value}}}"#);
            assert_eq!(parse_remove(body.as_bytes()).unwrap_err(), sentence);
        }
    }

    #[test]
    fn servers_can_be_attached() {
        let body = br#"{"backends":[{"id":"b1","address":"127.0.0.1:5001"},{"id":"b2","address":"h:1","weight":0,"backup":true}]}"#;
        let attached = |id: &str, address: &str, weight, backup| AttachedBackend {
            id: id.into(),
            address: address.into(),
            weight,
            backup,
            labels: Labels::default(),
        };
        let labelled = parse_add(br#"{"backends":[{"id":"b1","address":"a:1","labels":{"zone":"a","n":2}}]}"#);
        let Ok(Add::Attach(labelled)) = labelled else { panic!("{labelled:?}") };
        assert_eq!(&**labelled[0].labels.json(), r#"{"n":2,"zone":"a"}"#);
        assert_eq!(
            parse_add(body),
            Ok(Add::Attach(vec![attached("b1", "127.0.0.1:5001", 1, false), attached("b2", "h:1", 0, true)]))
        );
    }

    #[test]
    fn a_wrong_body_gets_one_sentence_that_names_the_mistake() {
        let cases = [
            ("", "the request has no body; send JSON such as {\"n\":2,\"hostnames\":[\"S1\",\"S2\"]}"),
            ("[]", "the body must be a JSON object such as {\"n\":2,\"hostnames\":[\"S1\",\"S2\"]}, not a list"),
            ("{}", "n is missing; send for example {\"n\":2,\"hostnames\":[\"S1\",\"S2\"]}"),
            (r#"{"n":0}"#, "n must be at least 1, not 0"),
            (r#"{"n":-3}"#, "n must be at least 1, not -3"),
            (r#"{"n":1.5}"#, "n must be a whole number, not 1.5"),
            (r#"{"n":"3"}"#, "n must be a whole number, not a string"),
            (r#"{"n":null}"#, "n must be a whole number, not null"),
            (r#"{"n":18446744073709551615}"#, "n is too large: 18446744073709551615"),
            (r#"{"n":1,"hostnames":"S1"}"#, "hostnames must be a list of strings, not a string"),
            (r#"{"n":1,"hostnames":[1]}"#, "hostnames must be a list of strings, but a number is in it"),
            (r#"{"n":1,"hostname":["a"]}"#, "unknown key \"hostname\"; known here: n, hostnames, backends"),
            (r#"{"n":1,"backends":[]}"#, "give either n and hostnames, to launch, or backends, to attach; not both"),
            (r#"{"backends":[]}"#, "backends is empty: nothing to attach"),
            (r#"{"backends":{}}"#, "backends must be a list of objects, not an object"),
            (r#"{"backends":[7]}"#, "backends[0] must be an object with id and address, not a number"),
            (r#"{"backends":[{"id":"a"}]}"#, "backends[0].address is missing"),
            (r#"{"backends":[{"id":1,"address":"a:1"}]}"#, "backends[0].id must be a string, not a number"),
            (
                r#"{"backends":[{"id":"a","adress":"a:1"}]}"#,
                "backends[0]: unknown key \"adress\"; known here: id, address, weight, backup, labels",
            ),
            (
                r#"{"backends":[{"id":"a","address":"a:1","weight":"2"}]}"#,
                "backends[0].weight: must be a whole number, not a string",
            ),
            (
                r#"{"backends":[{"id":"a","address":"a:1","backup":1}]}"#,
                "backends[0].backup must be a boolean, not a number",
            ),
            (
                r#"{"backends":[{"id":"a","address":"a:1","labels":["zone"]}]}"#,
                "backends[0].labels must be an object, not a list",
            ),
            (
                r#"{"backends":[{"id":"a","address":"a:1","labels":{"zone":null}}]}"#,
                "backends[0].labels.\"zone\": a label is a text, a whole number, true or false, not null",
            ),
            (
                r#"{"backends":[{"id":"a","address":"a:1","labels":{"n":1.0}}]}"#,
                "backends[0].labels.\"n\": a label is a whole number, a text, true or false; write 1.0 with quotes",
            ),
            (
                r#"{"backends":[{"id":"a","address":"a:1","labels":{"n":1,"n":1}}]}"#,
                "in the body, key \"n\" is set twice at line 1 column 61; send each key once",
            ),
        ];
        for (body, sentence) in cases {
            assert_eq!(parse_add(body.as_bytes()).unwrap_err(), sentence, "{body}");
        }
        assert!(parse_add(b"{\"n\":").unwrap_err().starts_with("the body is not valid JSON (EOF"));
        assert!(parse_add(b"\xff").unwrap_err().starts_with("the body is not valid JSON"));
        assert!(parse_remove(br#"{"n":1,"backends":[]}"#).unwrap_err().starts_with("unknown key \"backends\""));
    }
}
