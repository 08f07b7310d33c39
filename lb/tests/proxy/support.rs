//! A proxy set up by hand: plugins of the workspace, a hall without control, settings as a test wants them.
//!
//! Why without control: the data wing alone is under test, and the test says what its generation contains. The crate
//! `lb_test_support` has the parts that need no code of `lb`. Invariant: a [`Balancer`] that is dropped has ended its
//! threads.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use lb::config::{
    Fallback, HashFunction, KeySource, Limits, PRIORITY_DEFAULT, Policy, QueuePolicy, RetryPolicy, Route, Timeouts,
};
use lb::generation::{Generation, Hall, OwnRoutes, PoolGeneration, Settings};
use lb::listener;
use lb::pool::{Backend, Eligibility};
use lb::proxy::Proxy;
use lb::telemetry::Metrics;
use lb_strategy_host::{BackendList, BackendSpec, Loader, Picker, Plugin, Strategy, Wanted};
use lb_test_support::{Client, PATIENCE, metrics, wait_until};
use mock_server::Running;
use serde_json::json;

pub(crate) const WORKERS: usize = 2;
pub(crate) const UP: Eligibility = Eligibility::of(true, false, 1);
pub(crate) const DOWN: Eligibility = Eligibility::of(false, false, 1);

/// What a balancer is started with.
pub(crate) struct Setup {
    pub(crate) pools: Vec<PoolSetup>,
    pub(crate) routes: Vec<Route>,
    pub(crate) settings: Settings,
    /// By pool, then those of routes. Empty: every pool has the time-outs and limits of the settings, and its own
    /// retries.
    pub(crate) policies: Vec<Policy>,
    pub(crate) own_routes: Option<OwnRoutes>,
    pub(crate) workers: usize,
}

/// One pool of a generation.
#[derive(Clone)]
pub(crate) struct PoolSetup {
    pub(crate) name: &'static str,
    pub(crate) strategy: Arc<Strategy>,
    pub(crate) hash_on: Vec<KeySource>,
    pub(crate) backends: Vec<Arc<Backend>>,
    pub(crate) retry: RetryPolicy,
    pub(crate) queue: QueuePolicy,
}

/// A running proxy with its hall and its counters.
pub(crate) struct Balancer {
    pub(crate) address: std::net::SocketAddr,
    pub(crate) hall: Arc<Hall>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) settings: Arc<Settings>,
    /// Of the pool `default`, as started.
    pub(crate) backends: Vec<Arc<Backend>>,
    proxy: Option<Proxy>,
}

/// An instance of a strategy of the workspace, with its default options.
pub(crate) fn strategy(name: &str) -> Arc<Strategy> {
    strategy_of(&lb_strategy_built::library(name))
}

/// The same for the library at `path`.
pub(crate) fn strategy_of(path: &Path) -> Arc<Strategy> {
    type Loaded = (Loader, HashMap<PathBuf, Arc<Plugin>>);
    static LOADED: OnceLock<Mutex<Loaded>> = OnceLock::new();
    let copies = Path::new(env!("CARGO_TARGET_TMPDIR")).join("proxy-plugins");
    let loaded = LOADED.get_or_init(|| Mutex::new((Loader::new(copies, WORKERS), HashMap::new())));
    let (loader, plugins) = &mut *loaded.lock().unwrap();
    let plugin = plugins
        .entry(path.to_owned())
        .or_insert_with(|| loader.load(&Wanted { path, name: None, sha256: None }).unwrap());
    Strategy::new(plugin.clone(), &json!({})).unwrap()
}

pub(crate) fn backend(id: &str, socket: std::net::SocketAddr) -> Arc<Backend> {
    Backend::new(id, &socket.to_string(), socket, Arc::default(), UP)
}

pub(crate) const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// The time-outs and limits of `settings`, with the default policy for retries, and no queue.
pub(crate) fn policy(settings: &Settings) -> Policy {
    let retry = RetryPolicy::default();
    let queue = QueuePolicy { length: 0, ..QueuePolicy::default() };
    let (timeouts, limits) = (settings.timeouts.clone(), settings.limits.clone());
    Policy { timeouts, limits, retry, queue, priority: PRIORITY_DEFAULT, sticky: None }
}

fn policies(settings: &Settings, pools: &[PoolSetup]) -> Vec<Policy> {
    pools.iter().map(|pool| Policy { retry: pool.retry, queue: pool.queue, ..policy(settings) }).collect()
}

