//! The setting of Linkerd's authors (2016): eleven backends of 167 ± 5 ms get 1,000 requests a second for a minute. One
//! backend responds in 2 s for half of it. Published: about 95 % good responses within 1 s with round robin, 99 % with
//! least loaded. The figures with more digits come from an independent simulation with five seeds.

use lb_strategy_simulator::{Arrivals, Backends, Fault, FaultKind, Results, Time, World};

use crate::common::{assert_near, run};

fn setting() -> World {
    let group = Backends { n: 11, concurrency: 0, ..Backends::default() };
    let delay = FaultKind::Delay { extra: Time::ms(1_833) };
    World {
        backends: vec![group],
        cost: "normal:167ms,5ms".parse().unwrap(),
        arrivals: Arrivals::Poisson { rps: 1_000.0 },
        warm_up: Time::seconds(2),
        duration: Time::seconds(60),
        timeout: Time::seconds(30),
        faults: vec![Fault::new(Time::seconds(15), 4, delay).lasting(Time::seconds(30))],
        ..World::default()
    }
}

/// The share of good responses within 1 s over five seeds, and the results of the first one.
fn within_a_second(strategy: &str) -> (f64, Results) {
    let results: Vec<Results> = (1..=5).map(|seed| run(strategy, &setting(), seed)).collect();
    let mean = results.iter().map(|results| results.good_within(Time::seconds(1))).sum::<f64>() / 5.0;
    (mean, results.into_iter().next().unwrap())
}

fn p99_ms(results: &Results) -> f64 {
    results.latency.quantile_ns(0.99) as f64 / 1e6
}

#[test]
fn round_robin_loses_one_of_22_requests() {
    let (share, first) = within_a_second("round_robin");
    // Exactly 1 − 0.5/11.
    assert!((share - 0.954545).abs() < 0.0005, "{share}");
    assert_near("p95", first.latency.quantile_ns(0.95) as f64 / 1e6, 180.0, 0.02);
    assert_near("p99", p99_ms(&first), 2_000.0, 0.01);
}

#[test]
fn least_loaded_loses_one_of_200_requests() {
    let (share, first) = within_a_second("least_connections");
    assert!((share - 0.99537).abs() < 0.0005, "{share}");
    assert_near("p99", p99_ms(&first), 180.0, 0.02);
    assert_near("p99.9", first.latency.quantile_ns(0.999) as f64 / 1e6, 2_000.0, 0.01);
    let (share, _) = within_a_second("two_choices");
    assert!((share - 0.99490).abs() < 0.0006, "{share}");
}
