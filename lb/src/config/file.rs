//! The file form: the configuration as it is typed, key by key, with every default.
//!
//! This is the one list of keys. `config/lb.toml` describes them for people, and a test compares the two. The checks in
//! [`super::validate`] destructure every struct by name, so every new key is described and checked. Sections that pools
//! and routes may set for themselves are listed with [`section!`](super::section).
//!
//! Invariants: unknown keys are errors. Numbers are `i64`, because a check gives a better message than a type.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::de::{SeqAccess, Visitor, value::SeqAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::failing::{Outlier, Panic, PartialOutlier, PartialPanic, PartialRetry, Retry};
use super::queue::{PartialQueue, Queue, default_priority};
use super::section::{Scope, section};
use super::slow_start::{PartialSlowStart, SlowStart};
use super::state::StateForm;
use super::sticky::{PartialSticky, Sticky};
pub(super) use super::strategy::Strategy;
use super::validated::{CheckKind, InitialState, LogFormat};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct File {
    pub(super) plugin_dirs: Vec<PathBuf>,
    pub(super) allow_group_writable: bool,
    pub(super) proxy: Proxy,
    pub(super) admin: Admin,
    pub(super) strategy: Strategy,
    pub(super) backends: Vec<BackendTable>,
    pub(super) pools: BTreeMap<String, PoolTable>,
    pub(super) routes: Vec<Route>,
    pub(super) launcher: Launcher,
    pub(super) course: Course,
    pub(super) health: Health,
    pub(super) outlier: Outlier,
    pub(super) panic: Panic,
    pub(super) slow_start: SlowStart,
    pub(super) retry: Retry,
    pub(super) sticky: Sticky,
    pub(super) queue: Queue,
    pub(super) timeouts: Timeouts,
    pub(super) limits: Limits,
    pub(super) reload: Reload,
    pub(super) state: StateForm,
    pub(super) log: Log,
    pub(super) access_log: AccessLog,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct Proxy {
    #[schemars(with = "OneOrManyForm")]
    pub(super) listen: OneOrMany,
    pub(super) workers: i64,
    pub(super) trusted_proxies: Vec<String>,
    pub(super) request_id: bool,
    pub(super) explain_header: bool,
    pub(super) upgrades: Vec<String>,
    pub(super) allow_trace: bool,
    pub(super) allow_link_local: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct Admin {
    pub(super) listen: String,
    pub(super) token_file: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct BackendTable {
    pub(super) id: String,
    pub(super) address: String,
    #[serde(default = "one")]
    pub(super) weight: i64,
    #[serde(default)]
    pub(super) backup: bool,
    #[serde(default)]
    #[schemars(schema_with = "super::labels::schema")]
    pub(super) labels: toml::Table,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct PoolTable {
    pub(super) strategy: Strategy,
    pub(super) backends: Vec<BackendTable>,
    pub(super) health: PartialHealth,
    pub(super) outlier: PartialOutlier,
    pub(super) panic: PartialPanic,
    pub(super) slow_start: PartialSlowStart,
    pub(super) retry: PartialRetry,
    pub(super) sticky: PartialSticky,
    pub(super) queue: PartialQueue,
    pub(super) timeouts: PartialTimeouts,
    pub(super) limits: PartialLimits,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct Route {
    pub(super) host: Option<String>,
    pub(super) path: String,
    pub(super) pool: String,
    pub(super) priority: i64,
    pub(super) retry: PartialRetry,
    pub(super) timeouts: PartialTimeouts,
    pub(super) limits: PartialLimits,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum LauncherKind {
    #[default]
    None,
    Process,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct Launcher {
    pub(super) kind: LauncherKind,
    pub(super) replicas: i64,
    pub(super) names: String,
    pub(super) host: String,
    pub(super) first_port: i64,
    pub(super) command: Vec<String>,
    pub(super) max_replicas: i64,
    #[schemars(schema_with = "super::labels::schema")]
    pub(super) labels: toml::Table,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct Course {
    pub(super) on_proxy_port: bool,
    pub(super) missing_path_is_400: bool,
    pub(super) seed: Option<i64>,
}

const OF_BACKENDS: &str = "lb checks backends, which belong to a pool";
const OF_CLIENTS: &str = "it is about a client's connection, whose requests may go to any pool";
const BEFORE_THE_ROUTE: &str = "a head is read before its route is known";
const SHARED_BY_ROUTES: &str = "it is about connections to a backend, which all routes of its pool share";

section! {
    Health, PartialHealth {
        enabled: bool = true, Scope::Pool(OF_BACKENDS);
        kind: CheckKind = CheckKind::Http, Scope::Pool(OF_BACKENDS);
        path: String = "/heartbeat".to_owned(), Scope::Pool(OF_BACKENDS);
        host: String = String::new(), Scope::Pool(OF_BACKENDS);
        port: i64 = 0, Scope::Pool(OF_BACKENDS);
        expect_status: Vec<String> = vec!["100-499".to_owned()], Scope::Pool(OF_BACKENDS);
        expect_body: String = String::new(), Scope::Pool(OF_BACKENDS);
        interval_ms: i64 = 1_000, Scope::Pool(OF_BACKENDS);
        /// `None`: a quarter of `interval_ms`.
        fast_interval_ms: Option<i64> = None, Scope::Pool(OF_BACKENDS);
        timeout_ms: i64 = 1_000, Scope::Pool(OF_BACKENDS);
        down_after: i64 = 3, Scope::Pool(OF_BACKENDS);
        up_after: i64 = 2, Scope::Pool(OF_BACKENDS);
        initial: InitialState = InitialState::Up, Scope::Pool(OF_BACKENDS);
    }
}

section! {
    Timeouts, PartialTimeouts {
        connect_ms: i64 = 5_000, Scope::Route;
        head_ms: i64 = 10_000, Scope::Global(BEFORE_THE_ROUTE);
        response_head_ms: i64 = 60_000, Scope::Route;
        idle_ms: i64 = 60_000, Scope::Route;
        body_grace_ms: i64 = 20_000, Scope::Route;
        tunnel_idle_ms: i64 = 3_600_000, Scope::Route;
        half_closed_ms: i64 = 10_000, Scope::Global(OF_CLIENTS);
        client_keep_alive_ms: i64 = 75_000, Scope::Global(OF_CLIENTS);
        upstream_idle_ms: i64 = 4_000, Scope::Pool(SHARED_BY_ROUTES);
        total_ms: i64 = 0, Scope::Route;
        drain_ms: i64 = 30_000, Scope::Global("it is about the stop of lb and of the servers that it launched");
    }
}

section! {
    Limits, PartialLimits {
        head_bytes: i64 = 65_536, Scope::Global(BEFORE_THE_ROUTE);
        headers: i64 = 100, Scope::Global(BEFORE_THE_ROUTE);
        body_bytes: i64 = 0, Scope::Route;
        body_min_bytes_per_s: i64 = 100, Scope::Route;
        connections: i64 = 65_536, Scope::Global(OF_CLIENTS);
        requests_in_flight_per_backend: i64 = 0, Scope::Pool("the requests of all routes count on a backend");
        connections_per_backend: i64 = 0, Scope::Pool(SHARED_BY_ROUTES);
        upstream_idle_connections: i64 = 256, Scope::Pool(SHARED_BY_ROUTES);
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct Reload {
    pub(super) watch: bool,
    pub(super) settle_ms: i64,
    pub(super) poll_ms: i64,
    pub(super) max_images: i64,
    pub(super) probation_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct Log {
    pub(super) level: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct AccessLog {
    pub(super) enabled: bool,
    pub(super) format: LogFormat,
    pub(super) path: PathBuf,
    pub(super) sample: f64,
    pub(super) always_errors: bool,
    pub(super) query: bool,
}

/// `"a"` or `["a", "b"]`; written back in the shortest form.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct OneOrMany(pub(super) Vec<String>);

/// The schema of [`OneOrMany`].
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
enum OneOrManyForm {
    One(String),
    Many(Vec<String>),
}

fn one() -> i64 {
    1
}

// === impl Default for the sections ===

impl Default for Proxy {
    fn default() -> Self {
        Self {
            listen: OneOrMany(vec!["127.0.0.1:8080".to_owned()]),
            workers: 0,
            trusted_proxies: Vec::new(),
            request_id: false,
            explain_header: false,
            upgrades: vec!["websocket".to_owned()],
            allow_trace: false,
            allow_link_local: false,
        }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: "127.0.0.1:8081".to_owned(), token_file: None }
    }
}

impl Default for Route {
    fn default() -> Self {
        Self {
            host: None,
            path: "/".to_owned(),
            pool: super::validated::DEFAULT_POOL.to_owned(),
            priority: default_priority(),
            retry: PartialRetry::default(),
            timeouts: PartialTimeouts::default(),
            limits: PartialLimits::default(),
        }
    }
}

impl Default for Launcher {
    fn default() -> Self {
        Self {
            kind: LauncherKind::None,
            replicas: 3,
            names: "Server {n}".to_owned(),
            host: "127.0.0.1".to_owned(),
            first_port: 5001,
            command: vec!["mock-server".to_owned()],
            max_replicas: 64,
            labels: toml::Table::new(),
        }
    }
}

impl Default for Reload {
    fn default() -> Self {
        Self { watch: true, settle_ms: 250, poll_ms: 5_000, max_images: 128, probation_ms: 10_000 }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned() }
    }
}

impl Default for AccessLog {
    fn default() -> Self {
        Self {
            enabled: false,
            format: LogFormat::Json,
            path: PathBuf::from("-"),
            sample: 1.0,
            always_errors: true,
            query: true,
        }
    }
}

// === impl OneOrMany ===

impl Serialize for OneOrMany {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => serializer.serialize_str(one),
            many => many.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = OneOrMany;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of strings")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<OneOrMany, E> {
                Ok(OneOrMany(vec![text.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, texts: A) -> Result<OneOrMany, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(texts)).map(OneOrMany)
            }
        }

        deserializer.deserialize_any(Either)
    }
}
