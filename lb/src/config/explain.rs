//! The settings in force with their origins: the page that `lb config` prints.
//!
//! It shows values in force, not values typed: workers as counted, derived times, absolute paths, the chosen state
//! folder. Of `plugin_dirs` it shows only the configured ones, because lb's own folders always follow. Every
//! line is TOML, so that a line can be copied into a file.
//!
//! Invariant: no secret is in a [`Setting`].

use std::fmt::Write as _;

use serde_json::json;

use super::document::Document;
use super::file::{self, OneOrMany};
use super::key_path::KeyPath;
use super::layers::{Layered, Origin};
use super::load::Loaded;
use super::plugin::Plugin;
use super::validated::{Config, Health, PoolConfig};

const PLUGIN_DIRS: &str = "plugin_dirs";

/// One setting in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    pub key: String,
    /// As TOML.
    pub value: String,
    pub origin: Origin,
}

/// Lines of `key = value   # origin`, followed by the warnings as comments.
#[must_use]
pub fn explain(loaded: &Loaded) -> String {
    /// Longer lines are not aligned: one long list should not push all origins off the screen.
    const WIDTH_MAX: usize = 60;
    let lines: Vec<String> =
        loaded.settings.iter().map(|setting| format!("{} = {}", setting.key, setting.value)).collect();
    let widths = lines.iter().map(|line| line.chars().count());
    let width = widths.filter(|width| *width <= WIDTH_MAX).max().unwrap_or(0);
    let mut page = String::new();
    if let Some(file) = &loaded.config.file {
        let _ = writeln!(page, "# {}", file.display());
    }
    for (line, setting) in lines.iter().zip(&loaded.settings) {
        let note = if setting.key == PLUGIN_DIRS { ", and lb's own folders after it" } else { "" };
        let _ = writeln!(page, "{line:width$}  # {}{note}", setting.origin.words());
    }
    for warning in &loaded.warnings {
        let _ = writeln!(page, "# warning: {warning}");
    }
    page
}

/// The same for programs: `{"file", "settings": [{"key", "value", "origin", …}], "warnings"}`.
#[must_use]
pub fn explain_json(loaded: &Loaded) -> serde_json::Value {
    let settings: Vec<serde_json::Value> = loaded
        .settings
        .iter()
        .map(|setting| {
            let value: Option<toml::Value> = setting.value.parse().ok();
            let mut entry = json!({ "key": setting.key, "value": value });
            let (origin, detail) = match &setting.origin {
                Origin::Default => ("default", None),
                Origin::File { line } => ("file", Some(("line", json!(line)))),
                Origin::Environment(name) => ("environment", Some(("variable", json!(name)))),
                Origin::CommandLine(flag) => ("command_line", Some(("flag", json!(flag)))),
            };
            entry["origin"] = json!(origin);
            if let Some((name, detail)) = detail {
                entry[name] = detail;
            }
            entry
        })
        .collect();
    json!({ "file": loaded.config.file, "settings": settings, "warnings": loaded.warnings })
}

/// Lists the settings of `config`.
pub(super) fn settings(
    layered: &Layered,
    document: &Document<'_>,
    config: &Config,
    token_origin: Option<Origin>,
) -> Vec<Setting> {
    let mut found = Vec::new();
    // A form that was read from TOML can be written as TOML.
    if let Ok(value) = toml::Value::try_from(in_force(&layered.form, config)) {
        flatten(&KeyPath::default(), &value, &mut found);
    }
    let mut settings: Vec<Setting> = found
        .into_iter()
        .map(|(key, value)| Setting { origin: layered.origin_of(document, &key), key: key.to_string(), value })
        .collect();
    if let Some(origin) = token_origin {
        let token = Setting { key: "admin.token".to_owned(), value: "\"***\"".to_owned(), origin };
        let last = settings.iter().rposition(|setting| setting.key.starts_with("admin."));
        settings.insert(last.map_or(settings.len(), |last| last + 1), token);
    }
    settings
}

/// `form` with the values that the checks computed.
fn in_force(form: &file::File, config: &Config) -> file::File {
    let mut form = form.clone();
    // the checks keep the order and append lb's own folders
    form.plugin_dirs = config.plugin_dirs.iter().take(form.plugin_dirs.len()).cloned().collect();
    form.proxy.listen = OneOrMany(config.proxy.listen.iter().map(ToString::to_string).collect());
    form.proxy.workers = i64::try_from(config.proxy.workers).unwrap_or(i64::MAX);
    form.state.dir = Some(config.state.dir.clone());
    let fast_interval_ms = |health: &Health| i64::try_from(health.fast_interval.as_millis()).ok();
    let is_derived = form.health.fast_interval_ms.is_none();
    form.health.fast_interval_ms = fast_interval_ms(&config.health);
    for pool in &config.pools {
        let Some(table) = form.pools.get_mut(&pool.name) else {
            plugin_in_force(&mut form.strategy, pool);
            continue;
        };
        plugin_in_force(&mut table.strategy, pool);
        if is_derived && table.health.interval_ms.is_some() {
            table.health.fast_interval_ms.get_or_insert(fast_interval_ms(&pool.health));
        }
    }
    if let Some(launcher) = &config.launcher {
        form.launcher.command = launcher.command.clone();
    }
    form
}

fn plugin_in_force(strategy: &mut file::Strategy, pool: &PoolConfig) {
    match &pool.strategy.plugin {
        Plugin::Name(name) => strategy.name = Some(name.clone()),
        Plugin::Path { path, name: _ } => strategy.path = Some(path.clone()),
    }
    for (form, shadow) in strategy.shadow.iter_mut().zip(&pool.strategy.shadows) {
        form.id = Some(shadow.id.clone());
        if let Plugin::Path { path, name: _ } = &shadow.plugin {
            form.path = Some(path.clone());
        }
    }
}

fn flatten(path: &KeyPath, value: &toml::Value, found: &mut Vec<(KeyPath, String)>) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                flatten(&path.key(key), value, found);
            }
        }
        toml::Value::Array(array) if array.iter().any(toml::Value::is_table) => {
            for (index, value) in array.iter().enumerate() {
                flatten(&path.index(index), value, found);
            }
        }
        _ => found.push((path.clone(), value.to_string())),
    }
}

// === impl Origin ===

impl Origin {
    fn words(&self) -> String {
        match self {
            Self::Default => "default".to_owned(),
            Self::File { line } => format!("file, line {line}"),
            Self::Environment(name) => format!("environment {name}"),
            Self::CommandLine(flag) => flag.clone(),
        }
    }
}
