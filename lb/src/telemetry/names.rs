//! Every metric that `lb` exposes, one constant each: name, type, labels and help text in one place. The collector, the
//! tests, the dashboard and the alert rules use these names. Other metrics come only from plugins, as `lb_plugin_…`.
//!
//! Invariants: base units, counters end in `_total`. The labels' order is the order in which values are given. No label
//! has a range that requests can extend (no path, client, raw method or error text).

use prometheus::proto::MetricType;

/// The description of one metric.
#[derive(Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: MetricType,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: MetricType::COUNTER, labels, help }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: MetricType::GAUGE, labels, help }
}

const fn histogram(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: MetricType::HISTOGRAM, labels, help }
}

// the binary
pub const BUILD_INFO: Metric =
    gauge("lb_build_info", &["version", "revision", "rustc"], "Build of the running binary.");
pub const GENERATION: Metric =
    gauge("lb_generation", &[], "Number of the generation (routes, pools, backends, strategies) in force.");
pub const GENERATION_TAKE_UP: Metric = histogram(
    "lb_generation_take_up_seconds",
    &[],
    "Time in which a worker takes up a new generation and serves no request, one observation per worker and generation.",
);

// requests
pub const REQUESTS: Metric = counter(
    "lb_requests_total",
    &["listener", "pool", "method", "code"],
    "Requests answered to clients, by final status.",
);
pub const REQUEST_DURATION: Metric = histogram(
    "lb_request_duration_seconds",
    &["listener", "pool", "code_class"],
    "Time from the request head read to the last response byte written.",
);
pub const REQUESTS_IN_FLIGHT: Metric =
    gauge("lb_requests_in_flight", &["listener", "pool"], "Requests now being served.");
pub const REQUEST_BYTES: Metric =
    counter("lb_request_bytes_total", &["listener", "pool"], "Body bytes received from clients.");
pub const RESPONSE_BYTES: Metric =
    counter("lb_response_bytes_total", &["listener", "pool"], "Body bytes sent to clients.");
pub const PROXY_ERRORS: Metric =
    counter("lb_proxy_errors_total", &["pool", "reason"], "Requests that failed in the balancer, by cause.");
pub const RETRIES: Metric =
    counter("lb_retries_total", &["pool", "reason"], "Attempts after the first one of a request, by cause.");
pub const RETRIES_DENIED: Metric = counter(
    "lb_retries_denied_total",
    &["pool"],
    "Requests that were not retried because the pool's budget for retries was used up.",
);
pub const HEDGES: Metric = counter(
    "lb_hedges_total",
    &["pool", "result"],
    "Second attempts beside slow ones, by result, and those that the budget for retries denied.",
);
pub const SESSIONS: Metric = counter(
    "lb_sessions_total",
    &["pool", "result"],
    "Choices of a backend in a pool with sticky sessions: by a session, for a new one, or for one that moves.",
);
pub const QUEUE_REQUESTS: Metric =
    gauge("lb_queue_requests", &["pool"], "Requests that now wait for a backend with room.");
pub const QUEUE_ENTRIES: Metric =
    counter("lb_queue_entries_total", &["pool"], "Requests that began to wait for a backend with room.");
pub const QUEUE_WAIT: Metric =
    counter("lb_queue_wait_seconds_total", &["pool"], "Time that requests waited for a backend with room, in total.");
pub const QUEUE_REFUSALS: Metric = counter(
    "lb_queue_refusals_total",
    &["pool", "reason"],
    "Requests that got no backend from the queue: it was full, or full for their priority, or they waited too long.",
);
pub const QUEUE_ADAPTIVE_LIMIT: Metric = gauge(
    "lb_queue_adaptive_limit",
    &["pool"],
    "Limit of the attempts in flight on the whole pool, if it follows the latency (queue.adaptive in lb.toml).",
);

// client connections
pub const CLIENT_CONNECTIONS: Metric = gauge("lb_client_connections", &["listener"], "Client connections now open.");
pub const CLIENT_CONNECTIONS_ACCEPTED: Metric =
    counter("lb_client_connections_accepted_total", &["listener"], "Client connections accepted.");
