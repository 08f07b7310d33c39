//! Properties of the whole: the exposition is well formed and complete, and sums over workers are right. No counter
//! goes back during a scrape, and a backend's series are added and removed in time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::Method;

use super::names::{self, Metric};
use super::*;
use text::Text;

mod plugins;
mod queue;
mod retired;
mod shadows;
mod strategies;
mod text;

/// A hub that has counted every kind of event for pool `p` and its backends `b1` and `b2`.
fn busy_hub() -> Arc<Metrics> {
    let metrics = Metrics::new();
    metrics.set_generation(3);
    metrics.set_strategy("p", "round_robin", "1.0.0");
    let panics = Arc::new(lb_strategy_host::HookPanics::default());
    panics.count(lb_strategy_host::Hook::Tick);
    metrics.instance_in_charge("p", "round_robin", panics);
    metrics.plugin_page("p", "round_robin", lb_strategy_host::PluginPage::default());
    metrics.duty_failures("p", "round_robin", DutyHook::Tick, 1);
    metrics.shadow_begins("p", "s", "ring", "2.0.0");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for worker in 0..2 {
        metrics.shadow(worker, "p", "s").pick(1, || ());
        metrics.shadow_backend(worker, "p", "s", "b1").picked.inc();
        metrics.runtime(worker, runtime.handle().metrics());
        metrics.worker(worker).taken_up(Duration::from_micros(3));
        metrics.connections(worker, "l").accepted.inc();
        let pool = metrics.pool(worker, "l", "p");
        pool.request_finished(&Method::GET, 200, 1_000_000);
        pool.error(ErrorReason::Timeout);
        pool.session(SessionResult::Kept);
        metrics.queue(worker, "p").adaptive_limit.set(10);
        pool.hedge(HedgeResult::Won);
        for id in ["b1", "b2"] {
            let backend = metrics.backend(worker, "p", id);
            backend.response(200, 900_000);
            backend.connected(50_000);
            backend.load_report(ReportResult::Ok);
            backend.probe(ProbeOutcome::Ok);
            let gauges = metrics.backend_gauges("p", id);
            gauges.set_up(true);
            gauges.set_info(&"a:1".into(), "file", &r#"{"zone":"a"}"#.into());
        }
    }
    metrics
}

/// A hub with a clock that the test advances, by seconds.
fn hub_with_clock() -> (Arc<Metrics>, Arc<AtomicU64>) {
    let seconds = Arc::new(AtomicU64::new(0));
    let (start, passed) = (Instant::now(), seconds.clone());
    let metrics = Metrics::with_clock(move || start + Duration::from_secs(passed.load(Ordering::Relaxed)));
    (metrics, seconds)
}

fn scrape(metrics: &Metrics) -> Text {
    Text::parse(&metrics.render())
}

fn series_of(text: &Text, backend: &str) -> usize {
    text.samples().filter(|sample| sample.labels.get("backend").is_some_and(|id| id == backend)).count()
}

#[test]
fn every_metric_has_its_help_type_and_labels() {
    let text = scrape(&busy_hub());
    let known: Vec<&Metric> = names::HUB.iter().chain(names::PROCESS).copied().collect();
    let names: BTreeSet<&str> = known.iter().map(|metric| metric.name).collect();
    assert_eq!(names.len(), known.len(), "a name stands twice in names.rs");
    assert_eq!(text.families.keys().map(String::as_str).collect::<BTreeSet<_>>(), names);
    for metric in known {
        let family = &text.families[metric.name];
        assert_eq!(family.help, metric.help);
        assert_eq!(family.kind, format!("{:?}", metric.kind).to_lowercase());
        for sample in &family.samples {
            let labels: BTreeSet<&str> =
                sample.labels.keys().map(String::as_str).filter(|name| *name != "le").collect();
            assert_eq!(labels, metric.labels.iter().copied().collect(), "{}", metric.name);
        }
    }
}

#[test]
fn counts_of_all_workers_are_summed() {
    let metrics = Metrics::new();
    for worker in 0..4 {
        let connections = metrics.connections(worker, "l");
        connections.open.inc();
        connections.rejected.add(2);
        metrics.worker(worker).taken_up(Duration::from_micros(5));
        for listener in ["l", "m"] {
            let pool = metrics.pool(worker, listener, "p");
            pool.in_flight.inc();
            pool.request_bytes.add(10);
            pool.response_bytes.add(100);
            pool.request_finished(&Method::GET, 200, 1);
            pool.request_finished(&Method::POST, 503, 1);
            pool.error(ErrorReason::NoBackend);
            pool.retry(RetryReason::ReusedConnection);
            pool.retry_denied();
        }
        let backend = metrics.backend(worker, "p", "b");
        backend.in_flight.inc();
        backend.connections_opened.add(3);
        backend.connections_active.inc();
        backend.connections_idle.set(2);
        backend.response(204, 1);
        backend.error(ErrorReason::Reset);
        backend.connected(1);
    }
    let text = scrape(&metrics);
    let (l, m, p, b) = (("listener", "l"), ("listener", "m"), ("pool", "p"), ("backend", "b"));
    assert_eq!(text.value("lb_client_connections", &[l]), 4.0);
    assert_eq!(text.value("lb_generation_take_up_seconds_bucket", &[("le", "0.000002")]), 0.0);
    assert_eq!(text.value("lb_generation_take_up_seconds_bucket", &[("le", "0.000005")]), 4.0);
    assert_eq!(text.value("lb_client_connections_rejected_total", &[l, ("reason", "limit")]), 8.0);
    assert_eq!(text.value("lb_requests_total", &[l, p, ("method", "GET"), ("code", "200")]), 4.0);
    assert_eq!(text.value("lb_requests_total", &[m, p, ("method", "POST"), ("code", "503")]), 4.0);
    assert_eq!(text.value("lb_request_duration_seconds_count", &[l, p, ("code_class", "5xx")]), 4.0);
    assert_eq!(text.value("lb_requests_in_flight", &[l, p]), 4.0);
    assert_eq!(text.value("lb_request_bytes_total", &[l, p]), 40.0);
    assert_eq!(text.value("lb_response_bytes_total", &[m, p]), 400.0);
    assert_eq!(text.value("lb_proxy_errors_total", &[p, ("reason", "no_backend")]), 8.0);
    assert_eq!(text.value("lb_retries_total", &[p, ("reason", "reused_connection")]), 8.0);
    assert_eq!(text.value("lb_retries_denied_total", &[p]), 8.0);
    assert_eq!(text.value("lb_backend_requests_total", &[p, b, ("code", "204")]), 4.0);
    assert_eq!(text.value("lb_backend_errors_total", &[p, b, ("reason", "reset")]), 4.0);
    assert_eq!(text.value("lb_backend_requests_in_flight", &[p, b]), 4.0);
    assert_eq!(text.value("lb_backend_connections", &[p, b, ("state", "active")]), 4.0);
    assert_eq!(text.value("lb_backend_connections", &[p, b, ("state", "idle")]), 8.0);
    assert_eq!(text.value("lb_backend_connections_opened_total", &[p, b]), 12.0);
    assert_eq!(text.value("lb_backend_connect_seconds_count", &[p]), 4.0);
    assert_eq!(text.value("lb_backend_response_seconds_count", &[p, b]), 4.0);
}

#[test]
fn totals_are_those_of_the_exposition() {
    let metrics = busy_hub();
    metrics.pool(0, "l", "p").in_flight.inc();
    metrics.backend(1, "p", "b2").error(ErrorReason::Connect);
    let totals = PoolTotals {
        requests: 2,
        requests_by_code: BTreeMap::from([(200, 2)]),
        errors_by_reason: BTreeMap::from([(ErrorReason::Timeout, 2)]),
        in_flight: 1,
    };
    assert_eq!(metrics.pool_totals("p"), totals);
    assert_eq!(metrics.pool_totals("unknown"), PoolTotals::default());
    let backend = |id: &str, errors| BackendTotals { id: id.to_owned(), responses: 2, errors, in_flight: 0 };
    assert_eq!(metrics.backend_totals("p"), [backend("b1", 0), backend("b2", 1)]);
    assert_eq!(metrics.backend_totals("unknown"), []);
}

#[test]
fn known_label_sets_exist_before_any_event() {
    let metrics = Metrics::new();
    metrics.connections(0, "l");
    metrics.pool(0, "l", "p");
    metrics.backend(0, "p", "b");
    metrics.backend_gauges("p", "b");
    metrics.set_strategy("p", "s", "1");
    let text = scrape(&metrics);
    let (l, p, b) = (("listener", "l"), ("pool", "p"), ("backend", "b"));
    for code in ["200", "404", "499", "500", "502", "503", "504"] {
        assert_eq!(text.value("lb_requests_total", &[l, p, ("method", "GET"), ("code", code)]), 0.0);
    }
    for code in ["200", "500", "503"] {
        assert_eq!(text.value("lb_backend_requests_total", &[p, b, ("code", code)]), 0.0);
    }
    for kind in ReloadKind::ALL {
        for result in ReloadOutcome::ALL {
            let labels = [("kind", kind.as_str()), ("result", result.as_str())];
            assert_eq!(text.value("lb_reloads_total", &labels), 0.0);
        }
    }
    assert_eq!(text.value("lb_request_duration_seconds_count", &[l, p, ("code_class", "2xx")]), 0.0);
    assert_eq!(text.value("lb_client_connections_rejected_total", &[l, ("reason", "limit")]), 0.0);
    assert_eq!(text.value("lb_backend_connect_seconds_count", &[p]), 0.0);
    for reason in ErrorReason::ALL {
        assert_eq!(text.value("lb_proxy_errors_total", &[p, ("reason", reason.as_str())]), 0.0);
        let of_backend = text.find("lb_backend_errors_total", &[p, b, ("reason", reason.as_str())]);
        assert_eq!(of_backend, reason.can_befall_an_attempt().then_some(0.0), "{reason}");
    }
    for reason in RetryReason::ALL {
        assert_eq!(text.value("lb_retries_total", &[p, ("reason", reason.as_str())]), 0.0);
    }
    for reason in FallbackReason::ALL {
        let labels = [p, ("strategy", "s"), ("reason", reason.as_str())];
        assert_eq!(text.value("lb_strategy_fallbacks_total", &labels), 0.0);
    }
    for result in ["ok", "failed"] {
        assert_eq!(text.value("lb_backend_health_checks_total", &[p, b, ("result", result)]), 0.0);
    }
    for to in ["up", "down"] {
        assert_eq!(text.value("lb_backend_health_transitions_total", &[p, b, ("to", to)]), 0.0);
    }
}

#[test]
fn two_pools_of_five_backends_have_at_most_850_series() {
    let metrics = Metrics::new();
    metrics.connections(0, "l");
    for pool in ["p", "q"] {
        metrics.pool(0, "l", pool);
        metrics.set_strategy(pool, "s", "1");
        for number in 0..5 {
            metrics.backend(0, pool, &format!("b{number}"));
            metrics.backend_gauges(pool, &format!("b{number}"));
        }
    }
    let series = scrape(&metrics).samples().count();
    assert!(series <= 850, "{series}");
}

#[test]
fn labels_stay_closed_for_any_input_of_clients_and_backends() {
    let metrics = Metrics::new();
    let pool = metrics.pool(0, "l", "p");
    for (number, code) in (0..50).zip([0, 99, 600, 999].into_iter().cycle()) {
        pool.request_finished(&Method::from_bytes(format!("M{number}").as_bytes()).unwrap(), code, 1);
    }
    let text = scrape(&metrics);
    let labels = [("listener", "l"), ("pool", "p"), ("method", "other"), ("code", "other")];
    assert_eq!(text.value("lb_requests_total", &labels), 50.0);
    let known = code::KNOWN_CODES.len();
    assert_eq!(text.families["lb_requests_total"].samples.len(), known + 1, "the known ones and `other`");
    let labels = [("listener", "l"), ("pool", "p"), ("code_class", "other")];
    assert_eq!(text.value("lb_request_duration_seconds_count", &labels), 50.0);
}

#[test]
fn durations_are_in_seconds_with_the_bounds_as_written() {
    let metrics = Metrics::new();
    metrics.pool(0, "l", "p").request_finished(&Method::GET, 200, 1_500_000_000);
    let text = metrics.render();
    let bounds = ".0001 .00025 .0005 .001 .0025 .005 .01 .025 .05 .1 .25 .5 1 2.5 5 10 +Inf";
    let start = "lb_request_duration_seconds_bucket{listener=\"l\",pool=\"p\",code_class=\"2xx\",le=\"";
    let told: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix(start)?.split('"').next()).collect();
    let wanted: Vec<String> = bounds
        .split(' ')
        .map(|bound| if bound.starts_with('.') { format!("0{bound}") } else { bound.into() })
        .collect();
    assert_eq!(told, wanted);
    assert!(text.contains("lb_request_duration_seconds_sum{listener=\"l\",pool=\"p\",code_class=\"2xx\"} 1.5\n"));
}

