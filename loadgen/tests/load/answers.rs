//! Good and bad responses of every kind are distinguished and counted exactly.

use std::time::Duration;

use http::Method;
use lb_test_support::{Hostile, wait_until};
use loadgen::load::{Cost, ErrorKind, Keys, Plan, Request};
use mock_server::{Change, Options};

use crate::support::{closed, mock, one, run};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[test]
fn a_closed_loop_sends_exactly_the_given_number_over_keep_alive_connections() {
    let server = mock(Options { id: "s1".to_owned(), ..Options::default() });
    let segment = one(run(closed(server.addr, 8, 2_000, "/home")));
    let counted =
        (segment.due, segment.sent, segment.answered, segment.statuses[&200], segment.backends["s1"].answered);
    assert_eq!(counted, (2_000, 2_000, 2_000, 2_000, 2_000));
    let stats = server.stats();
    assert_eq!((stats.requests, stats.served, stats.connections), (2_000, 2_000, 8));
    assert_eq!(segment.latency.len(), 2_000);
    assert_eq!(segment.latency.max(), segment.service.max(), "in a closed loop both times are the same");
    assert_eq!(segment.lag.len(), 0);
    let tally = segment.backends["s1"];
    assert!(tally.first_ns <= tally.last_ns && tally.last_ns <= segment.to_ns);
}

#[test]
fn a_closed_loop_begins_at_once() {
    let server = mock(Options::default());
    // The windows are 100 ms long. A thread may be late on a busy machine, but not always.
    wait_until("a response within the first window", || {
        one(run(closed(server.addr, 1, 1, "/home"))).backends["1"].first_ns < 100_000_000
    });
}

#[test]
fn a_connection_that_ends_with_its_response_is_not_reused() {
    // Response and close come in one packet, and the head does not announce the close.
    let server = Hostile::start(|_, wire| {
        let more = 0x8000; // MSG_MORE, on Linux
        if wire.head().is_some() {
            socket2::SockRef::from(&wire.clone_stream()).send_with_flags(OK, more).expect("sent");
        }
    });
    let segment = one(run(closed(server.addr, 4, 200, "/")));
    assert_eq!((segment.ok(), segment.errors.total()), (200, 0), "{segment:?}");
}

#[test]
fn several_threads_share_the_requests_without_gap_or_overlap() {
    let server = mock(Options::default());
    let plan = Plan { threads: 3, keys: Keys::Sequential, ..closed(server.addr, 7, 1_000, "/home") };
    let outcome = run(plan);
    assert_eq!(outcome.cpu_s.len(), 3);
    let windows: u64 = outcome.windows.iter().map(|window| window.ok).sum();
    let by_backend: u64 = outcome.windows.iter().flat_map(|window| &window.backends).map(|n| u64::from(*n)).sum();
    assert_eq!((windows, by_backend, outcome.backends.clone()), (1_000, 1_000, vec!["1".to_owned()]));
    assert_eq!(one(outcome).answered, 1_000);
    assert_eq!((server.stats().requests, server.stats().connections), (1_000, 7));
}

#[test]
fn chunked_bodies_long_bodies_and_bodies_until_close_are_read_to_their_end() {
    let server = mock(Options::default());
    for (path, bytes) in [
        ("/stream?bytes=100000&chunk=777", 100_000),
        ("/stream?bytes=300000&chunk=65536&length=1", 300_000),
        ("/stream?bytes=0&chunk=1", 0),
    ] {
        let before = server.stats().connections;
        let segment = one(run(closed(server.addr, 2, 20, path)));
        assert_eq!((segment.ok(), segment.errors.total()), (20, 0), "{path}");
        assert!(segment.bytes >= 20 * bytes, "{path}: {}", segment.bytes);
        assert_eq!(server.stats().connections - before, 2, "{path}: connections are reused");
    }
    let until_close = Hostile::closing_after(b"HTTP/1.1 200 OK\r\nx-server-id: c\r\n\r\nall that comes");
    let segment = one(run(closed(until_close.addr, 2, 10, "/")));
    assert_eq!((segment.ok(), segment.backends["c"].answered), (10, 10));
}

#[test]
fn a_head_in_pieces_after_interim_responses_is_one_response() {
    let server = Hostile::start(|_, wire| {
        while wire.head().is_some() {
            for byte in b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok" {
                wire.write(&[*byte]);
            }
        }
    });
    let segment = one(run(closed(server.addr, 1, 5, "/")));
    assert_eq!((segment.ok(), segment.statuses.len()), (5, 1));
}

#[test]
fn an_announced_close_costs_a_connection_and_no_error() {
    let server = mock(Options::default());
    let segment = one(run(closed(server.addr, 4, 100, "/close")));
    assert_eq!((segment.ok(), segment.errors.total()), (100, 0));
    assert_eq!(server.stats().connections, 100);
}

#[test]
fn responses_of_500_have_their_own_latencies() {
    let server = mock(Options { failure_rate: 0.5, seed: Some(11), ..Options::default() });
    let segment = one(run(closed(server.addr, 4, 1_000, "/home")));
    let failures = server.stats().failures;
    assert_eq!((segment.answered, segment.statuses[&500], segment.failed.len()), (1_000, failures, failures));
    assert!((segment.failure_share() - failures as f64 / 1e3).abs() < 1e-9);
    assert_eq!(segment.backends["1"].failed, failures);
}

