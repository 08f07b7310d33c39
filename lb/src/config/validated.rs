//! The validated form: the configuration that the rest of `lb` uses.
//!
//! Plain data: a test can write one by hand, a reload can compare two, and no reader needs an error path. The
//! comments here are guarantees for every [`Config`] that was loaded.
//!
//! Invariants: `pools[0]` is the pool `default`. Every `Route::pool` is an index into `pools`, and every
//! `Route::policy` one into `policies`. Backend ids are unique in their pool. All paths are absolute.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use lb_balance::{
    BudgetRules, Fallback, HashFunction, KeySource, OutlierRules, PanicRules, Ramp, RetryRules, ShedRules,
};

use super::labels::Labels;
pub use super::state::State;
pub use super::values::{ID_BYTES_MAX, IpNetwork, Secret, WEIGHT_MAX, check_id, check_weight, resolve_address};

/// The name of the pool for requests that match no route.
pub const DEFAULT_POOL: &str = "default";

/// The priority of a request without a route, and of a route that names none.
pub const PRIORITY_DEFAULT: u8 = 100;

#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The absolute path of the file.
    pub file: Option<PathBuf>,
    /// The folders of plugins, absolute, in order of search; the executable's folder is the last.
    pub plugin_dirs: Vec<PathBuf>,
    /// Whether plugins may be in places that a group can write to.
    pub allow_group_writable: bool,
    pub proxy: Proxy,
    pub admin: Admin,
    /// Index 0 is always `default`, the others follow by name.
    pub pools: Vec<PoolConfig>,
    /// In matching order: the first match counts.
    pub routes: Vec<Route>,
    /// By pool, then those of routes that have settings of their own.
    pub policies: Arc<[Policy]>,
    /// `None`: nothing is launched.
    pub launcher: Option<Launcher>,
    pub course: Course,
    /// The global section, which the pool `default` has.
    pub health: Arc<Health>,
    /// The global section: for connections, and for requests without a route.
    pub timeouts: Timeouts,
    /// The same.
    pub limits: Limits,
    pub reload: Reload,
    pub state: State,
    pub log: Log,
    /// `None`: requests are not logged.
    pub access_log: Option<AccessLog>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Proxy {
    /// At least one, without duplicates.
    pub listen: Vec<SocketAddr>,
    /// Worker threads, at least 1 (the file's 0 is already one per core).
    pub workers: usize,
    /// Peers whose X-Forwarded-* headers are kept.
    pub trusted_proxies: Vec<IpNetwork>,
    /// Whether every request has an `x-request-id`.
    pub request_id: bool,
    /// Whether a request with `x-lb-explain: 1` gets a response with the reason for its backend.
    pub explain_header: bool,
    /// Protocols that `Upgrade` may name, lower case, without version.
    pub upgrades: Vec<String>,
    /// Whether TRACE is forwarded.
    pub allow_trace: bool,
    /// Whether backends may have link-local addresses.
    pub allow_link_local: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    pub listen: SocketAddr,
    /// Always present if `listen` is not a loopback address.
    pub token: Option<Secret>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct PoolConfig {
    pub name: String,
    pub strategy: Strategy,
    /// The backends in the file, in its order. Launched and attached ones are added at run time.
    pub backends: Vec<BackendConfig>,
    pub health: Arc<Health>,
    /// Passive health: when its backends are ejected.
    pub outlier: OutlierRules,
    /// What happens if too few of its backends are up.
    pub panic: PanicRules,
    /// The curve of the share of a new or returning backend; `None`: it has its full share at once.
    pub slow_start: Option<Ramp>,
}

/// When requests are retried, and how many retries there may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryPolicy {
    pub rules: RetryRules,
    /// That of a route is that of its pool.
    pub budget: BudgetRules,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Strategy {
    pub plugin: super::Plugin,
    /// If set, the plugin's bytes must have this digest.
    pub sha256: Option<[u8; 32]>,
    /// The first source that the request has gives the key; empty means no key.
    pub hash_on: Vec<KeySource>,
    pub hash: HashFunction,
    pub fallback: Fallback,
    pub load_reports: Option<Arc<super::LoadReportPolicy>>,
    pub probe: Option<Arc<super::ProbePolicy>>,
    /// A JSON object: the options of the strategy; the case of keys is kept.
    pub options: serde_json::Value,
    /// Strategies that pick for the same requests and route none of them; at most [`SHADOWS_MAX`](super::SHADOWS_MAX).
    pub shadows: Vec<super::Shadow>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendConfig {
    /// See [`check_id`].
    pub id: String,
    /// As written in the file.
    pub address: String,
    /// `address`, resolved when the configuration was loaded.
    pub socket: SocketAddr,
    /// 0 to 256; a backend with 0 gets no new requests.
    pub weight: u16,
    /// Gets requests only if no other backend of the pool can.
    pub backup: bool,
    pub labels: Labels,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub host: HostMatch,
    /// In normal form ([`normal_path`](super::normal_path)). It begins with `/` and does not end with `/`, except `/`
    /// itself, which matches all. `/api` matches `/api` and `/api/x`, not `/apix`.
    pub path_prefix: String,
    /// An index into [`Config::pools`].
    pub pool: usize,
    /// An index into [`Config::policies`]; that of the pool, if the route has no settings of its own.
    pub policy: usize,
}

/// The rules of a request: those of its route, else of its pool. Values of connections ([`Timeouts::head`]) are global.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub timeouts: Timeouts,
    pub limits: Limits,
    pub retry: RetryPolicy,
    /// That of a route is that of its pool.
    pub queue: QueuePolicy,
    /// In the queue; 255 is the highest.
    pub priority: u8,
    /// That of a route is that of its pool.
    pub sticky: Option<Arc<StickySessions>>,
}

/// A cookie keeps the requests of a session on one backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StickySessions {
    /// The name of the cookie.
    pub cookie: String,
    /// Signs the cookies.
    pub secret: Secret,
    /// 0: until the browser ends.
    pub max_age_s: u64,
    /// Browsers send it only over https.
    pub secure: bool,
}

