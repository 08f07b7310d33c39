//! Bodies that are sent again: the next backend gets the same bytes, trailers and framing, and the client sends them
//! once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use lb::config::RetryPolicy;
use lb_test_support::{Hostile, Wire, chunk, request, request_with, wait_until};
use parking_lot::Mutex;

use crate::support::Setup;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const CHUNKED: &str = "transfer-encoding: chunked";

/// Heads and bodies of requests.
type Served = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// Two backends, and the requests that they served.
struct Pair {
    servers: [Hostile; 2],
    served: Served,
}

// === impl Pair ===

impl Pair {
    /// The first `failures` connections run `fails` after the head; later ones serve one request.
    fn new(failures: usize, fails: impl Fn(&mut Wire) + Send + Sync + 'static) -> Self {
        let served = Served::default();
        let (fails, accepted) = (Arc::new(fails), Arc::new(AtomicUsize::new(0)));
        let servers = [(); 2].map(|()| {
            let (fails, accepted, served) = (fails.clone(), accepted.clone(), served.clone());
            Hostile::start(move |_, wire| {
                let number = accepted.fetch_add(1, SeqCst);
                let Some(head) = wire.head() else { return };
                if number < failures {
                    return fails(wire);
                }
                let body = whole_body(wire, &head);
                served.lock().push((head, body));
                wire.write(OK);
            })
        });
        Self { servers, served }
    }

    fn setup(&self) -> Setup {
        Setup::new(&self.servers.each_ref().map(|server| server.addr)).with(|setup| setup.workers = 1)
    }

    fn closed(&self) -> usize {
        self.servers.iter().map(Hostile::closed).sum()
    }

    fn accepted(&self) -> usize {
        self.servers.iter().map(Hostile::accepted).sum()
    }

    /// The body of the only request that was served, with its framing: the chunks are joined.
    fn body(&self) -> (bool, Vec<u8>) {
        let served = self.served.lock();
        let [(head, body)] = &served[..] else { panic!("{} requests were served", served.len()) };
        (head.to_ascii_lowercase().contains(CHUNKED), body.clone())
    }
}

