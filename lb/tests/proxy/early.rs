//! A backend responds while its client still sends. lb sends the response at once. The upload continues or is cut, and
//! no side waits for ever.

use std::io::{Read, Write};
use std::sync::{Mutex, mpsc};

use lb_test_support::{Client, Framing, Hostile, PATIENCE, chunk, request, wait_until};

use crate::support::{Setup, ms};

const MIB: usize = 1 << 20;
const CHUNKED: &str = "transfer-encoding: chunked";

/// Ends a chunked response and its request: the last chunk of both.
const LAST: &[u8] = b"0\r\n\r\n";

#[test]
fn an_upload_that_continues_during_its_response_leaves_both_connections_usable() {
    let server = Hostile::start(|_, wire| {
        while wire.head().is_some() {
            wire.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nearly\r\n");
            wire.raw_until(LAST);
            wire.write(b"4\r\nlate\r\n0\r\n\r\n");
        }
    });
    let lb = Setup::new(&[server.addr]).start();
    let mut client = lb.client();
    for _ in 0..3 {
        client.send(&request("POST", "/", &[CHUNKED]));
        client.send(&chunk(b"first"));
        let head = client.head().unwrap();
        assert_eq!((head.status, client.raw(10)), (200, b"5\r\nearly\r\n".to_vec()), "before the end of the upload");
        client.send(&chunk(&vec![b'x'; MIB]));
        client.send(LAST);
        client.body(Framing::Chunked, |bytes| assert_eq!(bytes, b"late")).unwrap();
    }
    lb.comes_to_rest();
    assert_eq!((server.accepted(), lb.ended_with(200)), (1, 3));
    assert_eq!(lb.metric("lb_request_bytes_total", &[]), 3.0 * (MIB as f64 + 5.0), "the upload is counted to its end");
    assert_eq!(lb.metric("lb_client_connections_accepted_total", &[]), 1.0);
}

#[test]
fn a_connection_with_a_partly_read_request_is_not_reused() {
    let server = Hostile::start(|_, wire| {
        if wire.head().is_some() {
            wire.write(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno");
            wire.ignore();
        }
    });
    let lb = Setup::new(&[server.addr]).start();
    for field in [CHUNKED, "content-length: 100000000"] {
        let mut client = lb.client();
        client.send(&request("POST", "/", &[field]));
        let answer = client.answer();
        assert_eq!((answer.status(), answer.text()), (403, "no"));
        // The next bytes of the client may be the rest of its body, so lb does not read them as a request.
        let _ = client.try_send(&request("GET", "/smuggled", &[]));
        assert_eq!(client.rest(), b"");
    }
    lb.comes_to_rest();
    assert!(server.heads().iter().all(|head| head.starts_with("POST ")), "{:?}", server.heads());
    assert_eq!((server.accepted(), lb.ended_with(403)), (2, 2));
}

#[test]
fn a_response_made_by_lb_announces_whether_the_connection_stays_open() {
    let lb = Setup::new(&[]).start();
    let mut client = lb.client();
    // lb reads a body that has already arrived, although no backend gets it.
    for body in [&b""[..], &[b'x'; 5], &[b'x'; 5000]] {
        let answer = client.post("/", &[], body);
        answer.is_own(503, "no_backend");
        assert_eq!(answer.field("connection"), None);
    }
    client.send(&request("POST", "/", &["content-length: 5"]));
    let answer = client.answer();
    answer.is_own(503, "no_backend");
    assert_eq!(answer.field("connection").as_deref(), Some("close"), "the next bytes may be the body");
    assert_eq!(client.rest(), b"");
    lb.comes_to_rest();
}

#[test]
fn the_response_of_a_backend_that_stops_reading_reaches_a_client_that_still_sends() {
    let server = Hostile::start(|_, wire| {
        if wire.head().is_some() {
            wire.write(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno");
            wire.ignore();
        }
    });
    let lb = Setup::new(&[server.addr]).start();
    for _ in 0..3 {
        let mut client = lb.client();
        client.send(&request("POST", "/", &[&format!("content-length: {}", 64 * MIB)]));
        let mut writer = client.stream.try_clone().unwrap();
        std::thread::scope(|scope| {
            // Fails when lb closes the connection.
            scope.spawn(move || (0..64).try_for_each(|_| writer.write_all(&vec![b'x'; MIB])).is_err());
            let answer = client.answer();
            assert_eq!((answer.status(), answer.text()), (403, "no"));
        });
    }
    lb.comes_to_rest();
    assert_eq!(lb.ended_with(403), 3);
}

#[test]
fn an_echo_of_more_than_sockets_hold_does_not_stall() {
    const BYTES: usize = 48 * MIB;
    let server = Hostile::start(|_, wire| {
        while let Some(head) = wire.head() {
            let mut left = if head.starts_with("POST") { BYTES } else { 0 };
            wire.write(format!("HTTP/1.1 200 OK\r\ncontent-length: {left}\r\n\r\n").as_bytes());
            while left > 0 {
                let Some(piece) = wire.raw(left.min(65_536)) else { return };
                wire.write(&piece);
                left -= piece.len();
            }
        }
    });
    let lb = Setup::new(&[server.addr]).with(|setup| setup.workers = 1).start();
    let mut client = lb.client();
    client.send(&request("POST", "/", &[&format!("content-length: {BYTES}")]));
    let mut writer = client.stream.try_clone().unwrap();
    let block: Vec<u8> = (0..=255).cycle().take(MIB).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| (0..BYTES / MIB).for_each(|_| writer.write_all(&block).unwrap()));
        let head = client.head().unwrap();
        let mut at = 0_usize;
        let check = |bytes: &[u8]| {
            assert!(bytes.iter().zip(at..).all(|(byte, at)| *byte == at as u8), "wrong bytes after {at}");
            at += bytes.len();
        };
        client.body(head.framing("POST"), check).unwrap();
        assert_eq!(at, BYTES);
    });
    assert_eq!(client.get("/").status(), 200);
    drop(client);
    lb.comes_to_rest();
    assert_eq!(server.accepted(), 1);
}

