//! The settings of the configuration for requests, as a generation contains them.
//!
//! Invariant: if its configuration is unchanged, the running access log is kept.

use std::sync::Arc;

use crate::access_log::{AccessLog, OpenError};
use crate::config::Config;
use crate::generation::Settings;
use crate::telemetry::AccessLogCounts;

/// The settings of all requests, in every pool.
pub(in crate::control) fn settings(
    config: &Config,
    access_log: Option<AccessLog>,
    missing_path: &'static str,
) -> Arc<Settings> {
    Arc::new(Settings {
        timeouts: config.timeouts.clone(),
        limits: config.limits.clone(),
        trusted_proxies: config.proxy.trusted_proxies.clone(),
        missing_path: config.course.missing_path_is_400.then_some(missing_path),
        request_id: config.proxy.request_id,
        explain_header: config.proxy.explain_header,
        upgrades: config.proxy.upgrades.clone(),
        allow_trace: config.proxy.allow_trace,
        access_log,
    })
}

/// The log that `config` asks for; `running` if that is the same one. Blocks. With `is_dry`, it only tests whether the
/// log could be opened.
pub(in crate::control) fn access_log(
    config: &Config,
    running: Option<AccessLog>,
    counts: Arc<AccessLogCounts>,
    is_dry: bool,
) -> Result<Option<AccessLog>, OpenError> {
    let Some(wanted) = &config.access_log else { return Ok(None) };
    match running {
        Some(running) if running.config() == wanted => Ok(Some(running)),
        _ if is_dry => AccessLog::check(wanted).map(|()| None),
        _ => AccessLog::open(wanted, config.proxy.workers, counts).map(Some),
    }
}
