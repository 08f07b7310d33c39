//! The labels of a backend: facts that an operator tells strategies, such as its zone.
//!
//! lb only hands them on; a strategy gives them a meaning. The file, `/add` and the overlay have one set of rules for
//! them, and this is it.
//!
//! Invariants: the JSON text is "" without labels, else an object with sorted keys and without spaces, of at most
//! [`LABELS_BYTES_MAX`] bytes. So two sets of labels are equal exactly if their texts are.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::error::Fault;
use super::key_path::KeyPath;

/// The most labels of one backend.
pub const LABELS_MAX: usize = 64;
/// The most bytes of the labels of one backend, as JSON.
pub const LABELS_BYTES_MAX: usize = 4096;
/// The most bytes of the key of a label.
pub const LABEL_KEY_BYTES_MAX: usize = 63;

/// The key of a label, as a regular expression.
const KEY_PATTERN: &str = "^[A-Za-z_][A-Za-z0-9_.-]{0,62}$";
/// The most characters of [`Labels::short`].
const SHORT_CHARS_MAX: usize = 100;

#[derive(Clone, Default, PartialEq, Eq)]
pub struct Labels {
    json: Arc<str>,
    short: Arc<str>,
}

/// Why labels are refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongLabels {
    /// `None`: the labels as a whole.
    key: Option<String>,
    what: String,
}

/// The value of a label.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Label {
    Text(String),
    Number(i64),
    Truth(bool),
}

/// The labels in the file, in the section `key`.
pub(super) fn check_labels(table: &toml::Table, key: &KeyPath) -> Result<Labels, Fault> {
    let value = |value: &toml::Value| match value {
        toml::Value::Integer(number) => Ok(Label::Number(*number)),
        toml::Value::Boolean(truth) => Ok(Label::Truth(*truth)),
        toml::Value::String(text) => Ok(Label::Text(text.clone())),
        toml::Value::Datetime(time) => Ok(Label::Text(time.to_string())),
        toml::Value::Float(number) => Err(fraction(&format!("{number:?}"))),
        toml::Value::Array(_) => Err(other_type("an array")),
        toml::Value::Table(_) => Err(other_type("a table")),
    };
    Labels::checked(table.iter().map(|(key, one)| (key, value(one)))).map_err(|WrongLabels { key: label, what }| {
        let key = label.map_or_else(|| key.clone(), |label| key.key(&label));
        Fault::new(key, what)
    })
}

/// The schema of labels, in the file and in JSON.
pub(super) fn schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": LABELS_MAX,
        "propertyNames": { "pattern": KEY_PATTERN },
        "additionalProperties": { "type": ["string", "integer", "boolean"] },
    })
}

fn check_key(key: &str) -> Result<(), String> {
    const RULE: &str = "a label's key has letters, digits, _ . and -, and begins with a letter or _";
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if key.is_empty() || key.len() > LABEL_KEY_BYTES_MAX {
        return Err(format!("a label's key has 1 to {LABEL_KEY_BYTES_MAX} bytes, this one {}", key.len()));
    }
    let begins_well = key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if begins_well && key.chars().all(is_plain) {
        return Ok(());
    }
    let start = if begins_well || key.starts_with(|c| !is_plain(c)) { "" } else { "_" };
    let plain: String = key.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
    Err(format!("{RULE}; write for example {start}{plain}"))
}

fn fraction(number: &str) -> String {
    format!("a label is a whole number, a text, true or false; write {number} with quotes")
}

fn other_type(kind: &str) -> String {
    format!("a label is a text, a whole number, true or false, not {kind}")
}

/// A label from JSON, by the rules of the file: 2.0 is no whole number.
fn of_json(value: &Value) -> Result<Label, String> {
    match value {
        Value::String(text) => Ok(Label::Text(text.clone())),
        Value::Bool(truth) => Ok(Label::Truth(*truth)),
        Value::Number(number) => match number.as_i64() {
            Some(number) => Ok(Label::Number(number)),
            None if number.is_u64() => Err(format!("{number} is too large; write it with quotes")),
            None => Err(fraction(&number.to_string())),
        },
        Value::Null => Err(other_type("null")),
        Value::Array(_) => Err(other_type("a list")),
        Value::Object(_) => Err(other_type("an object")),
    }
}

// === impl Labels ===

impl Labels {
    /// The labels in a JSON object.
    pub fn from_json(object: &Map<String, Value>) -> Result<Self, WrongLabels> {
        Self::checked(object.iter().map(|(key, value)| (key, of_json(value))))
    }

    fn checked<'k>(labels: impl Iterator<Item = (&'k String, Result<Label, String>)>) -> Result<Self, WrongLabels> {
        let mut checked = BTreeMap::new();
        for (key, value) in labels {
            let wrong = |what| WrongLabels { key: Some(key.clone()), what };
            check_key(key).map_err(wrong)?;
            checked.insert(key.as_str(), value.map_err(wrong)?);
        }
        let whole = |what| WrongLabels { key: None, what };
        if checked.len() > LABELS_MAX {
            return Err(whole(format!("a backend has at most {LABELS_MAX} labels, this one {}", checked.len())));
        }
        let json = match checked.is_empty() {
            true => String::new(),
            false => serde_json::to_string(&checked).expect("texts, numbers and truths"),
        };
        if json.len() > LABELS_BYTES_MAX {
            let what =
                format!("the labels of a backend have at most {LABELS_BYTES_MAX} bytes as JSON, these {}", json.len());
            return Err(whole(what));
        }
        Ok(Self { json: json.into(), short: short(&checked).into() })
    }

    /// As strategies get them: a JSON object, or "" without labels.
    #[must_use]
    pub fn json(&self) -> &Arc<str> {
        &self.json
    }

    /// For people: `priority=1 zone=a`, and an ellipsis where there are more.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.short
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.json.is_empty()
    }

    fn object(&self) -> Map<String, Value> {
        serde_json::from_str(&self.json).unwrap_or_default()
    }
}

