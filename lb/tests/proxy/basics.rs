//! The basics of every request: even shares, exact counts, keep-alive connections, and the framing of responses.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use lb_test_support::{Client, Framing, Hostile, mock, request, wait_until};

use crate::support::Setup;

#[test]
fn ten_thousand_requests_are_shared_evenly_and_all_counters_agree() {
    const REQUESTS: u64 = 10_000;
    let servers = ["1", "2", "3"].map(mock);
    let lb = Setup::of(&servers.each_ref()).start();
    let (taken, by_server) = (AtomicU64::new(0), Mutex::new(BTreeMap::<String, u64>::new()));
    std::thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                let mut client = lb.client();
                let mut own = BTreeMap::<String, u64>::new();
                while taken.fetch_add(1, SeqCst) < REQUESTS {
                    let answer = client.get("/home");
                    assert_eq!(answer.status(), 200);
                    *own.entry(answer.field("x-server-id").unwrap()).or_default() += 1;
                }
                let mut by_server = by_server.lock().unwrap();
                own.into_iter().for_each(|(id, count)| *by_server.entry(id).or_default() += count);
            });
        }
    });
    lb.comes_to_rest();
    let at_clients: Vec<u64> = by_server.into_inner().unwrap().into_values().collect();
    let at_servers = servers.each_ref().map(|server| server.stats().requests).to_vec();
    let backends = lb.metrics.backend_totals("default");
    let at_lb: Vec<u64> = backends.iter().map(|backend| backend.responses).collect();
    assert_eq!(at_clients, at_servers);
    assert_eq!(at_clients, at_lb);
    let mut sorted = at_lb.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, [3333, 3333, 3334]);
    assert!(backends.iter().all(|backend| backend.errors == 0), "{backends:?}");
    let totals = lb.metrics.pool_totals("default");
    assert_eq!((totals.requests, totals.in_flight, totals.errors_by_reason.len()), (REQUESTS, 0, 0), "{totals:?}");
    assert_eq!(lb.metric("lb_requests_total", &["code=\"200\"", "method=\"GET\""]), REQUESTS as f64);
    assert_eq!(lb.metric("lb_client_connections_accepted_total", &[]), 64.0);
    wait_until("client connections to be closed", || lb.metric("lb_client_connections", &[]) == 0.0);
}

#[test]
fn many_requests_on_one_connection_use_one_connection_to_the_backend() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).start();
    let mut client = lb.client();
    for _ in 0..500 {
        assert_eq!(client.get("/home").text(), r#"{"message":"Hello from Server: 1","status":"successful"}"#);
    }
    lb.comes_to_rest();
    assert_eq!(server.stats().connections, 1);
    assert_eq!(lb.metric("lb_backend_connections_opened_total", &[]), 1.0);
    assert_eq!(lb.metric("lb_backend_connections", &["state=\"idle\""]), 1.0);
    assert_eq!(lb.metric("lb_client_connections_accepted_total", &[]), 1.0);
}

#[test]
fn an_http_1_0_client_gets_an_http_1_0_response_and_its_connection_is_closed() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).start();
    for (path, bytes) in [("/home", 56), ("/stream?bytes=100000", 100_000)] {
        let mut client = lb.client();
        client.send(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes());
        let answer = client.answer();
        assert_eq!((answer.status(), answer.head.version.as_str()), (200, "HTTP/1.0"));
        assert_eq!((answer.body.len(), answer.field("transfer-encoding")), (bytes, None));
        assert_eq!(client.rest(), b"");
    }
    let mut client = lb.client();
    for _ in 0..2 {
        client.send(b"GET /home HTTP/1.0\r\nconnection: keep-alive\r\n\r\n");
        assert_eq!(client.answer().status(), 200);
    }
}

#[test]
fn pipelined_requests_get_their_responses_in_order() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).start();
    let mut client = lb.client();
    let all: Vec<u8> =
        (0..50).flat_map(|n| request("GET", &format!("/stream?bytes={}&length=1", 1000 + n), &[])).collect();
    client.send(&all);
    for n in 0..50 {
        assert_eq!(client.answer().body.len(), 1000 + n);
    }
    assert_eq!(client.get("/home").status(), 200);
    lb.comes_to_rest();
    assert_eq!(lb.ended_with(200), 51);
}

