//! Traffic: one reading of the balancer's traffic as numbers, for a live view. Two readings give rates and quantiles of
//! the time between them.
//!
//! Invariants: a reading is of one moment, so its parts agree. The sums over all never go back, so they include removed
//! listeners and pools. Backends and pools are those that a scrape shows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::cell::{HistogramSum, REQUEST_BOUNDS_NS};
use super::code::TUNNELS;
use super::hub::Metrics;
use super::reason::{ErrorReason, ReloadOutcome, SwapKind};
use super::snapshot::{BackendSum, Snapshot};

/// All traffic since the start.
#[derive(Clone, Debug)]
pub struct Traffic {
    pub requests: u64,
    /// Responses with a 5xx.
    pub errors: u64,
    pub in_flight: i64,
    pub reloads_refused: u64,
    pub pools: BTreeMap<Arc<str>, PoolTraffic>,
    /// Without tunnels.
    durations: HistogramSum,
}

/// The traffic of one pool.
#[derive(Clone, Debug, Default)]
pub struct PoolTraffic {
    /// By [`SwapKind`].
    pub swaps: [u64; SwapKind::COUNT],
    pub backends: BTreeMap<Arc<str>, BackendTraffic>,
}

/// The traffic of one backend.
#[derive(Clone, Debug)]
pub struct BackendTraffic {
    pub responses: u64,
    /// Responses with a 5xx, and attempts that failed by the backend's fault.
    pub errors: u64,
    /// Attempts with a response, or that failed by the backend's fault; and those that failed or got a 5xx that says
    /// that the server failed.
    pub attempts: (u64, u64),
    /// How often it went down: it may be up again at the time of the reading.
    pub downs: u64,
    durations: HistogramSum,
}

/// The median and the 99th percentile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantiles {
    pub p50: Duration,
    pub p99: Duration,
}

/// The traffic of a backend before its first request.
const NOTHING: BackendTraffic =
    BackendTraffic { responses: 0, errors: 0, attempts: (0, 0), downs: 0, durations: EMPTY };
const EMPTY: HistogramSum = HistogramSum::new(REQUEST_BOUNDS_NS);

// === impl Metrics ===

impl Metrics {
    /// The traffic so far.
    pub fn traffic(&self) -> Traffic {
        Traffic::of(&self.shared().snapshot())
    }
}

// === impl Traffic ===

impl Traffic {
    fn of(snapshot: &Snapshot) -> Self {
        let mut traffic = Self {
            requests: 0,
            errors: 0,
            in_flight: 0,
            reloads_refused: snapshot.reloads.iter().map(|of| of.outcomes[ReloadOutcome::Failure as usize]).sum(),
            pools: BTreeMap::new(),
            durations: EMPTY,
        };
        for requests in snapshot.requests.iter().chain(&snapshot.unshown) {
            traffic.requests += requests.by_code.values().sum::<u64>();
            traffic.errors += fives(requests.by_code.iter().map(|((code, _), count)| (*code, *count)));
            traffic.in_flight += requests.in_flight;
            let answered = requests.durations.iter().filter(|(class, _)| **class != TUNNELS);
            answered.for_each(|(_, durations)| traffic.durations.add_since(durations, &EMPTY));
        }
        for (name, pool) in &snapshot.pools {
            traffic.pools.entry(name.clone()).or_default().swaps = pool.swaps;
        }
        for backend in &snapshot.backends {
            let pool = traffic.pools.entry(backend.pool.clone()).or_default();
            pool.backends.insert(backend.backend.clone(), BackendTraffic::of(backend));
        }
        traffic
    }

    /// Of the requests that ended since `earlier`; `None` without requests.
    pub fn quantiles_since(&self, earlier: &Self) -> Option<Quantiles> {
        Quantiles::between(&earlier.durations, &self.durations)
    }

    /// Zeros for an unknown backend.
    pub fn backend(&self, pool: &str, id: &str) -> &BackendTraffic {
        self.pools.get(pool).and_then(|pool| pool.backends.get(id)).unwrap_or(&NOTHING)
    }
}

// === impl BackendTraffic ===

