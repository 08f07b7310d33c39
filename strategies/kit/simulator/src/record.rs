//! The results of a simulation: ends of requests, latencies, and the load of each backend.
//!
//! Invariants: only requests that arrived in the measured time count. Every one of them has exactly one end, so the
//! sums agree. The JSON of equal results is equal byte by byte.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::de::Error as _;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use lb_balance::FallbackReason;

use crate::balancer::Tally;
use crate::server::Server;
use crate::time::Time;

/// Latencies in nanoseconds, exact to 0.1 %, with an exact mean.
#[derive(Clone, Debug)]
pub struct Times {
    histogram: Histogram<u64>,
    sum_ns: u128,
}

/// How the requests ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endings {
    /// Responses with a status below 400.
    pub good: u64,
    /// Responses with another status.
    pub errors: u64,
    /// The client gave up, or the last attempt timed out.
    pub timed_out: u64,
    pub refused: u64,
    pub reset: u64,
    /// No backend was eligible: 503.
    pub no_backend: u64,
    /// The queue was full, or the wait was too long: 503.
    pub busy: u64,
    /// Without an end when the simulation ended.
    pub unfinished: u64,
}

/// Why a simulation ended early.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "reason")]
pub enum Stopped {
    /// More requests were unfinished than [`World::unfinished_max`](crate::World), at this time of the measurement.
    Overload { unfinished: usize, after: Time },
}

/// One backend in the measured time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendResults {
    pub name: String,
    /// Attempts that reached it.
    pub attempts: u64,
    pub served: u64,
    /// Attempts that it refused, reset or failed.
    pub failed: u64,
    /// Responses for clients to the requests of the measured time, and those of them with a status from 400.
    pub responses: u64,
    pub error_responses: u64,
    pub in_service_mean: f64,
    pub queued_mean: f64,
    pub queued_max: u32,
    /// The most in service and in its queue at the same time.
    pub load_max: u32,
}

/// All loads at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// From the begin of the simulation.
    pub at: Time,
    /// In service, in the queue, and attempts since the last sample, of each backend.
    pub loads: Vec<(u32, u32, u32)>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Results {
    pub strategy: String,
    pub seed: u64,
    /// The measured time.
    pub measured: Time,
    /// Requests that arrived in it.
    pub requests: u64,
    pub endings: Endings,
    /// Of good responses, from the arrival to the response.
    pub latency: Times,
    /// The time in the balancer's queue of requests that left it for a backend.
    pub waits: Times,
    pub picks: u64,
    pub retries: u64,
    pub retries_denied: u64,
    pub ejections: u64,
    pub returns: u64,
    pub health_changes: u64,
    /// Probes that ended.
    pub probes: u64,
    /// Lists lent to the strategy after the first, and those that it refused.
    pub lists: u64,
    pub refused_lists: u64,
    /// Picks of the built-in fallback, by reason.
    pub fallbacks: BTreeMap<String, u64>,
    pub backends: Vec<BackendResults>,
    pub samples: Vec<Sample>,
    pub stopped: Option<Stopped>,
    /// Events that the simulation handled.
    pub events: u64,
}

/// Significant digits of a time.
const DIGITS: u8 = 3;
/// 104 days: the longest time that is recorded. It bounds the size of a histogram.
const LONGEST_NS: u64 = 1 << 53;
const QUANTILES: [(&str, f64); 5] = [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("p99.9", 0.999)];

// === impl Times ===

impl Times {
    pub(crate) fn new() -> Self {
        Self { histogram: Histogram::new(DIGITS).expect("3 digits are possible"), sum_ns: 0 }
    }

    #[inline]
    pub(crate) fn record(&mut self, ns: u64) {
        self.sum_ns += u128::from(ns);
        // It grows, so only a time beyond its bound could be refused.
        let _ = self.histogram.record(ns.clamp(1, LONGEST_NS));
    }

    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// 0 without values.
    pub fn mean_ns(&self) -> f64 {
        self.sum_ns as f64 / (self.count() as f64).max(1.0)
    }

    /// The time below which `quantile` (0..1) of the values lie.
    pub fn quantile_ns(&self, quantile: f64) -> u64 {
        self.histogram.value_at_quantile(quantile)
    }

