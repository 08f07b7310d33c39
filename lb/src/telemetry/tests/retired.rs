//! Closed listeners and removed pools: their series stay for a while, and sums over listeners never go back.

use std::sync::atomic::Ordering;
use std::time::Duration;

use http::Method;

use super::super::{
    ErrorReason, FallbackReason, HedgeResult, Metrics, ProbeOutcome, ProbeSkip, QueueRefusal, ReportResult,
    RetryReason, SessionResult,
};
use super::text::Text;
use super::{hub_with_clock, scrape, series_of};

#[test]
fn a_closed_listener_stays_five_minutes_after_its_last_connection() {
    let (metrics, seconds) = hub_with_clock();
    let connections = metrics.connections(0, "l");
    connections.open.inc();
    let accepted = || scrape(&metrics).find("lb_client_connections_accepted_total", &[("listener", "l")]);
    metrics.retire_listener("l");
    seconds.store(10_000, Ordering::Relaxed);
    assert_eq!(accepted(), Some(0.0), "a connection is still open");
    connections.open.dec();
    assert_eq!(accepted(), Some(0.0), "the last connection has just ended");
    seconds.fetch_add(299, Ordering::Relaxed);
    assert_eq!(accepted(), Some(0.0));
    seconds.fetch_add(1, Ordering::Relaxed);
    assert_eq!(accepted(), None);
    metrics.listener_opened("l");
    assert_eq!(accepted(), Some(0.0), "open again");
}

#[test]
fn requests_by_a_closed_listener_still_count_for_their_pool() {
    let (metrics, seconds) = hub_with_clock();
    metrics.set_strategy("p", "s", "1");
    metrics.connections(0, "m");
    for listener in ["l", "m"] {
        let pool = metrics.pool(0, listener, "p");
        pool.error(ErrorReason::NoBackend);
        pool.retry(RetryReason::NotSent);
        pool.retry_denied();
        pool.hedge(HedgeResult::Won);
        pool.session(SessionResult::Moved);
        pool.queue_entered();
        pool.queue_left(Duration::from_secs(1));
        pool.refused_in_queue(QueueRefusal::Shed);
        pool.fallback(FallbackReason::Panic);
    }
    metrics.retire_listener("l");
    let told = || {
        let text = scrape(&metrics);
        let value = |name, labels: &[_]| text.value(name, &[&[("pool", "p")], labels].concat());
        let requests = text.samples().filter(|sample| sample.labels.get("listener").is_some_and(|name| name == "l"));
        let sums = [
            value("lb_proxy_errors_total", &[("reason", "no_backend")]),
            value("lb_retries_total", &[("reason", "not_sent")]),
            value("lb_retries_denied_total", &[]),
            value("lb_hedges_total", &[("result", "won")]),
            value("lb_sessions_total", &[("result", "moved")]),
            value("lb_queue_entries_total", &[]),
            value("lb_queue_wait_seconds_total", &[]),
            value("lb_queue_refusals_total", &[("reason", "shed")]),
            value("lb_strategy_fallbacks_total", &[("strategy", "s"), ("reason", "panic")]),
        ];
        (requests.count() > 0, sums)
    };
    assert_eq!(told(), (true, [2.0; 9]));
    // First hidden, then forgotten.
    for _ in 0..2 {
        seconds.fetch_add(300, Ordering::Relaxed);
        assert_eq!(told(), (false, [2.0; 9]));
    }
    metrics.listener_opened("l");
    metrics.pool(0, "l", "p").error(ErrorReason::NoBackend);
    assert_eq!(told(), (true, [3.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0]));
}

#[test]
fn a_pool_that_is_gone_stays_five_minutes_after_its_last_request() {
    let (metrics, seconds) = hub_with_clock();
    metrics.set_strategy("p", "s", "1");
    metrics.backend_gauges("p", "b");
    let (pool, backend) = (metrics.pool(0, "l", "p"), metrics.backend(0, "p", "b"));
    pool.in_flight.inc();
    pool.error(ErrorReason::NoBackend);
    backend.connected(1);
    // Series of the pool, and whether they include the strategy in charge and the state up.
    let told = || {
        let text = scrape(&metrics);
        let of_pool = text.samples().filter(|sample| sample.labels.get("pool").is_some_and(|name| name == "p")).count();
        let stands = ["lb_strategy_info", "lb_backend_up"].iter().any(|name| text.families.contains_key(*name));
        (of_pool > 0, stands)
    };
    assert_eq!(told(), (true, true));
    metrics.retire_pool("p");
    seconds.store(10_000, Ordering::Relaxed);
    assert_eq!(told(), (true, false), "a request is still in flight");
    pool.in_flight.dec();
    assert_eq!(told(), (true, false), "the last request has just ended");
    seconds.fetch_add(300, Ordering::Relaxed);
    assert_eq!(told(), (false, false));
    assert_eq!(metrics.pool_totals("p"), super::super::PoolTotals::default());
    // A worker still holds its shard: the pool is hidden and not forgotten.
    metrics.pool_opened("p");
    assert_eq!(metrics.pool_totals("p").errors_by_reason[&ErrorReason::NoBackend], 1);
    metrics.retire_pool("p");
    drop((pool, backend));
    for _ in 0..2 {
        seconds.fetch_add(300, Ordering::Relaxed);
        assert_eq!(told(), (false, false));
    }
    metrics.pool_opened("p");
    metrics.set_strategy("p", "t", "1");
    metrics.pool(0, "l", "p");
    assert_eq!(metrics.pool_totals("p").errors_by_reason.len(), 0, "another pool of that name begins anew");
    assert_eq!(told(), (true, true));
}