/// A pool's part of a generation, with a picker made for it.
pub(crate) fn pool(setup: &PoolSetup) -> Arc<PoolGeneration> {
    static EPOCH: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    let spec = |backend: &Arc<Backend>| BackendSpec {
        name: backend.id.clone(),
        address: backend.address.clone(),
        labels: Arc::default(),
        weight: 1,
        effective: if backend.is_eligible() { 1000 } else { 0 },
        flags: if backend.is_eligible() { UP.flags() } else { DOWN.flags() },
        stats: backend.stats.clone(),
        slot: Arc::default(),
    };
    let epoch = EPOCH.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let list = BackendList::new(setup.backends.iter().map(spec).collect(), epoch, epoch);
    let plugin = setup.strategy.plugin();
    let wants = plugin.wants();
    Arc::new(PoolGeneration {
        name: setup.name.into(),
        picker: Picker::new(setup.strategy.clone(), list).unwrap(),
        backends: setup.backends.clone(),
        hash_on: setup.hash_on.clone(),
        hash: HashFunction::Xxh3,
        fallback: Fallback::LeastConnections,
        fallback_cursor: AtomicUsize::new(0),
        wants,
        shadows: Vec::new(),
        tells: wants,
        thresholds: lb_balance::Thresholds::OFF,
        load_reports: None,
        probe: None,
    })
}

// === impl PoolSetup ===

impl PoolSetup {
    /// A pool without keys and without a queue, with the default policy for retries.
    pub(crate) fn new(name: &'static str, of: &str, backends: Vec<Arc<Backend>>) -> Self {
        let queue = QueuePolicy { length: 0, ..QueuePolicy::default() };
        Self { name, strategy: strategy(of), hash_on: Vec::new(), backends, retry: RetryPolicy::default(), queue }
    }
}

// === impl Setup ===

impl Setup {
    /// Round robin over these servers, which are called b1, b2, … Time-outs are long: a test shortens its own one.
    pub(crate) fn new(servers: &[std::net::SocketAddr]) -> Self {
        let named = servers.iter().enumerate();
        let backends = named.map(|(index, socket)| backend(&format!("b{}", index + 1), *socket)).collect();
        let timeouts = Timeouts {
            connect: PATIENCE,
            head: PATIENCE,
            response_head: PATIENCE,
            idle: PATIENCE,
            body_grace: PATIENCE,
            tunnel_idle: PATIENCE,
            half_closed: PATIENCE,
            client_keep_alive: PATIENCE,
            upstream_idle: PATIENCE,
            total: None,
            drain: PATIENCE,
        };
        let limits = Limits {
            head_bytes: 65_536,
            headers: 100,
            body_bytes: None,
            body_min_bytes_per_s: Some(100),
            connections: 10_000,
            requests_in_flight_per_backend: None,
            connections_per_backend: None,
            upstream_idle_connections: 256,
        };
        Self {
            pools: vec![PoolSetup::new("default", "round_robin", backends)],
            routes: Vec::new(),
            settings: Settings {
                timeouts,
                limits,
                trusted_proxies: Vec::new(),
                missing_path: None,
                request_id: false,
                explain_header: false,
                upgrades: vec!["websocket".to_owned(), "echo".to_owned()],
                allow_trace: false,
                access_log: None,
            },
            policies: Vec::new(),
            own_routes: None,
            workers: WORKERS,
        }
    }

    /// The same in front of mock servers.
    pub(crate) fn of(servers: &[&Running]) -> Self {
        Self::new(&servers.iter().map(|server| server.addr).collect::<Vec<_>>())
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub(crate) fn timeouts(self, change: impl FnOnce(&mut Timeouts)) -> Self {
        self.with(|setup| change(&mut setup.settings.timeouts))
    }

    pub(crate) fn limits(self, change: impl FnOnce(&mut Limits)) -> Self {
        self.with(|setup| change(&mut setup.settings.limits))
    }

    /// Changes the retries of the pool `default`.
    pub(crate) fn retry(self, change: impl FnOnce(&mut RetryPolicy)) -> Self {
        self.with(|setup| change(&mut setup.pools[0].retry))
    }

    /// Requests of the pool `default` wait in a queue of this length, longer than any test.
    pub(crate) fn queue(self, length: usize) -> Self {
        self.with(|setup| setup.pools[0].queue = QueuePolicy { length, wait: PATIENCE, ..QueuePolicy::default() })
    }

    /// The same with this number of attempts.
    pub(crate) fn attempts(self, attempts: u32) -> Self {
        self.retry(|retry| retry.rules.attempts = attempts)
    }

    pub(crate) fn start(self) -> Balancer {
        let settings = Arc::new(self.settings);
        let pools: Vec<_> = self.pools.iter().map(pool).collect();
        let policies = match self.policies.is_empty() {
            true => policies(&settings, &self.pools),
            false => self.policies,
        };
        let routes = self.routes;
        let listeners = listener::open(&["127.0.0.1:0".parse().unwrap()], &[]).unwrap();
        let address = listeners[0].address();
        let own_routes = self.own_routes;
        let hall = Hall::new(Generation {
            number: 1,
            pools,
            routes,
            policies: policies.into(),
            awaited: 0,
            listeners,
            settings: settings.clone(),
            own_routes,
        });
        let metrics = Metrics::new();
        let proxy = Proxy::start(&hall, &metrics, self.workers).unwrap();
        let backends = self.pools[0].backends.clone();
        Balancer { address, hall, metrics, settings, backends, proxy: Some(proxy) }
    }
}

// === impl Balancer ===

impl Balancer {
    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// Puts a generation with these pools in charge and answers its number.
    pub(crate) fn publish(&self, pools: &[PoolSetup]) -> u64 {
        let policies = policies(&self.settings, pools);
        self.publish_generation(pools.iter().map(pool).collect(), policies, self.settings.clone())
    }