#[test]
fn a_client_that_reads_only_after_its_upload_gets_a_long_early_response() {
    const BYTES: usize = 24 * MIB;
    let (tell, told) = mpsc::channel();
    let tell = Mutex::new(tell);
    // Reads and writes at the same time, with a thread for each.
    let server = Hostile::start(move |_, wire| {
        if wire.head().is_none() {
            return;
        }
        let mut writer = wire.clone_stream();
        let writing = std::thread::spawn(move || {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {BYTES}\r\n\r\n");
            let _ = writer.write_all(head.as_bytes());
            let _ = (0..BYTES / MIB).try_for_each(|_| writer.write_all(&[b'y'; MIB]));
        });
        let body = wire.raw(BYTES).map(|body| body.len());
        tell.lock().unwrap().send(body).unwrap();
        let _ = writing.join();
    });
    let lb = Setup::new(&[server.addr]).start();
    let mut client = lb.client();
    client.send(&request("POST", "/", &[&format!("content-length: {BYTES}")]));
    assert_eq!(client.head().unwrap().status, 200);
    (0..BYTES / MIB).for_each(|_| client.send(&[b'x'; MIB]));
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), Some(BYTES), "the upload continued");
    let mut length = 0;
    client.body(Framing::Length(BYTES as u64), |bytes| length += bytes.len()).unwrap();
    assert_eq!(length, BYTES);
    lb.comes_to_rest();
}

/// A backend that sends a head and the first chunk, then waits for the whole upload before it continues.
fn waiting_for_all() -> Hostile {
    Hostile::start(|_, wire| {
        while wire.head().is_some() {
            wire.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nearly\r\n");
            if wire.raw_until(LAST).is_none() {
                return;
            }
            wire.write(LAST);
        }
    })
}

/// A client whose response has begun and whose upload has not ended.
fn uploading(lb: &crate::support::Balancer) -> Client {
    let mut client = lb.client();
    client.send(&request("POST", "/", &[CHUNKED]));
    client.send(&chunk(b"first"));
    assert_eq!((client.head().unwrap().status, client.raw(10)), (200, b"5\r\nearly\r\n".to_vec()));
    client
}

#[test]
fn a_client_that_leaves_during_its_upload_after_an_early_response_releases_the_backend() {
    let server = waiting_for_all();
    let lb = Setup::new(&[server.addr]).start();
    for times in 1..=4 {
        let mut client = uploading(&lb);
        match times {
            1 => drop(client),
            2 => client.reset(),
            3 => {
                client.end_sending();
                assert!(client.body(Framing::Chunked, |_| {}).is_err(), "a partial body is an error");
            }
            _ => {
                client.send(b"no chunk\r\n");
                assert!(client.body(Framing::Chunked, |_| {}).is_err(), "a partial body is an error");
            }
        }
        wait_until("the backend connection to be closed", || server.closed() == times);
        lb.comes_to_rest();
    }
    assert_eq!((lb.errors("client_abort"), lb.errors("bad_request"), lb.errors("timeout")), (3, 1, 0));
    assert_eq!(lb.ended_with(499), 3);
    assert_eq!(lb.backends[0].stats.consecutive_errors.load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[test]
fn a_stall_after_an_early_response_counts_against_the_client_and_not_the_backend() {
    let server = waiting_for_all();
    let lb = Setup::new(&[server.addr]).timeouts(|timeouts| timeouts.idle = ms(250)).start();
    let mut client = uploading(&lb);
    assert!(client.body(Framing::Chunked, |_| {}).is_err());
    lb.comes_to_rest();
    assert_eq!((lb.errors("client_timeout"), lb.errors("timeout")), (1, 0));
    assert_eq!(lb.backends[0].stats.consecutive_errors.load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[test]
fn an_upload_with_progress_keeps_its_early_response_open() {
    let server = waiting_for_all();
    let lb = Setup::new(&[server.addr]).timeouts(|timeouts| timeouts.idle = ms(2000)).start();
    let mut client = uploading(&lb);
    // The client sends single bytes for longer than the idle time-out. After each, it expects no data for 50 ms.
    client.stream.set_read_timeout(Some(ms(50))).unwrap();
    let started = std::time::Instant::now();
    while started.elapsed() < ms(3500) {
        client.send(&chunk(b"x"));
        assert!(client.stream.read(&mut [0]).is_err(), "the response has no new bytes");
    }
    client.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    client.send(LAST);
    client.body(Framing::Chunked, |_| {}).unwrap();
    lb.comes_to_rest();
    assert_eq!(lb.ended_with(200), 1);
}
