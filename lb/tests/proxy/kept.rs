//! Backends that close keep-alive connections without notice: no GET may fail, and no POST may be processed twice.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Instant;

use lb_balance::BudgetRules;
use lb_test_support::{Hostile, Wire, mock_with, request_with, wait_until};

use crate::support::{Balancer, Setup, ms};

/// 16 clients send `each` requests. Returns the number of responses by status.
fn load(lb: &Balancer, each: usize, method: &str, path: &str) -> BTreeMap<u16, u64> {
    let codes = Mutex::new(BTreeMap::<u16, u64>::new());
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let mut client = lb.client();
                for _ in 0..each {
                    let body: &[u8] = if method == "POST" { b"abc" } else { b"" };
                    client.send(&request_with(method, path, &[], body));
                    let code = client.answer().status();
                    *codes.lock().unwrap().entry(code).or_default() += 1;
                }
            });
        }
    });
    lb.comes_to_rest();
    codes.into_inner().unwrap()
}

#[test]
fn no_get_fails_when_backends_close_keep_alive_connections() {
    for (backends, after) in [(1, 1), (1, 3), (3, 1), (3, 2), (3, 7)] {
        let servers: Vec<_> =
            (1..=backends).map(|n| mock_with(&n.to_string(), |options| options.keep_alive_requests = after)).collect();
        let lb = Setup::of(&servers.iter().collect::<Vec<_>>()).start();
        let codes = load(&lb, 100, "GET", "/home");
        assert_eq!(codes, BTreeMap::from([(200, 1600)]), "{backends} backends, closing after {after}");
        assert_eq!(lb.ended_with(200), 1600);
        let served: u64 = servers.iter().map(|server| server.stats().served).sum();
        let connections: u64 = servers.iter().map(|server| server.stats().connections).sum();
        assert!(served >= 1600 && connections >= 1600 / after, "{served} served on {connections} connections");
    }
}

#[test]
fn no_post_is_processed_twice_when_backends_close_keep_alive_connections() {
    for after in [1, 3] {
        let server = mock_with("1", |options| options.keep_alive_requests = after);
        let lb = Setup::of(&[&server]).start();
        let codes = load(&lb, 100, "POST", "/upload");
        let code = |code| codes.get(&code).copied().unwrap_or(0);
        assert_eq!(code(200) + code(502), 1600, "{codes:?}");
        assert_eq!(server.stats().served, code(200), "a POST was served exactly if it got a 200");
        assert_eq!((lb.ended_with(502), lb.errors("reset")), (code(502), code(502)));
        println!("closing after {after}: {codes:?}");
        assert!(code(200) > 800, "most of the closed connections are noticed before a request is sent: {codes:?}");
    }
}

/// Each connection serves one request, then runs `then` behind the head of the second one.
fn serving_one(then: fn(&mut Wire)) -> Hostile {
    Hostile::start(move |_, wire| {
        if wire.head().is_some() {
            wire.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        }
        if wire.head().is_some() {
            then(wire);
        }
    })
}

#[test]
fn a_request_that_was_sent_on_a_closed_connection_is_sent_once_if_resets_are_not_retried() {
    let server = serving_one(Wire::reset);
    let setup = Setup::new(&[server.addr]).retry(|retry| retry.rules.on.reset = false);
    let lb = Setup { workers: 1, ..setup }.start();
    let mut client = lb.client();
    assert_eq!(client.get("/").status(), 200);
    client.get("/").is_own(502, "reset");
    lb.comes_to_rest();
    assert_eq!((server.heads().len(), lb.metric("lb_retries_total", &[])), (2, 0.0));
}

#[test]
fn a_connection_that_ends_long_after_the_request_is_a_failure_of_the_backend_and_needs_budget() {
    let server = serving_one(|wire| {
        let began = Instant::now();
        wait_until("more than the time of a race", || began.elapsed() > ms(1_050));
        wire.reset();
    });
    for (reserve_per_s, retries) in [(0, 0.0), (1, 1.0)] {
        let budget = BudgetRules { percent: 0, reserve_per_s };
        let lb = Setup { workers: 1, ..Setup::new(&[server.addr]).retry(|retry| retry.budget = budget) }.start();
        let mut client = lb.client();
        assert_eq!(client.get("/").status(), 200);
        match reserve_per_s {
            0 => client.get("/").is_own(502, "reset"),
            _ => assert_eq!(client.get("/").status(), 200),
        }
        lb.comes_to_rest();
        let retried = lb.metric("lb_retries_total", &["reason=\"reset\""]);
        assert_eq!((retried, lb.metric("lb_retries_denied_total", &[])), (retries, 1.0 - retries));
    }
}

#[test]
fn an_http_1_0_response_announces_whether_its_connection_ends() {
    let chunked = Hostile::answering(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n");
    let sized = Hostile::answering(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let refused = "TRACE / HTTP/1.0\r\nhost: a\r\n";
    for (server, head, status, connection) in [
        (&sized, "GET / HTTP/1.0\r\n", 200, "close"),
        (&sized, "GET / HTTP/1.0\r\nconnection: close\r\n", 200, "close"),
        (&sized, "GET / HTTP/1.0\r\nconnection: close, keep-alive\r\n", 200, "close"),
        (&sized, "GET / HTTP/1.0\r\nconnection: keep-alive\r\n", 200, "keep-alive"),
        (&sized, "HEAD / HTTP/1.0\r\n", 200, "close"),
        // Without chunks, only the end of the connection can end the body.
        (&chunked, "GET / HTTP/1.0\r\nconnection: keep-alive\r\n", 200, "close"),
        (&chunked, "GET / HTTP/1.0\r\n", 200, "close"),
        (&sized, refused, 405, "close"),
        (&sized, "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n", 200, "close"),
    ] {
        let lb = Setup::new(&[server.addr]).start();
        let mut client = lb.client();
        client.send(format!("{head}\r\n").as_bytes());
        let method = head.split(' ').next().unwrap();
        let answer = client.answer_to(method).unwrap();
        assert_eq!((answer.status(), answer.field("connection").as_deref()), (status, Some(connection)), "{head:?}");
        if connection == "close" {
            assert_eq!(client.rest(), b"", "{head:?}");
        } else {
            assert_eq!(client.get("/").status(), 200, "{head:?}");
        }
        lb.comes_to_rest();
    }
}

#[test]
fn a_connection_with_a_204_that_declares_a_body_is_not_reused() {
    // The body would be taken for the response to the next request. The real response would then go to another client.
    for (declared, connections) in
        [("content-length: 5", 2), ("transfer-encoding: chunked", 2), ("content-length: 0", 1)]
    {
        let answer = format!("HTTP/1.1 204 No Content\r\n{declared}\r\n\r\n");
        let server = Hostile::start(move |_, wire| {
            while wire.head().is_some() {
                wire.write(answer.as_bytes());
            }
        });
        let lb = Setup { workers: 1, ..Setup::new(&[server.addr]) }.start();
        for _ in 0..2 {
            assert_eq!(lb.client().get("/").status(), 204, "{declared}");
        }
        lb.comes_to_rest();
        assert_eq!(server.accepted(), connections, "{declared}");
    }
}
