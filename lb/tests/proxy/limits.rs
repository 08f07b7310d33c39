//! Limits of bodies, heads, connections, and requests in flight on one backend.

use crate::support::{DOWN, Setup, strategy};
use lb::config::KeySource;
use lb_test_support::{Broken, Client, chunk, closed_address, mock, request, wait_until};
use mock_server::Change;

#[test]
fn a_body_that_is_declared_too_long_is_413_before_its_first_byte() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).limits(|limits| limits.body_bytes = Some(1000)).start();
    let mut client = lb.client();
    assert_eq!(client.post("/upload", &[], &[b'x'; 1000]).text(), r#"{"bytes":1000}"#);
    client.send(&request("POST", "/upload", &["content-length: 1001", "expect: 100-continue"]));
    assert_eq!(client.head().unwrap().status, 413, "no 100 before it");
    assert_eq!(client.rest().last(), Some(&b'}'));

    // A client that sends all before it reads must get the 413 as well.
    let mut client = lb.client();
    let _ = client.try_send(&request("POST", "/upload", &["content-length: 300000"]));
    let _ = client.try_send(&vec![b'x'; 300_000]);
    let answer = client.answer();
    answer.is_own(413, "body_too_large");
    assert_eq!(answer.field("connection").as_deref(), Some("close"));
    assert!(client.ends_well(), "a reset could have lost the response");
    lb.comes_to_rest();
    assert_eq!((lb.ended_with(413), lb.errors("body_too_large"), server.stats().requests), (2, 2, 1));
}

#[test]
fn a_chunked_body_that_grows_too_long_is_413() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).limits(|limits| limits.body_bytes = Some(1000)).start();
    let mut client = lb.client();
    client.send(&request("POST", "/upload", &["transfer-encoding: chunked"]));
    client.send(&[chunk(&[b'x'; 400]), chunk(&[b'x'; 600]), chunk(b"")].concat());
    assert_eq!(client.answer().text(), r#"{"bytes":1000}"#);
    client.send(&request("POST", "/upload", &["transfer-encoding: chunked"]));
    client.send(&chunk(&[b'x'; 600]));
    wait_until("the first part to be at the backend", || server.stats().body_bytes_received == 1600);
    client.send(&chunk(&[b'x'; 401]));
    let _ = client.try_send(&vec![b'x'; 300_000]);
    client.answer().is_own(413, "body_too_large");
    assert!(client.ends_well(), "a reset could have lost the response");
    lb.comes_to_rest();
    assert_eq!((lb.ended_with(413), lb.errors("body_too_large")), (1, 1));
    wait_until("the backend to see the upload break off", || server.stats().abandoned == 1);
    assert_eq!(lb.backends[0].stats.consecutive_errors.load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[test]
fn too_large_heads_are_refused_and_lb_still_serves() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).limits(|limits| (limits.head_bytes, limits.headers) = (8192, 20)).start();
    let long = format!("x-long: {}", "x".repeat(20_000));
    let many: Vec<String> = (0..30).map(|n| format!("x-{n}: {n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for head in [
        request("GET", "/home", &[&long]),
        request("GET", "/home", &many),
        request("GET", &format!("/{}", "x".repeat(70_000)), &[]),
    ] {
        let mut client = lb.client();
        let _ = client.try_send(&head);
        let answer = client.answer();
        assert!(matches!(answer.status(), 431 | 414), "{answer:?}");
        client.rest();
    }
    let fits: Vec<&str> = many[..15].to_vec();
    assert_eq!(lb.client().ask("GET", "/home", &fits).status(), 200);
    lb.comes_to_rest();
    wait_until("all requests to be counted", || lb.errors("bad_request") == 3);
    assert_eq!(server.stats().requests, 1);
}

#[test]
fn the_limit_of_a_head_is_exact_to_the_byte() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).start();
    for (bytes, status) in [(60_000, 200), (66_000, 431)] {
        let mut client = lb.client();
        let _ = client.try_send(&request("GET", "/home", &[&format!("x-long: {}", "x".repeat(bytes))]));
        assert_eq!(client.answer().status(), status, "{bytes} bytes");
    }
    lb.comes_to_rest();
}

