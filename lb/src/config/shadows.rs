//! Shadows: `[[strategy.shadow]]`. A shadow is a further strategy of a pool, which picks for its requests and routes
//! none.
//!
//! Its plugin has the keys of the strategy in charge: `name`, `path` and `sha256`. Its options are its own table
//! `config`, else the table of `[strategy.config]` with its name. So the strategy in charge can have a shadow of the
//! same plugin with other options.
//!
//! Invariants: the id of a shadow is unique in its pool, because its metrics have it. Keys and load reports are those
//! of the pool.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::Fault;
use super::key_path::KeyPath;
use super::plugin::Plugin;
use super::pools::{check_plugin, check_sha256, json, own_options};
use super::validate::Surroundings;
use super::validated::check_id;

/// The most shadows of a pool: each costs the time of a pick.
pub const SHADOWS_MAX: usize = 4;

/// A shadow as typed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct ShadowTable {
    pub(super) id: Option<String>,
    pub(super) name: Option<String>,
    pub(super) path: Option<PathBuf>,
    pub(super) sha256: Option<String>,
    /// `None`: those of `[strategy.config.NAME]`.
    #[schemars(with = "Option<BTreeMap<String, serde_json::Value>>")]
    pub(super) config: Option<toml::Table>,
}

/// A shadow, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Shadow {
    pub id: String,
    pub plugin: Plugin,
    /// If set, the plugin's bytes must have this digest.
    pub sha256: Option<[u8; 32]>,
    /// A JSON object.
    pub options: serde_json::Value,
}

/// The shadows of the strategy `section`, which has the tables `config`.
pub(super) fn check_shadows(
    shadows: &[ShadowTable],
    config: &BTreeMap<String, toml::Table>,
    section: &KeyPath,
    around: &Surroundings,
) -> Result<Vec<Shadow>, Fault> {
    let key = section.key("shadow");
    if shadows.len() > SHADOWS_MAX {
        let what = format!("a strategy can have {SHADOWS_MAX} shadows, not {}", shadows.len());
        return Err(Fault::new(key, what));
    }
    let mut checked: Vec<Shadow> = Vec::with_capacity(shadows.len());
    for (index, ShadowTable { id, name, path, sha256, config: own }) in shadows.iter().enumerate() {
        let key = key.index(index);
        if name.is_none() && path.is_none() {
            return Err(Fault::new(
                key.key("name"),
                "a shadow needs a `name`, such as \"least_connections\", or a `path`",
            ));
        }
        let plugin = check_plugin(name.as_deref(), path.as_deref(), &key, around)?;
        let id = id.clone().unwrap_or_else(|| plugin.expected_name());
        check_id(&id).map_err(|what| Fault::new(key.key("id"), what))?;
        if checked.iter().any(|other| other.id == id) {
            let what = format!("another shadow is called {id:?}: give one of them an `id` of its own");
            return Err(Fault::new(key, what));
        }
        let options = match own {
            Some(own) => json(&toml::Value::Table(own.clone()), &key.key("config"))?,
            None => own_options(&plugin, config, section)?.unwrap_or_else(|| serde_json::json!({})),
        };
        checked.push(Shadow { id, plugin, sha256: check_sha256(sha256.as_deref(), &key)?, options });
    }
    Ok(checked)
}