#[test]
fn label_values_are_escaped() {
    let metrics = Metrics::new();
    metrics.set_strategy("p", "s", "1 \"beta\" \\ \n2");
    let labels = [("pool", "p"), ("strategy", "s"), ("version", "1 \"beta\" \\ \n2")];
    assert_eq!(scrape(&metrics).value("lb_strategy_info", &labels), 1.0);
}

#[test]
fn a_second_request_to_the_hub_returns_the_same_shard() {
    let metrics = Metrics::new();
    assert!(Arc::ptr_eq(&metrics.connections(0, "l"), &metrics.connections(0, "l")));
    assert!(Arc::ptr_eq(&metrics.pool(0, "l", "p"), &metrics.pool(0, "l", "p")));
    assert!(Arc::ptr_eq(&metrics.backend(0, "p", "b"), &metrics.backend(0, "p", "b")));
    assert!(Arc::ptr_eq(&metrics.backend_gauges("p", "b"), &metrics.backend_gauges("p", "b")));
    assert!(!Arc::ptr_eq(&metrics.backend(0, "p", "b"), &metrics.backend(1, "p", "b")));
    assert!(!Arc::ptr_eq(&metrics.backend(0, "p", "b"), &metrics.backend(0, "q", "b")));
}

#[test]
fn control_sets_health_and_weight_of_a_backend() {
    let metrics = Metrics::new();
    let gauges = metrics.backend_gauges("p", "b");
    gauges.set_up(true);
    gauges.set_weight(256);
    gauges.health_check(true);
    gauges.health_check(false);
    gauges.health_check(false);
    gauges.health_transition(true);
    metrics.set_generation(7);
    let (text, p, b) = (scrape(&metrics), ("pool", "p"), ("backend", "b"));
    assert_eq!(text.value("lb_backend_up", &[p, b]), 1.0);
    assert_eq!(text.value("lb_backend_weight", &[p, b]), 256.0);
    assert_eq!(text.value("lb_backend_health_checks_total", &[p, b, ("result", "failed")]), 2.0);
    assert_eq!(text.value("lb_backend_health_transitions_total", &[p, b, ("to", "up")]), 1.0);
    assert_eq!(text.value("lb_generation", &[]), 7.0);
    gauges.set_up(false);
    assert_eq!(scrape(&metrics).value("lb_backend_up", &[p, b]), 0.0);
}

