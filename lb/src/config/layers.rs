//! The layers: command line over environment over file over defaults.
//!
//! The `config` crate merges them. What it does not do is remember who said what, so overrides are put
//! on one at a time, in order, and the form is read after each: the first that does not fit is the one
//! at fault, and the error names its variable or flag.
//!
//! How an override is read. `LB__PROXY__LISTEN` is `proxy.listen`: a part of the name means the key that
//! is already there, whatever its case, else its lower case; a name with lower-case letters in it is
//! taken as typed, for options that have upper-case names. The value is TOML if the key takes it so,
//! else plain text, so that quotes are not needed. An empty variable counts as not set.
//!
//! Invariants: keys keep their case; a plugin's name, path and pin come from one layer together, so that
//! `--strategy NAME` is never held against another plugin's digest.

use std::collections::BTreeMap;

use config::{FileFormat, Map, Value, ValueKind};

use super::document::Document;
use super::error::{ConfigError, Fault, Place, in_our_words};
use super::file;
use super::key_path::{KeyPath, Step};

/// Who said it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Default,
    /// The line in the configuration file, from 1.
    File {
        line: usize,
    },
    /// The variable's name.
    Environment(String),
    /// The flag, or the key when it has no flag of its own.
    CommandLine(String),
}

/// The file form after all layers.
#[derive(Debug)]
pub(super) struct Layered {
    pub(super) form: file::File,
    /// What the layers over the file have set, later ones over earlier ones.
    overridden: Vec<(KeyPath, Origin)>,
    pub(super) warnings: Vec<String>,
}

/// One variable or flag.
#[derive(Debug)]
struct Override {
    origin: Origin,
    /// Parts of the key's path.
    parts: Vec<String>,
    /// Whether the case of `parts` is meant.
    as_typed: bool,
    text: String,
}

/// A value under its path, as a layer for the `config` crate.
#[derive(Clone, Debug)]
struct Layer(Map<String, Value>);

/// Carries the admin API's token itself, which has no key, so that it is never typed into a file.
pub(super) const TOKEN_VARIABLE: &str = "LB_ADMIN_TOKEN";
const LOG_VARIABLE: &str = "LB_LOG";
const PREFIX: &str = "LB__";

/// Puts `environment` and then `command_line` over the document.
pub(super) fn layer(
    document: &Document<'_>,
    environment: &BTreeMap<String, String>,
    command_line: &[(String, String)],
) -> Result<Layered, ConfigError> {
    let file = config::File::from_str(document.text(), FileFormat::Toml);
    let current = config::Config::builder().add_source(file).build();
    // Whatever the strict first reading let pass and this one does not has no place any more.
    let lost = |what: String| Fault::new(KeyPath::default(), what);
    let whole = |fault: Fault| ConfigError::Syntax { place: document.place_of(&KeyPath::default()), what: fault.what };
    let mut current = current.map_err(|error| whole(lost(error.to_string())))?;
    let mut layered = Layered {
        form: read(&current).map_err(|what| whole(lost(what)))?,
        overridden: Vec::new(),
        warnings: Vec::new(),
    };
    let overrides = from_environment(environment).chain(from_command_line(command_line));
    for one in overrides {
        let place = one.origin.place(document, &KeyPath::default());
        layered.apply(&mut current, one).map_err(|fault| fault.at(place))?;
    }
    let token = Origin::Environment(TOKEN_VARIABLE.to_owned());
    layered.overridden.push((KeyPath::of(&["admin", "token"]), token));
    Ok(layered)
}

