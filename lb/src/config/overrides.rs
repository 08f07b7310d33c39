//! Overrides of the file: variables and flags, and how each is read.
//!
//! `LB__PROXY__LISTEN` is `proxy.listen`. A part of the name is the existing key in any case, else its lower case. A
//! name with lower-case letters is taken as typed, for options that have upper-case names. The value is TOML if the key
//! accepts it as TOML, else plain text, so that quotes are not needed. An empty variable counts as not set.
//!
//! Invariant: a name leads to one key or is an error; none is ignored.

use std::collections::BTreeMap;

use config::{Value, ValueKind};

use super::error::Fault;
use super::key_path::{KeyPath, Step};
use super::layers::{Origin, lookup};

/// One variable or flag.
#[derive(Debug)]
pub(super) struct Override {
    pub(super) origin: Origin,
    /// Parts of the key's path.
    parts: Vec<String>,
    /// Whether the case of `parts` counts.
    as_typed: bool,
    text: String,
}

/// Contains the admin API's token itself, which has no key, so that it is never typed into a file.
pub(super) const TOKEN_VARIABLE: &str = "LB_ADMIN_TOKEN";
const LOG_VARIABLE: &str = "LB_LOG";
const PREFIX: &str = "LB__";

/// `LB__…` in the order of their names, then `LB_LOG`, which therefore wins.
pub(super) fn from_environment(environment: &BTreeMap<String, String>) -> impl Iterator<Item = Override> {
    let own = environment.iter().filter_map(|(name, text)| {
        let rest = name.strip_prefix(PREFIX)?;
        Some(Override {
            origin: Origin::Environment(name.clone()),
            parts: rest.split("__").map(str::to_owned).collect(),
            as_typed: rest.contains(|c: char| c.is_ascii_lowercase()),
            text: text.clone(),
        })
    });
    let log = environment.get(LOG_VARIABLE).map(|text| Override {
        origin: Origin::Environment(LOG_VARIABLE.to_owned()),
        parts: vec!["log".to_owned(), "level".to_owned()],
        as_typed: true,
        text: text.clone(),
    });
    own.chain(log).filter(|one| !one.text.is_empty())
}

pub(super) fn from_command_line(command_line: &[(String, String)]) -> impl Iterator<Item = Override> {
    command_line.iter().map(|(key, text)| Override {
        origin: Origin::CommandLine(flag(key)),
        parts: key.split('.').map(str::to_owned).collect(),
        as_typed: true,
        text: text.clone(),
    })
}

/// The flag or key that the operator typed to set `key`.
pub(super) fn flag(key: &str) -> String {
    match key {
        "strategy.name" => "--strategy".to_owned(),
        other => format!("command line ({other})"),
    }
}

fn layer_value(value: toml::Value) -> Value {
    let kind = match value {
        toml::Value::String(text) => ValueKind::String(text),
        toml::Value::Integer(number) => ValueKind::I64(number),
        toml::Value::Float(number) => ValueKind::Float(number),
        toml::Value::Boolean(truth) => ValueKind::Boolean(truth),
        toml::Value::Datetime(time) => ValueKind::String(time.to_string()),
        toml::Value::Array(array) => ValueKind::Array(array.into_iter().map(layer_value).collect()),
        toml::Value::Table(table) => {
            ValueKind::Table(table.into_iter().map(|(key, value)| (key, layer_value(value))).collect())
        }
    };
    Value::new(None, kind)
}

// === impl Override ===

impl Override {
    /// The possible meanings of the text, the most probable first.
    pub(super) fn meanings(&self) -> Vec<Value> {
        let plain = Value::new(None, self.text.as_str());
        match self.text.parse::<toml::Value>() {
            // Never a date: no setting is one.
            Ok(toml::Value::Datetime(_)) | Err(_) => vec![plain],
            Ok(value) => vec![layer_value(value), plain],
        }
    }

    /// The key in its right case.
    pub(super) fn path(&self, root: &Value) -> Result<KeyPath, Fault> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let mut path = KeyPath::default();
        for part in &self.parts {
            let here = match lookup(root, &path).map(|value| &value.kind) {
                Some(ValueKind::Table(table)) => Some(table),
                _ => None,
            };
            let there = |key: &&String| key.eq_ignore_ascii_case(part);
            let lower = part.to_ascii_lowercase();
            path = match here {
                _ if self.as_typed => path.key(part),
                Some(table) if !table.contains_key(&lower) => path.key(table.keys().find(there).unwrap_or(&lower)),
                _ => path.key(&lower),
            };
            if part.is_empty() {
                let what = "the name has an empty part; it is LB__SECTION__KEY, for example LB__PROXY__LISTEN";
                return Err(Fault::new(path, what));
            }
        }
        // The `config` crate would interpret `a[3]` as a path.
        match path.steps().first() {
            Some(Step::Key(first)) if !first.chars().all(plain) => Err(Fault::new(path, "unknown key")),
            _ => Ok(path),
        }
    }
}
