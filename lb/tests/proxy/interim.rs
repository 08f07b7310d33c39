//! Interim responses (100, 102, 103): each comes once, before the final head, and only to clients that understand them.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use lb_test_support::{Client, Framing, Hostile, chunk, mock, request, request_with, wait_until};

use crate::support::{Setup, ms};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const EXPECT: &str = "expect: 100-continue";

/// The status codes of all heads up to the first final one.
fn statuses(client: &mut Client) -> Vec<u16> {
    let whole = client.whole("POST").unwrap();
    whole.heads.iter().map(|head| head[9..12].parse().unwrap()).collect()
}

#[test]
fn interim_responses_come_in_order_and_before_the_final_one_exists() {
    let (go_on, waiting) = mpsc::channel::<()>();
    let waiting = Mutex::new(waiting);
    let server = Hostile::start(move |_, wire| {
        while wire.head().is_some() {
            wire.write(b"HTTP/1.1 102 Processing\r\n\r\n");
            let _ = waiting.lock().unwrap().recv();
            wire.write(
                b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nconnection: x-hop, close\r\nx-hop: 1\r\n\
                  keep-alive: timeout=1\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\nlink: </b>\r\n\r\n",
            );
            let _ = waiting.lock().unwrap().recv();
            wire.write(OK);
        }
    });
    let lb = Setup::new(&[server.addr]).start();
    let mut client = lb.client();
    for _ in 0..2 {
        client.send(&request("GET", "/", &[]));
        // The backend continues only when the client has the previous response.
        assert_eq!(client.raw_head(), b"HTTP/1.1 102 Processing\r\n\r\n");
        go_on.send(()).unwrap();
        assert_eq!(client.raw_head(), b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nlink: </b>\r\n\r\n");
        go_on.send(()).unwrap();
        assert_eq!(client.answer().text(), "ok");
    }
    lb.comes_to_rest();
    assert_eq!(lb.ended_with(200), 2, "interim responses are not counted");
    assert_eq!(server.accepted(), 1, "a close in an interim response has no effect");
}

#[test]
fn an_http_1_0_client_gets_only_the_final_response() {
    let server = Hostile::answering(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n\
          HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    );
    let lb = Setup::new(&[server.addr]).start();
    let mut client = lb.client();
    for _ in 0..2 {
        client.send(b"GET / HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\nexpect: 100-continue\r\n\r\n");
        assert_eq!(statuses(&mut client), [200]);
    }
    client.send(b"POST / HTTP/1.0\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\nab");
    assert_eq!(statuses(&mut client), [200]);
    lb.comes_to_rest();
}

#[test]
fn a_100_comes_once_and_only_to_a_client_that_waits_for_it() {
    // Sends its own 100 after the body, and then a second one.
    let server = Hostile::start(|_, wire| {
        while crate::mirror::take(wire).is_some() {
            wire.write(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n");
            wire.write(OK);
        }
    });
    let lb = Setup::new(&[server.addr]).start();
    let mut client = lb.client();
    for (field, body) in [("content-length: 5", b"hello".to_vec()), ("transfer-encoding: chunked", chunk(b"hello"))] {
        let end: &[u8] = if field.starts_with('t') { b"0\r\n\r\n" } else { b"" };
        let head = request("POST", "/", &[field, EXPECT]);
        // The client waits: it gets the 100 of lb, and none of the backend.
        client.send(&head);
        assert_eq!(client.raw_head(), b"HTTP/1.1 100 Continue\r\n\r\n");
        client.send(&[&body, end].concat());
        assert_eq!(statuses(&mut client), [200], "{field}");
        // The client does not wait: the body has arrived.
        client.send(&[&head, &body, end].concat());
        assert_eq!(statuses(&mut client), [200], "{field}");
        // The client does not send Expect.
        client.send(&[&request("POST", "/", &[field]), &body, end].concat());
        assert_eq!(statuses(&mut client), [200], "{field}");
    }
    // There is no body to wait for.
    client.send(&request("GET", "/", &[EXPECT]));
    assert_eq!(statuses(&mut client), [200]);
    lb.comes_to_rest();
    assert_eq!((server.accepted(), server.heads().iter().filter(|head| head.contains("expect")).count()), (1, 0));
}

#[test]
fn an_interim_response_forbids_a_retry_only_if_the_client_gets_it() {
    const OLD: &[u8] = b"GET / HTTP/1.0\r\nhost: a\r\n\r\n";
    let new = request("GET", "/", &[]);
    for (request, interim, status) in [(OLD, "103", 200), (&new, "100", 200), (&new, "103", 502)] {
        let accepted = AtomicU64::new(0);
        let script = Arc::new(move |wire: &mut lb_test_support::Wire| {
            wire.head();
            if accepted.fetch_add(1, SeqCst) > 0 {
                return wire.write(OK);
            }
            wire.write(format!("HTTP/1.1 {interim} Interim\r\n\r\n").as_bytes());
        });
        let servers = [(); 2].map(|()| {
            let script = script.clone();
            Hostile::start(move |_, wire| script(wire))
        });
        let lb = Setup::new(&servers.each_ref().map(|server| server.addr)).start();
        let mut client = lb.client();
        client.send(request);
        assert_eq!(statuses(&mut client).last(), Some(&status), "{interim}");
        lb.comes_to_rest();
    }
}

#[test]
fn a_refused_body_gets_no_100() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).limits(|limits| limits.body_bytes = Some(10)).start();
    let mut client = lb.client();
    client.send(&request("POST", "/upload", &[EXPECT, "content-length: 11"]));
    assert_eq!(statuses(&mut client), [413]);
    assert_eq!(client.rest(), b"");
    lb.comes_to_rest();
    assert_eq!(server.stats().requests, 0);
}

