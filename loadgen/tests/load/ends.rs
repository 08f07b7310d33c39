//! The end of a run: by itself, by a request to finish, or by an abort. Also its memory, and calibration.

use std::time::Duration;

use lb_test_support::wait_until;
use loadgen::load::{self, CalibrationError, Goal, Plan, Stop};
use mock_server::{Change, Options, ServiceTime};

use crate::support::{adds_up, closed, mock, one, open, run};

#[test]
fn an_aborted_run_gives_its_partial_counts_and_is_marked() {
    let server = mock(Options::default());
    // No request may fail, however long this takes: few connections, no reachable limit, a long time-out.
    let plan = open(server.addr, 1_000.0, Stop::WhenTold);
    let plan = Plan { connections: 50, outstanding: 600_000, timeout: Duration::from_secs(3600), ..plan };
    let running = load::start(plan).unwrap();
    let handle = running.handle();
    wait_until("100 responses", || handle.snapshot().total.ok >= 100);
    server.change(&Change { stall: Some(true), ..Change::default() }).unwrap();
    wait_until("20 requests without a response", || server.stats().in_progress >= 20);
    handle.abort();
    let outcome = running.wait();
    assert!(outcome.aborted);
    let segment = one(outcome);
    adds_up(&segment);
    assert!(segment.ok() >= 100 && segment.unfinished >= 20, "{segment:?}");
    assert_eq!(segment.failure_share(), 0.0, "an aborted request is no failure");
}

#[test]
fn a_run_that_is_told_to_finish_waits_for_requests_in_flight() {
    let server =
        mock(Options { service_time: ServiceTime::Constant(Duration::from_millis(100)), ..Options::default() });
    let running = load::start(open(server.addr, 200.0, Stop::WhenTold)).unwrap();
    wait_until("requests in flight", || server.stats().in_progress >= 5);
    running.handle().finish();
    let outcome = running.wait();
    assert!(!outcome.aborted);
    let segment = one(outcome);
    assert_eq!((segment.unfinished, segment.answered), (0, server.stats().requests));
}

#[test]
fn a_dropped_run_ends_its_threads() {
    let server = mock(Options::default());
    let running = load::start(open(server.addr, 100.0, Stop::WhenTold)).unwrap();
    wait_until("a connection", || server.stats().open_connections > 0);
    drop(running);
    wait_until("no connection", || server.stats().open_connections == 0);
}

#[test]
fn a_run_without_an_end_shows_its_progress() {
    let server = mock(Options { id: "live".to_owned(), ..Options::default() });
    let running = load::start(open(server.addr, 500.0, Stop::WhenTold)).unwrap();
    let handle = running.handle();
    wait_until("two windows with responses", || handle.windows(0).iter().filter(|window| window.ok > 0).count() >= 2);
    let snapshot = handle.snapshot();
    assert_eq!(snapshot.backends, ["live"]);
    let in_windows: u64 = handle.windows(0)[..snapshot.windows].iter().map(|window| window.ok).sum();
    assert_eq!(snapshot.backend_counts, [snapshot.total.ok], "every response has its backend");
    assert!(snapshot.total.ok >= in_windows, "{} and {in_windows}", snapshot.total.ok);
    assert!(!snapshot.latency.is_empty() && snapshot.total.sent >= snapshot.total.ok);
    assert!(handle.windows(snapshot.windows + 1_000_000).is_empty());
}

/// The memory of the outcome in bytes, without the time series.
fn memory(outcome: &load::Outcome) -> usize {
    let histograms = outcome.segments.iter().flat_map(|one| [&one.latency, &one.service, &one.failed, &one.lag]);
    histograms.map(|histogram| histogram.distinct_values() * size_of::<u64>()).sum()
}

#[test]
fn ten_times_the_requests_take_no_more_memory() {
    let server = mock(Options::default());
    let few = memory(&run(closed(server.addr, 4, 2_000, "/home")));
    let many = memory(&run(closed(server.addr, 4, 20_000, "/home")));
    // A histogram up to one hour has at most 26 · 1024 counters, for any number of samples.
    let most = 4 * 27 * 1024 * size_of::<u64>();
    assert!(few <= most && many <= most, "{few} and {many} of at most {most} bytes");
}

#[test]
fn calibration_never_exceeds_the_rate_of_a_closed_loop() {
    // The server takes one request at a time, 1 ms each. This limit is far below that of the machine.
    let one_ms = ServiceTime::Constant(Duration::from_millis(1));
    let server = mock(Options { service_time: one_ms, concurrency: 1, ..Options::default() });
    let plan = closed(server.addr, 1, 1, "/home");
    let mut rates = Vec::new();
    // A goal that is always met, so the speed of the machine does not matter.
    let any = Goal { p99: Duration::from_secs(60), failures: 1.0 };
    let found = load::calibrate(&plan, &any, Duration::from_secs(4), |_, rate| rates.push(rate)).unwrap();
    assert_eq!(
        (rates[0], rates.len()),
        (None, found.steps.len() + 1),
        "a closed loop first, then one run for each step"
    );
    assert!((found.steps[0].asked_rps / found.saturated_rps - 0.8).abs() < 1e-9);
    // The reached rate depends on the machine. At the limit, the result is bracketed.
    let part = found.capacity_rps / found.saturated_rps;
    assert!(part < 1.0 + 1e-9 && found.is_bracketed == (part > 1.0 - 1e-9), "{found:?}");
    // A goal that is never met.
    let none = Goal { p99: Duration::ZERO, ..any };
    let error = load::calibrate(&plan, &none, Duration::from_secs(4), |_, _| {}).unwrap_err();
    assert!(error.to_string().contains("p99"), "{error}");
}

#[test]
fn a_failed_calibration_gives_the_reason() {
    let gone = mock(Options::default()).addr;
    let error = load::calibrate(&closed(gone, 1, 1, "/"), &Goal::default(), Duration::from_secs(3), |_, _| {});
    assert!(matches!(&error, Err(CalibrationError::NoAnswer(why)) if why.contains("refused")), "{error:?}");
    let server = mock(Options::default());
    let plan = closed(server.addr, 1, 1, "/home");
    let stopped = load::calibrate(&plan, &Goal::default(), Duration::from_secs(30), |handle, _| handle.abort());
    assert!(matches!(stopped, Err(CalibrationError::Aborted)));
    let short = load::calibrate(&plan, &Goal::default(), Duration::from_secs(1), |_, _| {});
    assert!(matches!(short, Err(CalibrationError::Budget(_))));
}

#[test]
fn an_invalid_plan_does_not_start() {
    let server = mock(Options::default());
    let plan = Plan { outstanding: 0, ..open(server.addr, 1.0, Stop::WhenTold) };
    assert!(load::start(plan).unwrap_err().to_string().contains("outstanding"));
}
