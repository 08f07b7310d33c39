//! The counts of a server, for `/stats` (JSON) and `/metrics` (Prometheus text).
//!
//! Both use one type of snapshot, so they have the same numbers. The text is written by hand; so few numbers need no
//! registry.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::counters::Outcome;
use crate::endpoint::{ENDPOINTS, Endpoint};
use crate::shared::Shared;
use crate::switches::State;

/// A service time is exact if its error is at most this at the median.
const ERROR_LIMIT_US: u64 = 200;

/// A snapshot. Exact when nothing is in progress; a request in progress may be seen between two of its counts.
///
/// `requests = served + failures + rejected + refused + abandoned + in_progress`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Stats {
    pub id: String,
    pub version: String,
    pub seed: u64,
    pub uptime_seconds: f64,
    /// The law of the service time, in the form of the option.
    pub service_time: String,
    /// 0 means no bound.
    pub concurrency: u64,
    /// The number of requests that may wait.
    pub queue: u64,
    /// All requests except `/heartbeat`, `/stats`, `/metrics`, `/control` and probes.
    pub requests: u64,
    /// Got their response after their service time.
    pub served: u64,
    /// Got an injected 500, after their service time or (`fail_at_once`) at once.
    pub failures: u64,
    /// Got a 503, because the queue was full.
    pub rejected: u64,
    /// Got a 400, 404, 405 or 426 at once.
    pub refused: u64,
    /// Got no response, because the client went away.
    pub abandoned: u64,
    /// Arrived, without an outcome yet.
    pub in_progress: u64,
    /// Busy workers now; a worker that sends a body is busy.
    pub in_service: u64,
    /// Waiting for a worker now.
    pub queued: u64,
    pub max_queued: u64,
    pub heartbeats: u64,
    /// Requests by path, also those that are not work; `other` stands for all unknown paths.
    pub by_path: BTreeMap<String, u64>,
    /// Accepted.
    pub connections: u64,
    pub open_connections: u64,
    /// Bytes of request bodies, and bytes received in tunnels.
    pub body_bytes_received: u64,
    /// Bytes of response bodies, and bytes sent in tunnels.
    pub body_bytes_sent: u64,
    pub service_time_error: ServiceTimeError,
    pub switches: State,
}

/// |achieved − intended| of all service times so far, each quantile rounded up by at most a sixteenth.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ServiceTimeError {
    pub count: u64,
    pub sum_seconds: f64,
    /// Absent before the first measurement.
    pub median_us: Option<u64>,
    pub p99_us: Option<u64>,
    /// The timer's own median error, measured at the start; absent if no service time was configured.
    pub calibration_us: Option<u64>,
    pub limit_us: u64,
    /// False: service times are not exact to `limit_us` at the median, so do not trust effects of that size.
    pub within_limit: bool,
}

/// The snapshot in Prometheus' text format 0.0.4.
pub(crate) fn metrics_text(stats: &Stats) -> String {
    let mut page = Page(String::with_capacity(4096));
    let error = &stats.service_time_error;
    let seconds = |us: Option<u64>| us.map_or(f64::NAN, |us| us as f64 / 1e6);

    page.family("mock_info", "gauge", "Id, version and seed of this server, always 1.");
    let info = format!("{{id=\"{}\",version=\"{}\",seed=\"{}\"}}", stats.id, stats.version, stats.seed);
    page.sample("mock_info", &info, 1);
    page.single("mock_uptime_seconds", "gauge", "Seconds since the start.", stats.uptime_seconds);
    page.single(
        "mock_requests_total",
        "counter",
        "Requests that arrived, without heartbeats, stats, metrics and control.",
        stats.requests,
    );
    page.family("mock_answers_total", "counter", "Requests by outcome.");
    for (outcome, count) in [
        ("served", stats.served),
        ("failed", stats.failures),
        ("rejected", stats.rejected),
        ("refused", stats.refused),
        ("abandoned", stats.abandoned),
    ] {
        page.sample("mock_answers_total", &format!("{{outcome=\"{outcome}\"}}"), count);
    }
    page.family("mock_path_requests_total", "counter", "All requests, by path.");
    for (path, count) in &stats.by_path {
        page.sample("mock_path_requests_total", &format!("{{path=\"{path}\"}}"), count);
    }
    page.single("mock_in_progress", "gauge", "Requests without an outcome yet.", stats.in_progress);
    page.single("mock_in_service", "gauge", "Workers that are busy.", stats.in_service);
    page.single("mock_queued", "gauge", "Requests that wait for a worker.", stats.queued);
    page.single("mock_queued_max", "gauge", "The longest queue so far.", stats.max_queued);
    page.single("mock_heartbeats_total", "counter", "Heartbeats that arrived.", stats.heartbeats);
    page.single("mock_connections_total", "counter", "Connections accepted.", stats.connections);
    page.single("mock_open_connections", "gauge", "Connections open now.", stats.open_connections);
    page.family("mock_body_bytes_total", "counter", "Bytes of bodies and tunnels.");
    page.sample("mock_body_bytes_total", "{direction=\"received\"}", stats.body_bytes_received);
    page.sample("mock_body_bytes_total", "{direction=\"sent\"}", stats.body_bytes_sent);
    let name = "mock_service_time_error_seconds";
    page.family(name, "summary", "Errors of service times: achieved minus intended.");
    page.sample(name, "{quantile=\"0.5\"}", seconds(error.median_us));
    page.sample(name, "{quantile=\"0.99\"}", seconds(error.p99_us));
    page.sample(&format!("{name}_sum"), "", error.sum_seconds);
    page.sample(&format!("{name}_count"), "", error.count);
    page.single(
        "mock_service_time_calibration_error_seconds",
        "gauge",
        "The timer's own median error at the start, NaN if no service time was configured.",
        seconds(error.calibration_us),
    );
    page.single(
        "mock_service_time_exact",
        "gauge",
        "1 if service times are exact to 0.2 ms at the median, else 0.",
        u8::from(error.within_limit),
    );
    page.0
}