#[test]
fn a_retired_backend_stays_five_minutes_after_its_last_attempt() {
    let (metrics, seconds) = hub_with_clock();
    let worker = metrics.backend(0, "p", "b");
    worker.in_flight.inc();
    metrics.retire_backend("p", "b");
    seconds.store(10_000, Ordering::Relaxed);
    assert!(series_of(&scrape(&metrics), "b") > 0, "an attempt is still in flight");
    worker.in_flight.dec();
    worker.response(200, 1);
    assert!(series_of(&scrape(&metrics), "b") > 0, "the last attempt has just ended");
    seconds.fetch_add(299, Ordering::Relaxed);
    let labels = [("pool", "p"), ("backend", "b"), ("code", "200")];
    assert_eq!(scrape(&metrics).value("lb_backend_requests_total", &labels), 1.0);
    seconds.fetch_add(1, Ordering::Relaxed);
    assert_eq!(series_of(&scrape(&metrics), "b"), 0);
    assert_eq!(metrics.backend_totals("p"), []);
}

#[test]
fn a_backend_that_returns_goes_on_counting() {
    let (metrics, seconds) = hub_with_clock();
    let labels = [("pool", "p"), ("backend", "b"), ("code", "200")];
    let worker = metrics.backend(0, "p", "b");
    worker.response(200, 1);
    metrics.retire_backend("p", "b");
    seconds.store(300, Ordering::Relaxed);
    assert_eq!(scrape(&metrics).find("lb_backend_requests_total", &labels), None);
    // the worker still holds its shard, so the backend is hidden and not forgotten
    assert!(Arc::ptr_eq(&worker, &metrics.backend(0, "p", "b")));
    worker.response(200, 1);
    seconds.store(10_000, Ordering::Relaxed);
    assert_eq!(scrape(&metrics).value("lb_backend_requests_total", &labels), 2.0);
    metrics.retire_backend("p", "b");
    metrics.backend_gauges("p", "b");
    seconds.store(20_000, Ordering::Relaxed);
    assert_eq!(scrape(&metrics).value("lb_backend_requests_total", &labels), 2.0, "its gauges bring it back as well");
}

