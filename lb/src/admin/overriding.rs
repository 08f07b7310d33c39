//! The body of `POST /reload`, read with complaints in words.
//!
//! Invariant: each complaint names the key and what is allowed there. It does not show Rust's types.

use serde_json::{Map, Value};

use crate::control::Overriding;
use crate::course::kind;

const EXAMPLE: &str = r#"{"strategy":{"name":"round_robin"}}"#;

/// The override in `body`, or the complaint.
pub(super) fn overriding(body: &[u8]) -> Result<Overriding, String> {
    let value: Value = serde_json::from_slice(body).map_err(|error| format!("the body is not JSON: {error}"))?;
    let object = object(&value, "the body", EXAMPLE)?;
    only(object, "the body", &["pool", "strategy"])?;
    text(object, "", "pool")?;
    let strategy = object.get("strategy").ok_or_else(|| format!("the body has no strategy: write {EXAMPLE}"))?;
    let strategy = self::object(strategy, "strategy", r#"{"name":"round_robin"}"#)?;
    only(strategy, "strategy", &["name", "path", "config"])?;
    text(strategy, "strategy.", "name")?;
    text(strategy, "strategy.", "path")?;
    if let Some(options) = strategy.get("config").filter(|options| !options.is_null()) {
        self::object(options, "strategy.config", r#"the strategy's options, such as {"virtual_nodes":9}"#)?;
    }
    serde_json::from_value(value).map_err(|error| format!("the body is no override: {error}"))
}

fn object<'a>(value: &'a Value, name: &str, example: &str) -> Result<&'a Map<String, Value>, String> {
    value.as_object().ok_or_else(|| format!("{name} is {}, not an object: write {example}", kind(value)))
}

/// Refuses keys that have no meaning in `name`.
fn only(object: &Map<String, Value>, name: &str, allowed: &[&str]) -> Result<(), String> {
    match object.keys().find(|key| !allowed.contains(&key.as_str())) {
        Some(key) => Err(format!("{name} has no key {key:?}: its keys are {}", allowed.join(", "))),
        None => Ok(()),
    }
}

fn text(object: &Map<String, Value>, section: &str, key: &str) -> Result<(), String> {
    match object.get(key) {
        None | Some(Value::String(_)) => Ok(()),
        Some(Value::Null) if key != "pool" => Ok(()),
        Some(other) => Err(format!("{section}{key} is {}, not a string: write \"{key}\":\"…\"", kind(other))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_names_the_key_and_what_is_allowed() {
        for (body, wanted) in [
            ("{", "the body is not JSON: EOF while parsing an object at line 1 column 1"),
            ("[]", r#"the body is a list, not an object: write {"strategy":{"name":"round_robin"}}"#),
            (r#"{"pool":"p"}"#, r#"the body has no strategy: write {"strategy":{"name":"round_robin"}}"#),
            (r#"{"name":"x"}"#, r#"the body has no key "name": its keys are pool, strategy"#),
            (r#"{"strategy":"x"}"#, r#"strategy is a string, not an object: write {"name":"round_robin"}"#),
            (r#"{"strategy":{"nam":"x"}}"#, r#"strategy has no key "nam": its keys are name, path, config"#),
            (r#"{"strategy":{"name":7}}"#, r#"strategy.name is a number, not a string: write "name":"…""#),
            (r#"{"pool":null,"strategy":{}}"#, r#"pool is null, not a string: write "pool":"…""#),
            (
                r#"{"strategy":{"config":[1]}}"#,
                r#"strategy.config is a list, not an object: write the strategy's options, such as {"virtual_nodes":9}"#,
            ),
        ] {
            assert_eq!(overriding(body.as_bytes()).unwrap_err(), wanted, "{body}");
        }
    }

    #[test]
    fn every_override_that_serde_takes_is_taken() {
        for body in [
            r#"{"strategy":{}}"#,
            r#"{"strategy":{"name":null,"path":null,"config":null}}"#,
            r#"{"pool":"p","strategy":{"name":"x","path":"/x.so","config":{"a":1}}}"#,
        ] {
            assert_eq!(overriding(body.as_bytes()).unwrap(), serde_json::from_str(body).unwrap(), "{body}");
        }
    }
}
