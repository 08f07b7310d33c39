//! What a strategy sees of its backends: weights, backups, labels, load reports, keys.

use std::collections::BTreeMap;

use lb_strategy_simulator::world::LoadReportsSection;
use lb_strategy_simulator::{Arrivals, Backends, Fault, FaultKind, Keys, Results, Time, World};

use serde_json::json;

use crate::common::{assert_near, run, run_with, world};

fn attempts(results: &Results) -> Vec<u64> {
    results.backends.iter().map(|backend| backend.attempts).collect()
}

/// One backend after the other with these weights, at 100 requests/s for 20 s.
fn with_weights(weights: &[u16]) -> World {
    let group = |weight: &u16| Backends { weight: *weight, concurrency: 0, ..Backends::default() };
    World {
        backends: weights.iter().map(group).collect(),
        cost: "exponential:10ms".parse().unwrap(),
        arrivals: Arrivals::Constant { rps: 100.0 },
        duration: Time::seconds(20),
        ..World::default()
    }
}

#[test]
fn weights_reach_the_strategy_and_a_weight_of_0_gets_nothing() {
    assert_eq!(attempts(&run("round_robin", &with_weights(&[5, 3, 2, 0]), 1)), [1_000, 600, 400, 0]);
}

#[test]
fn a_backup_serves_while_the_primaries_have_left() {
    let mut world = with_weights(&[1, 1, 1]);
    world.backends[2].backup = true;
    for backend in [1, 2] {
        world.faults.push(Fault::new(Time::seconds(10), backend, FaultKind::Remove).lasting(Time::seconds(5)));
    }
    assert_eq!(attempts(&run("round_robin", &world, 1)), [750, 750, 500]);
}

#[test]
fn a_strategy_that_picks_by_load_reports_gets_them_with_responses_or_by_polls() {
    let mut world = world(4, "exponential:10ms");
    world.backends[0].n = 3;
    world.backends.push(Backends { n: 1, speed: 0.25, ..world.backends[0].clone() });
    world.arrivals = Arrivals::Poisson { rps: 200.0 };
    world.duration = Time::seconds(30);
    let attempts_with = |enabled, poll_every_ms| {
        let reports = LoadReportsSection { enabled, poll_every_ms };
        let mut world = world.clone();
        world.lb.load_reports = Some(reports);
        attempts(&run("least_utilized", &world, 2))
    };
    let (none, with_responses, polled) = (attempts_with(false, 0), attempts_with(true, 0), attempts_with(false, 20));
    assert!(none != with_responses && none != polled && with_responses != polled, "reports change the picks");
    for attempts in [with_responses, polled] {
        assert!(attempts[3] * 5 < attempts.iter().sum(), "the slow one gets less than a fifth: {attempts:?}");
    }
}

#[test]
fn labels_reach_the_strategy() {
    let mut world = with_weights(&[1, 1]);
    for (group, zone) in world.backends.iter_mut().zip(["a", "b"]) {
        group.labels = BTreeMap::from([("zone".to_owned(), zone.to_owned())]);
    }
    assert_eq!(attempts(&run_with("zone_aware", &json!({"zone": "b"}), &world, 1)), [0, 2_000]);
}

#[test]
fn a_key_always_finds_its_backend_and_a_hot_key_makes_one_hot() {
    let mut world = with_weights(&[1; 8]);
    world.keys = Keys::Uniform { keys: 1 };
    let one = attempts(&run("consistent_hash", &world, 1));
    assert_eq!(one.iter().filter(|attempts| **attempts > 0).count(), 1, "{one:?}");
    world.keys = Keys::Course;
    assert!(run("consistent_hash", &world, 1).peak_to_mean() < 1.6);
    world.faults.push(Fault::new(Time::ZERO, 0, FaultKind::HotKey { share: 0.5 }));
    assert_near("peak", run("consistent_hash", &world, 1).peak_to_mean(), 0.5 * 8.0 + 0.5, 0.15);
}
