//! Every wait has a time-out, and the error names the late side: the client, the backend, or neither.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use lb_test_support::{Broken, Client, Hostile, chunk, mock, request, wait_until};
use mock_server::Change;
use socket2::{Domain, Socket, Type};

use crate::support::{Setup, ms};

/// Short compared with the 30 s of other time-outs, long enough for a busy machine.
const SHORT: Duration = ms(250);

/// Long enough for a response to begin on a busy machine.
const TOTAL: Duration = ms(1500);

/// Runs `wait` and checks that it took as long as the time-out that must end it.
fn within<T>(timeout: Duration, wait: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let result = wait();
    let elapsed = started.elapsed();
    assert!(elapsed + ms(20) >= timeout && elapsed < timeout + ms(5000), "{elapsed:?} instead of {timeout:?}");
    result
}

/// A listening socket whose queue is full, so a new connection waits.
fn full_queue() -> (SocketAddr, Vec<TcpStream>, Socket) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, ms(100)) {
        queued.push(stream);
    }
    (address, queued, socket)
}

#[test]
fn a_silent_backend_is_504_after_the_time_out() {
    let servers = [mock("1"), mock("2")];
    servers.iter().for_each(|server| server.change(&Change { stall: Some(true), ..Change::default() }).unwrap());
    let lb = Setup::of(&servers.each_ref()).timeouts(|timeouts| timeouts.response_head = SHORT).attempts(1).start();
    let mut client = lb.client();
    within(SHORT, || client.get("/home").is_own(504, "timeout"));
    within(SHORT, || client.post("/upload", &[], b"abc").is_own(504, "timeout"));
    lb.comes_to_rest();
    assert_eq!((lb.errors("timeout"), lb.ended_with(504)), (2, 2));
    assert_eq!(lb.metric("lb_backend_errors_total", &["reason=\"timeout\""]), 2.0);
    assert_eq!(servers.iter().map(|server| server.stats().requests).sum::<u64>(), 2);
    wait_until("the backends' connections to be closed", || servers.iter().all(|s| s.stats().open_connections == 0));
    servers.iter().for_each(|server| server.change(&Change { stall: Some(false), ..Change::default() }).unwrap());
    assert_eq!(client.get("/home").status(), 200, "the client's connection stays open");
}

#[test]
fn a_connection_that_takes_too_long_is_retried_on_another_backend_or_504() {
    let (address, _queued, _socket) = full_queue();
    let server = mock("1");
    let lb = Setup::new(&[address]).timeouts(|timeouts| timeouts.connect = SHORT).start();
    within(SHORT, || lb.client().get("/home").is_own(504, "connect_timeout"));
    lb.comes_to_rest();
    assert_eq!(lb.errors("connect_timeout"), 1);

    let lb = Setup::new(&[address, server.addr]).timeouts(|timeouts| timeouts.connect = SHORT).start();
    let mut client = lb.client();
    assert_eq!([client.get("/home").status(), client.get("/home").status()], [200, 200]);
    lb.comes_to_rest();
    assert!(lb.metric("lb_backend_errors_total", &["backend=\"b1\"", "reason=\"connect_timeout\""]) >= 1.0);
}

#[test]
fn a_connection_takes_no_longer_than_the_whole_request_may() {
    let (address, _queued, _socket) = full_queue();
    let lb = Setup::new(&[address; 2]).timeouts(|timeouts| timeouts.total = Some(SHORT)).attempts(5).start();
    within(SHORT, || lb.client().get("/home").is_own(504, "connect_timeout"));
    lb.comes_to_rest();
    assert_eq!(lb.metric("lb_retries_total", &[]), 0.0);
}

#[test]
fn a_post_that_timed_out_is_sent_once_on_a_new_and_on_a_kept_connection() {
    let servers = [(); 2].map(|()| {
        Hostile::start(|_, wire| {
            while wire.head().is_some_and(|head| head.starts_with("GET")) {
                wire.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
            }
            wire.hold();
        })
    });
    let setup = Setup::new(&servers.each_ref().map(|server| server.addr)).with(|setup| setup.workers = 1);
    let lb = setup.timeouts(|timeouts| timeouts.response_head = ms(1_000)).attempts(5).start();
    let mut client = lb.client();
    for body in [&b""[..], b"abcd"] {
        for warm in [0, 2] {
            (0..warm).for_each(|_| assert_eq!(client.get("/").status(), 200));
            client.post("/", &[], body).is_own(504, "timeout");
        }
    }
    lb.comes_to_rest();
    let heads = servers.iter().flat_map(Hostile::heads);
    assert_eq!(heads.filter(|head| head.starts_with("POST")).count(), 4);
}