/// The text of the page.
struct Page(String);

// === impl Stats ===

impl Stats {
    pub(crate) fn of(shared: &Shared) -> Self {
        let counters = &shared.counters;
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        let ended = |outcome: Outcome| read(&counters.by_outcome[outcome as usize]);
        let by_path = ENDPOINTS.iter().map(|&(at, name)| (name.to_owned(), read(&counters.by_endpoint[at as usize])));
        Self {
            id: shared.options.id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            seed: shared.seed,
            uptime_seconds: shared.started.elapsed().as_secs_f64(),
            service_time: shared.options.service_time.to_string(),
            concurrency: shared.options.concurrency as u64,
            queue: shared.options.queue as u64,
            requests: read(&counters.requests),
            served: ended(Outcome::Served),
            failures: ended(Outcome::Failed),
            rejected: ended(Outcome::Rejected),
            refused: ended(Outcome::Refused),
            abandoned: ended(Outcome::Abandoned),
            in_progress: read(&counters.in_progress),
            in_service: read(&counters.in_service),
            queued: read(&counters.queued),
            max_queued: read(&counters.max_queued),
            heartbeats: read(&counters.by_endpoint[Endpoint::Heartbeat as usize]),
            by_path: by_path.collect(),
            connections: read(&counters.connections),
            open_connections: read(&counters.open_connections),
            body_bytes_received: read(&counters.body_bytes_received),
            body_bytes_sent: read(&counters.body_bytes_sent),
            service_time_error: ServiceTimeError::of(shared),
            switches: shared.switches.state(),
        }
    }
}

// === impl ServiceTimeError ===

impl ServiceTimeError {
    fn of(shared: &Shared) -> Self {
        let histogram = &shared.counters.service_time_error;
        let calibration_us =
            shared.calibration.get().map(|error| Duration::as_micros(error).try_into().unwrap_or(u64::MAX));
        let median_us = histogram.quantile_us(0.5);
        Self {
            count: histogram.count(),
            sum_seconds: histogram.sum_seconds(),
            median_us,
            p99_us: histogram.quantile_us(0.99),
            calibration_us,
            limit_us: ERROR_LIMIT_US,
            // Measured service times count for more than the calibration.
            within_limit: median_us.or(calibration_us).is_none_or(|us| us <= ERROR_LIMIT_US),
        }
    }
}

// === impl Page ===

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        self.line(format_args!("{name}{labels} {value}\n"));
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.family(name, kind, help);
        self.sample(name, "", value);
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        let _ = self.0.write_fmt(line); // Writing to a String does not fail.
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;
    use crate::switches::Change;

    #[test]
    fn a_new_server_has_counted_nothing_and_reports_exact_service_times() {
        let stats = Stats::of(&Shared::new(Options { seed: Some(7), ..Options::default() }));
        assert_eq!((stats.seed, stats.requests, stats.heartbeats), (7, 0, 0));
        assert_eq!(stats.by_path.len(), ENDPOINTS.len());
        assert_eq!(stats.service_time_error.median_us, None);
        assert!(stats.service_time_error.within_limit);
    }

    #[test]
    fn a_measured_median_overrules_the_calibration() {
        let shared = Shared::new(Options::default());
        shared.calibration.set(Duration::from_micros(900)).unwrap();
        assert!(!Stats::of(&shared).service_time_error.within_limit);
        let histogram = &shared.counters.service_time_error;
        histogram.record(Duration::from_micros(50));
        assert!(Stats::of(&shared).service_time_error.within_limit);
        histogram.record(Duration::from_micros(300));
        histogram.record(Duration::from_micros(300));
        assert!(!Stats::of(&shared).service_time_error.within_limit);
        shared.apply(&Change { reset_counters: Some(true), ..Change::default() });
        assert_eq!(Stats::of(&shared).service_time_error.count, 0);
    }

    #[test]
    fn every_sample_of_the_metrics_page_belongs_to_a_declared_family_and_is_a_number() {
        let page = metrics_text(&Stats::of(&Shared::new(Options::default())));
        let declared: Vec<&str> =
            page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        let mut samples = 0;
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').expect(line);
            let name = series.split('{').next().unwrap_or_default();
            let family = name.trim_end_matches("_sum").trim_end_matches("_count");
            assert!(declared.contains(&family), "{line}");
            assert!(value.parse::<f64>().is_ok(), "{line}");
            samples += 1;
        }
        assert!(samples > 20 && page.ends_with('\n'), "{page}");
    }
}
