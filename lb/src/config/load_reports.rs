//! The section `[strategy.load_reports]` of a pool: its file form and its check.
//!
//! It belongs to the pool and not to one strategy: all strategies of the pool see the same reports.

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::Fault;
use super::health::check_path;
use super::key_path::KeyPath;
use super::validate::within;
use crate::load_report::{BadMetric, Metrics};

/// The file form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct LoadReports {
    pub(super) enabled: bool,
    pub(super) request_header: bool,
    pub(super) metrics: Vec<String>,
    /// Empty: off.
    pub(super) poll_path: String,
    pub(super) poll_every_ms: i64,
}

/// How a pool uses the load reports of its backends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadReportPolicy {
    /// Whether requests ask for reports.
    pub request_header: bool,
    /// The metrics that strategies get beside the utilisation and the rates.
    pub metrics: Arc<Metrics>,
    /// Requests of lb for reports, beside those of clients.
    pub poll: Option<LoadPoll>,
}

/// Where and how often each backend is asked for a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadPoll {
    pub path: String,
    pub every: Duration,
}

const POLL_MIN_MS: i64 = 10;
const POLL_MAX_MS: i64 = 3_600_000;

// === impl LoadReports ===

impl Default for LoadReports {
    fn default() -> Self {
        Self {
            enabled: false,
            request_header: false,
            metrics: Vec::new(),
            poll_path: String::new(),
            poll_every_ms: 1_000,
        }
    }
}

impl LoadReports {
    /// Checks the section at `section`. `None`: reports are not read.
    pub(super) fn check(
        &self,
        section: &KeyPath,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Arc<LoadReportPolicy>>, Fault> {
        let Self { enabled, request_header, metrics: names, poll_path, poll_every_ms } = self;
        let key = section.key("metrics");
        let metrics = Metrics::new(names).map_err(|bad| {
            let place = match &bad {
                BadMetric::TooMany(_) => None,
                BadMetric::Name(name) | BadMetric::Twice(_, name) | BadMetric::Always(name) => {
                    names.iter().rposition(|one| one == name)
                }
            };
            Fault::new(place.map_or(key.clone(), |index| key.index(index)), bad.to_string())
        })?;
        let every_ms = within(section.key("poll_every_ms"), *poll_every_ms, POLL_MIN_MS, POLL_MAX_MS)?;
        let path = check_path(poll_path).map(Some).or_else(|what| match poll_path.as_str() {
            "" => Ok(None),
            _ => Err(Fault::new(section.key("poll_path"), what)),
        })?;
        if !enabled {
            if *request_header || !names.is_empty() || path.is_some() {
                warnings.push(format!("{section} has no effect: set enabled = true in it"));
            }
            return Ok(None);
        }
        let poll = path.map(|path| LoadPoll { path, every: Duration::from_millis(every_ms.unsigned_abs()) });
        Ok(Some(Arc::new(LoadReportPolicy { request_header: *request_header, metrics: Arc::new(metrics), poll })))
    }
}