fn short(labels: &BTreeMap<&str, Label>) -> String {
    let words: Vec<String> = labels.iter().map(|(key, label)| format!("{key}={label}")).collect();
    let words = words.join(" ");
    match words.char_indices().nth(SHORT_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words,
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.json.is_empty() { "{}" } else { &self.json })
    }
}

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.object().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_json(&Map::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Labels {
    fn schema_name() -> Cow<'static, str> {
        "Labels".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        schema(generator)
    }
}

// === impl WrongLabels ===

impl fmt::Display for WrongLabels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "labels.{key:?}: {}", self.what),
            None => write!(f, "labels: {}", self.what),
        }
    }
}

// === impl Label ===

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => number.fmt(f),
            Self::Truth(truth) => truth.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn labels(value: &Value) -> Result<Labels, String> {
        serde_json::from_value(value.clone()).map_err(|error| error.to_string())
    }

    fn of_toml(text: &str) -> Result<Labels, Fault> {
        check_labels(&text.parse().unwrap(), &KeyPath::of(&["labels"]))
    }

    #[test]
    fn equal_labels_have_equal_texts_in_any_order_and_form() {
        let json = labels(&json!({ "zone": "a", "priority": 1, "spot": true })).unwrap();
        assert_eq!(&**json.json(), r#"{"priority":1,"spot":true,"zone":"a"}"#);
        assert_eq!(of_toml("spot = true\npriority = 1\nzone = 'a'"), Ok(json.clone()));
        assert_eq!(labels(&serde_json::to_value(&json).unwrap()), Ok(json.clone()));
        assert_eq!(json.short(), "priority=1 spot=true zone=a");
        let none = labels(&json!({})).unwrap();
        assert_eq!((&**none.json(), none.short(), &none), ("", "", &Labels::default()));
        assert_eq!(serde_json::to_value(&none).unwrap(), json!({}));
    }

    #[test]
    fn a_value_is_a_text_a_whole_number_or_a_truth() {
        let value = |value: Value| labels(&json!({ "k": value })).map(|labels| labels.json().to_string());
        assert_eq!(value(json!(i64::MIN)).unwrap(), format!(r#"{{"k":{}}}"#, i64::MIN));
        assert_eq!(value(json!("a\u{0}\"")).unwrap(), r#"{"k":"a\u0000\""}"#);
        for (wrong, word) in [
            (json!(1.5), "write 1.5 with quotes"),
            (json!(2.0), "write 2.0 with quotes"),
            (json!(1e300), "with quotes"),
            (json!(u64::MAX), "too large"),
            (json!(null), "not null"),
            (json!([1]), "not a list"),
            (json!({}), "not an object"),
        ] {
            let said = value(wrong).unwrap_err();
            assert!(said.starts_with("labels.\"k\": ") && said.contains(word), "{said}");
        }
        for (text, word) in [
            ("k = 1.5", "1.5 with quotes"),
            ("k = 2.0", "with quotes"),
            ("k = [1]", "not an array"),
            ("k = {}", "not a table"),
        ] {
            let fault = of_toml(text).unwrap_err();
            assert!(fault.key.to_string() == "labels.k" && fault.what.contains(word), "{fault:?}");
        }
    }

    #[test]
    fn keys_number_and_size_have_limits() {
        let key = |key: &str| labels(&json!({ key: 1 }));
        for fine in ["zone", "_", "a.b-c_9", &"x".repeat(LABEL_KEY_BYTES_MAX)] {
            assert!(key(fine).is_ok(), "{fine}");
        }
        for (wrong, word) in [
            ("", "1 to 63 bytes, this one 0"),
            (&*"x".repeat(LABEL_KEY_BYTES_MAX + 1), "this one 64"),
            ("my zone", "write for example my_zone"),
            ("9", "write for example _9"),
            ("-a", "write for example _-a"),
            ("ä", "write for example _"),
            ("a\n", "write for example a_"),
        ] {
            let said = key(wrong).unwrap_err();
            assert!(said.contains(word), "{said}");
        }
        let many = |n: usize| labels(&(0..n).map(|n| (format!("k{n}"), json!(n))).collect::<Map<_, _>>().into());
        assert!(many(LABELS_MAX).is_ok());
        assert!(many(LABELS_MAX + 1).unwrap_err().starts_with("labels: a backend has at most 64 labels, this one 65"));
        let long = |bytes: usize| labels(&json!({ "k": "x".repeat(bytes - r#"{"k":""}"#.len()) }));
        assert_eq!(long(LABELS_BYTES_MAX).unwrap().json().len(), LABELS_BYTES_MAX);
        assert!(long(LABELS_BYTES_MAX + 1).unwrap_err().contains("at most 4096 bytes as JSON, these 4097"));
        assert_eq!(long(LABELS_BYTES_MAX).unwrap().short().chars().count(), SHORT_CHARS_MAX + 1);
    }

    #[test]
    fn the_pattern_of_the_schema_has_the_limit_of_keys() {
        assert!(KEY_PATTERN.ends_with(&format!("{{0,{}}}$", LABEL_KEY_BYTES_MAX - 1)));
    }
}
