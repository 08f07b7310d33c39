//! The hooks that the builder calls, the outcomes of attempts, and state that goes from C to Rust and back.

use lb_test_support::{Client, get, metrics, wait_for, wait_until};
use mock_server::Change;
use serde_json::{Value, json};

use super::Stand;
use crate::bench::post;

/// A test of lists has the outcomes 0 and 1.
fn outcomes_tell_why_an_attempt_failed(language: &'static str) {
    let stand = Stand::start(language);
    let outcomes = |want: Value| {
        wait_until("the outcomes", || stand.told()["outcomes"] == want);
    };
    let stalled = |path: &str| {
        let server = &stand.bench.servers[0];
        server.change(&Change { stall: Some(true), ..Change::default() }).unwrap();
        let mut client = Client::connect(stand.bench.lb.proxy);
        client.send(format!("POST {path} HTTP/1.1\r\nhost: lb\r\ncontent-length: 0\r\n\r\n").as_bytes());
        wait_until("the request to be at the backend", || server.stats().in_progress == 1);
        client
    };
    let cut = get(stand.bench.lb.proxy, "/stream?bytes=9000&chunk=1000&abort_after=2000");
    assert_eq!(cut.status, 200, "and then its body ended early");
    outcomes(json!([0, 0, 0, 1, 0, 0]));
    stalled("/upload").reset();
    outcomes(json!([0, 0, 0, 1, 1, 0]));
    wait_until("the backend to be idle", || stand.bench.servers[0].stats().in_progress == 0);

    // A deadline of a drain cuts an attempt that was sent. The outcome is 5 all the same: its backend is not to blame.
    let mut client = stalled("/upload");
    let drain = post(stand.bench.lb.admin, "/backends/b1/drain", "{\"deadline_ms\":1}");
    assert_eq!(drain.status, 200, "{}", drain.body);
    assert_eq!(client.answer().status(), 503);
    outcomes(json!([0, 0, 0, 1, 1, 1]));

    stand.change(language, "[timeouts]\nresponse_head_ms = 100\n");
    stand.bench.servers[1].change(&Change { stall: Some(true), ..Change::default() }).unwrap();
    assert_eq!(stand.send("POST", &[], "").status, 504);
    outcomes(json!([0, 0, 1, 1, 1, 1]));
}

#[test]
fn outcomes_tell_why_an_attempt_failed_in_c() {
    outcomes_tell_why_an_attempt_failed("C");
}

#[test]
fn outcomes_tell_why_an_attempt_failed_in_rust() {
    outcomes_tell_why_an_attempt_failed("Rust");
}

fn ticks_metrics_and_refused_options(language: &'static str) {
    let stand = Stand::start(language);
    // The picker that the first tick asks for has replaced the one of the reload.
    stand.says_in_the_log(&format!("a picker in {language} is freed"));
    let told = wait_for("two ticks", || Some(stand.told()).filter(|told| told["counts"]["ticks"].as_u64() >= Some(2)));
    assert_eq!(told["counts"]["pickers"], 2, "{language}: one for the list, and one because the first tick asked");
    assert_eq!(stand.bench.status()["generation"], 3, "start, reload, tick");
    assert!(told["list"]["epoch"].as_u64() > told["list"]["members_epoch"].as_u64(), "{told}");
    stand.send("GET", &[], "");
    let told = stand.told_after(1);
    let tick_ns = told["counts"]["tick_ns"].as_u64();
    assert!(
        tick_ns > Some(0) && tick_ns.unwrap().abs_diff(told["started"]["now_ns"].as_u64().unwrap()) < 60_000_000_000
    );
    let labels = ["pool=\"default\"", "strategy=\"reporter\""];
    let page = wait_for("the metrics", || {
        let page = get(stand.bench.lb.admin, "/metrics").body;
        (metrics::sum(&page, "lb_plugin_ticks_total", &labels) >= 2.0).then_some(page)
    });
    let of_backend = [labels[0], labels[1], "backend=\"b2\""];
    assert_eq!(metrics::sum(&page, "lb_plugin_share", &of_backend), 0.25, "{language}");

    // A hook without a status reports its panic by a line of the log.
    assert_eq!(get(stand.bench.lb.proxy, "/status/418").status, 418);
    wait_until("the panic to be counted", || {
        let page = get(stand.bench.lb.admin, "/metrics").body;
        metrics::sum(&page, "lb_strategy_hook_panics_total", &[labels[1], "hook=\"on_finish\""]) == 1.0
    });

    let refused = stand.try_change(language, "[strategy.config.reporter]\nunknown = 1\n");
    assert!(refused.status >= 400 && refused.body.contains("refuses its options"), "{}", refused.body);
}

