//! Tests of Prequal: the rule of hot and cold, uses, the fallback, and closed loops with probes.

use std::sync::Arc;

use lb_strategy::abi::LbStrategyTable;
use lb_strategy_conformance::scorecard::{self, Check, Verdict};
use lb_strategy_conformance::{ClosedLoop, Requests, World, backend_id, json, properties, steadiness, strategy};

use super::*;

static TABLE: LbStrategyTable = lb_strategy::ffi::hooks::table::<Prequal>("0", "test");

fn instance() -> Arc<lb_strategy_conformance::Strategy> {
    strategy(&TABLE, &json!({})).unwrap()
}

fn choice(in_flight: f64, latency_ns: f64, is_hot: bool) -> Choice {
    Choice { place: 0, index: 0, is_hot, in_flight, latency_ns }
}

#[test]
fn has_the_properties_of_every_strategy() {
    for options in [json!({}), json!({ "probes": 0 }), json!({ "probes": 4, "pool": 2, "age_ms": 1, "quantile": 0 })] {
        properties::check_all(&TABLE, &options).unwrap();
    }
}

#[test]
fn keeps_what_it_declares() {
    let all = [Check::Expectation, Check::Fairness, Check::Weights, Check::Determinism, Check::Explain, Check::Hooks];
    for check in all {
        let row = scorecard::row(check, &TABLE, &json!({}), 1);
        assert_eq!(row.verdict, Verdict::Pass, "{row:?}");
    }
}

#[test]
fn no_backend_starves_and_one_that_fails_gets_one_request_in_a_hundred() {
    steadiness::check(&TABLE, &json!({}), 0.01).unwrap();
}

#[test]
fn cold_comes_before_hot_latency_decides_among_cold_and_requests_among_hot() {
    let order = [
        choice(5.0, 1.0, false),
        choice(0.0, 2.0, false),
        choice(1.0, 2.0, false),
        choice(6.0, 9.0, true),
        choice(7.0, 0.5, true),
        choice(7.0, 0.6, true),
    ];
    for (place, better) in order.iter().enumerate() {
        for worse in &order[place + 1..] {
            assert!(better.is_better_than(worse) && !worse.is_better_than(better));
        }
    }
}

#[test]
fn the_uses_follow_the_equation_of_the_paper() {
    // 2 / ((1 − 16/100) · 3 − 1) = 1.3158, as in the paper.
    for (probes, n, expected) in
        [(3.0, 100, 1.3158), (4.0, 1000, 1.0), (2.0, 100, 2.941), (3.0, 24, 8.0), (3.0, 3, 8.0)]
    {
        let prequal = Prequal::new(Options { probes, ..Options::default() }, Host::NONE).unwrap();
        prequal.set_sizes(n);
        let mean = (0..10_000).map(|received| f64::from(prequal.uses(received))).sum::<f64>() / 1e4;
        assert!((mean - expected).abs() < 0.01, "{n} backends: {mean} uses instead of {expected}");
    }
}

#[test]
fn without_probes_the_less_busy_of_two_is_picked() {
    let world = World::of(2);
    world.set_load(0, 1);
    let picker = world.picker(&instance()).unwrap();
    let mut requests = Requests::seeded(91);
    assert!((0..1000).all(|_| requests.ask().pick_backend(&picker) == Ok(1)));
}

/// The end of a probe of backend `b<number>`.
fn respond(picker: &lb_strategy_conformance::Picker, number: usize, in_flight: &str, latency_ms: &str) {
    picker.probe(&lb_strategy_conformance::Probe {
        worker: Some(0),
        backend_id: backend_id(&format!("b{number}")),
        outcome: Outcome::Ok,
        http_status: Some(200),
        latency_ns: 1_000_000,
        now_ns: 1,
        headers: &[Some(in_flight.as_bytes()), Some(latency_ms.as_bytes())],
        body: b"",
    });
}

