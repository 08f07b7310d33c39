//! The validated form: the configuration as the rest of `lb` sees it.
//!
//! Plain data, so that a test can write one by hand, a reload can compare two, and no reader needs an
//! error path. Whoever holds a [`Config`] may rely on all that the comments say.
//!
//! Invariants: `pools[0]` is the pool `default`; every `Route::pool` is an index into `pools`; backend
//! ids are unique in their pool; all paths are absolute; no duration is zero unless it is an `Option`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use lb_balance::{Fallback, HashFunction, KeySource};

pub use super::values::{ID_BYTES_MAX, IpNetwork, Secret, WEIGHT_MAX, check_id, check_weight, resolve_address};

/// The name of the pool that takes what no route claims.
pub const DEFAULT_POOL: &str = "default";

#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The file it was read from, absolute.
    pub file: Option<PathBuf>,
    /// Where plugins are looked for, absolute, in order; the executable's folder is the last.
    pub plugin_dirs: Vec<PathBuf>,
    /// Whether plugins may be where a group can change them.
    pub allow_group_writable: bool,
    pub proxy: Proxy,
    pub admin: Admin,
    /// Index 0 is always `default`, the others follow by name.
    pub pools: Vec<Pool>,
    /// In matching order: the first that matches is the one.
    pub routes: Vec<Route>,
    /// `None`: nothing is launched.
    pub launcher: Option<Launcher>,
    pub course: Course,
    pub health: Health,
    pub timeouts: Timeouts,
    pub limits: Limits,
    pub reload: Reload,
    pub state: State,
    pub log: Log,
    /// `None`: requests are not logged.
    pub access_log: Option<AccessLog>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Proxy {
    /// At least one, none twice.
    pub listen: Vec<SocketAddr>,
    /// Worker threads, at least 1 (the file's 0 is already one per core).
    pub workers: usize,
    /// Peers whose X-Forwarded-* headers are kept.
    pub trusted_proxies: Vec<IpNetwork>,
    /// Whether every request has an `x-request-id`.
    pub request_id: bool,
    /// Whether who sends `x-lb-explain: 1` is told why the answer came from where it came.
    pub explain_header: bool,
    /// Protocols that `Upgrade` may name, lower case, without version.
    pub upgrades: Vec<String>,
    /// Whether TRACE is passed on.
    pub allow_trace: bool,
    /// Whether backends may have link-local addresses.
    pub allow_link_local: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    pub listen: SocketAddr,
    /// Always there when `listen` is not a loopback address.
    pub token: Option<Secret>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    pub name: String,
    pub strategy: Strategy,
    /// The attached ones, in the file's order; launched ones come at run time.
    pub backends: Vec<Backend>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Strategy {
    pub plugin: Plugin,
    /// When set, the plugin's bytes must have this digest.
    pub sha256: Option<[u8; 32]>,
    /// The first that the request has gives the key; empty means no key.
    pub hash_on: Vec<KeySource>,
    pub hash: HashFunction,
    pub fallback: Fallback,
    /// A JSON object: the options of the strategy in charge, key case kept.
    pub options: serde_json::Value,
}

/// Where a strategy's library comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plugin {
    /// `round_robin` is `libround_robin.so` in the plugin folders; the first file found counts.
    Name(String),
    /// That very file, absolute. With a name, the library must call itself so.
    Path { path: PathBuf, name: Option<String> },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// See [`check_id`].
    pub id: String,
    /// As typed.
    pub address: String,
    /// What `address` meant when the configuration was loaded.
    pub socket: SocketAddr,
    /// 0..=256; 0 takes nothing new.
    pub weight: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub host: HostMatch,
    /// In normal form ([`normal_path`](super::normal_path)). Begins with `/`, does not end with one unless it is `/`, which matches all. `/api` matches
    /// `/api` and `/api/x`, not `/apix`.
    pub path_prefix: String,
    /// An index into [`Config::pools`].
    pub pool: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostMatch {
    /// Lower case, without port.
    Exact(String),
    /// `.example.org` for `*.example.org`, lower case.
    Wildcard(String),
    Any,
}

/// How backends of the pool `default` are started as processes of our own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launcher {
    pub replicas: usize,
    /// The template of their ids, with `{n}` in it.
    pub names: String,
    /// The first port tried; 0 = any free one.
    pub first_port: u16,
    /// Program and arguments, never empty; `{name}`, `{n}` and `{port}` are filled in.
    pub command: Vec<String>,
    pub max_replicas: usize,
    /// The address they are reached at.
    pub host: IpAddr,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Course {
    /// `/rep`, `/add` and `/rm` answer on the proxy's port too.
    pub on_proxy_port: bool,
    /// A backend's 404 to a GET becomes the sheet's 400.
    pub missing_path_is_400: bool,
    /// Makes random names and victims repeatable.
    pub seed: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    pub enabled: bool,
    pub path: String,
    pub interval: Duration,
    /// Between two while the last one contradicts what the backend is taken for; never above `interval`.
    pub fast_interval: Duration,
    /// For one check.
    pub timeout: Duration,
    pub down_after: u32,
    pub up_after: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    pub connect: Duration,
    /// For a request's head, from its first byte.
    pub head: Duration,
    /// From the request sent to the response's head.
    pub response_head: Duration,
    /// Between two bytes of a body.
    pub idle: Duration,
    /// How much longer than at the minimum rate a request's body may take.
    pub body_grace: Duration,
    /// Without a byte in either direction of a tunnel.
    pub tunnel_idle: Duration,
    /// How long a client that has closed its sending half is served without taking a byte: it may have gone.
    pub half_closed: Duration,
    /// Between two requests of a client's connection.
    pub client_keep_alive: Duration,
    /// How long an unused connection to a backend is kept.
    pub upstream_idle: Duration,
    /// For the whole request; `None` = no limit.
    pub total: Option<Duration>,
    /// How long requests may finish when a backend, a listener or lb itself goes.
    pub drain: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of a head, at least 8192.
    pub head_bytes: usize,
    /// Fields in a head.
    pub headers: usize,
    /// `None` = unlimited.
    pub body_bytes: Option<u64>,
    /// The rate at which a request's body must come, once `Timeouts::body_grace` is used up.
    pub body_min_bytes_per_s: Option<u64>,
    /// Client connections over all workers.
    pub connections: usize,
    /// `None` = unlimited.
    pub requests_in_flight_per_backend: Option<u32>,
    /// Idle connections kept per worker and backend; 0 keeps none.
    pub upstream_idle_connections: usize,
    /// 0 or 1.
    pub retries: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reload {
    /// Whether a changed file is taken up without being asked.
    pub watch: bool,
    /// How long a changed file must stay as it is before it is taken up.
    pub settle: Duration,
    /// How often files are looked at though nothing was heard of them.
    pub poll: Duration,
    /// Plugin images that may be resident; each further one is refused.
    pub max_images: usize,
    /// How long a strategy is watched after it was put in charge; zero: not at all.
    pub probation: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Whether changes made at run time outlive lb.
    pub keep: bool,
    pub dir: PathBuf,
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
    /// Requests that failed get one whatever the share.
    pub always_errors: bool,
    /// Whether the path is logged with its query.
    pub query: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// The "combined" format of web servers, with `key=value` pairs behind it.
    Text,
}
