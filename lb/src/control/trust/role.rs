//! The role of a strategy in a pool: in charge, or a shadow. It says which plugin, with which options, and how messages
//! name it.
//!
//! Invariant: a shadow has another owner than the strategy in charge. So a crash of a shadow is never held against the
//! strategy in charge, though both may be one plugin with the same options.

use serde_json::Value;

use super::plugins::key_of;
use crate::config::{Plugin, PoolConfig, Shadow};

/// See the module.
pub(in crate::control) struct Role<'a> {
    pub(in crate::control) pool: &'a str,
    pub(in crate::control) plugin: &'a Plugin,
    pub(in crate::control) sha256: Option<[u8; 32]>,
    pub(in crate::control) options: &'a Value,
    /// The index and the id of a shadow.
    shadow: Option<(usize, &'a str)>,
}

// === impl Role ===

impl<'a> Role<'a> {
    pub(in crate::control) fn in_charge(pool: &'a PoolConfig) -> Self {
        let strategy = &pool.strategy;
        let (plugin, sha256, options) = (&strategy.plugin, strategy.sha256, &strategy.options);
        Self { pool: &pool.name, plugin, sha256, options, shadow: None }
    }

    /// The roles of all shadows of `pool`.
    pub(in crate::control) fn shadows(pool: &'a PoolConfig) -> impl Iterator<Item = Self> {
        let shadows = pool.strategy.shadows.iter().enumerate();
        shadows.map(|(index, Shadow { id, plugin, sha256, options })| Self {
            pool: &pool.name,
            plugin,
            sha256: *sha256,
            options,
            shadow: Some((index, id)),
        })
    }

    pub(in crate::control) fn is_shadow(&self) -> bool {
        self.shadow.is_some()
    }

    /// The name in log lines and in records of crashes: that of the pool, for the strategy in charge.
    pub(in crate::control) fn owner(&self) -> String {
        self.shadow.map_or_else(|| self.pool.to_owned(), |(_, id)| format!("{} (shadow {id})", self.pool))
    }

    /// The key of the configuration that names the plugin.
    pub(in crate::control) fn plugin_key(&self) -> String {
        let key = match &self.plugin {
            Plugin::Name(_) => "name",
            Plugin::Path { .. } => "path",
        };
        self.key(key)
    }

    /// The key of the configuration that has the options.
    pub(in crate::control) fn options_key(&self) -> String {
        if self.shadow.is_some() {
            return self.key("config");
        }
        let name = match &self.plugin {
            Plugin::Name(name) => Some(name),
            Plugin::Path { name, .. } => name.as_ref(),
        };
        self.key(&format!("config.{}", name.map_or("*", String::as_str)))
    }

    fn key(&self, key: &str) -> String {
        match self.shadow {
            None => key_of(self.pool, &format!("strategy.{key}")),
            Some((index, _)) => key_of(self.pool, &format!("strategy.shadow[{index}].{key}")),
        }
    }
}