#[test]
fn a_pools_connect_times_outlive_its_backends() {
    let (metrics, seconds) = hub_with_clock();
    let count = |text: &Text| text.value("lb_backend_connect_seconds_count", &[("pool", "p")]);
    metrics.backend(0, "p", "b").connected(1);
    metrics.retire_backend("p", "b");
    for at in [300, 600, 900] {
        seconds.store(at, Ordering::Relaxed);
        assert_eq!(count(&scrape(&metrics)), 1.0);
    }
    // no worker holds the old shard, so its memory is freed and the name starts from zero
    assert_eq!(metrics.backend_totals("p"), []);
    let labels = [("pool", "p"), ("backend", "b"), ("code", "200")];
    metrics.backend(0, "p", "b").connected(1);
    let text = scrape(&metrics);
    assert_eq!((count(&text), text.value("lb_backend_requests_total", &labels)), (2.0, 0.0));
}

#[test]
fn no_counter_goes_back_while_workers_count() {
    let metrics = Metrics::new();
    let scrape_all = |before: &mut BTreeMap<String, f64>| {
        let text = scrape(&metrics); // which also checks that each histogram agrees with itself
        let counted = text.families.values().filter(|family| family.kind != "gauge").flat_map(|family| &family.samples);
        for sample in counted {
            let series = format!("{}{:?}", sample.name, sample.labels);
            let earlier = before.insert(series.clone(), sample.value).unwrap_or(0.0);
            assert!(sample.value >= earlier, "{series} went from {earlier} to {}", sample.value);
        }
    };
    let mut before = BTreeMap::new();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2)
            .map(|worker| {
                let (pool, backend) = (metrics.pool(worker, "l", "p"), metrics.backend(worker, "p", "b"));
                scope.spawn(move || {
                    for n in 0..50_000_u64 {
                        let code = 200 + (n % 300) as u16;
                        pool.request_finished(&Method::GET, code, n * 1000);
                        backend.response(code, n * 1000);
                        pool.fallback(FallbackReason::NoKey);
                    }
                })
            })
            .collect();
        // bounded, not stopped from outside, so that a failing scrape ends the test and does not hang it
        scope.spawn(|| (0..2_000).for_each(|swap| metrics.set_strategy("p", ["a", "b"][swap % 2], "1")));
        while workers.iter().any(|worker| !worker.is_finished()) {
            scrape_all(&mut before);
        }
    });
    scrape_all(&mut before);
    assert_eq!(metrics.pool_totals("p").requests, 100_000);
    assert_eq!(metrics.backend_totals("p")[0].responses, 100_000);
}
