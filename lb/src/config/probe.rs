//! The section `[strategy.probe]` of a pool: its file form and its check.
//!
//! It belongs to the pool and not to one strategy: a strategy only says which backends it wants probed, or how often.

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::Fault;
use super::health::check_path;
use super::key_path::KeyPath;
use super::validate::within;

/// The file form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct Probe {
    /// Empty: no probes.
    pub(super) path: String,
    pub(super) timeout_ms: i64,
}

/// How a pool sends the probes of its strategies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbePolicy {
    /// Begins with `/`.
    pub path: String,
    /// For the field Host, as of health checks; `None`: the backend's address.
    pub host: Option<String>,
    /// From the start of a probe to its response.
    pub timeout: Duration,
}

const TIMEOUT_DEFAULT_MS: i64 = 1_000;
const TIMEOUT_MAX_MS: i64 = 60_000;

// === impl Probe ===

impl Default for Probe {
    fn default() -> Self {
        Self { path: String::new(), timeout_ms: TIMEOUT_DEFAULT_MS }
    }
}

impl Probe {
    /// Checks the section at `section`. `None`: no probes are sent.
    pub(super) fn check(
        &self,
        section: &KeyPath,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Arc<ProbePolicy>>, Fault> {
        let Self { path, timeout_ms } = self;
        let timeout = within(section.key("timeout_ms"), *timeout_ms, 1, TIMEOUT_MAX_MS)?;
        if path.is_empty() {
            if *timeout_ms != TIMEOUT_DEFAULT_MS {
                warnings.push(format!("{section} has no effect: set path in it"));
            }
            return Ok(None);
        }
        let path = check_path(path).map_err(|what| Fault::new(section.key("path"), what))?;
        Ok(Some(Arc::new(ProbePolicy { path, host: None, timeout: Duration::from_millis(timeout.unsigned_abs()) })))
    }
}
