//! Probes: what a strategy learns by them, and when none are sent.

use lb_strategy_simulator::world::ProbeSection;
use lb_strategy_simulator::{Arrivals, Fault, FaultKind, Time, World};

use crate::common::{assert_near, run, world};

/// 16 balancers, each of which sees a sixteenth of the requests.
fn shared_pool() -> World {
    let mut world = world(20, "exponential:10ms");
    world.arrivals = Arrivals::Poisson { rps: 1_600.0 };
    world.warm_up = Time::seconds(5);
    world.duration = Time::seconds(30);
    world.network = "constant:0.1ms".parse().unwrap();
    world.balancers = 16;
    world.lb.probe = Some(ProbeSection::default());
    world
}

#[test]
fn a_pick_sends_two_probes_unless_they_are_on_their_way() {
    let world = shared_pool();
    assert_eq!(run("least_connections", &world, 1).probes, 0);
    let probed = run("least_loaded_probed", &world, 1);
    let per_request = probed.probes as f64 * 30.0 / 35.0 / probed.requests as f64;
    assert!((1.9..=2.02).contains(&per_request), "{per_request}");
    assert_eq!(probed.endings.good, probed.requests);
    let mut far = world;
    far.network = "constant:100ms".parse().unwrap();
    // One of each balancer to each backend in 200 ms, for 35 s.
    assert!(run("least_loaded_probed", &far, 1).probes <= 16 * 20 * 5 * 36);
}

#[test]
fn without_the_section_no_probe_is_sent() {
    let mut world = shared_pool();
    world.lb.probe = None;
    assert_eq!(run("least_loaded_probed", &world, 1).probes, 0);
    assert_eq!(run("probed_latency", &world, 1).probes, 0);
}

#[test]
fn periodic_probes_come_at_their_interval_and_those_of_a_silent_backend_at_their_time_out() {
    let mut world = world(4, "constant:1ms");
    world.arrivals = Arrivals::Poisson { rps: 100.0 };
    world.duration = Time::seconds(20);
    world.lb.probe = Some(ProbeSection { timeout_ms: 400 });
    let results = run("probed_latency", &world, 2);
    // Its interval is 100 ms.
    assert_near("probes", results.probes as f64, 4.0 * 200.0, 0.02);
    world.timeout = Time::seconds(1);
    world.faults.push(Fault::new(Time::ZERO, 2, FaultKind::Hang));
    let silent = run("probed_latency", &world, 2);
    assert_near("probes", silent.probes as f64, 3.0 * 200.0 + 20.0 / 0.41, 0.02);
    let share = silent.backends[1].attempts as f64 / silent.requests as f64;
    assert!(share < 0.05, "the strategy avoids it: {share}");
}