#[test]
fn the_best_response_is_used_until_its_uses_end_and_dry_picks_use_none() {
    let picker = World::of(5).picker(&instance()).unwrap();
    [(0, "7"), (1, "5"), (2, "6")].into_iter().for_each(|(number, ms)| respond(&picker, number, "2", ms));
    let mut requests = Requests::seeded(93);
    let mut ask = || requests.ask().at(2);
    assert!((0..100).all(|_| ask().dry().pick_backend(&picker) == Ok(1)), "it tells the least latency");
    // The first pick adds a request and removes the oldest response, of b0. Now b1 is hot and b2 is cold.
    assert_eq!(ask().pick_backend(&picker), Ok(1));
    assert!((0..100).all(|_| ask().dry().pick_backend(&picker) == Ok(2)));
    respond(&picker, 2, "0", "not a number");
    assert_eq!(ask().pick_backend(&picker), Ok(2), "the time of the probe counts");
}

#[test]
fn without_a_told_number_the_requests_of_this_balancer_count() {
    let world = World::of(3);
    let picker = world.picker(&instance()).unwrap();
    (0..3).for_each(|number| respond(&picker, number, "0", "5"));
    respond(&picker, 1, "", "4");
    let mut requests = Requests::seeded(94);
    assert_eq!(requests.ask().at(2).dry().pick_backend(&picker), Ok(1));
    world.set_load(1, 9);
    assert_ne!(requests.ask().at(2).dry().pick_backend(&picker), Ok(1), "it is hot");
}

#[test]
fn without_told_numbers_a_backend_is_hot_only_with_more_requests_than_most() {
    let world = World::of(4);
    (0..4).for_each(|number| world.set_load(number, [1, 2, 1, 9][number]));
    let picker = world.picker(&instance()).unwrap();
    let mut requests = Requests::seeded(96);
    let mut probed = std::collections::HashSet::new();
    while probed.len() < 4 {
        let (_, probes) = requests.ask().at(2).pick_and_probe(&picker);
        probed.extend(probes.indexes().iter().copied());
    }
    // The threshold is 2, the third of these four.
    [(0, "7"), (1, "5"), (2, "6"), (3, "4")].into_iter().for_each(|(number, ms)| respond(&picker, number, "", ms));
    assert_eq!(requests.ask().at(2).dry().pick_backend(&picker), Ok(1), "the least latency of those that are cold");
}

#[test]
fn responses_that_are_old_or_failed_or_of_tried_backends_are_not_used() {
    let world = World::of(4);
    let picker = world.picker(&instance()).unwrap();
    let mut requests = Requests::seeded(95);
    // Only backend 3 is idle, so it is picked unless responses decide.
    (0..3).for_each(|number| world.set_load(number, 5));
    [0, 1].into_iter().for_each(|number| respond(&picker, number, "0", "5"));
    let mut backends = |at_ns: u64, tried: &[u32]| {
        let ask = |_| requests.ask().at(at_ns).tried(tried).dry().pick_backend(&picker).unwrap();
        (0..50).map(ask).collect::<std::collections::HashSet<_>>()
    };
    assert!(backends(2, &[]).is_subset(&[0, 1].into()));
    assert!(backends(2_000_000_000, &[]).contains(&3), "old");
    assert!(backends(2, &[1]).contains(&3), "one response is too few");
    assert!(!backends(2, &[1]).contains(&1));
}

/// The latency that a backend tells decides, although its own balancer has no request in flight.
#[test]
fn a_backend_that_tells_a_long_latency_is_avoided() {
    let mut pool = ClosedLoop::new(&instance(), World::of(10), 92).unwrap().clients(10);
    let mut service_ms = [50; 10];
    service_ms[3] = 400;
    pool.set_service_ms(&service_ms);
    pool.run(1_000).unwrap();
    let counts = pool.run(10_000).unwrap();
    assert!(counts[3] < 100, "{counts:?}");
}

#[test]
fn wrong_options_are_refused() {
    for wrong in [
        json!({ "probes": 4.5 }),
        json!({ "probes": -1 }),
        json!({ "pool": 1 }),
        json!({ "pool": 17 }),
        json!({ "age_ms": 0 }),
        json!({ "quantile": 1.1 }),
        json!({ "delta": 1 }),
    ] {
        assert!(strategy(&TABLE, &wrong).is_err(), "{wrong}");
    }
}
