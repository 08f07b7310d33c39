//! Panics in hooks that return no status: they are counted, fail the probation, and the log names their place.

use lb_test_support::{get, metrics, send, wait_for};
use serde_json::json;

use crate::bench::{Bench, named, post};
use crate::probation::{moody, until};

/// The counted panics of moody in `hook` of `pool`.
fn panics(bench: &Bench, pool: &str, hook: &str) -> u64 {
    let page = get(bench.lb.admin, "/metrics").body;
    let labels = [format!("pool={pool:?}"), "strategy=\"moody\"".to_owned(), format!("hook={hook:?}")];
    metrics::sum(&page, "lb_strategy_hook_panics_total", &labels.each_ref().map(String::as_str)) as u64
}

#[test]
fn panics_in_on_finish_are_counted_and_cause_a_rollback() {
    let bench = Bench::start(&named("round_robin"));
    bench.change(&moody("panic_in_finish"));
    until(&bench, "round_robin");
    let last = bench.status()["reload"]["last"].clone();
    assert_eq!((&last["by"], &last["result"]), (&json!("probation"), &json!("rolled_back")));
    let rolled_back = bench.status()["reload"]["rolled_back"][0].clone();
    let reason = rolled_back["reason"].as_str().unwrap();
    assert!(reason.contains("times outside of picks, most often in on_finish"), "{reason}");
    assert!(panics(&bench, "default", "on_finish") > 3);
    assert_eq!(panics(&bench, "default", "pick"), 0);
    let log = bench.lb.printed("stderr");
    let place = "in a mood plugin=\"moody\" pool=\"default\" hook=\"on_finish\"";
    assert!(log.lines().any(|line| line.contains("ERROR panicked at ") && line.contains(place)), "{log}");
}

#[test]
fn a_line_of_a_plugin_in_two_pools_names_the_pool() {
    let other = "[[routes]]\npath = \"/heartbeat\"\npool = \"other\"\n[pools.other.strategy]\nname = \"moody\"\n\
                 config.moody = { every = 1, does = \"panic\" }\n[[pools.other.backends]]\nid = \"b4\"\n";
    let fourth = lb_test_support::mock("4");
    let text = format!("{}{other}address = \"{}\"\n[reload]\nprobation_ms = 0\n", moody("panic"), fourth.addr);
    let bench = Bench::start(&text.replace("every = 10", "every = 1"));
    let provoke = |path: &str| send(bench.lb.proxy, "GET", path, &["x-mood: bad"], "").status;
    assert_eq!([provoke("/home"), provoke("/heartbeat"), provoke("/heartbeat")], [200; 3], "the fallback picks");
    for (pool, count) in [("default", 1), ("other", 2)] {
        let place = format!("in a mood plugin=\"moody\" pool={pool:?} hook=\"pick\"");
        let lines = || bench.lb.printed("stderr").lines().filter(|line| line.contains(&place)).count();
        wait_for("the lines", || (lines() == count).then_some(()));
        assert_eq!(panics(&bench, pool, "pick"), count as u64);
    }
    let _ = post(bench.lb.admin, "/reload", "");
    assert_eq!(panics(&bench, "other", "pick"), 2, "a reload loses no count");
}
