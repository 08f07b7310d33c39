//! JSON in which no object has a key twice.
//!
//! Why: of two values for one key a parser keeps one, and the client may have meant the other. The configuration file
//! refuses such keys, too. Invariant: apart from that, the result is the one of `serde_json`.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// A value without such keys.
struct Unique(Value);

struct UniqueVisitor;

/// Why a text is refused.
#[derive(Debug)]
pub(super) enum JsonError {
    Syntax(serde_json::Error),
    /// It is JSON, and an object has a key twice. One clause with the key and its place.
    Repeated(String),
}

/// Reads one value.
pub(super) fn parse(text: &[u8]) -> Result<Value, JsonError> {
    match serde_json::from_slice(text) {
        Ok(Unique(value)) => Ok(value),
        Err(error) if error.is_data() => Err(JsonError::Repeated(error.to_string())),
        Err(error) => Err(JsonError::Syntax(error)),
    }
}

// === impl Unique ===

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor).map(Self)
    }
}

// === impl UniqueVisitor ===

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Value, E> {
        Ok(Value::Bool(truth))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Number::from_f64(number).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Unique(element)) = elements.next_element()? {
            list.push(element);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((key, Unique(value))) = entries.next_entry::<String, Unique>()? {
            if object.contains_key(&key) {
                return Err(A::Error::custom(format_args!("key {key:?} is set twice")));
            }
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_that_of_the_usual_parser() {
        for text in [
            "null",
            "[true, -1, 18446744073709551615, 1.5, 1e300, \"\\u00e4\\n\"]",
            "{\"a\":{\"a\":{}},\"b\":[{\"a\":1},{\"a\":2}]}",
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap(), serde_json::from_str::<Value>(text).unwrap(), "{text}");
        }
        let deep = "[".repeat(100_000);
        for text in ["", "{", "nul", "[1,]", "{\"a\":1}x", "\"\u{1}\"", &deep] {
            assert!(matches!(parse(text.as_bytes()), Err(JsonError::Syntax(_))), "{text:.20}");
        }
    }

    #[test]
    fn a_key_that_is_set_twice_is_refused_at_any_depth() {
        for text in ["{\"a\":1,\"a\":1}", "[{\"b\":{\"a\":1,\"x\":[],\"a\":2}}]", "{\"a\":1,\"\\u0061\":1}"] {
            let Err(JsonError::Repeated(what)) = parse(text.as_bytes()) else { panic!("{text} is accepted") };
            assert!(what.starts_with("key \"a\" is set twice at line 1 column "), "{what}");
        }
    }
}