/// `LB__…` in the order of their names, then `LB_LOG`, which is shorter and so meant more.
fn from_environment(environment: &BTreeMap<String, String>) -> impl Iterator<Item = Override> {
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

fn from_command_line(command_line: &[(String, String)]) -> impl Iterator<Item = Override> {
    command_line.iter().map(|(key, text)| Override {
        origin: Origin::CommandLine(flag(key)),
        parts: key.split('.').map(str::to_owned).collect(),
        as_typed: true,
        text: text.clone(),
    })
}

/// What the operator typed to set `key`.
fn flag(key: &str) -> String {
    match key {
        "strategy.name" => "--strategy".to_owned(),
        other => format!("command line ({other})"),
    }
}

/// The form that `current` amounts to, read as strictly as the file was.
fn read(current: &config::Config) -> Result<file::File, String> {
    let table: toml::Table = current.clone().try_deserialize().map_err(|error| in_our_words(&error.to_string()))?;
    table.try_into().map_err(|error: toml::de::Error| in_our_words(error.message()))
}

/// What `text` may mean, the likeliest first.
fn meanings(text: &str) -> Vec<Value> {
    let plain = Value::new(None, text);
    match text.parse::<toml::Value>() {
        // A date is never meant: no setting is one.
        Ok(toml::Value::Datetime(_)) | Err(_) => vec![plain],
        Ok(value) => vec![layer_value(value), plain],
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

/// The paths of all values in `value` that are not tables.
fn leaves(path: &KeyPath, value: &Value, found: &mut Vec<KeyPath>) {
    match &value.kind {
        ValueKind::Table(table) => {
            for (key, value) in table {
                leaves(&path.key(key), value, found);
            }
        }
        _ => found.push(path.clone()),
    }
}

fn lookup<'v>(mut value: &'v Value, path: &KeyPath) -> Option<&'v Value> {
    for step in path.steps() {
        value = match (step, &value.kind) {
            (Step::Key(key), ValueKind::Table(table)) => table.get(key)?,
            _ => return None,
        };
    }
    Some(value)
}

fn remove(mut value: &mut Value, path: &KeyPath) -> bool {
    let Some((Step::Key(last), way)) = path.steps().split_last() else { return false };
    for step in way {
        value = match (step, &mut value.kind) {
            (Step::Key(key), ValueKind::Table(table)) => match table.get_mut(key) {
                Some(inner) => inner,
                None => return false,
            },
            _ => return false,
        };
    }
    match &mut value.kind {
        ValueKind::Table(table) => table.shift_remove(last).is_some(),
        _ => false,
    }
}

// === impl Layered ===

impl Layered {
    /// Who set `key`. What an override set, it set whole.
    pub(super) fn origin_of(&self, document: &Document<'_>, key: &KeyPath) -> Origin {
        let over = self.overridden.iter().rev().find(|(path, _)| key.starts_with(path));
        match over {
            Some((_, origin)) => origin.clone(),
            None => match document.line_of(key) {
                Some(line) => Origin::File { line },
                None => Origin::Default,
            },
        }
    }

    /// Where a complaint about `key` belongs.
    pub(super) fn place_of(&self, document: &Document<'_>, key: &KeyPath) -> Place {
        self.origin_of(document, key).place(document, key)
    }

    fn apply(&mut self, current: &mut config::Config, one: Override) -> Result<(), Fault> {
        let path = one.path(&current.cache)?;
        let mut first_complaint = None;
        for meaning in meanings(&one.text) {
            let next = config::Config::builder()
                .add_source(current.clone())
                .add_source(Layer::of(&path, meaning.clone()))
                .build();
            let form = next.as_ref().map_err(ToString::to_string).and_then(read);
            match (next, form) {
                (Ok(mut next), Ok(form)) => {
                    let mut set = Vec::new();
                    leaves(&path, &meaning, &mut set);
                    self.form = form;
                    for key in set {
                        self.replace_plugin(current, &mut next, &key, &one.origin)?;
                        self.overridden.push((key, one.origin.clone()));
                    }
                    *current = next;
                    return Ok(());
                }
                (_, Err(complaint)) => {
                    first_complaint.get_or_insert(complaint);
                }
                (Err(complaint), _) => {
                    first_complaint.get_or_insert(complaint.to_string());
                }
            }
        }
        Err(Fault::new(path, first_complaint.unwrap_or_default()))
    }

    /// When `key` names another plugin than a lower layer did, takes away what that layer said about
    /// its own: the name, the path, the digest.
    fn replace_plugin(
        &mut self,
        before: &config::Config,
        next: &mut config::Config,
        key: &KeyPath,
        origin: &Origin,
    ) -> Result<(), Fault> {
        let strategy = key.parent();
        let names_plugin = [strategy.key("name"), strategy.key("path")].contains(key);
        let is_strategy = strategy.steps().last() == Some(&Step::Key("strategy".to_owned()));
        let in_its_place = matches!(strategy.steps().len(), 1 | 3);
        let value = |config: &config::Config| lookup(&config.cache, key).map(|v| v.kind.clone());
        if !(names_plugin && is_strategy && in_its_place) || value(before) == value(next) {
            return Ok(());
        }
        for sibling in ["name", "path", "sha256"].map(|name| strategy.key(name)) {
            let same_layer = |(path, other): &(KeyPath, Origin)| *path == sibling && other.layer() == origin.layer();
            if sibling == *key || self.overridden.iter().any(same_layer) {
                continue;
            }
            if remove(&mut next.cache, &sibling) {
                self.overridden.retain(|(path, _)| *path != sibling);
                let by = origin.name();
                self.warnings.push(format!("{sibling} is not in force: {by} sets {key}"));
            }
        }
        self.form = read(next).map_err(|what| Fault::new(key.clone(), what))?;
        Ok(())
    }
}

// === impl Override ===

impl Override {
    /// The key that is meant, in its right case.
    fn path(&self, root: &Value) -> Result<KeyPath, Fault> {
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
                let what = "the name has an empty part; it is LB__SECTION__KEY, for example \
                            LB__PROXY__LISTEN";
                return Err(Fault::new(path, what));
            }
        }
        // The `config` crate would read `a[3]` as a path of its own.
        match path.steps().first() {
            Some(Step::Key(first)) if !first.chars().all(plain) => Err(Fault::new(path, "unknown key")),
            _ => Ok(path),
        }
    }
}

// === impl Origin ===

impl Origin {
    /// The higher wins.
    fn layer(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::File { .. } => 1,
            Self::Environment(_) => 2,
            Self::CommandLine(_) => 3,
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Default => "the default",
            Self::File { .. } => "the file",
            Self::Environment(name) | Self::CommandLine(name) => name,
        }
    }

    fn place(&self, document: &Document<'_>, key: &KeyPath) -> Place {
        match self {
            Self::Default | Self::File { .. } => document.place_of(key),
            Self::Environment(name) => Place::Environment(name.clone()),
            Self::CommandLine(flag) => Place::CommandLine(flag.clone()),
        }
    }
}

// === impl Layer ===

impl Layer {
    fn of(path: &KeyPath, value: Value) -> Self {
        let nested = path.steps().iter().rev().fold(value, |inner, step| match step {
            Step::Key(key) => Value::new(None, ValueKind::Table(Map::from_iter([(key.clone(), inner)]))),
            Step::Index(_) => inner,
        });
        match nested.kind {
            ValueKind::Table(map) => Self(map),
            _ => Self(Map::new()),
        }
    }
}

impl config::Source for Layer {
    fn clone_into_box(&self) -> Box<dyn config::Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self.0.clone())
    }
}