    /// The number of values up to `limit`.
    pub fn within(&self, limit: Time) -> u64 {
        if self.count() == 0 { 0 } else { self.histogram.count_between(0, limit.ns) }
    }

    pub fn histogram(&self) -> &Histogram<u64> {
        &self.histogram
    }
}

impl Serialize for Times {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Times", 5)?;
        fields.serialize_field("count", &self.count())?;
        // A text, because it may be larger than numbers in JSON can be.
        fields.serialize_field("sum_ns", &self.sum_ns.to_string())?;
        fields.serialize_field("mean_ns", &self.mean_ns())?;
        let quantiles: BTreeMap<_, _> =
            QUANTILES.iter().map(|(name, quantile)| (*name, self.quantile_ns(*quantile))).collect();
        fields.serialize_field("quantiles_ns", &quantiles)?;
        let counts: Vec<(u64, u64)> =
            self.histogram.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect();
        fields.serialize_field("counts", &counts)?;
        fields.end()
    }
}

impl<'de> Deserialize<'de> for Times {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Stored {
            sum_ns: String,
            counts: Vec<(u64, u64)>,
        }
        let stored = Stored::deserialize(deserializer)?;
        let mut times = Self { sum_ns: stored.sum_ns.parse().map_err(D::Error::custom)?, ..Self::new() };
        for (value, count) in stored.counts {
            times.histogram.record_n(value, count).map_err(D::Error::custom)?;
        }
        Ok(times)
    }
}

// === impl Results ===

impl Results {
    pub(crate) fn new(strategy: &str, seed: u64) -> Self {
        Self {
            strategy: strategy.to_owned(),
            seed,
            measured: Time::ZERO,
            requests: 0,
            endings: Endings::default(),
            latency: Times::new(),
            waits: Times::new(),
            picks: 0,
            retries: 0,
            retries_denied: 0,
            ejections: 0,
            returns: 0,
            health_changes: 0,
            probes: 0,
            lists: 0,
            refused_lists: 0,
            fallbacks: BTreeMap::new(),
            backends: Vec::new(),
            samples: Vec::new(),
            stopped: None,
            events: 0,
        }
    }

    /// The share of the requests with a good response within `limit`.
    pub fn good_within(&self, limit: Time) -> f64 {
        self.latency.within(limit) as f64 / (self.requests as f64).max(1.0)
    }

    /// The most attempts of a backend, relative to the mean.
    pub fn peak_to_mean(&self) -> f64 {
        let sum: u64 = self.backends.iter().map(|backend| backend.attempts).sum();
        let most = self.backends.iter().map(|backend| backend.attempts).max().unwrap_or(0);
        most as f64 * self.backends.len() as f64 / (sum as f64).max(1.0)
    }

    /// The JSON of these results, the same for equal ones.
    pub fn to_json(&self) -> String {
        // Only a map with keys that are no texts could fail, and there is none.
        serde_json::to_string(self).unwrap_or_default()
    }

    pub(crate) fn add_tally(&mut self, tally: &Tally) {
        self.picks += tally.picks;
        self.retries += tally.retries;
        self.retries_denied += tally.retries_denied;
        self.ejections += tally.ejections;
        self.returns += tally.returns;
        self.health_changes += tally.health_changes;
        self.lists += tally.lists;
        self.refused_lists += tally.refused_lists;
        for (reason, count) in FallbackReason::ALL.iter().zip(tally.fallbacks).filter(|(_, count)| *count > 0) {
            *self.fallbacks.entry(reason.as_str().to_owned()).or_default() += count;
        }
    }

    pub(crate) fn add_backends(&mut self, servers: &[Server]) {
        let mean = |area: u128| area as f64 / (self.measured.ns as f64).max(1.0);
        let of = |server: &Server| BackendResults {
            name: server.name.clone(),
            attempts: server.account.attempts,
            served: server.account.served,
            failed: server.account.failed,
            responses: server.account.responses,
            error_responses: server.account.error_responses,
            in_service_mean: mean(server.account.in_service_area),
            queued_mean: mean(server.account.queued_area),
            queued_max: server.account.queued_max,
            load_max: server.account.load_max,
        };
        self.backends = servers.iter().map(of).collect();
    }
}
