//! Cuts: one run has many segments, each with its own counts.

use std::time::{Duration, Instant};

use lb_test_support::wait_until;
use loadgen::load::{self, Arrivals, BadCut, Cut, Plan, Stop};
use mock_server::Options;

use crate::support::{adds_up, closed, mock, open};

fn at(at: Instant) -> Cut {
    Cut { at, seed: None, arrivals: None }
}

#[test]
fn requests_belong_to_the_segment_of_their_scheduled_time_and_none_is_lost() {
    let server = mock(Options::default());
    let running = load::start(open(server.addr, 1_000.0, Stop::AfterTime(Duration::from_millis(1_200)))).unwrap();
    let (handle, begin) = (running.handle(), Instant::now());
    let ahead = Duration::from_millis(500);
    let cuts: Vec<_> = (0..3).map(|number| begin + ahead + Duration::from_millis(200 * number)).collect();
    for (number, cut) in cuts.iter().enumerate() {
        assert_eq!(handle.cut(at(*cut)).unwrap(), number + 1);
    }
    let is_ahead = Instant::now() < cuts[0];
    let cuts_ns: Vec<_> = cuts.iter().map(|cut| handle.ns_at(*cut)).collect();
    let outcome = running.wait();
    outcome.segments.iter().for_each(adds_up);
    assert_eq!(outcome.segments.len(), 4);
    assert_eq!(outcome.segments.iter().map(|segment| segment.due).sum::<u64>(), 1_200);
    // Each segment has the scheduled number of requests, unless a slow machine made the cuts too late.
    assert!(!is_ahead || (outcome.segments[1].due, outcome.segments[2].due) == (200, 200), "{outcome:?}");
    for (number, cut_ns) in cuts_ns.iter().enumerate() {
        assert_eq!((outcome.segments[number].to_ns, outcome.segments[number + 1].from_ns), (*cut_ns, *cut_ns));
    }
    assert_eq!(server.stats().requests, 1_200);
    assert_eq!(outcome.total().answered, 1_200);
}

#[test]
fn a_cut_may_change_the_rate_and_restart_the_sequence() {
    let server = mock(Options::default());
    let running = load::start(open(server.addr, 500.0, Stop::AfterTime(Duration::from_millis(1_200)))).unwrap();
    let (handle, begin) = (running.handle(), Instant::now() + Duration::from_millis(500));
    let ms = Duration::from_millis;
    let faster = Some(Arrivals::Poisson { rps: 2_000.0 });
    handle.cut(Cut { at: begin, seed: Some(7), arrivals: faster }).unwrap();
    handle.cut(Cut { at: begin + ms(200), seed: Some(7), arrivals: None }).unwrap();
    handle.cut(at(begin + ms(400))).unwrap();
    let is_ahead = Instant::now() < begin;
    let outcome = running.wait();
    outcome.segments.iter().for_each(adds_up);
    let due: Vec<_> = outcome.segments.iter().map(|segment| segment.due).collect();
    assert_eq!(outcome.total().answered, server.stats().requests);
    // The same seed over the same time gives the same schedule, unless a slow machine made the cuts too late.
    assert!(!is_ahead || (due[1] == due[2] && due[1] > 300 && due[1] < 500), "{due:?}");
}

#[test]
fn a_closed_loop_can_be_cut_too() {
    let server = mock(Options::default());
    let running = load::start(Plan { stop: Stop::WhenTold, ..closed(server.addr, 4, 1, "/home") }).unwrap();
    let handle = running.handle();
    wait_until("some responses", || handle.snapshot().total.ok > 100);
    handle.cut(at(Instant::now() + Duration::from_millis(5))).unwrap();
    let before = handle.snapshot().total.ok;
    wait_until("more responses", || handle.snapshot().windows >= 3 && handle.snapshot().total.ok > before + 100);
    handle.finish();
    let outcome = running.wait();
    assert!(outcome.segments.iter().all(|segment| segment.answered > 0));
    assert_eq!(outcome.total().answered, server.stats().requests);
}

#[test]
fn invalid_cuts_and_cuts_out_of_order_are_refused() {
    let server = mock(Options::default());
    let running = load::start(open(server.addr, 10.0, Stop::WhenTold)).unwrap();
    let (handle, now) = (running.handle(), Instant::now() + Duration::from_secs(60));
    handle.cut(at(now)).unwrap();
    assert!(matches!(handle.cut(at(now)), Err(BadCut::Order { .. })));
    let closed_loop = Some(Arrivals::Closed { connections: 1 });
    let later = now + Duration::from_secs(1);
    assert!(matches!(handle.cut(Cut { at: later, seed: None, arrivals: closed_loop }), Err(BadCut::Loop)));
    let none = Some(Arrivals::Constant { rps: 0.0 });
    assert!(matches!(handle.cut(Cut { at: later, seed: None, arrivals: none }), Err(BadCut::Arrivals(_))));
}