#[test]
fn each_error_has_its_kind() {
    let cases: [(&str, Hostile, ErrorKind); 5] = [
        ("closed before a response", Hostile::start(|_, wire| assert!(wire.head().is_some())), ErrorKind::Closed),
        (
            "reset",
            Hostile::start(|_, wire| {
                wire.head();
                wire.reset();
            }),
            ErrorKind::Reset,
        ),
        ("within the head", Hostile::closing_after(b"HTTP/1.1 200 OK\r\ncontent-le"), ErrorKind::Truncated),
        (
            "within the body",
            Hostile::closing_after(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc"),
            ErrorKind::Truncated,
        ),
        ("no HTTP", Hostile::closing_after(b"SSH-2.0-OpenSSH_9.2\r\n"), ErrorKind::BadAnswer),
    ];
    for (name, server, kind) in cases {
        let outcome = run(closed(server.addr, 2, 6, "/"));
        assert!(outcome.first_errors.contains_key(&kind), "{name}: {:?}", outcome.first_errors);
        let segment = one(outcome);
        assert_eq!((segment.errors.of(kind), segment.answered), (6, 0), "{name}: {:?}", segment.errors);
    }
    // The same with a real server that aborts.
    let server = mock(Options::default());
    let segment = one(run(closed(server.addr, 1, 3, "/stream?bytes=1000&chunk=100&abort_after=500")));
    assert_eq!(segment.errors.of(ErrorKind::Truncated), 3);
}

#[test]
fn a_closed_port_is_an_error_for_each_request_and_no_endless_loop() {
    let gone = mock(Options::default()).addr; // Dropped at once, so the port is closed now.
    let outcome = run(closed(gone, 4, 12, "/"));
    assert!(outcome.first_errors[&ErrorKind::Connect].contains("refused"), "{:?}", outcome.first_errors);
    let segment = one(outcome);
    assert_eq!((segment.errors.of(ErrorKind::Connect), segment.sent), (12, 0));
    assert!(segment.seconds() >= 0.1, "a client waits before its next attempt");
}

#[test]
fn a_request_without_a_response_in_time_is_a_timeout_and_its_connection_is_not_reused() {
    let server = mock(Options::default());
    server.change(&Change { stall: Some(true), ..Change::default() }).unwrap();
    let plan = Plan { timeout: Duration::from_millis(50), ..closed(server.addr, 3, 9, "/home") };
    let segment = one(run(plan));
    assert_eq!((segment.errors.of(ErrorKind::Timeout), segment.sent), (9, 9));
    assert!(segment.seconds() >= 0.1, "the third round began after {}", segment.seconds());
    assert_eq!(server.stats().connections, 9);
}

#[test]
fn a_reused_connection_that_closes_during_a_request_is_an_error_without_resend_closed() {
    // Each connection serves one request, announces no close, and closes after it has read the next request.
    let server = || {
        Hostile::start(|_, wire| {
            if wire.head().is_some() {
                wire.write(OK);
                wire.head();
            }
        })
    };
    let first = server();
    let segment = one(run(closed(first.addr, 1, 10, "/")));
    assert_eq!((segment.ok(), segment.errors.of(ErrorKind::Closed), segment.resent), (5, 5, 0));

    let second = server();
    let again = |request| Plan { resend_closed: true, requests: vec![request], ..closed(second.addr, 1, 10, "/") };
    let segment = one(run(again(Request::get("/"))));
    assert_eq!((segment.ok(), segment.errors.total(), segment.resent, segment.due), (10, 0, 9, 10));
    let post = Request { method: Method::POST, ..Request::get("/") };
    let segment = one(run(again(post)));
    assert_eq!((segment.ok(), segment.resent), (5, 0), "a POST is never sent twice");
}

#[test]
fn bytes_after_a_response_end_its_connection() {
    let server = Hostile::start(|_, wire| {
        while wire.head().is_some() {
            if !wire.try_write(&[OK, b"and more"].concat()) {
                return;
            }
        }
    });
    let segment = one(run(closed(server.addr, 1, 5, "/")));
    assert_eq!((segment.ok(), segment.errors.total()), (5, 0));
}

#[test]
fn methods_bodies_headers_paths_keys_and_costs_arrive_as_planned() {
    let server = mock(Options::default());
    let upload =
        Request { method: Method::POST, path: "/upload".to_owned(), headers: vec![], body: vec![b'x'; 300_000] };
    let segment = one(run(Plan { requests: vec![upload], ..closed(server.addr, 3, 30, "/") }));
    assert_eq!((segment.ok(), server.stats().body_bytes_received), (30, 30 * 300_000));

    let head = Request { method: Method::HEAD, ..Request::get("/home") };
    let mixed = vec![Request::get("/home"), Request::get("/status/404"), head];
    let segment = one(run(Plan { requests: mixed, ..closed(server.addr, 1, 30, "/") }));
    assert_eq!((segment.statuses[&200], segment.statuses[&404]), (20, 10));

    // The mock serves a request with a cost of 20 ms in at least that time.
    let cost = Cost::Constant { time: Duration::from_millis(20) };
    let segment = one(run(Plan { cost, keys: Keys::Uniform, ..closed(server.addr, 2, 6, "/home") }));
    assert!(segment.ok() == 6 && segment.service.min() >= 19_900_000, "{}", segment.service.min());
}