    /// Puts a generation with these pools and policies in charge, and waits until all workers have it.
    pub(crate) fn publish_with(&self, pools: &[PoolSetup], policies: Vec<Policy>) {
        let pools = pools.iter().map(pool).collect();
        self.await_workers(self.publish_generation(pools, policies, self.settings.clone()));
    }

    /// Puts a generation with other settings in charge, and waits until all workers have it.
    pub(crate) fn publish_settings(&self, change: impl FnOnce(&mut Settings)) {
        let mut settings = (*self.hall.current().settings).clone();
        change(&mut settings);
        let current = self.hall.current();
        let pools = current.pools.clone();
        let policies = current.policies.iter();
        let policies = policies.map(|old| Policy { retry: old.retry, queue: old.queue, ..policy(&settings) }).collect();
        self.await_workers(self.publish_generation(pools, policies, Arc::new(settings)));
    }

    /// Puts a generation with other policies in charge, and waits until all workers have it.
    pub(crate) fn publish_policies(&self, policies: Vec<Policy>) {
        let pools = self.hall.current().pools.clone();
        self.await_workers(self.publish_generation(pools, policies, self.settings.clone()));
    }

    fn await_workers(&self, number: u64) {
        wait_until("all workers to follow", || self.hall.is_taken_up(number));
    }

    fn publish_generation(
        &self,
        pools: Vec<Arc<PoolGeneration>>,
        policies: Vec<Policy>,
        settings: Arc<Settings>,
    ) -> u64 {
        let current = self.hall.current();
        let number = current.number + 1;
        self.hall.publish(Generation {
            number,
            pools,
            routes: current.routes.clone(),
            policies: policies.into(),
            awaited: 0,
            listeners: current.listeners.clone(),
            settings,
            own_routes: current.own_routes.clone(),
        });
        number
    }

    /// The sum of the series of `name` that have all of `labels`, as `code="200"`.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        metrics::sum(&self.metrics.render(), name, labels)
    }

    /// How often a request failed of `reason`.
    pub(crate) fn errors(&self, reason: &str) -> u64 {
        let totals = self.metrics.pool_totals("default").errors_by_reason;
        totals.iter().filter(|(counted, _)| counted.as_str() == reason).map(|(_, count)| count).sum()
    }

    /// How many requests ended with `code`.
    pub(crate) fn ended_with(&self, code: u16) -> u64 {
        self.metrics.pool_totals("default").requests_by_code.get(&code).copied().unwrap_or(0)
    }

    /// Waits until nothing is in flight, by every count that there is.
    pub(crate) fn comes_to_rest(&self) {
        let backends = || self.metrics.backend_totals("default").iter().map(|backend| backend.in_flight).sum::<i64>();
        wait_until("the pool's requests to end", || self.metrics.pool_totals("default").in_flight == 0);
        wait_until("the backends' attempts to end", || backends() == 0);
        wait_until("Backend::in_flight to fall", || self.backends.iter().all(|backend| backend.in_flight() == 0));
        wait_until("connections to backends to be idle or closed", || {
            self.metric("lb_backend_connections", &["state=\"active\""]) == 0.0
        });
    }

    /// Drains; answers how many connections were cut off.
    pub(crate) fn drain(&mut self, timeout: Duration) -> usize {
        let Some(proxy) = self.proxy.take() else { return 0 };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(proxy.drain(timeout))
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.drain(Duration::ZERO);
    }
}
