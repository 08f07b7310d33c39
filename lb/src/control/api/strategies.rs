//! Strategies as callers see them.

use std::path::PathBuf;

use serde::Serialize;

/// What was loaded for a pool.
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
    /// What it calls itself; from the file's name when it was refused.
    pub name: String,
    pub path: PathBuf,
    pub version: Option<String>,
    pub sha256: Option<String>,
    /// What theory expects of it, JSON.
    pub expectation: Option<String>,
    /// A file of the same name in an earlier folder, which is taken instead.
    pub shadowed_by: Option<PathBuf>,
    /// Why it was refused, one sentence.
    pub error: Option<String>,
}

/// A library that can be asked for by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OfferedStrategy {
    /// What it has to call itself.
    pub name: String,
    pub path: PathBuf,
}
