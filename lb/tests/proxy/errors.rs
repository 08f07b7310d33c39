//! Failures of a backend before its response: lb retries, or returns an error with one reason.

use lb_test_support::{Hostile, closed_address, mock, wait_until};

use crate::support::{DOWN, Setup, UP};

#[test]
fn a_refused_connection_is_retried_once_on_another_backend() {
    let server = mock("1");
    let lb = Setup::new(&[closed_address(), server.addr]).start();
    let mut client = lb.client();
    for _ in 0..20 {
        assert_eq!(client.get("/home").status(), 200);
        // A body that was not sent yet can go to another backend.
        assert_eq!(client.post("/upload", &[], b"abc").text(), r#"{"bytes":3}"#);
    }
    lb.comes_to_rest();
    let retries = lb.metric("lb_retries_total", &["reason=\"not_sent\""]);
    assert!((10.0..=40.0).contains(&retries), "{retries}");
    assert_eq!(lb.metric("lb_retries_total", &[]), retries);
    assert_eq!(lb.metric("lb_backend_errors_total", &["backend=\"b1\"", "reason=\"connect\""]), retries);
    assert_eq!((server.stats().requests, lb.ended_with(200)), (40, 40));
    assert!(lb.metrics.pool_totals("default").errors_by_reason.is_empty(), "no request failed");
}

#[test]
fn if_all_backends_refuse_the_response_is_502_connect() {
    for servers in [vec![closed_address()], vec![closed_address(), closed_address(), closed_address()]] {
        let lb = Setup::new(&servers).start();
        let mut client = lb.client();
        for _ in 0..5 {
            client.get("/home").is_own(502, "connect");
        }
        lb.comes_to_rest();
        assert_eq!((lb.ended_with(502), lb.errors("connect")), (5, 5));
        assert_eq!(lb.metric("lb_retries_total", &[]), 5.0, "on another backend, or after a pause on the same one");
        assert_eq!(lb.metric("lb_backend_errors_total", &["reason=\"connect\""]), 10.0);
        assert_eq!(lb.metric("lb_client_connections_accepted_total", &[]), 1.0, "the client's connection stays open");
    }
}

#[test]
fn without_retries_a_refused_connection_is_502_at_once() {
    let server = mock("1");
    let lb = Setup::new(&[closed_address(), server.addr]).attempts(1).start();
    let mut client = lb.client();
    let mut codes: Vec<u16> = (0..10).map(|_| client.get("/home").status()).collect();
    codes.sort_unstable();
    assert_eq!(codes, [[200; 5], [502; 5]].concat());
    lb.comes_to_rest();
    assert_eq!(lb.metric("lb_retries_total", &[]), 0.0);
}

#[test]
fn without_an_eligible_backend_the_response_is_503_until_there_is_one() {
    let server = mock("1");
    let setup = Setup::of(&[&server]);
    setup.pools[0].backends[0].set_eligibility(DOWN);
    let pools = setup.pools.clone();
    let lb = setup.start();
    let mut client = lb.client();
    let answer = client.get("/home");
    answer.is_own(503, "no_backend");
    assert_eq!(answer.field("retry-after").as_deref(), Some("1"));
    // The live flag alone is not enough: the picker was made from the old flags and needs its next list.
    lb.backends[0].set_eligibility(UP);
    let number = lb.publish(&pools);
    wait_until("the workers to follow", || lb.hall.is_taken_up(number));
    assert_eq!(client.get("/home").status(), 200);
    // A flag that makes a backend ineligible acts at once.
    lb.backends[0].set_eligibility(DOWN);
    client.get("/home").is_own(503, "no_backend");
    lb.comes_to_rest();
    assert_eq!((lb.errors("no_backend"), lb.ended_with(503)), (2, 2));
}

#[test]
fn a_pool_without_backends_is_503() {
    let lb = Setup::new(&[]).start();
    let mut client = lb.client();
    client.get("/home").is_own(503, "no_backend");
    client.post("/upload", &[], b"abc").is_own(503, "no_backend");
    lb.comes_to_rest();
}

#[test]
fn a_backend_that_closes_before_the_end_of_its_head_is_502_reset() {
    for words in ["", "HTTP/1.1 20", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n"] {
        let server = Hostile::start(|_, wire| {
            wire.head();
            wire.write(words.as_bytes());
        });
        let lb = Setup::new(&[server.addr]).attempts(1).start();
        let mut client = lb.client();
        for _ in 0..3 {
            client.get("/").is_own(502, "reset");
        }
        lb.comes_to_rest();
        assert_eq!(server.heads().len(), 3, "{words:?}");
    }
}

#[test]
fn a_closed_keep_alive_connection_is_retried_for_a_get_and_is_502_for_a_post() {
    // Each connection serves one response. The server reads the second request, then resets the connection.
    let hostile = || {
        Hostile::start(|_, wire| {
            if wire.head().is_some() {
                wire.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
            }
            if wire.head().is_some() {
                wire.reset();
            }
        })
    };
    let server = hostile();
    let lb = Setup::new(&[server.addr]).with(|setup| setup.workers = 1).start();
    let mut client = lb.client();
    for _ in 0..10 {
        assert_eq!(client.get("/").text(), "ok", "lb retries on a new connection to the only backend");
    }
    lb.comes_to_rest();
    assert_eq!(lb.metric("lb_retries_total", &["reason=\"reused_connection\""]), 9.0);
    assert_eq!(lb.metric("lb_backend_errors_total", &["reason=\"reset\""]), 0.0, "such a close is no failure");
    assert_eq!((server.accepted(), server.heads().len()), (10, 19));
    drop(lb);

    let server = hostile();
    let lb = Setup::new(&[server.addr]).with(|setup| setup.workers = 1).start();
    let mut client = lb.client();
    for _ in 0..5 {
        assert_eq!(client.post("/", &[], b"").status(), 200);
        client.post("/", &[], b"").is_own(502, "reset");
    }
    lb.comes_to_rest();
    assert_eq!((server.accepted(), server.heads().len()), (5, 10), "each POST was sent once");
    assert_eq!(lb.metric("lb_retries_total", &[]), 0.0);
}

#[test]
fn an_invalid_response_is_502_bad_response() {
    for garbage in [
        &b"220 mail.test ESMTP ready\r\n\r\n"[..],
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\ncontent-length: two\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: \x00\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: echo\r\nconnection: upgrade\r\n\r\n",
    ] {
        let server = Hostile::answering(garbage);
        let lb = Setup::new(&[server.addr]).start();
        let mut client = lb.client();
        client.get("/").is_own(502, "bad_response");
        client.post("/", &[], b"x").is_own(502, "bad_response");
        lb.comes_to_rest();
        wait_until("the connections to be closed", || server.closed() == 2);
        assert_eq!((server.heads().len(), lb.errors("bad_response")), (2, 2), "{}", garbage.escape_ascii());
    }
}

#[test]
fn an_endless_head_of_a_backend_is_502() {
    let server = Hostile::start(|_, wire| {
        wire.head();
        wire.write(b"HTTP/1.1 200 OK\r\n");
        for _ in 0..40_000 {
            wire.write(b"x-more: and more and more and more\r\n");
        }
        wire.hold();
    });
    let lb = Setup::new(&[server.addr]).start();
    lb.client().get("/").is_own(502, "bad_response");
    lb.comes_to_rest();
}
