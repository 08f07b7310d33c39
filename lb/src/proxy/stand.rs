//! A test stand: the data of a worker, made by hand for one backend. For tests inside `proxy` and for benches.
//!
//! An exchange needs no thread, no acceptor and no client socket, so a test can drive one directly. The settings are
//! like those of `lb/tests/proxy`: time-outs are too long to end anything.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use lb_strategy_host::{BackendList, BackendSpec, Picker, Strategy};
use tokio::time::Instant;

use super::listeners::Listeners;
use super::local::Local;
use super::owner::Owner;
use super::queue::{Lines, Lobbies};
use super::view::View;
use crate::config::{Fallback, HashFunction, RetryPolicy};
use crate::generation::{Generation, PoolGeneration, samples};
use crate::net::Descriptors;
use crate::pool::{Backend, Eligibility};
use crate::telemetry::Metrics;

const PATIENCE: Duration = Duration::from_secs(60);
const UP: Eligibility = Eligibility::of(true, false, 1);
const POOL: &str = "default";

/// A worker without its thread.
pub(super) struct Stand {
    pub(super) local: Rc<Local>,
    /// It has a place for a second worker.
    #[cfg(test)]
    pub(super) lobbies: Arc<Lobbies>,
    backend: Arc<Backend>,
    metrics: Arc<Metrics>,
}

// === impl Stand ===

impl Stand {
    /// The place of the only listener.
    pub(super) const LISTENER: usize = 0;

    pub(super) fn new(strategy: &Arc<Strategy>, address: SocketAddr) -> Self {
        Self::with(strategy, address, RetryPolicy::default())
    }

    pub(super) fn with(strategy: &Arc<Strategy>, address: SocketAddr, retry: RetryPolicy) -> Self {
        let backend = Backend::new("b1", &address.to_string(), address, Arc::default(), UP);
        let settings = Arc::new(samples::settings(PATIENCE));
        let generation = Arc::new(Generation {
            number: 1,
            pools: vec![pool(strategy, &backend)],
            routes: Vec::new(),
            policies: samples::policies(&settings, retry, 1),
            awaited: 0,
            listeners: Vec::new(),
            settings,
            own_routes: None,
        });
        let metrics = Metrics::new();
        let mut listeners = Listeners::default();
        let owner = Owner { number: 0, workers: 1, epoch: Instant::now() };
        let (place, _) = listeners.place(&"stand".into(), &metrics, 0);
        assert_eq!(place, Self::LISTENER);
        let lobbies = Lobbies::new(2);
        let lines = Lines::new(owner, lobbies.clone());
        let view = View::new(generation, None, &metrics, &lines, &listeners);
        let local = Local::new(lines, view, listeners, Descriptors::of_process(1), Arc::default());
        Self {
            local,
            #[cfg(test)]
            lobbies,
            backend,
            metrics,
        }
    }

    /// The sum of all counts of requests and attempts in flight.
    pub(super) fn in_flight(&self) -> i64 {
        let attempts = self.metrics.backend_totals(POOL).iter().map(|backend| backend.in_flight).sum::<i64>();
        self.metrics.pool_totals(POOL).in_flight + attempts + i64::from(self.backend.in_flight())
    }

    /// The number of requests that ended with `status`.
    #[cfg(test)]
    pub(super) fn ended_with(&self, status: u16) -> u64 {
        self.metrics.pool_totals(POOL).requests_by_code.get(&status).copied().unwrap_or(0)
    }
}

fn pool(strategy: &Arc<Strategy>, backend: &Arc<Backend>) -> Arc<PoolGeneration> {
    let spec = BackendSpec {
        name: backend.id.clone(),
        address: backend.address.clone(),
        labels: Arc::default(),
        weight: 1,
        effective: 1000,
        flags: UP.flags(),
        stats: backend.stats.clone(),
        slot: Arc::default(),
    };
    let picker = Picker::new(strategy.clone(), BackendList::new(vec![spec], 1, 1)).expect("a strategy of ours starts");
    let plugin = strategy.plugin();
    Arc::new(PoolGeneration {
        name: POOL.into(),
        picker,
        backends: vec![backend.clone()],
        hash_on: Vec::new(),
        hash: HashFunction::Xxh3,
        fallback: Fallback::LeastConnections,
        fallback_cursor: AtomicUsize::new(0),
        wants: plugin.wants(),
        shadows: Vec::new(),
        tells: plugin.wants(),
        thresholds: lb_balance::Thresholds::OFF,
        load_reports: None,
        probe: None,
    })
}

#[cfg(test)]
pub(super) fn round_robin() -> Arc<Strategy> {
    use lb_strategy_host::{Loader, Wanted};
    let path = lb_strategy_built::library("round_robin");
    let copies = tempfile::tempdir().unwrap();
    let loader = Loader::new(copies.path().to_owned(), 1);
    let plugin = loader.load(&Wanted { path: &path, name: Some("round_robin"), sha256: None }).unwrap();
    Strategy::new(plugin, &serde_json::json!({})).unwrap()
}
