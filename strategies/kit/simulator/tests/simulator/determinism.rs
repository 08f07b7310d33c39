//! One seed gives the same results, byte by byte: in one process twice, and in two processes with other addresses.

use std::process::Command;

use lb_strategy_simulator::world::{HealthSection, OutlierSection, RetrySection, SlowStartSection};
use lb_strategy_simulator::{Arrivals, Fault, FaultKind, Keys, Time, World};

use crate::common::{run, world};

/// Set in a child: the strategy whose results it prints.
const STRATEGY: &str = "LB_SIMULATED_STRATEGY";

/// A world in which everything that can happen happens.
fn busy() -> World {
    let mut world = world(6, "lognormal:10ms,0.5");
    world.arrivals = Arrivals::Bursts { low: 100.0, high: 500.0, period: Time::seconds(2), share: 0.5 };
    world.keys = Keys::Zipf { keys: 1_000, exponent: 1.1 };
    world.network = "exponential:1ms".parse().unwrap();
    world.timeout = Time::ms(500);
    world.duration = Time::seconds(12);
    world.balancers = 3;
    world.sample = Time::ms(100);
    world.lb.retry = Some(RetrySection { attempts: 3, attempt_timeout_ms: 200, ..RetrySection::default() });
    world.lb.outlier = Some(OutlierSection { eject_ms: 2_000, ..OutlierSection::default() });
    world.lb.health = Some(HealthSection { interval_ms: 500, ..HealthSection::default() });
    world.lb.slow_start = Some(SlowStartSection { window_ms: 2_000, ..SlowStartSection::default() });
    let fault =
        |at_ms: u64, backend: u32, kind: FaultKind| Fault::new(Time::ms(at_ms), backend, kind).lasting(Time::ms(2_500));
    world.faults = vec![
        fault(500, 1, FaultKind::Stall),
        fault(1_000, 2, FaultKind::Kill),
        fault(2_000, 3, FaultKind::Errors { rate: 0.5, status: 503, checks: true }),
        fault(3_000, 4, FaultKind::Remove),
        fault(5_000, 5, FaultKind::Reset { rate: 0.3 }),
        fault(6_000, 6, FaultKind::Hang),
        fault(8_000, 0, FaultKind::HotKey { share: 0.5 }),
    ];
    world
}

#[test]
fn a_seed_repeats_its_results_and_another_one_does_not() {
    let once = run("least_connections", &busy(), 7).to_json();
    assert_eq!(once, run("least_connections", &busy(), 7).to_json());
    assert!(once != run("least_connections", &busy(), 8).to_json());
}

/// Prints the results if it runs as the child of the next test.
#[test]
fn a_child_prints_its_results() {
    if let Ok(strategy) = std::env::var(STRATEGY) {
        println!("results: {}", run(&strategy, &busy(), 7).to_json());
    }
}

#[test]
fn every_shipped_strategy_repeats_its_results_in_another_process() {
    for strategy in lb_strategy_built::shipped() {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "determinism::a_child_prints_its_results", "--nocapture"])
            .env(STRATEGY, strategy)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let theirs = text.lines().find_map(|line| Some(line.split_once("results: ")?.1));
        let theirs = theirs.unwrap_or_else(|| panic!("{strategy}: {text}"));
        let ours = run(strategy, &busy(), 7);
        assert!(ours.requests > 3_000 && ours.retries > 0 && ours.ejections > 0, "{strategy}: the world is too quiet");
        assert!(ours.to_json() == theirs, "{strategy}: the results of two processes differ");
    }
}