#[test]
fn a_slow_head_is_408_even_if_each_byte_comes_in_time() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).timeouts(|timeouts| timeouts.head = SHORT).start();
    let mut client = lb.client();
    client.send(b"GET /home HTTP/1.1\r\nhost: a\r\n");
    within(SHORT, || client.answer().is_own(408, "client_timeout"));
    assert_eq!(client.rest(), b"");

    // Each byte comes in time, but the whole head does not. The time counts from the first byte.
    let mut client = lb.client();
    client.stream.set_read_timeout(Some(ms(20))).unwrap();
    within(SHORT, || {
        for byte in b"GET /home HTTP/1.1\r\nx: ".iter().chain(std::iter::repeat(&b'x')) {
            let mut peeked = [0];
            if client.try_send(&[*byte]).is_err() || client.stream.peek(&mut peeked).is_ok() {
                break;
            }
        }
    });
    client.stream.set_read_timeout(Some(lb_test_support::PATIENCE)).unwrap();
    client.answer().is_own(408, "client_timeout");
    client.rest();

    // Also after a request that was served.
    let mut client = lb.client();
    assert_eq!(client.get("/home").status(), 200);
    client.send(b"GET /ho");
    within(SHORT, || client.answer().is_own(408, "client_timeout"));
    assert_eq!(client.rest(), b"");
    lb.comes_to_rest();
    assert_eq!((lb.errors("client_timeout"), server.stats().requests), (3, 1));
}

#[test]
fn a_connection_without_a_request_is_closed_without_a_response() {
    let server = mock("1");
    let times = |head, keep_alive| {
        let setup = Setup::of(&[&server]);
        setup.timeouts(|timeouts| (timeouts.head, timeouts.client_keep_alive) = (head, keep_alive)).start()
    };
    let lb = times(SHORT, ms(30_000));
    within(SHORT, || assert_eq!(lb.client().rest(), b""));
    let lb = times(ms(30_000), SHORT);
    let mut client = lb.client();
    for _ in 0..3 {
        assert_eq!(client.get("/home").status(), 200);
    }
    within(SHORT, || assert_eq!(client.rest(), b""));
    lb.comes_to_rest();
    wait_until("the connection to be closed", || lb.metric("lb_client_connections", &[]) == 0.0);
    assert_eq!(lb.errors("client_timeout"), 0);
}

#[test]
fn an_incomplete_head_ends_without_a_response() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).start();
    for part in ["", "G", "GET /home HTTP/1.1\r\n", "GET /home HTTP/1.1\r\nhost: a\r\n"] {
        let mut client = lb.client();
        client.send(part.as_bytes());
        client.end_sending();
        let rest = client.rest();
        assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 400"), "{}", rest.escape_ascii());
    }
    lb.comes_to_rest();
    assert_eq!(lb.metrics.pool_totals("default").requests, 0);
    wait_until("the connections to be closed", || lb.metric("lb_client_connections", &[]) == 0.0);
}

#[test]
fn a_client_that_stalls_in_its_body_is_408_and_counts_against_no_backend() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).timeouts(|timeouts| timeouts.idle = SHORT).start();
    for (field, part) in [
        ("content-length: 10", b"12345".to_vec()),
        ("transfer-encoding: chunked", chunk(b"12345")),
        ("content-length: 1", vec![]),
    ] {
        let mut client = lb.client();
        client.send(&[request("POST", "/upload", &[field]), part].concat());
        within(SHORT, || client.answer().is_own(408, "client_timeout"));
        assert_eq!(client.rest(), b"");
    }
    lb.comes_to_rest();
    assert_eq!((lb.errors("client_timeout"), lb.ended_with(408)), (3, 3));
    wait_until("the backend's connections to be closed", || server.stats().open_connections == 0);
    assert_eq!(lb.backends[0].stats.consecutive_errors.load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[test]
fn a_backend_that_does_not_read_a_body_is_504_and_counted() {
    let server = Hostile::start(|_, wire| {
        wire.head();
        wire.ignore();
    });
    let lb = Setup::new(&[server.addr]).timeouts(|timeouts| timeouts.idle = SHORT).start();
    let mut client = lb.client();
    let _ = client.stream.set_write_timeout(Some(ms(5_000)));
    let _ = client.try_send(&request("POST", "/", &["content-length: 100000000"]));
    // The client always has more to send than all buffers on the way can hold.
    let block = vec![b'x'; 1 << 20];
    while client.try_send(&block).is_ok() {}
    client.answer().is_own(504, "timeout");
    lb.comes_to_rest();
    assert_eq!((lb.errors("timeout"), lb.errors("client_timeout")), (1, 0));
    assert_eq!(lb.metric("lb_backend_errors_total", &["reason=\"timeout\""]), 1.0);
}

#[test]
fn a_client_that_stops_reading_is_cut_and_its_backend_released() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).timeouts(|timeouts| timeouts.idle = SHORT).start();
    let mut client = lb.client();
    client.send(&request("GET", "/stream?bytes=1000000000&chunk=65536&length=1", &[]));
    assert_eq!(client.head().unwrap().status, 200);
    wait_until("the request to be aborted", || lb.ended_with(499) == 1);
    lb.comes_to_rest();
    assert_eq!(lb.errors("client_abort"), 1);
    wait_until("the backend's connection to be closed", || server.stats().open_connections == 0);
    assert!(matches!(client.body(lb_test_support::Framing::Length(1_000_000_000), |_| {}), Err(Broken::Short { .. })));
}