impl BackendTraffic {
    fn of(backend: &BackendSum) -> Self {
        let by_code = backend.by_code.iter().map(|(code, count)| (*code, *count));
        let failed = ErrorReason::ALL.iter().zip(backend.errors).filter(|(reason, _)| reason.is_the_backends_fault());
        let (responses, failed): (u64, u64) =
            (backend.by_code.values().sum(), failed.map(|(_, count)| count).sum::<u64>());
        let bad = backend.by_code.iter().filter(|(code, _)| lb_balance::is_server_error(**code));
        Self {
            responses,
            errors: fives(by_code) + failed,
            attempts: (responses + failed, failed + bad.map(|(_, count)| count).sum::<u64>()),
            downs: backend.health.as_ref().map_or(0, |health| health.transitions_down),
            durations: backend.to_head.clone(),
        }
    }

    /// Of the time to the response's head, since `earlier`; `None` without responses.
    pub fn quantiles_since(&self, earlier: &Self) -> Option<Quantiles> {
        Quantiles::between(&earlier.durations, &self.durations)
    }
}

// === impl Quantiles ===

impl Quantiles {
    fn between(earlier: &HistogramSum, later: &HistogramSum) -> Option<Self> {
        let mut since = EMPTY;
        since.add_since(later, earlier);
        let of = |q| since.quantile(q).map(Duration::from_nanos);
        Some(Self { p50: of(0.5)?, p99: of(0.99)? })
    }
}

fn fives(by_code: impl Iterator<Item = (u16, u64)>) -> u64 {
    by_code.filter(|(code, _)| (500..600).contains(code)).map(|(_, count)| count).sum()
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[test]
    fn two_readings_give_the_rates_between_them() {
        let metrics = Metrics::new();
        let (pool, backend) = (metrics.pool(0, "l", "p"), metrics.backend(0, "p", "b"));
        pool.request_finished(&Method::GET, 200, 9_000_000_000);
        let before = metrics.traffic();
        assert_eq!((before.requests, before.errors, before.quantiles_since(&before)), (1, 0, None));
        for (code, count) in [(200, 98), (503, 2)] {
            for _ in 0..count {
                pool.request_finished(&Method::POST, code, 400_000);
                backend.response(code, 400_000);
            }
        }
        let after = metrics.traffic();
        assert_eq!((after.requests, after.errors), (101, 2));
        let quantiles = after.quantiles_since(&before).unwrap();
        assert_eq!(quantiles.p50, Duration::from_micros(375), "in the middle of 250 to 500 µs, without the 9 s before");
        let [then, now] = [&before, &after].map(|traffic| traffic.backend("p", "b"));
        assert_eq!((now.responses - then.responses, now.errors), (100, 2));
        assert!(now.quantiles_since(then).is_some() && after.backend("p", "none").responses == 0);
    }

    #[test]
    fn errors_of_clients_are_no_errors_of_the_backend() {
        let metrics = Metrics::new();
        let backend = metrics.backend(0, "p", "b");
        let errors = || metrics.traffic().backend("p", "b").errors;
        for reason in ["overload", "bad_request", "body_too_large", "client_timeout", "client_abort"] {
            backend.error(*ErrorReason::ALL.iter().find(|one| one.as_str() == reason).unwrap());
            assert_eq!(errors(), 0, "{reason}");
        }
        backend.response(500, 400_000);
        assert_eq!(errors(), 1);
        for (before, reason) in
            ["connect", "connect_timeout", "timeout", "reset", "backend_down", "bad_response"].into_iter().enumerate()
        {
            backend.error(*ErrorReason::ALL.iter().find(|one| one.as_str() == reason).unwrap());
            assert_eq!(errors(), before as u64 + 2, "{reason}");
        }
    }

    #[test]
    fn the_duration_of_a_tunnel_is_no_latency() {
        let metrics = Metrics::new();
        let pool = metrics.pool(0, "l", "p");
        let before = metrics.traffic();
        pool.request_finished(&Method::GET, 101, 60_000_000_000);
        let after = metrics.traffic();
        assert_eq!((after.requests, after.quantiles_since(&before)), (1, None));
    }
}
