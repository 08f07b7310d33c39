//! The section `[strategy.load_reports]` of a pool: its file form and its check.
//!
//! It belongs to the pool and not to one strategy: all strategies of the pool see the same reports.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::Fault;
use super::key_path::KeyPath;
use crate::load_report::{BadMetric, Metrics};

/// The file form.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct LoadReports {
    pub(super) enabled: bool,
    pub(super) request_header: bool,
    pub(super) metrics: Vec<String>,
}

/// How a pool uses the load reports of its backends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadReportPolicy {
    /// Whether requests ask for reports.
    pub request_header: bool,
    /// The metrics that strategies get beside the utilisation and the rates.
    pub metrics: Arc<Metrics>,
}

// === impl LoadReports ===

impl LoadReports {
    /// Checks the section at `section`. `None`: reports are not read.
    pub(super) fn check(
        &self,
        section: &KeyPath,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Arc<LoadReportPolicy>>, Fault> {
        let Self { enabled, request_header, metrics: names } = self;
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
        if !enabled {
            if *request_header || !names.is_empty() {
                warnings.push(format!("{section} has no effect: set enabled = true in it"));
            }
            return Ok(None);
        }
        Ok(Some(Arc::new(LoadReportPolicy { request_header: *request_header, metrics: Arc::new(metrics) })))
    }
}