#[test]
fn a_backend_that_stalls_in_its_body_is_cut_and_counted() {
    for path in
        ["/stream?bytes=1000&chunk=100&interval_ms=60000&length=1", "/stream?bytes=1000&chunk=100&interval_ms=60000"]
    {
        let server = mock("1");
        let lb = Setup::of(&[&server]).timeouts(|timeouts| timeouts.idle = SHORT).start();
        let mut client = lb.client();
        client.send(&request("GET", path, &[]));
        let broken = within(SHORT, || client.answer_to("GET").unwrap_err());
        assert_eq!(broken, Broken::Short { what: "body", bytes: 100 });
        lb.comes_to_rest();
        assert_eq!((lb.errors("timeout"), lb.ended_with(200)), (1, 1));
        wait_until("the backend's connection to be closed", || server.stats().open_connections == 0);
    }
}

#[test]
fn a_slow_but_steady_body_is_not_cut_by_the_idle_time_out() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).timeouts(|timeouts| timeouts.idle = ms(1_000)).start();
    let started = Instant::now();
    assert_eq!(lb.client().get("/stream?bytes=12&chunk=1&interval_ms=120").body, b"abcdefghijkl");
    assert!(started.elapsed() > ms(1_100), "the whole body takes longer than the idle time-out");
    lb.comes_to_rest();
}

#[test]
fn the_total_time_ends_a_request_in_every_phase() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).timeouts(|timeouts| timeouts.total = Some(TOTAL)).start();
    let mut client = lb.client();
    client.send(&request("GET", "/home", &["x-service-time-us: 20000000"]));
    within(TOTAL, || client.answer().is_own(504, "timeout"));
    client.send(&request("GET", "/stream?bytes=1000000&chunk=1&interval_ms=20&length=1", &[]));
    let broken = within(TOTAL, || client.answer_to("GET").unwrap_err());
    assert!(matches!(broken, Broken::Short { what: "body", bytes: 1.. }), "{broken:?}");
    lb.comes_to_rest();
    assert_eq!((lb.errors("timeout"), lb.ended_with(504), lb.ended_with(200)), (2, 1, 1));
    assert_eq!(lb.client().get("/home").status(), 200);
}

#[test]
fn the_total_time_ends_a_response_that_its_client_does_not_read() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).timeouts(|timeouts| timeouts.total = Some(TOTAL)).start();
    let mut client = lb.client();
    client.send(&request("GET", "/stream?bytes=1000000000&chunk=65536&length=1", &[]));
    within(TOTAL, || wait_until("the request to be aborted", || lb.ended_with(499) == 1));
    lb.comes_to_rest();
    assert_eq!(lb.errors("client_abort"), 1);
    wait_until("the backend's connection to be closed", || server.stats().open_connections == 0);
}

#[test]
fn unused_connections_to_a_backend_are_closed_after_their_time() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).timeouts(|timeouts| timeouts.upstream_idle = ms(100)).start();
    let mut clients: Vec<Client> = (0..4).map(|_| lb.client()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.get("/home").status(), 200));
    wait_until("unused connections to be closed", || server.stats().open_connections == 0);
    // The server sees the end of a connection before lb counts it.
    wait_until("no idle connection", || lb.metric("lb_backend_connections", &["state=\"idle\""]) == 0.0);
    clients.iter_mut().for_each(|client| assert_eq!(client.get("/home").status(), 200));
    lb.comes_to_rest();
}