pub const CLIENT_CONNECTIONS_REJECTED: Metric =
    counter("lb_client_connections_rejected_total", &["listener", "reason"], "Client connections refused, by cause.");

// backends
pub const BACKEND_INFO: Metric = gauge(
    "lb_backend_info",
    &["pool", "backend", "address", "origin", "labels"],
    "Address, source and labels of a backend; the labels as a JSON object with sorted keys, empty without labels.",
);
pub const BACKEND_REQUESTS: Metric =
    counter("lb_backend_requests_total", &["pool", "backend", "code"], "Responses received from a backend, by status.");
pub const BACKEND_ERRORS: Metric =
    counter("lb_backend_errors_total", &["pool", "backend", "reason"], "Attempts without a response, by cause.");
pub const LOAD_REPORTS: Metric = counter(
    "lb_load_reports_total",
    &["pool", "backend", "result"],
    "Load reports of a backend, and polls that brought none, in pools with strategy.load_reports, by result.",
);
pub const PROBES: Metric = counter(
    "lb_probes_total",
    &["pool", "kind", "outcome"],
    "Probes of backends for strategies that ask for them, with a pick or periodically, by outcome.",
);
pub const PROBES_SKIPPED: Metric = counter(
    "lb_probes_skipped_total",
    &["pool", "reason"],
    "Probes that a strategy asked for and lb did not send, by reason.",
);
pub const BACKEND_RESPONSE: Metric = histogram(
    "lb_backend_response_seconds",
    &["pool", "backend"],
    "Time from the attempt's start to the response head.",
);
pub const BACKEND_CONNECT: Metric =
    histogram("lb_backend_connect_seconds", &["pool"], "Time to open a connection to a backend.");
pub const BACKEND_REQUESTS_IN_FLIGHT: Metric =
    gauge("lb_backend_requests_in_flight", &["pool", "backend"], "Attempts now in flight on a backend.");
pub const BACKEND_CONNECTIONS: Metric =
    gauge("lb_backend_connections", &["pool", "backend", "state"], "Connections to a backend, in use or kept idle.");
pub const BACKEND_CONNECTIONS_OPENED: Metric =
    counter("lb_backend_connections_opened_total", &["pool", "backend"], "Connections opened to a backend.");
pub const BACKEND_UP: Metric = gauge(
    "lb_backend_up",
    &["pool", "backend"],
    "1 when the backend may get requests, or is a backup that could serve and stands by.",
);
pub const BACKEND_WEIGHT: Metric = gauge("lb_backend_weight", &["pool", "backend"], "Weight in force.");
pub const BACKEND_SHARE: Metric = gauge(
    "lb_backend_share",
    &["pool", "backend"],
    "Part of its weight that the backend gets: 1, or less while it starts slowly ([slow_start] in lb.toml).",
);
pub const BACKEND_HEALTH_CHECKS: Metric =
    counter("lb_backend_health_checks_total", &["pool", "backend", "result"], "Active health checks, by result.");
pub const BACKEND_HEALTH_TRANSITIONS: Metric =
    counter("lb_backend_health_transitions_total", &["pool", "backend", "to"], "Changes of health, by the new state.");

pub const BACKEND_EJECTED: Metric = gauge(
    "lb_backend_ejected",
    &["pool", "backend"],
    "1 while outlier detection keeps requests away from the backend.",
);
pub const BACKEND_EJECTIONS: Metric = counter(
    "lb_backend_ejections_total",
    &["pool", "backend", "reason"],
    "Ejections by outlier detection: gateway failures or server errors in a row, or a low success rate.",
);
pub const POOL_PANIC: Metric = gauge(
    "lb_pool_panic",
    &["pool"],
    "1 while so few backends are up that lb uses all that may respond, or none ([panic] in lb.toml).",
);

// strategies
pub const STRATEGY_INFO: Metric =
    gauge("lb_strategy_info", &["pool", "strategy", "version"], "Strategy in charge of a pool.");
