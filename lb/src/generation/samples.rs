//! Settings for unit tests and benches: limits that end nothing, and one time for all time-outs.
//!
//! A test changes the field that it is about, so that a new key of the configuration changes no test.

use std::sync::Arc;
use std::time::Duration;

use super::Settings;
use crate::config::{Limits, PRIORITY_DEFAULT, Policy, QueuePolicy, RetryPolicy, Timeouts};

/// Settings with `time` as every time-out, and without a total one.
pub(crate) fn settings(time: Duration) -> Settings {
    Settings {
        timeouts: Timeouts {
            connect: time,
            head: time,
            response_head: time,
            idle: time,
            body_grace: time,
            tunnel_idle: time,
            half_closed: time,
            client_keep_alive: time,
            upstream_idle: time,
            total: None,
            drain: time,
        },
        limits: Limits {
            head_bytes: 65_536,
            headers: 100,
            body_bytes: None,
            body_min_bytes_per_s: Some(100),
            connections: 10_000,
            requests_in_flight_per_backend: None,
            connections_per_backend: None,
            upstream_idle_connections: 256,
        },
        trusted_proxies: Vec::new(),
        missing_path: None,
        request_id: false,
        explain_header: false,
        upgrades: vec!["websocket".to_owned()],
        allow_trace: false,
        access_log: None,
    }
}

/// The policies of `pools` pools without rules of their own.
pub(crate) fn policies(settings: &Settings, retry: RetryPolicy, pools: usize) -> Arc<[Policy]> {
    let Settings { timeouts, limits, .. } = settings;
    let policy = Policy {
        timeouts: timeouts.clone(),
        limits: limits.clone(),
        retry,
        queue: QueuePolicy::default(),
        priority: PRIORITY_DEFAULT,
        sticky: None,
    };
    vec![policy; pools].into()
}
