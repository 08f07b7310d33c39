//! The hooks `tick` and `metrics` in a running lb, and the metrics that plugins export.
//!
//! The plugin `duties.c` tells by its own metrics which of its hooks were called. Tests read them from `/metrics`.

use std::time::Instant;

use lb_test_support::{get, metrics, wait_for};

use crate::bench::{Bench, compiled, filed, named};

const FILE: &str = "libduties.so";

/// The configuration of the plugin, which behaves in this way.
fn duties(way: &str) -> String {
    format!("{}[strategy.config.duties]\nway = \"{way}\"\n", filed(FILE))
}

fn start(way: &str) -> Bench {
    Bench::start_with(&duties(way), &[(FILE, &compiled("duties.c", &[]))])
}

fn page(bench: &Bench) -> String {
    get(bench.lb.admin, "/metrics").body
}

/// The value of a metric of the plugin; `None` if there is no such series.
fn own(page: &str, name: &str) -> Option<f64> {
    metrics::value(page, &format!("lb_plugin_{name}{{pool=\"default\",strategy=\"duties\"}}"))
}

fn counted(page: &str, name: &str) -> f64 {
    metrics::sum(page, name, &["pool=\"default\"", "strategy=\"duties\""])
}

/// Waits until the plugin's metric is at least `value`. Returns the page.
fn until(bench: &Bench, name: &str, value: f64) -> String {
    wait_for(&format!("{name} to be {value}"), || {
        let page = page(bench);
        (own(&page, name)? >= value).then_some(page)
    })
}

#[test]
fn ticks_begins_and_ends_reach_the_strategy_and_its_metrics_are_exported() {
    let bench = start("count");
    until(&bench, "ticks_total", 3.0);
    for _ in 0..5 {
        bench.server();
    }
    let page = until(&bench, "finishes_total", 5.0);
    assert_eq!(["starts_total", "own_starts_total", "finishes_total"].map(|name| own(&page, name)), [Some(5.0); 3]);
    assert!(page.contains("# HELP lb_plugin_ticks_total Of the fixture.\n# TYPE lb_plugin_ticks_total counter\n"));
    assert_eq!(
        (counted(&page, "lb_plugin_metrics_dropped_total"), counted(&page, "lb_strategy_hook_failures_total")),
        (0.0, 0.0)
    );
    // The clock of ticks is the host's, and no tick came before its time.
    let [ticks, clock_ns] = ["ticks_total", "clock_ns_total"].map(|name| own(&page, name).unwrap());
    assert!(ticks <= clock_ns / 5e6, "{ticks} ticks in {clock_ns} ns");
    assert_eq!(bench.status()["generation"], 1, "a tick alone publishes nothing");
}

#[test]
fn a_tick_that_asks_for_a_picker_gets_one_and_it_is_published_with_the_same_members() {
    let bench = start("rebuild");
    until(&bench, "pickers_total", 4.0);
    let answered = bench.under_load(2, |more| more());
    assert_eq!(bench.seen(), answered);
    let generation = bench.status()["generation"].as_u64().unwrap();
    assert!(generation >= 4, "{generation} generations");
    assert_eq!(bench.change(&named("round_robin"))["result"], "done", "a reload finds its turn between the builds");
}

#[test]
fn duties_of_a_replaced_strategy_end_and_its_metrics_are_gone() {
    let bench = start("rebuild");
    until(&bench, "pickers_total", 2.0);
    let report = bench.change(&named("round_robin"));
    let gone = |page: &str| !page.lines().any(|line| line.starts_with("lb_plugin_ticks_total"));
    wait_for("its metrics to go", || gone(&page(&bench)).then_some(()));
    // A tick of the replaced instance would publish again.
    assert_eq!(bench.status()["generation"], report["generation"]);
    bench.change(&duties("count"));
    let page = until(&bench, "ticks_total", 1.0);
    assert_eq!(own(&page, "pickers_total"), Some(1.0), "another instance counts from its own start");
}

#[test]
fn failing_ticks_and_collections_are_counted_and_requests_go_on() {
    let bench = start("fail");
    let failed = |hook: &str| {
        let hook = format!("hook=\"{hook}\"");
        wait_for("failures", || {
            (metrics::sum(&page(&bench), "lb_strategy_hook_failures_total", &[&hook]) >= 2.0).then_some(())
        });
    };
    failed("tick");
    failed("metrics");
    assert_eq!(own(&page(&bench), "ticks_total"), None, "no old numbers");
    bench.server();
    let lines = bench.lb.printed("stderr").matches("strategy duties failed in tick").count();
    assert_eq!(lines, 1, "of many failures one is logged");
}

#[test]
fn metrics_that_are_not_valid_are_dropped_and_counted_and_the_others_stay() {
    let bench = start("bad");
    let page = wait_for("two drops", || {
        let page = page(&bench);
        (counted(&page, "lb_plugin_metrics_dropped_total") >= 2.0).then_some(page)
    });
    assert!(own(&page, "finishes_total").is_some() && !page.contains("Bad") && !page.contains("nonsense"));
    let told = wait_for("the log line", || {
        let log = bench.lb.printed("stderr");
        log.lines().find(|line| line.contains("metrics of the strategy are dropped")).map(str::to_owned)
    });
    assert!(told.contains("line 4 of its metrics is not valid: the name \"Bad\""), "{told}");
}

#[test]
fn a_strategy_that_refuses_the_pickers_that_it_asks_for_keeps_the_one_that_it_has() {
    let began = Instant::now();
    let bench = start("refuse");
    let refused = || bench.lb.printed("stderr").matches("the strategy refused a list of backends").count() as u64;
    wait_for("a refusal", || (refused() > 0).then_some(()));
    for _ in 0..10 {
        bench.server();
    }
    assert_eq!(bench.seen(), 10);
    // It asks every 5 ms and is heard once a second.
    until(&bench, "ticks_total", 300.0);
    assert!((1..=began.elapsed().as_secs() + 1).contains(&refused()), "{} refusals", refused());
}