#[test]
fn ticks_metrics_and_refused_options_in_c() {
    ticks_metrics_and_refused_options("C");
}

#[test]
fn ticks_metrics_and_refused_options_in_rust() {
    ticks_metrics_and_refused_options("Rust");
}

fn a_worker_makes_one_call_at_a_time(language: &'static str) {
    let stand = Stand::start_with(language, 2);
    stand.bench.under_load(4, |more| {
        wait_until("both workers to pick", || stand.told()["workers"] == 0b11);
        (0..20).for_each(|_| more());
    });
    let told = stand.told();
    assert_eq!((&told["overlaps"], &told["host"]["n_workers"]), (&json!(0), &json!(2)), "{language}");
}

#[test]
fn a_worker_makes_one_call_at_a_time_in_c() {
    a_worker_makes_one_call_at_a_time("C");
}

#[test]
fn a_worker_makes_one_call_at_a_time_in_rust() {
    a_worker_makes_one_call_at_a_time("Rust");
}

/// State and slots survive, because schema and version are equal. Each instance and its pickers are freed.
#[test]
fn state_and_slots_go_from_c_to_rust_and_back() {
    let stand = Stand::start("C");
    for (finishes, language) in [(0, "C"), (3, "Rust"), (6, "C"), (9, "Rust")] {
        if finishes > 0 {
            let report = stand.change(language, "");
            assert_eq!(report["pools"][0]["state"], "imported", "{report}");
        }
        let told = stand.told();
        assert_eq!(told["counts"]["imported"], finishes, "{language}");
        assert_eq!(told["list"]["backends"][0]["word"], finishes, "{language}: slots are kept");
        for _ in 0..3 {
            assert_eq!(stand.send("GET", &[], "").status, 200);
        }
        stand.told_after(3);
        assert_eq!(stand.told()["list"]["backends"][0]["word"], finishes + 3, "{language}");
    }
    // Round robin was in charge at the start, and gets back what it left.
    for (other, state) in [("round_robin", "imported"), ("least_connections", "fresh")] {
        assert_eq!(stand.change(other, "")["pools"][0]["state"], state);
    }
    for freed in ["a reporter in C is freed", "a reporter in Rust is freed"] {
        stand.says_in_the_log(freed);
    }
}

fn a_shadow_knows_that_it_is_one(language: &'static str) {
    let stand = Stand::start(language);
    let own = |name: &str, label: &str| {
        let page = get(stand.bench.lb.admin, "/metrics").body;
        metrics::sum(&page, &format!("lb_plugin_{name}"), &[&format!("strategy={label:?}")])
    };
    let until = |name: &str, label: &str, count: f64| wait_until(name, || own(name, label) >= count);
    // In charge.
    assert_eq!(stand.send("GET", &[], "").status, 200);
    until("ends_total", "reporter", 1.0);
    assert_eq!([own("shadow_picks_total", "reporter"), own("own_ends_total", "reporter")], [0.0, 1.0]);
    // The same as a shadow of round robin, and a shadow that always agrees.
    let plugin = if language == "C" { "path = \"c.so\"\n" } else { "" };
    stand.change("round_robin", &format!("[[strategy.shadow]]\nname = \"reporter\"\n{plugin}"));
    let label = "shadow:reporter";
    wait_until("every worker to have the shadow", || {
        let before = own("shadow_picks_total", label);
        assert_eq!(stand.send("GET", &[], "").status, 200);
        before > 0.0
    });
    let ends = own("ends_total", label);
    (0..12).for_each(|_| assert_eq!(stand.send("GET", &[], "").status, 200));
    until("ends_total", label, ends + 12.0);
    wait_until("its picks", || own("shadow_picks_total", label) >= ends + 12.0);
    assert!(own("ticks_total", label) > 0.0, "a shadow has ticks");
    // It picks the first candidate, and round robin the first one and the second one in turn.
    let (all, own_ends) = (own("ends_total", label), own("own_ends_total", label));
    assert!(0.0 < own_ends && own_ends < all, "{language}: {own_ends} own ends of {all}");
    assert_eq!(own("shadow_picks_total", "reporter"), 0.0);
}

#[test]
fn a_shadow_knows_that_it_is_one_in_c() {
    a_shadow_knows_that_it_is_one("C");
}

#[test]
fn a_shadow_knows_that_it_is_one_in_rust() {
    a_shadow_knows_that_it_is_one("Rust");
}