#[test]
fn a_final_response_instead_of_a_100_ends_the_connection() {
    let lb = Setup::new(&[]).start();
    // The client may now send the body or not, so lb cannot take the next bytes for a request.
    let mut client = lb.client();
    client.send(&request("POST", "/", &[EXPECT, "content-length: 40"]));
    let answer = client.answer();
    answer.is_own(503, "no_backend");
    assert_eq!(answer.field("connection").as_deref(), Some("close"));
    assert_eq!(client.rest(), b"");
    lb.comes_to_rest();
}

#[test]
fn a_flood_of_interim_responses_waits_for_a_client_that_does_not_read() {
    const HINTS: u64 = 30_000;
    let hint = format!("HTTP/1.1 103 Early Hints\r\nx: {}\r\n\r\n", "y".repeat(970));
    let written = Arc::<AtomicU64>::default();
    let own = written.clone();
    let server = Hostile::start(move |_, wire| {
        while wire.head().is_some() {
            for _ in 0..HINTS {
                wire.write(hint.as_bytes());
                own.fetch_add(1, SeqCst);
            }
            wire.write(OK);
        }
    });
    let lb = Setup::new(&[server.addr]).start();
    let mut client = lb.client();
    socket2::SockRef::from(&client.stream).set_recv_buffer_size(65_536).unwrap();
    client.send(&request("GET", "/", &[]));
    let mut last = (0, Instant::now());
    wait_until("lb to stop reading", || {
        let now = written.load(SeqCst);
        if now > last.0 {
            last = (now, Instant::now());
        }
        now > 0 && last.1.elapsed() > Duration::from_millis(300)
    });
    // About 1 kB each: more cannot fit into four sockets.
    assert!(written.load(SeqCst) < 20_000, "{} interim responses taken for a client that reads nothing", last.0);
    let heads = client.whole("GET").unwrap().heads;
    assert_eq!(heads.len() as u64, HINTS + 1, "no interim response is lost");
    // If a client leaves instead of reading, lb closes the connection to the backend.
    client.send(&request("GET", "/", &[]));
    client.raw(100_000);
    client.reset();
    wait_until("the backend connection to be closed", || server.closed() == 1);
    lb.comes_to_rest();
    assert_eq!((lb.ended_with(200), lb.ended_with(499)), (1, 1));
}