/// The raw body behind `head`: its bytes, or its joined chunks and then the trailer section.
fn whole_body(wire: &mut Wire, head: &str) -> Vec<u8> {
    let head = head.to_ascii_lowercase();
    if let Some(length) = head.lines().find_map(|line| line.strip_prefix("content-length: ")) {
        assert!(!head.contains("transfer-encoding"), "{head}");
        return wire.raw(length.parse().unwrap()).unwrap();
    }
    let mut body = Vec::new();
    if !head.contains(CHUNKED) {
        return body;
    }
    loop {
        let line = wire.raw_until(b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16).unwrap();
        if size == 0 {
            break;
        }
        body.extend(wire.raw(size).unwrap());
        assert_eq!(wire.raw(2).unwrap(), b"\r\n");
    }
    loop {
        let line = wire.raw_until(b"\r\n").unwrap();
        if line == b"\r\n" {
            return body;
        }
        body.extend(line);
    }
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

/// A request in two parts: the client sends the second one when the first attempt has failed.
fn parts(is_chunked: bool, body: &[u8], cut: usize, fields: &[&str]) -> (Vec<u8>, Vec<u8>) {
    let (first, second) = body.split_at(cut);
    if !is_chunked {
        let length = format!("content-length: {}", body.len());
        let head = request("PUT", "/", &[fields, &[&length]].concat());
        return ([head, first.to_vec()].concat(), second.to_vec());
    }
    let chunks = |data: &[u8]| if data.is_empty() { Vec::new() } else { chunk(data) };
    let head = request("PUT", "/", &[fields, &[CHUNKED]].concat());
    ([head, chunks(first)].concat(), [&chunks(second)[..], b"0\r\nx-sum: 7\r\n\r\n"].concat())
}

#[test]
fn a_body_of_any_framing_is_sent_again_from_its_first_byte() {
    for is_chunked in [false, true] {
        for (length, cut) in [(5, 5), (5, 3), (1_000, 1), (20_000, 9_000), (65_536, 65_536), (65_536, 40_000)] {
            let pair = Pair::new(1, move |wire| {
                wire.raw(cut.min(1));
                wire.reset();
            });
            let lb = pair.setup().start();
            let body = pattern(length);
            let (first, second) = parts(is_chunked, &body, cut, &[]);
            let mut client = lb.client();
            client.send(&first);
            wait_until("the first attempt to fail", || pair.closed() >= 1);
            client.send(&second);
            assert_eq!(client.answer().status(), 200, "{length} {cut}");
            lb.comes_to_rest();
            let trailers: &[u8] = if is_chunked { b"x-sum: 7\r\n" } else { b"" };
            assert!(pair.body() == (is_chunked, [&body, trailers].concat()), "{length} {cut} {is_chunked}");
            assert_eq!(lb.metric("lb_retries_total", &["reason=\"reset\""]), 1.0);
            assert_eq!(lb.metric("lb_request_bytes_total", &[]), length as f64, "counted once");
            assert_eq!(lb.metric("lb_client_connections_accepted_total", &[]), 1.0);
        }
    }
}

#[test]
fn a_body_is_sent_a_third_time_and_the_connection_of_its_client_stays_in_use() {
    for is_chunked in [false, true] {
        let pair = Pair::new(2, |wire| {
            wire.raw(100);
            wire.reset();
        });
        let lb = pair.setup().attempts(3).start();
        let body = pattern(30_000);
        let (first, second) = parts(is_chunked, &body, 30_000, &[]);
        let mut client = lb.client();
        client.send(&[first, second].concat());
        assert_eq!(client.answer().status(), 200);
        let trailers: &[u8] = if is_chunked { b"x-sum: 7\r\n" } else { b"" };
        assert!(pair.body() == (is_chunked, [&body, trailers].concat()));
        assert_eq!(client.get("/").status(), 200, "the next request on the same connection");
        lb.comes_to_rest();
        assert_eq!(lb.metric("lb_retries_total", &["reason=\"reset\""]), 2.0);
    }
}

#[test]
fn an_empty_chunked_body_is_sent_again_with_its_framing() {
    let pair = Pair::new(1, |wire| {
        wire.raw_until(b"0\r\n");
        wire.reset();
    });
    let lb = pair.setup().start();
    let mut client = lb.client();
    client.send(&[&request("PUT", "/", &[CHUNKED])[..], b"0\r\n\r\n"].concat());
    assert_eq!(client.answer().status(), 200);
    lb.comes_to_rest();
    assert_eq!(pair.body(), (true, Vec::new()));
}

#[test]
fn a_body_over_the_limit_is_sent_once() {
    for is_chunked in [false, true] {
        for (length, status) in [(100, 200), (101, 502)] {
            let pair = Pair::new(1, move |wire| {
                wire.raw(length);
                wire.reset();
            });
            let lb = pair.setup().retry(|retry| retry.rules.replay_bytes = 100).start();
            let (first, second) = parts(is_chunked, &pattern(length), length, &[]);
            let mut client = lb.client();
            client.send(&[first, second].concat());
            assert_eq!(client.answer().status(), status, "{length} {is_chunked}");
            lb.comes_to_rest();
            assert_eq!(pair.accepted(), if status == 200 { 2 } else { 1 });
        }
    }
}

#[test]
fn without_a_limit_for_bodies_only_an_untouched_one_is_retried() {
    let pair = Pair::new(1, |wire| {
        wire.raw(3);
        wire.reset();
    });
    let lb = pair.setup().retry(|retry| retry.rules.replay_bytes = 0).start();
    let mut client = lb.client();
    client.send(&request_with("PUT", "/", &[], b"abc"));
    client.answer().is_own(502, "reset");
    lb.comes_to_rest();
    assert_eq!(pair.accepted(), 1);
}

#[test]
fn a_client_that_waits_for_100_sends_its_body_once_for_two_attempts() {
    let pair = Pair::new(1, |wire| {
        wire.raw(2);
        wire.reset();
    });
    let lb = pair.setup().start();
    let mut client = lb.client();
    client.send(&request("PUT", "/", &["content-length: 5", "expect: 100-continue"]));
    assert_eq!(client.head().unwrap().status, 100);
    client.send(b"abcde");
    let whole = client.whole("PUT").unwrap();
    assert!(whole.heads.len() == 1 && whole.heads[0].starts_with("HTTP/1.1 200"), "{whole:?}");
    lb.comes_to_rest();
    assert_eq!(pair.body(), (false, b"abcde".to_vec()));
}

#[test]
fn an_early_error_status_moves_an_upload_to_another_backend() {
    for is_chunked in [false, true] {
        let pair = Pair::new(1, |wire| {
            wire.raw(2);
            wire.write(b"HTTP/1.1 503 Busy\r\ncontent-length: 2\r\n\r\nno");
            wire.hold();
        });
        let lb = pair.setup().start();
        let body = pattern(10_000);
        let (first, second) = parts(is_chunked, &body, 4_000, &[]);
        let mut client = lb.client();
        client.send(&first);
        wait_until("the second attempt", || pair.accepted() == 2);
        client.send(&second);
        assert_eq!(client.answer().status(), 200);
        lb.comes_to_rest();
        let trailers: &[u8] = if is_chunked { b"x-sum: 7\r\n" } else { b"" };
        assert!(pair.body() == (is_chunked, [&body, trailers].concat()));
        wait_until("the connection with a part of the upload to be closed", || pair.closed() == 2);
    }
}

#[test]
fn a_put_on_a_closed_keep_alive_connection_is_sent_again_with_its_body() {
    // Each connection serves one request. The server reads the second one, then resets the connection.
    let server = Hostile::start(|_, wire| {
        if let Some(head) = wire.head() {
            whole_body(wire, &head);
            wire.write(OK);
        }
        if wire.head().is_some() {
            wire.raw(3);
            wire.reset();
        }
    });
    let lb = Setup::new(&[server.addr]).with(|setup| setup.workers = 1).start();
    let mut client = lb.client();
    for _ in 0..10 {
        client.send(&request_with("PUT", "/", &[], b"abc"));
        assert_eq!(client.answer().status(), 200);
    }
    lb.comes_to_rest();
    assert_eq!(lb.metric("lb_retries_total", &["reason=\"reused_connection\""]), 9.0);
    assert_eq!((server.accepted(), server.heads().len()), (10, 19));
}

#[test]
fn the_time_of_an_attempt_does_not_run_while_the_client_sends() {
    let server = Hostile::start(|_, wire| {
        if wire.head().is_some_and(|head| head.starts_with("GET")) {
            return wire.hold();
        }
        assert_eq!(wire.raw(4).unwrap(), b"slow");
        wire.write(OK);
    });
    let limit = |retry: &mut RetryPolicy| retry.rules.per_attempt_ns = Some(1_000_000_000);
    let lb = Setup::new(&[server.addr]).retry(limit).attempts(1).start();
    let mut client = lb.client();
    client.send(&request("PUT", "/", &["content-length: 4"]));
    client.send(b"sl");
    wait_until("the upload to begin", || server.heads().len() == 1);
    lb.client().get("/").is_own(504, "timeout");
    // The time of an attempt is over; a part of the body was sent.
    client.send(b"ow");
    assert_eq!(client.answer().status(), 200);
    lb.comes_to_rest();
}
