//! Servers to send to, and plans that send.

use std::net::SocketAddr;

use loadgen::load::{self, Arrivals, Outcome, Plan, Request, Segment, Stop, Target};
use mock_server::{MockServer, Options, Running};

pub(crate) fn mock(options: Options) -> Running {
    // Both ends of every connection, of all tests that run side by side, are in this process.
    rlimit::increase_nofile_limit(u64::MAX).expect("the soft limit can be raised to the hard one");
    MockServer::start(options).expect("a mock server starts on a free port")
}

pub(crate) fn target(address: SocketAddr) -> Target {
    Target { addresses: vec![address], host: address.to_string() }
}

pub(crate) fn closed(address: SocketAddr, connections: usize, requests: u64, path: &str) -> Plan {
    let plan = Plan::new(target(address), Arrivals::Closed { connections }, Stop::AfterRequests(requests));
    Plan { requests: vec![Request::get(path)], ..plan }
}

pub(crate) fn open(address: SocketAddr, rps: f64, stop: Stop) -> Plan {
    Plan { requests: vec![Request::get("/home")], ..Plan::new(target(address), Arrivals::Constant { rps }, stop) }
}

/// Runs a plan to its end.
pub(crate) fn run(plan: Plan) -> Outcome {
    let outcome = load::start(plan).expect("the plan is sound").wait();
    outcome.warm_up.iter().chain(&outcome.segments).for_each(adds_up);
    outcome
}

/// The one segment of a run without cuts.
pub(crate) fn one(outcome: Outcome) -> Segment {
    assert_eq!(outcome.segments.len(), 1);
    outcome.segments.into_iter().next().expect("there is one")
}

/// Every request ends in exactly one way, and is in exactly the histograms that it belongs to.
pub(crate) fn adds_up(segment: &Segment) {
    let ends = segment.answered + segment.errors.total() + segment.unsent + segment.unfinished;
    assert_eq!(segment.due, ends, "{segment:?}");
    assert_eq!(segment.statuses.values().sum::<u64>(), segment.answered);
    assert_eq!((segment.latency.len(), segment.service.len()), (segment.ok(), segment.ok()));
    assert_eq!(segment.failed.len(), segment.failed_answers());
}
