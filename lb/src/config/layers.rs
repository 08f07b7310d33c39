//! The layers: command line over environment over file over defaults.
//!
//! The `config` crate merges them but does not keep origins. So overrides are added one at a time, in order, and the
//! form is read after each. The first one that does not fit is at fault, and the error names its variable or flag.
//!
//! Invariants: keys keep their case. A plugin's name, path and pin come from one layer together, so `--strategy NAME`
//! is never checked against another plugin's digest.

use std::collections::BTreeMap;

use config::{FileFormat, Map, Value, ValueKind};
use serde::Deserialize;

use super::document::Document;
use super::error::{ConfigError, Fault, Place, in_our_words, replaced};
use super::file;
use super::key_path::{KeyPath, Step};
use super::overrides::{Override, TOKEN_VARIABLE, from_command_line, from_environment};

/// The origin of a value.
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
    /// The keys set by the layers above the file; later layers replace earlier ones.
    overridden: Vec<(KeyPath, Origin)>,
    pub(super) warnings: Vec<String>,
}

/// A value under its path, as a layer for the `config` crate.
#[derive(Clone, Debug)]
struct Layer(Map<String, Value>);

/// Puts `environment` and then `command_line` over the document.
pub(super) fn layer(
    document: &Document<'_>,
    environment: &BTreeMap<String, String>,
    command_line: &[(String, String)],
) -> Result<Layered, ConfigError> {
    let file = config::File::from_str(&document.to_toml(), FileFormat::Toml);
    let current = config::Config::builder().add_source(file).build();
    // The strict first reading accepted it and this one does not, so its place is lost.
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

/// The form of `current`, read as strictly as the file: from text, like the file. Each deserializer more that the form
/// is compiled for is 300 KB of code.
fn read(current: &config::Config) -> Result<file::File, String> {
    let table: toml::Table = current.clone().try_deserialize().map_err(|error| in_our_words(&error.to_string()))?;
    let text = table.to_string();
    toml::Deserializer::parse(&text).and_then(file::File::deserialize).map_err(|error| in_our_words(error.message()))
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

pub(super) fn lookup<'v>(mut value: &'v Value, path: &KeyPath) -> Option<&'v Value> {
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
    /// The origin of `key`. An override sets a value as a whole.
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

    /// The place of a complaint about `key`.
    pub(super) fn place_of(&self, document: &Document<'_>, key: &KeyPath) -> Place {
        self.origin_of(document, key).place(document, key)
    }

    fn apply(&mut self, current: &mut config::Config, one: Override) -> Result<(), Fault> {
        let path = one.path(&current.cache)?;
        let mut first_complaint = None;
        for meaning in one.meanings() {
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
                    self.overridden.extend(set.iter().map(|key| (key.clone(), one.origin.clone())));
                    for key in set {
                        self.replace_plugin(current, &mut next, &key, &one.origin)?;
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
        let what = replaced(&path).or(first_complaint).unwrap_or_default();
        Err(Fault::new(path, what))
    }

    /// If `key` names another plugin than a lower layer, removes the lower layer's name, path and digest.
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

// === impl Origin ===

impl Origin {
    /// The higher number wins.
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