#[test]
fn head_keeps_the_length_and_has_no_body() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).start();
    let mut client = lb.client();
    let answer = client.ask("HEAD", "/home", &[]);
    assert_eq!((answer.status(), answer.field("content-length").as_deref()), (200, Some("56")));
    let answer = client.ask("HEAD", "/stream?bytes=1000", &[]);
    assert_eq!((answer.status(), answer.field("content-length")), (200, None), "an absent length stays absent");
    assert_eq!(client.get("/home").status(), 200, "the connection stays open");
    lb.comes_to_rest();
    assert_eq!(lb.metric("lb_requests_total", &["method=\"HEAD\""]), 2.0);
    assert_eq!(server.stats().connections, 1);
}

#[test]
fn responses_without_a_body_end_with_their_head() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).start();
    let mut client = lb.client();
    for code in [204, 304] {
        let answer = client.get(&format!("/status/{code}"));
        assert_eq!((answer.status(), answer.field("transfer-encoding")), (code, None));
    }
    assert_eq!(client.get("/home").status(), 200);
    lb.comes_to_rest();
    assert_eq!(server.stats().connections, 1);
}

#[test]
fn a_chunked_body_stays_chunked_and_a_length_stays_a_length() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).start();
    let mut client = lb.client();
    assert_eq!(client.get("/stream?bytes=100000").framing, Framing::Chunked);
    assert_eq!(client.get("/stream?bytes=100000&length=1").framing, Framing::Length(100_000));
    assert_eq!(client.get("/stream?bytes=0&length=1").framing, Framing::Length(0));
    assert_eq!(client.get("/stream?bytes=0").body, b"");
    lb.comes_to_rest();
    assert_eq!(server.stats().connections, 1);
    assert_eq!(lb.metric("lb_response_bytes_total", &[]), 200_000.0);
}

#[test]
fn the_response_of_an_http_1_0_backend_is_sent_in_http_1_1() {
    let server = Hostile::start(|_, wire| {
        if wire.head().is_some() {
            wire.write(b"HTTP/1.0 200 OK\r\ncontent-type: text/plain\r\n\r\nuntil the end");
        }
    });
    let lb = Setup::new(&[server.addr]).start();
    let mut client = lb.client();
    for _ in 0..3 {
        let answer = client.get("/");
        assert_eq!((answer.head.version.as_str(), answer.text()), ("HTTP/1.1", "until the end"));
        assert_eq!(answer.framing, Framing::Chunked, "the backend's close does not close the client's connection");
    }
    lb.comes_to_rest();
    assert_eq!(lb.metric("lb_client_connections_accepted_total", &[]), 1.0);
}

#[test]
fn a_backend_that_closes_after_each_response_closes_no_client_connection() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).start();
    let mut client = lb.client();
    for _ in 0..20 {
        let answer = client.get("/close");
        assert_eq!((answer.status(), answer.field("connection")), (200, None));
    }
    assert_eq!(server.stats().connections, 20);
    lb.comes_to_rest();
}

#[test]
fn bytes_after_a_response_reach_no_other_client() {
    // A second response follows the first at once. The next request on the connection must not get it.
    let server = Hostile::answering(
        b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngoodHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
    );
    let lb = Setup::new(&[server.addr]).with(|setup| setup.workers = 1).start();
    for _ in 0..20 {
        let (mut one, mut other) = (lb.client(), lb.client());
        assert_eq!(one.get("/").text(), "good");
        assert_eq!(other.get("/").text(), "good");
        assert_eq!(one.get("/").text(), "good");
    }
    lb.comes_to_rest();
}

#[test]
fn interim_responses_of_a_backend_come_before_the_final_one() {
    let server = Hostile::answering(
        b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    );
    let lb = Setup::new(&[server.addr]).start();
    let mut client: Client = lb.client();
    for _ in 0..3 {
        assert_eq!(client.get("/").text(), "ok");
    }
    lb.comes_to_rest();
    assert_eq!(server.accepted(), 1);
}
