//! Simulated queues against closed forms: M/M/1, M/M/c and M/G/1, through a real strategy library.


use crate::common::{run, world};
use lb_strategy_simulator::{Arrivals, Time};

#[test]
fn a_single_server_with_exponential_service_is_the_queue_m_m_1() {
    let mut world = world(1, "exponential:10ms");
    world.arrivals = Arrivals::Poisson { rps: 70.0 };
    world.warm_up = Time::seconds(100);
    world.duration = Time::seconds(10_000);
    let results = run("round_robin", &world, 1);
    println!("{:?} {}", results.endings, results.latency.mean_ns() / 1e6);
}
