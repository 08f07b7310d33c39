//! What the configuration says to requests, as a generation carries it.
//!
//! Invariant: an access log that stays as it is configured stays the same one, so a reload of anything else leaves it alone.

use std::sync::Arc;

use crate::access_log::{AccessLog, OpenError};
use crate::config::Config;
use crate::generation::Settings;
use crate::telemetry::AccessLogCounts;

/// The settings of all requests, whatever their pool.
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

/// The log that `config` wants: `running` where that is the one. Blocks. With `is_dry` nothing is opened, only tried.
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
