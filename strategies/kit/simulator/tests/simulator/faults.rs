//! Faults of every kind: what clients see, and what the rules of lb make of it.

use lb_strategy_simulator::world::{
    HealthSection, OutlierSection, PanicSection, QueueSection, RetrySection, SlowStartSection,
};
use lb_strategy_simulator::{Arrivals, Backends, Fault, FaultKind, Results, Stopped, Time, World};

use crate::common::{assert_near, run, world};

/// Three backends of 10 ms with spare capacity, for 20 s at 60 requests/s.
fn three() -> World {
    let mut world = world(3, "constant:10ms");
    world.arrivals = Arrivals::Poisson { rps: 60.0 };
    world.duration = Time::seconds(20);
    world.timeout = Time::seconds(2);
    world
}

fn with(fault: FaultKind) -> World {
    let mut world = three();
    world.faults.push(Fault::new(Time::ZERO, 2, fault));
    world
}

fn share(part: u64, results: &Results) -> f64 {
    part as f64 / results.requests as f64
}

#[test]
fn every_request_has_one_end() {
    for kind in [
        FaultKind::Stall,
        FaultKind::Hang,
        FaultKind::Refuse,
        FaultKind::Kill,
        FaultKind::Errors { rate: 0.5, status: 500, checks: false },
        FaultKind::Reset { rate: 0.5 },
        FaultKind::Slow { factor: 100.0 },
        FaultKind::Delay { extra: Time::seconds(3) },
    ] {
        let results = run("round_robin", &with(kind), 1);
        let ends = results.endings;
        let sum = ends.good + ends.errors + ends.timed_out + ends.refused + ends.reset + ends.no_backend + ends.busy;
        assert_eq!((sum, ends.unfinished), (results.requests, 0), "{kind:?}");
        assert!(results.requests > 1_000 && ends.good < results.requests, "{kind:?}: the fault shows");
    }
}

#[test]
fn without_rules_a_third_of_the_requests_shares_the_fault() {
    let ends = |kind| run("round_robin", &with(kind), 1);
    let refused = ends(FaultKind::Refuse);
    assert_near("refused", share(refused.endings.refused, &refused), 1.0 / 3.0, 0.01);
    let hangs = ends(FaultKind::Hang);
    assert_near("timed out", share(hangs.endings.timed_out, &hangs), 1.0 / 3.0, 0.01);
    let half = ends(FaultKind::Errors { rate: 0.5, status: 500, checks: false });
    assert_near("errors", share(half.endings.errors, &half), 1.0 / 6.0, 0.1);
}

#[test]
fn a_backend_that_fails_at_once_is_a_sinkhole_for_least_connections() {
    let sinkhole = FaultKind::Errors { rate: 1.0, status: 500, checks: false };
    let mut world = with(sinkhole);
    world.arrivals = Arrivals::Poisson { rps: 200.0 };
    let errors = |strategy, world: &World| {
        let results = run(strategy, world, 2);
        share(results.endings.errors, &results)
    };
    assert_near("round robin", errors("round_robin", &world), 1.0 / 3.0, 0.01);
    assert!(errors("least_connections", &world) > 0.5, "{}", errors("least_connections", &world));
    world.lb.outlier = Some(OutlierSection::default());
    assert!(errors("least_connections", &world) < 0.01, "ejected after five failures in a row");
}

#[test]
fn retries_hide_a_refusing_backend_within_their_budget() {
    let mut world = with(FaultKind::Refuse);
    world.lb.retry = Some(RetrySection { budget_percent: 100, ..RetrySection::default() });
    let results = run("round_robin", &world, 3);
    assert_eq!(results.endings.good, results.requests);
    assert_near("retries", results.retries as f64, results.requests as f64 / 3.0, 0.02);
    world.lb.retry = Some(RetrySection { budget_percent: 0, budget_reserve_per_s: 0, ..RetrySection::default() });
    let without = run("round_robin", &world, 3);
    assert_eq!((without.retries, without.retries_denied), (0, without.endings.refused));
    world.idempotent = false;
    world.faults[0].kind = FaultKind::Reset { rate: 1.0 };
    world.lb.retry = Some(RetrySection { budget_percent: 100, ..RetrySection::default() });
    let post = run("round_robin", &world, 3);
    assert_eq!(post.retries, 0, "a backend may have processed these requests");
}

#[test]
fn health_checks_take_a_dead_backend_out_and_bring_it_back() {
    let mut world = three();
    world.faults.push(Fault::new(Time::seconds(5), 2, FaultKind::Kill).lasting(Time::seconds(5)));
    world.lb.health = Some(HealthSection { interval_ms: 200, ..HealthSection::default() });
    let results = run("round_robin", &world, 4);
    assert_eq!(results.health_changes, 2);
    // Down after three checks, of which two come at a quarter of the interval: within 0.3 s of 20 requests a second.
    assert!((1..=8).contains(&results.endings.refused), "{:?}", results.endings);
    let shares: Vec<f64> = results.backends.iter().map(|backend| share(backend.attempts, &results)).collect();
    assert_near("the dead one misses a quarter of its share", shares[1], 0.25, 0.08);
}

