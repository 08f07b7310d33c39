//! The drain at a stop: no new connections, running requests finish, and lb cuts and counts those that take too long.

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use lb_test_support::{Client, PATIENCE, mock, request, wait_until};
use mock_server::Change;

use crate::support::{Setup, ms};

fn stall(server: &mock_server::Running, on: bool) {
    server.change(&Change { stall: Some(on), ..Change::default() }).unwrap();
}

#[test]
fn idle_connections_are_closed_and_no_request_is_cut() {
    let server = mock("1");
    let mut lb = Setup::of(&[&server]).start();
    let mut clients: Vec<Client> = (0..10).map(|_| lb.client()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.get("/home").status(), 200));
    let started = Instant::now();
    assert_eq!(lb.drain(PATIENCE), 0);
    assert!(started.elapsed() < Duration::from_secs(10), "nothing was in flight");
    clients.iter_mut().for_each(|client| assert_eq!(client.rest(), b""));
    assert!(TcpStream::connect(lb.address).is_err());
    wait_until("connections to the backend to be closed", || server.stats().open_connections == 0);
}

#[test]
fn a_running_request_gets_its_response_and_new_connections_are_refused() {
    let server = mock("1");
    let mut lb = Setup::of(&[&server]).start();
    let (address, backend) = (lb.address, lb.backends[0].clone());
    let (mut waiting, mut uploading, mut reading) = (lb.client(), lb.client(), lb.client());
    let mut idle: Vec<Client> = (0..9).map(|_| lb.client()).collect(); // Each worker has some.
    idle.iter_mut().for_each(|client| assert_eq!(client.get("/home").status(), 200));
    reading.send(&request("GET", "/stream?bytes=50000000&length=1", &[]));
    assert_eq!(reading.head().unwrap().status, 200);
    stall(&server, true);
    waiting.send(&request("GET", "/home", &[]));
    uploading.send(&request("POST", "/upload", &["content-length: 6"]));
    uploading.send(b"abc");
    wait_until("all requests to be in flight", || backend.in_flight() == 3 && server.stats().in_progress >= 2);
    std::thread::scope(|scope| {
        let draining = scope.spawn(|| lb.drain(PATIENCE));
        wait_until("the listener to be closed", || TcpStream::connect(address).is_err());
        idle.iter_mut()
            .for_each(|client| assert_eq!(client.rest(), b"", "idle connections close as soon as their worker drains"));
        assert!(!draining.is_finished());
        uploading.send(b"def");
        stall(&server, false);
        let answer = waiting.answer();
        assert_eq!((answer.status(), answer.field("connection").as_deref()), (200, Some("close")));
        assert_eq!(uploading.answer().text(), r#"{"bytes":6}"#);
        reading.body(lb_test_support::Framing::Length(50_000_000), |_| {}).unwrap();
        for client in [&mut waiting, &mut uploading, &mut reading] {
            assert_eq!(client.rest(), b"");
        }
        assert_eq!(draining.join().unwrap(), 0);
    });
    lb.comes_to_rest();
    assert!(lb.metrics.pool_totals("default").errors_by_reason.is_empty());
}

#[test]
fn requests_sent_before_the_drain_get_their_response() {
    let server = mock("1");
    for _ in 0..5 {
        let mut lb = Setup::of(&[&server]).start();
        let mut kept: Vec<Client> = (0..10).map(|_| lb.client()).collect();
        kept.iter_mut().for_each(|client| assert_eq!(client.get("/home").status(), 200));
        let mut fresh: Vec<Client> = (0..40).map(|_| lb.client()).collect();
        // Requests count even if their connection is still in the accept queue.
        kept.iter_mut().chain(&mut fresh).for_each(|client| client.send(&request("GET", "/home", &[])));
        assert_eq!(lb.drain(PATIENCE), 0);
        for client in kept.iter_mut().chain(&mut fresh) {
            assert_eq!(client.answer_to("GET").map(|answer| answer.status()), Ok(200));
        }
    }
}

#[test]
fn a_tunnel_is_cut_at_the_time_limit_and_counted() {
    let server = mock("1");
    let mut lb = Setup::of(&[&server]).start();
    let mut clients = [lb.client(), lb.client(), lb.client()];
    for client in &mut clients[..2] {
        client.send(&request("GET", "/echo", &["connection: upgrade", "upgrade: echo"]));
        assert_eq!(client.answer().status(), 101);
    }
    stall(&server, true);
    clients[2].send(&request("GET", "/home", &[]));
    wait_until("all requests to be in flight", || lb.backends[0].in_flight() == 3);
    let started = Instant::now();
    assert_eq!(lb.drain(ms(300)), 3);
    assert!(started.elapsed() >= ms(300) && started.elapsed() < Duration::from_secs(10));
    clients.iter_mut().for_each(|client| assert_eq!(client.rest(), b""));
    lb.comes_to_rest();
    stall(&server, false);
    wait_until("connections to the backend to be closed", || server.stats().open_connections == 0);
}

#[test]
fn a_drain_under_new_connections_ends_and_breaks_no_response() {
    let server = mock("1");
    let mut lb = Setup::of(&[&server]).start();
    let (address, stop, served) = (lb.address, AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while !stop.load(SeqCst) {
                    let Ok(mut client) = Client::try_connect(address) else { continue };
                    if client.try_send(&request("GET", "/home", &[])).is_err() {
                        continue;
                    }
                    // A client that comes too late gets nothing. No client gets a partial response.
                    match client.answer_to("GET") {
                        Ok(answer) => {
                            assert_eq!(answer.status(), 200);
                            served.fetch_add(1, SeqCst);
                        }
                        Err(broken) => assert_eq!(broken, lb_test_support::Broken::Silent),
                    }
                }
            });
        }
        wait_until("some requests to be served", || served.load(SeqCst) > 200);
        let started = Instant::now();
        assert_eq!(lb.drain(PATIENCE), 0);
        assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
        stop.store(true, SeqCst);
    });
    lb.comes_to_rest();
    assert!(lb.ended_with(200) >= served.load(SeqCst));
}
