//! The open loop keeps its schedule with every server, and measures latency from the schedule.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use lb_test_support::{Hostile, wait_until};
use loadgen::load::{self, Arrivals, Cost, Keys, Plan, Stop};
use mock_server::{Change, Options, ServiceTime};

use crate::support::{mock, one, open, run};

#[test]
fn an_open_loop_sends_and_counts_every_scheduled_request() {
    let server = mock(Options::default());
    let outcome = run(open(server.addr, 500.0, Stop::AfterTime(Duration::from_millis(400))));
    let segment = one(outcome);
    assert_eq!((segment.due, segment.answered), (200, 200), "0, 2, 4, … below 400 ms");
    assert_eq!(server.stats().requests, 200);
    assert_eq!(segment.lag.len(), 200);
    let poisson = Plan {
        arrivals: Arrivals::Poisson { rps: 2_000.0 },
        threads: 2,
        ..open(server.addr, 1.0, Stop::AfterRequests(777))
    };
    assert_eq!(one(run(poisson)).answered, 777);
}

#[test]
fn a_stalled_server_does_not_stop_the_schedule_and_the_wait_is_in_the_latency() {
    let server = mock(Options::default());
    server.change(&Change { stall: Some(true), ..Change::default() }).unwrap();
    let running = load::start(open(server.addr, 1_000.0, Stop::AfterRequests(300))).unwrap();
    // All requests are in flight at the same time, so none waited for a response.
    wait_until("300 requests in flight", || server.stats().in_progress == 300);
    server.change(&Change { stall: Some(false), ..Change::default() }).unwrap();
    let segment = one(running.wait());
    assert_eq!((segment.ok(), segment.unsent), (300, 0));
    // The first was scheduled 299 ms before the last was sent, and there was no response before that.
    assert!(segment.latency.max() >= 299_000_000, "{}", segment.latency.max());
}

#[test]
fn requests_that_wait_for_a_connection_are_measured_from_their_scheduled_time() {
    let server = mock(Options { service_time: ServiceTime::Constant(Duration::from_millis(20)), ..Options::default() });
    let plan = Plan { connections: 1, ..open(server.addr, 1_000.0, Stop::AfterRequests(20)) };
    let segment = one(run(plan));
    assert_eq!((segment.ok(), server.stats().connections), (20, 1));
    // The server takes one request at a time, 20 ms each. All are due within 19 ms, so the last waits for 19 others.
    assert!(segment.latency.max() >= 380_000_000, "{}", segment.latency.max());
    let (latency, service) = (segment.latency.value_at_quantile(0.5), segment.service.value_at_quantile(0.5));
    assert!(latency >= service + 100_000_000, "latency {latency}, service time {service}");
}

#[test]
fn requests_over_the_limit_are_counted_and_not_sent() {
    let server = mock(Options::default());
    server.change(&Change { stall: Some(true), ..Change::default() }).unwrap();
    let plan = Plan { connections: 3, outstanding: 5, ..open(server.addr, 1_000.0, Stop::AfterRequests(50)) };
    let running = load::start(plan).unwrap();
    let handle = running.handle();
    wait_until("45 unsent", || handle.snapshot().total.unsent == 45);
    assert_eq!(server.stats().in_progress, 3);
    server.change(&Change { stall: Some(false), ..Change::default() }).unwrap();
    let segment = one(running.wait());
    assert_eq!((segment.due, segment.answered, segment.unsent, segment.sent), (50, 5, 45, 5));
    assert!((segment.failure_share() - 0.9).abs() < 1e-9);
}

#[test]
fn a_request_that_finds_no_connection_within_the_timeout_is_unsent() {
    let server = mock(Options::default());
    server.change(&Change { stall: Some(true), ..Change::default() }).unwrap();
    let plan = Plan {
        connections: 1,
        timeout: Duration::from_millis(200),
        ..open(server.addr, 1_000.0, Stop::AfterRequests(10))
    };
    let segment = one(run(plan));
    assert_eq!(segment.errors.total() + segment.unsent, 10);
    assert!(segment.errors.total() >= 1 && segment.unsent >= 1, "{segment:?}");
}

#[test]
fn the_same_seed_sends_the_same_keys_and_costs() {
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = heads.clone();
    let server = Hostile::start(move |_, wire| {
        while let Some(head) = wire.head() {
            seen.lock().unwrap().push(head);
            wire.write(b"HTTP/1.1 204 No Content\r\n\r\n");
        }
    });
    let sequence = |seed, threads| {
        let keys = Keys::Zipf { keys: 100, exponent: 1.1 };
        let cost = Cost::Exponential { mean: Duration::from_millis(10) };
        let plan = Plan { seed, threads, keys, cost, ..open(server.addr, 1_000.0, Stop::AfterRequests(50)) };
        assert_eq!(one(run(plan)).answered, 50);
        let mut heads = std::mem::take(&mut *heads.lock().unwrap());
        heads.sort(); // They come over several connections.
        heads
    };
    let first = sequence(1, 1);
    assert!(first.iter().all(|head| head.contains("x-key: 1") && head.contains("x-service-time-us: ")));
    assert_eq!(first, sequence(1, 1));
    assert_eq!(first, sequence(1, 2), "the sequence does not depend on the number of threads");
    assert_ne!(first, sequence(2, 1));
}

#[test]
fn the_windows_hold_all_requests_of_the_run() {
    let server = mock(Options::default());
    let plan = Plan {
        warm_up: Duration::from_millis(150),
        ..open(server.addr, 200.0, Stop::AfterTime(Duration::from_millis(350)))
    };
    let outcome = run(plan);
    let warm_up = outcome.warm_up.as_ref().expect("the run had a warm-up");
    assert_eq!((warm_up.due, outcome.segments[0].due), (30, 70));
    let sum = |of: fn(&load::Window) -> u64| outcome.windows.iter().map(of).sum::<u64>();
    assert_eq!((sum(|window| window.sent), sum(|window| window.ok)), (100, 100));
    // 20 requests in each window of 100 ms, by their scheduled time and not by the time of the response.
    let due: Vec<_> = outcome.windows.iter().map(|window| window.due).filter(|due| *due > 0).collect();
    assert_eq!(due, [20; 5]);
    let starts: Vec<_> = outcome.windows.iter().map(|window| window.start_ms).collect();
    assert!(starts.iter().enumerate().all(|(index, start)| *start == 100 * index as u64), "{starts:?}");
    assert!(outcome.windows.iter().all(|window| (window.ok > 0) == window.p99_ns.is_some()));
}

#[test]
fn connections_that_the_server_closes_without_notice_fail_no_request_that_may_be_resent() {
    let server = mock(Options { keep_alive_requests: 2, ..Options::default() });
    let plan = Plan { resend_closed: true, ..open(server.addr, 500.0, Stop::AfterRequests(200)) };
    let outcome = run(plan);
    let first_errors = outcome.first_errors.clone();
    let segment = one(outcome);
    assert_eq!((segment.ok(), segment.errors.total(), segment.sent), (200, 0, 200), "{first_errors:?}");
    assert!(server.stats().connections >= 100, "two responses on each connection");
}
