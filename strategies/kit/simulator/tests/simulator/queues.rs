//! Simulated queues against closed forms, through a real strategy library: M/M/1, M/M/4, M/G/1 and Little's law.
//!
//! Tolerances: each run has half a million requests. Its mean then has a standard error of about 0.5 % at a load of 0.7
//! (correlation of neighbours included), so 2 % are four standard errors. Seeds are fixed.

use lb_strategy_simulator::{Arrivals, Backends, Results, Time, World};

use crate::common::{assert_near, run, world};

/// One backend of this concurrency at this load; a worker needs 10 ms on average.
fn queue(concurrency: u32, service: &str, load: f64) -> World {
    let group = Backends { concurrency, service: service.parse().unwrap(), ..Backends::default() };
    let rps = load * 100.0 * f64::from(concurrency);
    World {
        backends: vec![group],
        arrivals: Arrivals::Poisson { rps },
        warm_up: Time::seconds(100),
        duration: Time { ns: (500_000.0 / rps * 1e9) as u64 },
        ..World::default()
    }
}

fn mean_ms(results: &Results) -> f64 {
    results.latency.mean_ns() / 1e6
}

fn quantile_ms(results: &Results, quantile: f64) -> f64 {
    results.latency.quantile_ns(quantile) as f64 / 1e6
}

/// The probability that a request waits in M/M/c (Erlang's C).
fn erlang_c(servers: u32, load: f64) -> f64 {
    let offered = f64::from(servers) * load;
    let mut term = 1.0;
    let mut sum = 1.0;
    for n in 1..servers {
        term *= offered / f64::from(n);
        sum += term;
    }
    let all = term * offered / f64::from(servers) / (1.0 - load);
    all / (sum + all)
}

#[test]
fn one_worker_with_exponential_service_is_the_queue_m_m_1() {
    for (load, seed) in [(0.5, 1), (0.7, 2)] {
        let results = run("round_robin", &queue(1, "exponential:10ms", load), seed);
        // The time in an M/M/1 queue is exponential.
        let mean = 10.0 / (1.0 - load);
        assert_near("mean", mean_ms(&results), mean, 0.02);
        for quantile in [0.5, 0.9, 0.99] {
            assert_near("quantile", quantile_ms(&results, quantile), -mean * (1.0_f64 - quantile).ln(), 0.03);
        }
        let backend = &results.backends[0];
        assert_near("utilisation", backend.in_service_mean, load, 0.01);
        assert_near("queue", backend.queued_mean, load * load / (1.0 - load), 0.03);
    }
}

#[test]
fn four_workers_with_one_queue_are_the_queue_m_m_4() {
    let load = 0.7;
    let results = run("round_robin", &queue(4, "exponential:10ms", load), 3);
    let wait = erlang_c(4, load) * 10.0 / (4.0 * (1.0 - load));
    assert_near("Erlang's C at 0.7", erlang_c(4, load), 0.4287, 1e-3);
    assert_near("mean", mean_ms(&results), 10.0 + wait, 0.02);
}

/// The loss of M/M/1/K is (1 − ρ)·ρ^K / (1 − ρ^(K + 1)).
#[test]
fn a_full_queue_of_a_backend_refuses_the_share_of_m_m_1_k() {
    let load = 0.8_f64;
    let mut world = queue(1, "exponential:10ms", load);
    world.backends[0].queue = 4;
    let results = run("round_robin", &world, 7);
    let lost = results.endings.errors as f64 / results.requests as f64;
    assert_near("K = 5", lost, (1.0 - load) * load.powi(5) / (1.0 - load.powi(6)), 0.03);
}

/// Pollaczek and Khinchine: the mean wait is λ·E[S²] / (2·(1 − ρ)), so (1 + c²)/2 times that of M/M/1.
#[test]
fn one_worker_with_any_service_is_the_queue_m_g_1() {
    let load = 0.7;
    // With their squared coefficients of variation. The median makes the mean of the lognormal law 10 ms.
    let lognormal = format!("lognormal:{}ms,0.8", 10.0 * (-0.32_f64).exp());
    for (service, variation) in [
        ("constant:10ms", 0.0),
        (lognormal.as_str(), (0.64_f64).exp() - 1.0),
        // 5 ms, and 55 ms for a tenth.
        ("bimodal:5ms,55ms,0.1", 0.1 * 0.9 * 50.0 * 50.0 / 100.0),
        ("exponential:10ms", 1.0),
    ] {
        let results = run("round_robin", &queue(1, service, load), 4);
        let wait = load / (1.0 - load) * 10.0 * (1.0 + variation) / 2.0;
        assert_near(service, mean_ms(&results), 10.0 + wait, 0.025);
    }
}

#[test]
fn the_mean_number_in_the_system_is_the_rate_times_the_mean_time() {
    let mut world = world(5, "lognormal:10ms,0.7");
    world.arrivals = Arrivals::Poisson { rps: 300.0 };
    world.duration = Time::seconds(600);
    let results = run("least_connections", &world, 5);
    let in_system: f64 = results.backends.iter().map(|backend| backend.in_service_mean + backend.queued_mean).sum();
    let rate = results.requests as f64 / results.measured.as_seconds();
    assert_near("Little's law", in_system, rate * mean_ms(&results) / 1e3, 0.003);
}

/// Mitzenmacher (1996): in the limit of many servers the mean time is Σ λ^(2^i − 2), in units of the service time.
#[test]
fn two_choices_among_many_servers_have_the_mean_of_their_limit() {
    let load = 0.7_f64;
    let mut world = world(200, "exponential:10ms");
    world.arrivals = Arrivals::Poisson { rps: 200.0 * 100.0 * load };
    world.warm_up = Time::seconds(2);
    world.duration = Time::seconds(25);
    let results = run("two_choices", &world, 6);
    let limit: f64 = (1..8).map(|i| load.powi((1 << i) - 2)).sum();
    assert_near("two choices", mean_ms(&results), 10.0 * limit, 0.02);
}
