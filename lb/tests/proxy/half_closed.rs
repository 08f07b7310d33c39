//! Half-closed clients. After a complete request, the client still waits for its response. Inside a request, the close
//! aborts the request.

use std::io::Read;
use std::sync::{Mutex, mpsc};

use lb_test_support::{Broken, Framing, Hostile, PATIENCE, chunk, mock, request, request_with, wait_until};

use crate::mirror::Probe;
use crate::support::{Setup, ms};

const SHORT: std::time::Duration = ms(250);

/// Responds to `/probe` at once, and to other requests when the channel has a message.
fn patient(waiting: mpsc::Receiver<()>) -> Hostile {
    let waiting = Mutex::new(waiting);
    Hostile::start(move |_, wire| {
        while let Some(head) = wire.head() {
            if !head.contains(" /probe ") {
                let _ = waiting.lock().unwrap().recv();
            }
            wire.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        }
    })
}

#[test]
fn a_half_closed_client_gets_its_whole_response_and_then_the_end() {
    const MIB: u64 = 1 << 20;
    let server = mock("1");
    let lb = Setup::of(&[&server]).start();
    let large = |length: &str| request("GET", &format!("/stream?bytes={}&chunk=65536{length}", 8 * MIB), &[]);
    for (bytes, framing) in [
        (request("GET", "/home", &[]), None),
        (request_with("POST", "/upload", &[], &[b'x'; 100_000]), None),
        (large("&length=1"), Some(Framing::Length(8 * MIB))),
        (large(""), Some(Framing::Chunked)),
    ] {
        let mut client = lb.client();
        client.send(&bytes);
        client.end_sending();
        let head = client.head().unwrap();
        let mut length = 0;
        client.body(head.framing("GET"), |bytes| length += bytes.len() as u64).unwrap();
        if let Some(framing) = framing {
            assert_eq!((head.framing("GET"), length), (framing, 8 * MIB));
        }
        assert_eq!(head.status, 200);
        assert_eq!(client.stream.read(&mut [0]).unwrap(), 0, "a close without a reset");
    }
    lb.comes_to_rest();
    assert_eq!((lb.ended_with(200), lb.ended_with(499)), (4, 0));
}

#[test]
fn a_half_closed_client_waits_for_a_slow_backend() {
    let (go_on, waiting) = mpsc::channel();
    let server = patient(waiting);
    let lb = Setup::new(&[server.addr]).with(|setup| setup.workers = 1).start();
    let mut probe = Probe::new(&lb);
    for times in 1..=2 {
        let mut client = lb.client();
        client.send(&request("GET", "/slow", &[]));
        client.end_sending();
        wait_until("the request to be at the backend", || {
            server.heads().iter().filter(|head| head.contains("/slow ")).count() == times
        });
        probe.pass();
        go_on.send(()).unwrap();
        assert_eq!(client.answer().text(), "ok");
        assert_eq!(client.rest(), b"");
    }
    lb.comes_to_rest();
    assert_eq!((lb.ended_with(200), lb.ended_with(499)), (4, 0));
}

#[test]
fn a_half_closed_client_without_progress_is_499_and_its_backend_released() {
    // The backend sends nothing, or stops after a part of its body.
    for part in ["", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello", "HTTP/1.1 200 OK\r\n\r\nhello"] {
        let server = Hostile::start(move |_, wire| {
            if wire.head().is_some() {
                wire.write(part.as_bytes());
                wire.hold();
            }
        });
        let lb = Setup::new(&[server.addr]).timeouts(|timeouts| timeouts.half_closed = SHORT).start();
        for version in ["1.1", "1.0"] {
            let mut client = lb.client();
            client.send(format!("GET / HTTP/{version}\r\nhost: a\r\n\r\n").as_bytes());
            if part.is_empty() {
                client.end_sending();
                assert_eq!(client.answer_to("GET").unwrap_err(), Broken::Silent);
            } else {
                // The time-out is short: it must not begin before the backend has begun to respond.
                let head = client.head().unwrap();
                client.end_sending();
                let broken = client.body(head.framing("GET"), |_| {}).unwrap_err();
                assert!(matches!(broken, Broken::Short { .. }), "{version}, {part:?}");
            }
        }
        lb.comes_to_rest();
        assert_eq!((lb.ended_with(499), lb.errors("client_abort")), (2, 2), "{part:?}");
        wait_until("the backend to be let go", || server.closed() == 2);
        assert_eq!(lb.backends[0].stats.consecutive_errors.load(std::sync::atomic::Ordering::Relaxed), 0);
    }
}

#[test]
fn a_half_closed_client_is_kept_as_long_as_its_response_has_progress() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).timeouts(|timeouts| timeouts.half_closed = ms(2000)).start();
    let mut client = lb.client();
    // The response takes 3 s, in steps of 100 ms.
    client.send(&request("GET", "/stream?bytes=3000&chunk=100&interval_ms=100", &[]));
    client.end_sending();
    assert_eq!(client.answer().body.len(), 3000);
    lb.comes_to_rest();
    assert_eq!(lb.ended_with(200), 1);
}

#[test]
fn a_half_close_inside_a_body_ends_the_request_at_once() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).timeouts(|timeouts| timeouts.half_closed = PATIENCE).start();
    for (times, (field, part)) in (1..).zip([
        ("content-length: 10", b"hello".to_vec()),
        ("transfer-encoding: chunked", chunk(b"hello")),
        ("content-length: 1", Vec::new()),
    ]) {
        let mut client = lb.client();
        client.send(&request("POST", "/upload", &[field]));
        client.send(&part);
        client.end_sending();
        client.answer().is_own(400, "client_abort");
        assert_eq!(client.rest(), b"");
        lb.comes_to_rest();
        assert_eq!((lb.ended_with(499), lb.errors("client_abort")), (times, times));
        wait_until("the backend to be let go", || server.stats().in_progress == 0);
    }
    assert_eq!(server.stats().served, 0);
}