#[test]
fn connections_over_the_limit_are_closed_and_counted() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).limits(|limits| limits.connections = 4).start();
    let mut clients: Vec<Client> = (0..4).map(|_| lb.client()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.get("/home").status(), 200));
    for _ in 0..3 {
        let mut client = lb.client();
        let _ = client.try_send(&request("GET", "/home", &[]));
        assert_eq!(client.answer_to("GET").unwrap_err(), Broken::Silent);
    }
    assert_eq!(lb.metric("lb_client_connections_rejected_total", &[]), 3.0);
    assert_eq!(lb.metric("lb_client_connections", &[]), 4.0);
    clients.iter_mut().for_each(|client| assert_eq!(client.get("/home").status(), 200));
    drop(clients.pop());
    wait_until("room for one more", || lb.metric("lb_client_connections", &[]) == 3.0);
    wait_until("one more to be served", || {
        let mut client = lb.client();
        client.try_send(&request("GET", "/home", &[])).is_ok() && client.answer_to("GET").is_ok()
    });
    lb.comes_to_rest();
}

#[test]
fn backends_at_their_limit_are_skipped_and_if_all_are_the_response_is_503_overload() {
    let servers = [mock("1"), mock("2")];
    let lb = Setup::of(&servers.each_ref()).limits(|limits| limits.requests_in_flight_per_backend = Some(3)).start();
    let stall =
        |on| servers.iter().for_each(|server| server.change(&Change { stall: Some(on), ..Change::default() }).unwrap());
    stall(true);
    let mut waiting: Vec<Client> = (0..6).map(|_| lb.client()).collect();
    for (sent, client) in waiting.iter_mut().enumerate() {
        client.send(&request("GET", "/home", &[]));
        wait_until("the attempt to begin", || {
            lb.backends.iter().map(|b| b.in_flight()).sum::<u32>() == sent as u32 + 1
        });
    }
    assert!(lb.backends.iter().all(|backend| backend.in_flight() == 3));
    let mut client = lb.client();
    for _ in 0..5 {
        let answer = client.get("/home");
        answer.is_own(503, "overload");
        assert_eq!(answer.field("retry-after").as_deref(), Some("1"));
    }
    stall(false);
    waiting.iter_mut().for_each(|client| assert_eq!(client.answer().status(), 200));
    assert_eq!(client.get("/home").status(), 200);
    lb.comes_to_rest();
    assert_eq!((lb.errors("overload"), lb.ended_with(200), lb.ended_with(503)), (5, 7, 5));
}

#[test]
fn a_limit_that_is_not_reached_changes_no_response() {
    let without_a_key = Setup::new(&[closed_address()]).with(|setup| {
        let pool = &mut setup.pools[0];
        (pool.strategy, pool.hash_on) =
            (strategy("consistent_hash"), vec![KeySource::Header("x-key".parse().unwrap())]);
    });
    for setup in [Setup::new(&[closed_address()]), without_a_key] {
        let lb = setup.limits(|limits| limits.requests_in_flight_per_backend = Some(100)).start();
        // The only backend was tried and refused the connection. No backend is at its limit, so the reason is no
        // overload.
        lb.client().get("/home").is_own(502, "connect");
        lb.backends[0].set_eligibility(DOWN);
        lb.client().get("/home").is_own(503, "no_backend");
        lb.comes_to_rest();
        assert_eq!((lb.errors("overload"), lb.errors("connect"), lb.errors("no_backend")), (0, 1, 1));
    }
}

#[test]
fn idle_connections_over_the_limit_are_closed() {
    let server = mock("1");
    let lb = Setup::of(&[&server])
        .limits(|limits| limits.upstream_idle_connections = 2)
        .with(|setup| setup.workers = 1)
        .start();
    server.change(&Change { stall: Some(true), ..Change::default() }).unwrap();
    let mut clients: Vec<Client> = (0..8).map(|_| lb.client()).collect();
    clients.iter_mut().for_each(|client| client.send(&request("GET", "/home", &[])));
    wait_until("all requests to be at the backend", || server.stats().in_progress == 8);
    assert_eq!(lb.metric("lb_backend_connections", &["state=\"active\""]), 8.0);
    server.change(&Change { stall: Some(false), ..Change::default() }).unwrap();
    clients.iter_mut().for_each(|client| assert_eq!(client.answer().status(), 200));
    lb.comes_to_rest();
    wait_until("the other connections to be closed", || server.stats().open_connections == 2);
    assert_eq!(lb.metric("lb_backend_connections", &["state=\"idle\""]), 2.0);
}