/// How requests wait while the backends of their pool are full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuePolicy {
    /// The most requests that wait, over all workers. 0: none waits.
    pub length: usize,
    /// The longest wait.
    pub wait: Duration,
    /// When low priorities are refused.
    pub shed: ShedRules,
    /// Whether the attempts in flight have a limit that follows the latency.
    pub adaptive: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostMatch {
    /// Lower case, without port.
    Exact(String),
    /// `.example.org` for `*.example.org`, lower case.
    Wildcard(String),
    Any,
}

/// How lb starts backends of the pool `default` as child processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launcher {
    pub replicas: usize,
    /// The template of their ids, with `{n}` in it.
    pub names: String,
    /// The first port to try; 0 means any free port.
    pub first_port: u16,
    /// Program and arguments, never empty; `{name}`, `{n}` and `{port}` are filled in.
    pub command: Vec<String>,
    pub max_replicas: usize,
    /// The address at which lb connects to them.
    pub host: IpAddr,
    /// Of each of them.
    pub labels: Labels,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Course {
    /// Whether the proxy's port serves `/rep`, `/add` and `/rm`, too.
    pub on_proxy_port: bool,
    /// A backend's 404 to a GET becomes the sheet's 400.
    pub missing_path_is_400: bool,
    /// Makes the choice of random names, and of replicas to remove, repeatable.
    pub seed: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    pub enabled: bool,
    pub kind: CheckKind,
    pub path: String,
    /// The header Host; `None`: the backend's address.
    pub host: Option<String>,
    /// `None`: the backend's.
    pub port: Option<u16>,
    /// The statuses of a good check, at least one range.
    pub expect_status: Vec<RangeInclusive<u16>>,
    /// Not empty. The body of a good check contains it.
    pub expect_body: Option<String>,
    pub interval: Duration,
    /// Between two checks while the last result contradicts the backend's present state; at most `interval`.
    pub fast_interval: Duration,
    /// The time limit of one check.
    pub timeout: Duration,
    pub down_after: u32,
    pub up_after: u32,
    /// `Up` if checks are off.
    pub initial: InitialState,
}