pub const STRATEGY_FALLBACKS: Metric = counter(
    "lb_strategy_fallbacks_total",
    &["pool", "strategy", "reason"],
    "Picks made by the built-in fallback in place of the strategy, by cause.",
);
pub const STRATEGY_HOOK_PANICS: Metric = counter(
    "lb_strategy_hook_panics_total",
    &["pool", "strategy", "hook"],
    "Panics of the strategy that its library caught, by hook.",
);
pub const STRATEGY_PICKS: Metric =
    counter("lb_strategy_picks_total", &["pool", "strategy"], "Picks asked of the strategy.");
pub const STRATEGY_PICK: Metric = histogram(
    "lb_strategy_pick_seconds",
    &["pool", "strategy"],
    "Time of one pick; one in 128 is timed, and one in 10 ms where few requests come.",
);
pub const STRATEGY_HOOK_FAILURES: Metric = counter(
    "lb_strategy_hook_failures_total",
    &["pool", "strategy", "hook"],
    "Calls of a strategy's hooks tick and metrics that failed or panicked.",
);
pub const PLUGIN_METRICS_DROPPED: Metric = counter(
    "lb_plugin_metrics_dropped_total",
    &["pool", "strategy"],
    "Samples of a strategy's own metrics that were not valid, or too many; each collection counts them.",
);
pub const STRATEGY_RETIRED: Metric = gauge(
    "lb_strategy_retired_instances",
    &["pool"],
    "Replaced instances of strategies that are still referenced, without the one kept for a rollback.",
);
pub const STRATEGY_SWAPS: Metric = counter(
    "lb_strategy_swaps_total",
    &["pool", "kind"],
    "Strategies put in charge of a pool while it ran, by what was new: options, plugin or strategy; or rollback.",
);

// shadows
pub const SHADOW_INFO: Metric =
    gauge("lb_shadow_info", &["pool", "shadow", "strategy", "version"], "Strategy of a shadow of a pool.");
pub const SHADOW_OFF: Metric =
    gauge("lb_shadow_off", &["pool", "shadow"], "1 if lb switched the shadow off, because it failed or was slow.");
pub const SHADOW_PICKS: Metric = counter(
    "lb_shadow_picks_total",
    &["pool", "shadow", "result"],
    "Picks of a shadow, which route nothing, by how they compare with the picks of the strategy in charge.",
);
pub const SHADOW_PICK: Metric = histogram(
    "lb_shadow_pick_seconds",
    &["pool", "shadow"],
    "Time of one pick of a shadow; one in 128 is timed, and one in 10 ms where few requests come.",
);
pub const SHADOW_BACKEND_PICKS: Metric = counter(
    "lb_shadow_backend_picks_total",
    &["pool", "shadow", "backend"],
    "Requests that the shadow would have sent to the backend.",
);

// reloads
pub const RELOADS: Metric =
    counter("lb_reloads_total", &["kind", "result"], "Reloads by what they were about and how they ended.");
pub const RELOAD_DURATION: Metric =
    histogram("lb_reload_duration_seconds", &["kind"], "Time from the request for a reload to its end.");
pub const RELOAD_LAST_SUCCESSFUL: Metric = gauge(
    "lb_reload_last_successful",
    &["kind"],
    "1 when the last reload of the files worked and was not taken back since, whatever was asked for beside them.",
);
pub const RELOAD_LAST_SUCCESS: Metric = gauge(
    "lb_reload_last_success_timestamp_seconds",
    &["kind"],
    "When something new was last put in force, seconds since the Unix epoch; at first the start.",
);

// the access log
pub const ACCESS_LOG_LINES: Metric = counter("lb_access_log_lines_total", &[], "Lines written to the access log.");
pub const ACCESS_LOG_DROPPED: Metric =
    counter("lb_access_log_dropped_total", &["reason"], "Lines of the access log that were dropped, by cause.");

// the workers' runtimes
pub const RUNTIME_WORKERS: Metric = gauge("lb_runtime_workers", &[], "Worker threads.");
pub const RUNTIME_BUSY: Metric =
    counter("lb_runtime_busy_seconds_total", &["worker"], "Time in which a worker was not waiting for events.");
