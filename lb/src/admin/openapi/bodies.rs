//! Schemas of request bodies.
//!
//! The bodies of the course and of a weight are parsed by hand, for the sake of their error messages. So their schemas
//! are written by hand, too. The tests compare them with the parsers. The body of a reload is a type.

use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use crate::config::{ID_BYTES_MAX, Labels, WEIGHT_MAX};
use crate::control::Overriding;
use crate::course::DEADLINE_MS_MAX;

/// The body of `POST /add`.
pub(super) fn add() -> Value {
    let backend = json!({
        "type": "object",
        "properties": {
            "id": id(), "address": address(), "weight": weight_number(), "backup": { "type": "boolean" },
            "labels": labels(),
        },
        "required": ["id", "address"],
        "additionalProperties": false,
    });
    let attach = json!({
        "title": "Attach",
        "description": "Attaches running servers.",
        "type": "object",
        "properties": { "backends": { "type": "array", "minItems": 1, "items": backend } },
        "required": ["backends"],
        "additionalProperties": false,
    });
    let launch = count_and_names("Launch", "Launches n servers. The first ones get the names in hostnames.");
    json!({ "oneOf": [launch, attach] })
}

/// The body of `DELETE /rm`.
pub(super) fn remove() -> Value {
    let mut schema = count_and_names("Remove", "Removes n servers: those in hostnames first, the rest at random.");
    schema["properties"]["deadline_ms"] = deadline_number();
    schema
}

/// The body of `POST /backends/{id}/weight`.
pub(super) fn weight() -> Value {
    json!({
        "type": "object",
        "properties": { "weight": weight_number() },
        "required": ["weight"],
        "additionalProperties": false,
    })
}

/// The body of `POST /backends/{id}/drain`, if it has one.
pub(super) fn drain() -> Value {
    json!({
        "type": "object",
        "properties": { "deadline_ms": deadline_number() },
        "required": ["deadline_ms"],
        "additionalProperties": false,
    })
}

/// The body of `POST /reload`, as it is read.
pub(super) fn overriding() -> Value {
    let settings = SchemaSettings::draft2020_12().for_deserialize().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    settings.into_generator().into_root_schema_for::<Overriding>().into()
}

/// The form that `POST /login` takes.
pub(super) fn sign_in() -> Value {
    json!({ "type": "object", "properties": { "token": { "type": "string" } }, "required": ["token"] })
}

fn count_and_names(title: &str, description: &str) -> Value {
    json!({
        "title": title,
        "description": format!("{description} hostnames has at most n names."),
        "type": "object",
        "properties": {
            "n": { "type": "integer", "minimum": 1, "maximum": i64::MAX },
            "hostnames": { "type": "array", "items": id() },
        },
        "required": ["n"],
        "additionalProperties": false,
    })
}

fn id() -> Value {
    json!({ "type": "string", "minLength": 1, "maxLength": ID_BYTES_MAX, "pattern": "^[A-Za-z0-9 ._:-]+$" })
}

fn labels() -> Value {
    let mut schema = json!(schemars::schema_for!(Labels));
    let unneeded = ["$schema", "title"];
    schema.as_object_mut().into_iter().for_each(|schema| schema.retain(|key, _| !unneeded.contains(&key.as_str())));
    schema["description"] = "Facts about the server for strategies, such as its zone.".into();
    schema
}

fn address() -> Value {
    json!({ "type": "string", "description": "HOST:PORT" })
}

fn deadline_number() -> Value {
    let description = "Requests that are in flight after this time end. Without it they have no limit.";
    json!({ "type": "integer", "minimum": 0, "maximum": DEADLINE_MS_MAX, "description": description })
}

fn weight_number() -> Value {
    json!({ "type": "integer", "minimum": 0, "maximum": WEIGHT_MAX })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::check_id;
    use crate::course::{parse_add, parse_remove};

    fn keys(schema: &Value) -> Vec<&str> {
        schema["properties"].as_object().unwrap().keys().map(String::as_str).collect()
    }

    /// Whether a parser's message about an unknown key lists the keys of `schema` and no other.
    fn lists(sentence: &str, schemas: &[&Value]) -> bool {
        let mut known: Vec<_> = sentence.split("known here: ").nth(1).unwrap().split(", ").collect();
        let mut described: Vec<_> = schemas.iter().flat_map(|schema| keys(schema)).collect();
        known.sort_unstable();
        described.sort_unstable();
        known == described
    }

    #[test]
    fn the_bodies_of_the_course_have_the_keys_that_their_parsers_know() {
        let add = add();
        let [launch, attach] = [&add["oneOf"][0], &add["oneOf"][1]];
        assert!(lists(&parse_add(br#"{"x":1}"#).unwrap_err(), &[launch, attach]));
        assert!(lists(&parse_remove(br#"{"x":1}"#).unwrap_err(), &[&remove()]));
        let backend = &attach["properties"]["backends"]["items"];
        assert!(lists(&parse_add(br#"{"backends":[{"x":1}]}"#).unwrap_err(), &[backend]));
    }

    #[test]
    fn limits_of_ids_and_weights_are_those_of_the_parsers() {
        let longest = id()["maxLength"].as_u64().unwrap() as usize;
        assert!(check_id(&"a".repeat(longest)).is_ok() && check_id(&"a".repeat(longest + 1)).is_err());
        assert!(check_id("aZ09 ._:-").is_ok() && check_id("a/b").is_err());
        let most = weight_number()["maximum"].as_i64().unwrap();
        for (weight, is_valid) in [(0, true), (most, true), (most + 1, false), (-1, false)] {
            let body = format!(r#"{{"backends":[{{"id":"a","address":"a:1","weight":{weight}}}]}}"#);
            assert_eq!(parse_add(body.as_bytes()).is_ok(), is_valid, "{weight}");
        }
        assert!(parse_remove(format!(r#"{{"n":{}}}"#, i64::MAX).as_bytes()).is_ok());
        let most = deadline_number()["maximum"].as_i64().unwrap();
        for (ms, is_valid) in [(0, true), (most, true), (most + 1, false), (-1, false)] {
            assert_eq!(parse_remove(format!(r#"{{"n":1,"deadline_ms":{ms}}}"#).as_bytes()).is_ok(), is_valid, "{ms}");
        }
    }

    #[test]
    fn a_reload_may_leave_the_pool_out() {
        let schema = overriding();
        assert_eq!(schema["required"], json!(["strategy"]));
        assert_eq!(schema["additionalProperties"], json!(false));
        assert_eq!(schema["properties"]["pool"]["default"], "default");
    }
}