#[test]
fn a_client_that_reads_no_interim_response_times_out_and_not_its_backend() {
    let hint = format!("HTTP/1.1 103 Early Hints\r\nx: {}\r\n\r\n", "y".repeat(15_000));
    let server = Hostile::start(move |_, wire| {
        if wire.head().is_some() {
            while wire.try_write(hint.as_bytes()) {}
        }
    });
    // All sockets are full before this time-out.
    let lb = Setup::new(&[server.addr])
        .timeouts(|timeouts| (timeouts.response_head, timeouts.idle) = (ms(2500), ms(250)))
        .start();
    let mut client = lb.client();
    client.send(&request("GET", "/", &[]));
    wait_until("the client to be cut", || lb.metric("lb_client_connections", &[]) == 0.0 && server.accepted() == 1);
    lb.comes_to_rest();
    assert_eq!((lb.errors("client_timeout"), lb.errors("timeout")), (1, 0));
    assert_eq!(lb.backends[0].stats.consecutive_errors.load(SeqCst), 0);
    drop(client);
}

#[test]
fn a_backend_that_sends_nothing_but_interim_responses_is_504() {
    let server = Hostile::start(|_, wire| {
        let hints = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(1000);
        while wire.head().is_some() {
            while wire.try_write(&hints) {}
        }
    });
    let lb = Setup::new(&[server.addr]).timeouts(|timeouts| timeouts.response_head = ms(250)).start();
    for version in ["1.0", "1.1"] {
        let mut client = lb.client();
        client.send(format!("GET / HTTP/{version}\r\nhost: a\r\nconnection: close\r\n\r\n").as_bytes());
        client.answer().is_own(504, "timeout");
    }
    lb.comes_to_rest();
    assert_eq!(lb.errors("timeout"), 2);
}

#[test]
fn a_client_that_reads_late_gets_the_504_of_its_flooding_backend() {
    let server = Hostile::start(|_, wire| {
        let hints = format!("HTTP/1.1 103 Early Hints\r\nx: {}\r\n\r\n", "y".repeat(970)).repeat(32);
        while wire.head().is_some() {
            while wire.try_write(hints.as_bytes()) {}
        }
    });
    // The time-out of the backend passes while the client blocks the flood. The time-out of the client is much longer.
    let lb = Setup::new(&[server.addr])
        .timeouts(|timeouts| (timeouts.response_head, timeouts.idle) = (ms(250), ms(60_000)))
        .start();
    let mut client = lb.client();
    let began = Instant::now();
    client.send(&request("GET", "/", &["connection: close"]));
    wait_until("the time-out of the backend to pass", || began.elapsed() > ms(500));
    client.answer().is_own(504, "timeout");
    lb.comes_to_rest();
    assert_eq!((lb.errors("timeout"), lb.errors("client_timeout")), (1, 0));
}

#[test]
fn after_an_interim_response_nothing_is_retried() {
    // The first request is served. So the second reuses its connection, and lb would retry such a GET.
    let server = || {
        Hostile::start(|_, wire| {
            if wire.head().is_some() {
                wire.write(OK);
            }
            if wire.head().is_some() {
                wire.write(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n");
            }
        })
    };
    let servers = [server(), server()];
    let lb = Setup::new(&[servers[0].addr, servers[1].addr]).with(|setup| setup.workers = 1).start();
    let mut client = lb.client();
    for _ in 0..2 {
        assert_eq!(client.get("/").status(), 200);
    }
    for times in 1..=2 {
        client.send(&request("GET", "/", &[]));
        assert_eq!(client.head().unwrap().status, 103);
        client.answer().is_own(502, "reset");
        lb.comes_to_rest();
        assert_eq!((lb.errors("reset"), lb.metric("lb_retries_total", &[])), (times, 0.0));
    }
    assert_eq!(servers.each_ref().map(|server| server.heads().len()), [2, 2]);
}

#[test]
fn a_body_after_its_100_is_read_by_its_own_framing() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).start();
    let mut client = lb.client();
    client.send(&request_with("POST", "/upload", &[EXPECT], b"12"));
    client.send(&request_with("POST", "/upload", &[EXPECT, "x: 1"], b"345"));
    for length in [2, 3] {
        let answer = client.answer();
        assert_eq!((answer.framing, answer.text()), (Framing::Length(11), &*format!(r#"{{"bytes":{length}}}"#)));
    }
    lb.comes_to_rest();
}
