//! Probes with a pick: each field of the pick and of the end of a probe, in C and in Rust.

use lb_strategy_host::backend_id;
use lb_test_support::{get, metrics, wait_for, wait_until};
use serde_json::{Value, json};

use super::{Stand, taken};

/// The servers' path with a body; requests for it are not counted.
const PROBE: &str = "[strategy.probe]\npath = \"/metrics\"\n";

// === impl Stand: probes ===

impl Stand {
    /// The sum of a counter of the pool's probes.
    fn probes(&self, counter: &str, label: &str) -> f64 {
        metrics::sum(&get(self.bench.lb.admin, "/metrics").body, counter, &[label])
    }

    /// Sends a request with these probes. Returns the report of the last one, when so many have ended.
    fn probed_after(&self, probes: &str, count: u64) -> Value {
        assert_eq!(self.send("GET", &[&format!("x-probe: {probes}")], "").status, 200);
        let told = wait_for("the probes to end", || {
            let told = self.told();
            (told["counts"]["probes"].as_u64() >= Some(count)).then_some(told)
        });
        assert_eq!(told["counts"]["probes"], count, "{told}");
        told["probed"].clone()
    }
}

fn probes_of_a_pick_are_sent_and_their_ends_arrive_whole(language: &'static str) {
    let mut stand = Stand::start(language);
    let skipped = |stand: &Stand, reason: &str| stand.probes("lb_probes_skipped_total", &format!("reason={reason:?}"));
    // Without a path none is sent.
    let warned = stand.change("round_robin", "");
    assert!(!warned["warnings"].to_string().contains("asks for probes"), "{warned}");
    let warned = stand.change(language, "");
    assert!(warned["warnings"].to_string().contains("set strategy.probe.path"), "{warned}");
    assert_eq!(stand.send("GET", &["x-probe: 1"], "").status, 200);
    stand.told_after(1);
    let report = stand.change(language, PROBE);
    assert_eq!(report["applied"], json!(["strategy.probe"]), "{report}");
    // Without its path again, the running strategy gets no answers any more.
    let warned = stand.change(language, "");
    assert!(warned["warnings"].to_string().contains("set strategy.probe.path"), "{warned}");
    stand.change(language, PROBE);

    let mut probed = stand.probed_after("1", 1);
    let [latency_ns, now_ns] = ["latency_ns", "now_ns"].map(|field| taken(&mut probed, field));
    let body = probed["body"].as_str().unwrap().to_owned();
    assert!(body.starts_with("# HELP "), "{body}");
    let length = taken(&mut probed, "body_length");
    assert_eq!(length, 1_024, "a longer body is cut: {probed}");
    let is_worker = if language == "C" { json!({ "is_worker": 1 }) } else { json!({}) };
    let mut expected = json!({
        "is_periodic": 0, "backend_id": backend_id("b2"), "has_slot": 1, "outcome": 0, "http_status": 200,
        "headers": ["2", null], "body": body,
    });
    expected.as_object_mut().unwrap().extend(is_worker.as_object().unwrap().clone());
    assert_eq!(probed, expected, "{language}");
    let told = stand.told();
    let started_ns = told["started"]["now_ns"].as_u64().unwrap();
    assert!(latency_ns > 0 && now_ns >= started_ns + latency_ns, "one clock: {told}");

    // Index 0 is valid, b3 (2) is not eligible, 7 is not in the list, 1 is named twice. A fifth one does not fit.
    stand.probed_after("0", 2);
    stand.probed_after("2711", 3);
    assert_eq!(skipped(&stand, "refused"), 3.0);
    let four_max = if language == "C" { 1.0 } else { 0.0 };
    stand.probed_after("10000", 5);
    assert_eq!(skipped(&stand, "refused"), 5.0 + four_max, "the SDK takes four at most");
    // Neither picks that the host refused nor dry ones have probes.
    assert_eq!(stand.send("GET", &["x-status: 2", "x-probe: 0"], "").status, 200);
    get(stand.bench.lb.admin, "/explain?header=x-probe%3A0");
    stand.told_after(6);
    assert_eq!(stand.told()["counts"]["probes"], 5);

    // A server that is gone.
    drop(stand.bench.servers.remove(1));
    let probed = stand.probed_after("1", 6);
    let end = ["outcome", "http_status", "latency_ns", "body", "headers"].map(|field| probed[field].clone());
    assert_eq!(end, [json!(1), json!(0), json!(0), json!(""), json!([null, null])], "{language}");
    assert_eq!(stand.probes("lb_probes_total", "outcome=\"ok\""), 5.0);
    assert_eq!(stand.probes("lb_probes_total", "outcome=\"connect_error\""), 1.0);
}

#[test]
fn probes_of_a_pick_are_sent_and_their_ends_arrive_whole_in_c() {
    probes_of_a_pick_are_sent_and_their_ends_arrive_whole("C");
}

#[test]
fn probes_of_a_pick_are_sent_and_their_ends_arrive_whole_in_rust() {
    probes_of_a_pick_are_sent_and_their_ends_arrive_whole("Rust");
}

fn a_panic_in_on_probe_is_counted(language: &'static str) {
    let stand = Stand::start(language);
    stand.change(language, "[strategy.probe]\npath = \"/status/418\"\n");
    assert_eq!(stand.send("GET", &["x-probe: 0"], "").status, 200);
    wait_until("the panic to be counted", || {
        let page = get(stand.bench.lb.admin, "/metrics").body;
        metrics::sum(&page, "lb_strategy_hook_panics_total", &["strategy=\"reporter\"", "hook=\"on_probe\""]) == 1.0
    });
    assert_eq!(stand.send("GET", &[], "").status, 200);
}

#[test]
fn a_panic_in_on_probe_is_counted_in_c() {
    a_panic_in_on_probe_is_counted("C");
}

#[test]
fn a_panic_in_on_probe_is_counted_in_rust() {
    a_panic_in_on_probe_is_counted("Rust");
}