#[test]
fn totals_since_the_start_include_removed_pools_and_listeners() {
    let (metrics, seconds) = hub_with_clock();
    let told = || {
        let traffic = metrics.traffic();
        (traffic.requests, traffic.errors, metrics.pool_totals("p").requests)
    };
    for (listener, pool) in [("l", "p"), ("m", "p"), ("m", "q")] {
        metrics.set_strategy(pool, "s", "1");
        metrics.pool(0, listener, pool).request_finished(&Method::GET, 503, 1_000_000);
    }
    let before = metrics.traffic();
    assert_eq!(told(), (3, 3, 2));
    metrics.retire_listener("l");
    metrics.retire_pool("q");
    // First hidden, then forgotten.
    for _ in 0..3 {
        seconds.fetch_add(300, Ordering::Relaxed);
        assert_eq!(told(), (3, 3, 2));
        assert_eq!(metrics.traffic().quantiles_since(&before), None, "and nothing is taken for new");
    }
    metrics.retire_pool("p");
    for _ in 0..3 {
        seconds.fetch_add(300, Ordering::Relaxed);
        assert_eq!((told().0, told().1), (3, 3));
    }
    assert_eq!(told(), (3, 3, 0));
}

#[test]
fn retiring_an_unknown_backend_does_nothing() {
    let metrics = Metrics::new();
    metrics.retire_backend("p", "b");
    assert_eq!(series_of(&scrape(&metrics), "b"), 0);
}

#[test]
fn a_retired_backend_is_neither_up_nor_down_and_has_no_labels() {
    let (metrics, _seconds) = hub_with_clock();
    metrics.backend(0, "p", "b");
    let gauges = metrics.backend_gauges("p", "b");
    gauges.set_up(true);
    let told = |labels: &str| {
        gauges.set_info(&"h:1".into(), "file", &labels.into());
        let text = scrape(&metrics);
        let info = &text.families["lb_backend_info"].samples;
        assert_eq!(info.len(), 1, "one series for a backend, whatever its labels were");
        let [address, origin, labels] = ["address", "origin", "labels"].map(|name| info[0].labels[name].clone());
        assert_eq!((&*address, &*origin), ("h:1", "file"));
        labels
    };
    assert_eq!(told(""), "");
    assert_eq!(told(r#"{"n":1,"zone":"a \"b\""}"#), r#"{"n":1,"zone":"a \"b\""}"#);
    metrics.retire_backend("p", "b");
    let text = scrape(&metrics);
    assert!(series_of(&text, "b") > 0);
    for name in ["lb_backend_up", "lb_backend_weight", "lb_backend_info"] {
        assert!(!text.families.contains_key(name), "{name}");
    }
}

#[test]
fn load_reports_are_counted_by_backend_and_shown_only_if_there_are_some() {
    let metrics = Metrics::new();
    metrics.backend(0, "p", "b").load_report(ReportResult::Ok);
    metrics.backend(1, "p", "b").load_report(ReportResult::Ok);
    metrics.backend_gauges("p", "b").load_report(ReportResult::NoReport);
    metrics.backend(0, "p", "silent").response(200, 1);
    let text = scrape(&metrics);
    let of = |backend, result| {
        text.value("lb_load_reports_total", &[("pool", "p"), ("backend", backend), ("result", result)])
    };
    assert_eq!(["ok", "malformed", "no_report", "no_response"].map(|result| of("b", result)), [2.0, 0.0, 1.0, 0.0]);
    assert_eq!(text.families["lb_load_reports_total"].samples.len(), ReportResult::COUNT, "none of the silent one");
}

#[test]
fn a_pools_probes_outlive_its_backends() {
    let (metrics, seconds) = hub_with_clock();
    let ended = |text: &Text, kind, outcome| {
        text.value("lb_probes_total", &[("pool", "p"), ("kind", kind), ("outcome", outcome)])
    };
    let skipped = |text: &Text, reason| text.value("lb_probes_skipped_total", &[("pool", "p"), ("reason", reason)]);
    let shard = metrics.backend(0, "p", "b");
    shard.probe(ProbeOutcome::Ok);
    shard.probes_skipped(ProbeSkip::Refused, 3);
    drop(shard);
    metrics.backend_gauges("p", "b").probe(ProbeOutcome::Timeout);
    metrics.retire_backend("p", "b");
    for at in [300, 600, 900] {
        seconds.store(at, Ordering::Relaxed);
        let text = scrape(&metrics);
        assert_eq!((ended(&text, "pick", "ok"), ended(&text, "pick", "timeout")), (1.0, 0.0));
        assert_eq!((ended(&text, "periodic", "ok"), ended(&text, "periodic", "timeout")), (0.0, 1.0));
        assert_eq!((skipped(&text, "refused"), skipped(&text, "outstanding")), (3.0, 0.0));
    }
}