#[test]
fn below_the_panic_threshold_all_backends_serve() {
    let mut world = world(5, "constant:10ms");
    world.arrivals = Arrivals::Poisson { rps: 60.0 };
    for backend in [1, 2, 3] {
        world.faults.push(Fault::new(Time::ZERO, backend, FaultKind::Errors { rate: 1.0, status: 503, checks: true }));
    }
    world.lb.health = Some(HealthSection { interval_ms: 200, ..HealthSection::default() });
    let quiet = run("round_robin", &world, 5);
    world.lb.panic = Some(PanicSection::default());
    let panic = run("round_robin", &world, 5);
    assert!(share(quiet.endings.errors, &quiet) < 0.05 && share(panic.endings.errors, &panic) > 0.5);
}

#[test]
fn a_joining_backend_starts_slowly_and_a_leaving_one_finishes_its_requests() {
    let mut world = three();
    world.backends[0].n = 2;
    world.backends.push(Backends { n: 1, joins: Some(Time::seconds(10)), ..world.backends[0].clone() });
    world.sample = Time::seconds(1);
    let at_once = run("round_robin", &world, 6);
    world.lb.slow_start = Some(SlowStartSection { window_ms: 5_000, ..SlowStartSection::default() });
    let slowly = run("round_robin", &world, 6);
    let first_two_seconds = |results: &Results| -> u32 {
        let samples = results.samples.iter().filter(|sample| (11..=12).contains(&(sample.at.ns / 1_000_000_000)));
        samples.map(|sample| sample.loads[2].2).sum()
    };
    assert!(first_two_seconds(&slowly) * 2 < first_two_seconds(&at_once));
    assert_eq!(
        at_once.backends[2].attempts + at_once.backends[1].attempts + at_once.backends[0].attempts,
        at_once.requests
    );
    let mut world = three();
    world.backends[0].service = "constant:500ms".parse().unwrap();
    world.backends[0].concurrency = 0;
    world.backends[0].leaves = Some(Time::seconds(10));
    let left = run("round_robin", &world, 6);
    assert_near("the pool is empty from then on", share(left.endings.no_backend, &left), 0.5, 0.06);
    assert_eq!(left.endings.good + left.endings.no_backend, left.requests);
}

#[test]
fn requests_wait_in_the_queue_while_all_backends_are_full() {
    let mut world = three();
    world.backends[0].concurrency = 0;
    world.lb.requests_in_flight_per_backend = 1;
    world.arrivals = Arrivals::Poisson { rps: 210.0 };
    let refused = run("round_robin", &world, 7);
    assert!(refused.endings.busy > 100, "without a queue they are refused");
    world.lb.queue = Some(QueueSection::default());
    let queued = run("round_robin", &world, 7);
    assert_eq!(queued.endings.good, queued.requests);
    // Caps of one make the pool a queue with three workers. M/D/3 waits about half as long as M/M/3.
    let wait_ms = (queued.latency.mean_ns() - 10e6) / 1e6;
    assert!((1.9..3.6).contains(&wait_ms), "{wait_ms}");
    assert!(queued.backends.iter().all(|backend| backend.load_max == 1), "no cap was passed");
}

#[test]
fn a_wait_is_no_longer_than_its_limit_and_a_full_queue_refuses() {
    let mut world = three();
    world.backends[0].concurrency = 0;
    world.lb.requests_in_flight_per_backend = 1;
    world.arrivals = Arrivals::Poisson { rps: 450.0 };
    world.lb.queue = Some(QueueSection { length: 1_000, wait_ms: 50 });
    let results = run("round_robin", &world, 10);
    // A third of the requests is more than 300 a second can serve.
    assert_near("refused", share(results.endings.busy, &results), 1.0 / 3.0, 0.05);
    assert!(results.waits.quantile_ns(1.0) <= 50_100_000 && results.waits.quantile_ns(0.5) > 40_000_000);
    world.lb.queue = Some(QueueSection { length: 3, wait_ms: 10_000 });
    let short = run("round_robin", &world, 10);
    assert!(short.waits.quantile_ns(1.0) <= 20_100_000, "three wait for three backends of 10 ms each");
    assert_near("refused", share(short.endings.busy, &short), 1.0 / 3.0, 0.1);
}

#[test]
fn an_overload_without_bound_ends_and_is_told() {
    let mut world = three();
    world.timeout = Time::ZERO;
    world.arrivals = Arrivals::Poisson { rps: 900.0 };
    world.unfinished_max = 2_000;
    assert_eq!(world.load(), Some(3.0));
    let results = run("round_robin", &world, 8);
    let Some(Stopped::Overload { unfinished, after }) = results.stopped else { panic!("it did not stop") };
    assert_eq!(unfinished, 2_001);
    assert_near("600 requests more a second", after.as_seconds(), 3.33, 0.05);
    assert_eq!(results.endings.unfinished, 2_001);
}

#[test]
fn clients_of_a_closed_loop_wait_for_their_responses() {
    let mut world = three();
    world.backends[0].concurrency = 0;
    world.arrivals = Arrivals::Closed { clients: 6, think: "none".parse().unwrap() };
    world.requests = 3_000;
    world.duration = Time::ZERO;
    let results = run("round_robin", &world, 9);
    assert_eq!((results.requests, results.endings.good), (3_000, 3_000));
    assert_near("six clients, 10 ms each", results.measured.as_seconds(), 5.0, 0.01);
    assert!(results.backends.iter().all(|backend| backend.attempts == 1_000));
}
