//! A client or backend that closes in the middle of a message.
//!
//! Nothing stays in flight, the other side sees the abort, and a partial message is never taken for a complete one.

use lb_test_support::{Broken, Client, Framing, Hostile, chunk, mock, request, wait_until};
use mock_server::Change;

use crate::support::{Balancer, Setup, ms};

const LONG: &str = "/stream?bytes=100000000&chunk=65536&length=1";

/// Waits until `times` requests ended with 499, then until nothing is in flight at lb or at the backend.
#[track_caller]
fn aborted(lb: &Balancer, server: &mock_server::Running, times: u64) {
    wait_until("the abort to be counted", || lb.ended_with(499) == times);
    lb.comes_to_rest();
    assert_eq!(lb.errors("client_abort"), times);
    wait_until("the backend to have no request", || server.stats().in_progress == 0 && server.stats().in_service == 0);
}

#[test]
fn a_response_that_its_backend_breaks_off_is_broken_and_never_looks_complete() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).start();
    let mut times = 0;
    for length in ["&length=1", ""] {
        for bytes in [1, 50_000, 99_999] {
            let mut client = lb.client();
            client.send(&request("GET", &format!("/stream?bytes=100000&abort_after={bytes}{length}"), &[]));
            assert_eq!(client.answer_to("GET").unwrap_err(), Broken::Short { what: "body", bytes });
            times += 1;
            lb.comes_to_rest();
            assert_eq!((lb.errors("reset"), lb.ended_with(200)), (times, times));
        }
    }
    assert_eq!(lb.client().get("/home").status(), 200);
    assert_eq!(lb.metric("lb_retries_total", &[]), 0.0, "a response that has begun is not retried");
}

#[test]
fn a_reset_in_a_body_without_a_length_is_not_taken_for_its_end() {
    let server = Hostile::start(|_, wire| {
        wire.head();
        wire.write(b"HTTP/1.1 200 OK\r\n\r\nonly a part");
        wire.until(b"go on"); // The client sends this when it has the part.
        wire.reset();
    });
    let lb = Setup::new(&[server.addr]).start();
    let mut client = lb.client();
    client.send(&request("POST", "/", &["transfer-encoding: chunked"]));
    let head = client.head().unwrap();
    assert_eq!(head.framing("POST"), Framing::Chunked);
    client.send(&chunk(b"go on"));
    assert!(matches!(client.body(Framing::Chunked, |_| {}), Err(Broken::Short { .. })));
    lb.comes_to_rest();
    assert_eq!(lb.errors("reset"), 1);
}

#[test]
fn a_client_that_leaves_during_its_response_is_counted_and_its_backend_released() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).start();
    for (times, reset) in [(1, false), (2, true)] {
        let mut client = lb.client();
        client.send(&request("GET", LONG, &[]));
        assert_eq!(client.head().unwrap().status, 200);
        client.raw(10_000);
        if reset {
            client.reset()
        } else {
            drop(client)
        }
        aborted(&lb, &server, times);
        wait_until("the backend's connection to be closed", || server.stats().open_connections == 0);
    }
}

#[test]
fn a_client_that_leaves_before_its_response_is_counted_and_its_backend_released() {
    let server = mock("1");
    // A half-closed connection looks the same, so lb waits for `half_closed` first.
    let lb = Setup::of(&[&server]).timeouts(|timeouts| timeouts.half_closed = ms(50)).start();
    server.change(&Change { stall: Some(true), ..Change::default() }).unwrap();
    for (times, reset) in [(1, false), (2, true)] {
        let mut client = lb.client();
        client.send(&request("GET", "/home", &[]));
        wait_until("the request to be at the backend", || server.stats().requests == times);
        assert_eq!(lb.backends[0].in_flight(), 1);
        if reset {
            client.reset()
        } else {
            drop(client)
        }
        wait_until("the abort to be counted", || lb.ended_with(499) == times);
        lb.comes_to_rest();
        wait_until("the backend's connection to be closed", || server.stats().open_connections == 0);
    }
    assert_eq!(lb.errors("client_abort"), 2);
}

#[test]
fn a_client_that_leaves_during_its_upload_is_counted_and_its_backend_released() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).start();
    let mut times = 0;
    for (field, part) in
        [("content-length: 100000", vec![b'x'; 5000]), ("transfer-encoding: chunked", chunk(&[b'x'; 5000]))]
    {
        for reset in [false, true] {
            let mut client = lb.client();
            client.send(&[request("POST", "/upload", &[field]), part.clone()].concat());
            times += 1;
            wait_until("the part to be at the backend", || server.stats().body_bytes_received == 5000 * times);
            if reset {
                client.reset()
            } else {
                drop(client)
            }
            aborted(&lb, &server, times);
            wait_until("the backend to see the abort", || server.stats().abandoned == times);
        }
    }
    assert_eq!(lb.backends[0].stats.consecutive_errors.load(std::sync::atomic::Ordering::Relaxed), 0);
    assert_eq!(server.stats().served, 0);
}

#[test]
fn a_client_that_leaves_while_lb_connects_is_counted() {
    // The test never accepts, but the kernel completes the connection: lb sends the request, and it stays unread.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let lb = Setup::new(&[listener.local_addr().unwrap()]).timeouts(|timeouts| timeouts.half_closed = ms(50)).start();
    let clients: Vec<Client> = (0..5)
        .map(|_| {
            let mut client = lb.client();
            client.send(&request("GET", "/", &[]));
            client
        })
        .collect();
    wait_until("all requests to be in flight", || lb.backends[0].in_flight() == 5);
    drop(clients);
    wait_until("the aborts to be counted", || lb.ended_with(499) == 5);
    lb.comes_to_rest();
}

#[test]
fn after_clients_that_leave_at_random_moments_all_counts_are_zero() {
    const SEED: u64 = 7;
    println!("seed {SEED}");
    let servers = [mock("1"), mock("2")];
    let lb = Setup::of(&servers.each_ref()).start();
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut whole = 0;
    for _ in 0..150 {
        let mut client = lb.client();
        match random.u8(..5) {
            0 => {
                let head = request("GET", "/stream?bytes=300000&chunk=1000", &[]);
                let _ = client.try_send(&head[..random.usize(..head.len())]);
            }
            1 => {
                client.send(&request("GET", LONG, &[]));
                client.raw(random.usize(1..200_000));
            }
            2 => {
                client.send(&request("POST", "/upload", &["content-length: 200000"]));
                let _ = client.try_send(&vec![b'x'; random.usize(..200_000)]);
            }
            3 => client.send(&request("GET", "/stream?bytes=300000&chunk=1000&abort_after=150000", &[])),
            _ => {
                assert_eq!(client.get("/home").status(), 200);
                whole += 1;
            }
        }
        if random.bool() {
            client.reset();
        }
    }
    lb.comes_to_rest();
    wait_until("client connections to be closed", || lb.metric("lb_client_connections", &[]) == 0.0);
    let totals = lb.metrics.pool_totals("default");
    assert!(lb.ended_with(200) >= whole && lb.ended_with(499) > 0, "{totals:?}");
    assert_eq!(totals.requests, totals.requests_by_code.values().sum::<u64>());
    for server in &servers {
        wait_until("the backends to have no request", || {
            server.stats().in_progress == 0 && server.stats().in_service == 0
        });
    }
    wait_until("only idle connections to be left", || {
        let open: u64 = servers.iter().map(|server| server.stats().open_connections).sum();
        lb.metric("lb_backend_connections", &["state=\"idle\""]) == open as f64
    });
}
