//! One mock server: its counts, and its switches for faults. loadgen does not start or stop it.

use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

use super::web::{Web, WebError};

/// A mock server by its address.
#[derive(Clone, Debug)]
pub struct Mock {
    base: String,
    web: Web,
}

#[derive(Debug, Error)]
pub enum MockError {
    #[error("{0}; only mock-server has switches for faults")]
    NoSwitches(WebError),
    #[error(transparent)]
    Web(#[from] WebError),
}

/// The used fields of `/stats`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct MockStats {
    pub id: String,
    /// Different in each process, unless a flag sets it.
    pub seed: u64,
    pub uptime_seconds: f64,
    pub service_time: String,
    pub concurrency: u64,
    pub requests: u64,
    pub in_progress: u64,
}

// === impl Mock ===

impl Mock {
    /// `address` is HOST:PORT.
    pub fn at(address: &str, web: &Web) -> Self {
        Self { base: format!("http://{address}"), web: web.clone() }
    }

    pub fn stats(&self) -> Result<MockStats, WebError> {
        let url = format!("{}/stats", self.base);
        let text = self.web.get(&url)?;
        serde_json::from_str(&text).map_err(|error| WebError::Format { url, reason: error.to_string() })
    }

    /// The metrics as Prometheus text.
    pub fn metrics(&self) -> Result<String, WebError> {
        self.web.get(&format!("{}/metrics", self.base))
    }

    /// Multiplies service times by `factor`; 1 is normal.
    pub fn slow(&self, factor: f64) -> Result<(), MockError> {
        self.change(&serde_json::json!({ "slow": factor }))
    }

    /// Adds this time to each request; 0 is normal.
    pub fn extra(&self, time: Duration) -> Result<(), MockError> {
        self.change(&serde_json::json!({ "extra_ms": time.as_secs_f64() * 1e3 }))
    }

    /// Sends no response while true.
    pub fn stall(&self, is_stalled: bool) -> Result<(), MockError> {
        self.change(&serde_json::json!({ "stall": is_stalled }))
    }

    /// The share of requests with an immediate 500 response; 0 is normal. Other requests keep their service time.
    pub fn fail(&self, rate: f64) -> Result<(), MockError> {
        self.change(&serde_json::json!({ "failure_rate": rate, "fail_at_once": rate > 0.0 }))
    }

    fn change(&self, change: &serde_json::Value) -> Result<(), MockError> {
        let answer = self.web.post(&format!("{}/control", self.base), &change.to_string());
        answer.map(drop).map_err(|error| match error {
            WebError::Status { status: 404 | 405, .. } => MockError::NoSwitches(error),
            other => MockError::Web(other),
        })
    }
}
