//! The file form of the section `[strategy]` of a pool.
//!
//! [`super::pools`] checks it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::load_reports::LoadReports;
use super::probe::Probe;
use super::schema;
use super::shadows::ShadowTable;
use super::validated::{Fallback, HashFunction};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct Strategy {
    pub(super) name: Option<String>,
    pub(super) path: Option<PathBuf>,
    pub(super) sha256: Option<String>,
    pub(super) hash_on: Vec<String>,
    #[schemars(schema_with = "schema::hash")]
    pub(super) hash: HashFunction,
    #[schemars(schema_with = "schema::fallback")]
    pub(super) fallback: Fallback,
    pub(super) load_reports: LoadReports,
    pub(super) probe: Probe,
    pub(super) shadow: Vec<ShadowTable>,
    /// Options by strategy name.
    #[schemars(with = "BTreeMap<String, BTreeMap<String, serde_json::Value>>")]
    pub(super) config: BTreeMap<String, toml::Table>,
}

// === impl Strategy ===

impl Default for Strategy {
    fn default() -> Self {
        Self {
            name: None,
            path: None,
            sha256: None,
            hash_on: vec!["header:x-key".to_owned(), "random_id".to_owned()],
            hash: HashFunction::Xxh3,
            fallback: Fallback::LeastConnections,
            load_reports: LoadReports::default(),
            probe: Probe::default(),
            shadow: Vec::new(),
            config: BTreeMap::new(),
        }
    }
}
