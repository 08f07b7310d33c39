//! Independent balancers: each sees only its own requests. The more there are, the less the least connections of one of
//! them say, so their choice tends to a random one.

use lb_strategy_simulator::{Arrivals, Time};

use crate::common::{run, world};

/// The mean time in an M/M/1 queue with the load below: the result of random choices, in milliseconds.
const RANDOM_MS: f64 = 10.0 / (1.0 - LOAD);
const LOAD: f64 = 0.8;

#[test]
fn least_connections_of_many_balancers_tend_to_random() {
    let mean_ms = |balancers: u32| {
        let mut world = world(20, "exponential:10ms");
        world.arrivals = Arrivals::Poisson { rps: 20.0 * 100.0 * LOAD };
        world.warm_up = Time::seconds(10);
        world.duration = Time::seconds(150);
        world.balancers = balancers;
        run("least_connections", &world, 9).latency.mean_ns() / 1e6
    };
    let curve = [1, 4, 16, 64].map(mean_ms);
    println!("{curve:?}");
    assert!(curve.is_sorted(), "each step loses something: {curve:?}");
    assert!(curve[0] < 12.5, "one balancer joins the shortest queue: {curve:?}");
    assert!(curve[2] > 0.5 * RANDOM_MS && curve[3] > 0.75 * RANDOM_MS && curve[3] < RANDOM_MS * 1.03, "{curve:?}");
}