pub const RUNTIME_QUEUE: Metric =
    gauge("lb_runtime_global_queue_depth", &[], "Tasks that were woken from outside and wait, over all workers.");
pub const RUNTIME_TASKS: Metric = gauge("lb_runtime_alive_tasks", &[], "Tasks alive, over all workers.");

// the process, under the names that every exporter uses
pub const PROCESS_CPU: Metric = counter("process_cpu_seconds_total", &[], "User and system CPU time spent in seconds.");
pub const PROCESS_RESIDENT_MEMORY: Metric =
    gauge("process_resident_memory_bytes", &[], "Resident memory size in bytes.");
pub const PROCESS_OPEN_FDS: Metric = gauge("process_open_fds", &[], "Number of open file descriptors.");
pub const PROCESS_MAX_FDS: Metric = gauge("process_max_fds", &[], "Maximum number of open file descriptors.");
pub const PROCESS_THREADS: Metric = gauge("process_threads", &[], "Number of threads in the process.");
pub const PROCESS_START_TIME: Metric =
    gauge("process_start_time_seconds", &[], "Start time of the process since the Unix epoch in seconds.");

/// The hub's metrics.
pub const HUB: &[&Metric] = &[
    &BUILD_INFO,
    &GENERATION,
    &GENERATION_TAKE_UP,
    &REQUESTS,
    &REQUEST_DURATION,
    &REQUESTS_IN_FLIGHT,
    &REQUEST_BYTES,
    &RESPONSE_BYTES,
    &PROXY_ERRORS,
    &RETRIES,
    &RETRIES_DENIED,
    &HEDGES,
    &SESSIONS,
    &QUEUE_REQUESTS,
    &QUEUE_ENTRIES,
    &QUEUE_WAIT,
    &QUEUE_REFUSALS,
    &QUEUE_ADAPTIVE_LIMIT,
    &CLIENT_CONNECTIONS,
    &CLIENT_CONNECTIONS_ACCEPTED,
    &CLIENT_CONNECTIONS_REJECTED,
    &BACKEND_INFO,
    &BACKEND_REQUESTS,
    &BACKEND_ERRORS,
    &LOAD_REPORTS,
    &PROBES,
    &PROBES_SKIPPED,
    &BACKEND_RESPONSE,
    &BACKEND_CONNECT,
    &BACKEND_REQUESTS_IN_FLIGHT,
    &BACKEND_CONNECTIONS,
    &BACKEND_CONNECTIONS_OPENED,
    &BACKEND_UP,
    &BACKEND_WEIGHT,
    &BACKEND_SHARE,
    &BACKEND_HEALTH_CHECKS,
    &BACKEND_HEALTH_TRANSITIONS,
    &BACKEND_EJECTED,
    &BACKEND_EJECTIONS,
    &POOL_PANIC,
    &STRATEGY_INFO,
    &STRATEGY_PICKS,
    &STRATEGY_PICK,
    &STRATEGY_FALLBACKS,
    &STRATEGY_HOOK_FAILURES,
    &PLUGIN_METRICS_DROPPED,
    &STRATEGY_HOOK_PANICS,
    &STRATEGY_RETIRED,
    &STRATEGY_SWAPS,
    &SHADOW_INFO,
    &SHADOW_OFF,
    &SHADOW_PICKS,
    &SHADOW_PICK,
    &SHADOW_BACKEND_PICKS,
    &RELOADS,
    &RELOAD_DURATION,
    &RELOAD_LAST_SUCCESSFUL,
    &RELOAD_LAST_SUCCESS,
    &ACCESS_LOG_LINES,
    &ACCESS_LOG_DROPPED,
    &RUNTIME_WORKERS,
    &RUNTIME_BUSY,
    &RUNTIME_QUEUE,
    &RUNTIME_TASKS,
];

/// The process collector's metrics.
pub const PROCESS: &[&Metric] = &[
    &PROCESS_CPU,
    &PROCESS_RESIDENT_MEMORY,
    &PROCESS_OPEN_FDS,
    &PROCESS_MAX_FDS,
    &PROCESS_THREADS,
    &PROCESS_START_TIME,
];
