//! Strategies in results.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Serialize;

/// The plugin of a pool, as it was loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LoadedStrategy {
    pub pool: String,
    pub strategy: String,
    pub version: String,
    pub sha256: Option<String>,
    pub file: Option<PathBuf>,
}

/// One library in the plugin folders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FoundStrategy {
    /// The name by the plugin; by the file if it was refused.
    pub name: String,
    pub path: PathBuf,
    pub version: Option<String>,
    pub sha256: Option<String>,
    /// The theoretical expectation that the plugin declares, JSON.
    pub expectation: Option<String>,
    /// A file of the same name in an earlier folder. That one is loaded.
    pub shadowed_by: Option<PathBuf>,
    /// Why it was refused, one sentence.
    pub error: Option<String>,
}

/// A library that a reload can name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct OfferedStrategy {
    /// The name that the plugin must declare.
    pub name: String,
    pub path: PathBuf,
}