impl Health {
    /// Where the checks of the backend at `socket` go.
    #[must_use]
    pub fn target(&self, mut socket: SocketAddr) -> SocketAddr {
        if let Some(port) = self.port {
            socket.set_port(port);
        }
        socket
    }
}

/// What a health check does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckKind {
    /// A GET request.
    Http,
    /// A connection that is opened and closed.
    Tcp,
}

/// The state of a backend that lb did not launch, until its first check has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InitialState {
    /// It may get requests; `down_after` failed checks mark it down.
    #[default]
    Up,
    /// It gets no request before its first good check.
    Down,
    /// It gets no request before its first check, which decides alone. lb is not ready before that.
    Wait,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    pub connect: Duration,
    /// Limit for a request's head, from its first byte.
    pub head: Duration,
    /// Limit from the sent request to the response's head.
    pub response_head: Duration,
    /// Limit between two bytes of a body.
    pub idle: Duration,
    /// The additional time for a request's body, beyond the time that it takes at the minimum rate.
    pub body_grace: Duration,
    /// Limit for a tunnel without a byte in either direction.
    pub tunnel_idle: Duration,
    /// Limit for a client that has closed its sending half and takes no byte; it may have gone.
    pub half_closed: Duration,
    /// Limit between two requests of a client's connection.
    pub client_keep_alive: Duration,
    /// Limit for an unused connection to a backend; then lb closes it.
    pub upstream_idle: Duration,
    /// Limit for the whole request; `None` means no limit.
    pub total: Option<Duration>,
    /// The time for requests to finish when a backend or a listener is removed, or when lb stops.
    pub drain: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of a head; at least 8192.
    pub head_bytes: usize,
    /// Fields in a head.
    pub headers: usize,
    /// `None` means unlimited.
    pub body_bytes: Option<u64>,
    /// The minimum rate of a request's body, once `Timeouts::body_grace` is used up.
    pub body_min_bytes_per_s: Option<u64>,
    /// Client connections over all workers.
    pub connections: usize,
    /// `None` means unlimited.
    pub requests_in_flight_per_backend: Option<u32>,
    /// Open connections to one backend over all workers, idle ones and tunnels included; `None` means unlimited.
    pub connections_per_backend: Option<u32>,
    /// Idle connections kept per worker and backend; 0 keeps none.
    pub upstream_idle_connections: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reload {
    /// Whether lb reloads by itself when a file changes.
    pub watch: bool,
    /// The time for which a changed file must stay unchanged before the reload.
    pub settle: Duration,
    /// The interval of looks at files without a notice of a change.
    pub poll: Duration,
    /// The limit on resident plugin images; a further one is refused.
    pub max_images: usize,
    /// The time for which a new strategy is watched; zero means not at all.
    pub probation: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// A `tracing` filter such as `info` or `lb=debug,info`.
    pub level: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct AccessLog {
    pub format: LogFormat,
    /// `None`: stdout.
    pub path: Option<PathBuf>,
    /// The share of requests that get a line, 0 to 1.
    pub sample: f64,
    /// Whether every failed request gets a line, whatever the share.
    pub always_errors: bool,
    /// Whether the path is logged with its query.
    pub query: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// The "combined" format of web servers, followed by `key=value` pairs.
    Text,
}

// === impl RetryPolicy ===

impl RetryPolicy {
    /// The time limit of a step of one attempt that may otherwise last as long as `limit`.
    #[inline]
    #[must_use]
    pub fn attempt_within(&self, limit: Duration) -> Duration {
        self.rules.per_attempt_ns.map_or(limit, |ns| limit.min(Duration::from_nanos(ns)))
    }
}
