//! Bodies in both directions arrive complete, in order and with back-pressure, in every framing.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use lb_test_support::{Framing, Hostile, chunk, mock, parse, request, request_with, wait_until};

use crate::support::Setup;

const MIB: usize = 1 << 20;

/// Compares pieces of a `/stream` body with the bytes that each offset must have.
struct Alphabet {
    expected: Vec<u8>,
    offset: usize,
}

impl Alphabet {
    fn new() -> Self {
        Self { expected: (b'a'..=b'z').cycle().take(26 + 65_536).collect(), offset: 0 }
    }

    fn take(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(65_536) {
            let from = self.offset % 26;
            assert!(piece == &self.expected[from..from + piece.len()], "wrong bytes after {}", self.offset);
            self.offset += piece.len();
        }
    }
}

#[test]
fn a_slow_reader_slows_the_backend_and_gets_every_byte_in_order() {
    const BYTES: usize = 64 * MIB;
    let server = mock("1");
    let lb = Setup::of(&[&server]).with(|setup| setup.workers = 1).start();
    for (path, framing) in [
        (format!("/stream?bytes={BYTES}&chunk=65536&length=1"), Framing::Length(BYTES as u64)),
        (format!("/stream?bytes={BYTES}&chunk=65536"), Framing::Chunked),
    ] {
        let before = lb.metric("lb_response_bytes_total", &[]);
        let mut client = lb.client();
        socket2::SockRef::from(&client.stream).set_recv_buffer_size(65_536).unwrap();
        client.send(&request("GET", &path, &[]));
        let head = client.head().unwrap();
        assert_eq!(head.framing("GET"), framing);
        // The client reads nothing now. lb takes from the backend only as much as its buffers and sockets hold, then
        // stops.
        let taken = || lb.metric("lb_response_bytes_total", &[]) - before;
        let mut last = (0.0, std::time::Instant::now());
        wait_until("lb to stop reading", || {
            let now = taken();
            if now > last.0 {
                last = (now, std::time::Instant::now());
            }
            now > 0.0 && last.1.elapsed() > std::time::Duration::from_millis(200)
        });
        assert!(taken() < 12.0 * MIB as f64, "{} bytes taken for a client that reads nothing", taken());
        let mut alphabet = Alphabet::new();
        client.body(framing, |bytes| alphabet.take(bytes)).unwrap();
        assert_eq!(alphabet.offset, BYTES);
        assert_eq!(client.get("/home").status(), 200, "the connection stays open");
    }
    lb.comes_to_rest();
    assert_eq!(server.stats().connections, 1);
}

#[test]
fn uploads_arrive_complete_in_every_framing() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).start();
    let mut client = lb.client();
    for bytes in [0, 1, 1000, 300_000] {
        let body = vec![b'x'; bytes];
        assert_eq!(parse(&client.post("/upload", &[], &body).body)["bytes"], bytes);
        client.send(&request("POST", "/upload", &["transfer-encoding: chunked"]));
        for piece in body.chunks(7_000) {
            client.send(&chunk(piece));
        }
        client.send(&chunk(b""));
        assert_eq!(parse(&client.answer().body)["bytes"], bytes);
    }
    lb.comes_to_rest();
    assert_eq!(server.stats().body_bytes_received, 2 * 301_001);
    assert_eq!(lb.metric("lb_request_bytes_total", &[]), 2.0 * 301_001.0);
    assert_eq!(server.stats().connections, 1);
}

#[test]
fn a_large_chunked_upload_arrives_complete_without_being_stored() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).start();
    let mut client = lb.client();
    client.send(&request("PUT", "/upload", &["transfer-encoding: chunked"]));
    let piece = chunk(&vec![b'x'; MIB]);
    for sent in 1..=64 {
        client.send(&piece);
        // Bytes that lb has taken and the backend has not are in sockets and buffers.
        let received = server.stats().body_bytes_received;
        let taken = lb.metric("lb_request_bytes_total", &[]) as u64;
        assert!(taken <= sent * MIB as u64 && taken < received + 40 * MIB as u64, "{taken} taken, {received} arrived");
    }
    client.send(&chunk(b""));
    assert_eq!(parse(&client.answer().body)["bytes"], 64 * MIB);
    lb.comes_to_rest();
}

#[test]
fn expect_100_continue_gets_its_interim_answer_from_lb() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).start();
    let mut client = lb.client();
    for _ in 0..2 {
        client.send(&request("POST", "/upload", &["expect: 100-continue", "content-length: 5"]));
        assert_eq!(client.head().unwrap().status, 100);
        client.send(b"12345");
        assert_eq!(parse(&client.answer().body)["bytes"], 5);
    }
    // A backend that sees Expect would send a 100 itself, so it must not see it.
    client.send(&request("POST", "/headers", &["expect: 100-continue", "content-length: 1"]));
    assert_eq!(client.head().unwrap().status, 100);
    client.send(b"1");
    assert_eq!(client.answer().seen("expect"), None);
    lb.comes_to_rest();
}

#[test]
fn lb_frames_a_body_itself_if_length_and_chunked_come_together() {
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let got = bodies.clone();
    let server = Hostile::start(move |_, wire| {
        while wire.head().is_some() {
            got.lock().unwrap().push(wire.until(b"\r\n0\r\n\r\n"));
            wire.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        }
    });
    let lb = Setup::new(&[server.addr]).start();
    let smuggled = b"GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    for fields in [
        ["content-length: 4", "transfer-encoding: chunked"],
        ["transfer-encoding: chunked", "content-length: 4"],
        ["connection: content-length", "content-length: 4\r\ntransfer-encoding: chunked"],
    ] {
        let mut client = lb.client();
        client.send(&request("POST", "/first", &fields));
        // By its length, the body would end before the second request; by its chunks, only after it.
        client.send(&chunk(smuggled));
        client.send(&chunk(b""));
        assert_eq!(client.answer().status(), 200);
    }
    lb.comes_to_rest();
    assert_eq!(server.heads().len(), 3);
    for head in server.heads() {
        let head = head.to_ascii_lowercase();
        assert!(head.starts_with("post /first ") && head.contains("transfer-encoding: chunked"), "{head}");
        assert!(!head.contains("content-length"), "{head}");
    }
    let whole = [chunk(smuggled), chunk(b"")].concat();
    assert!(bodies.lock().unwrap().iter().all(|body| *body == whole), "{bodies:?}");
}

#[test]
fn framing_that_two_servers_could_read_differently_is_refused() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).start();
    for bad in [
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nabcde",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4, 5\r\n\r\nabcde",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +4\r\n\r\nabcd",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999999\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\nabcd",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\nx: y\r\n\tcontent-length: 4\r\n\r\nabcd",
        "POST / HTTP/1.1\r\nhost: a\r\n content-length: 4\r\n\r\nabcd",
    ] {
        let mut client = lb.client();
        client.send(bad.as_bytes());
        assert_eq!(client.answer().status(), 400, "{bad:?}");
        assert_eq!(client.rest(), b"", "{bad:?}");
    }
    lb.comes_to_rest();
    assert_eq!(server.stats().requests, 0);
    wait_until("all requests to be counted", || lb.errors("bad_request") == 11);
}

#[test]
fn an_invalid_chunk_ends_the_request() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).start();
    for bad in ["xyz\r\n", "5\r\nabcdefgh\r\n", "ffffffffffffffffffff\r\n"] {
        let mut client = lb.client();
        client.send(&request("POST", "/upload", &["transfer-encoding: chunked"]));
        client.send(bad.as_bytes());
        let _ = client.try_send(b"0\r\n\r\n");
        if let Ok(answer) = client.answer_to("POST") {
            assert!(answer.status() >= 400, "{bad:?}: {answer:?}");
        }
        client.rest();
    }
    lb.comes_to_rest();
    assert_eq!(lb.ended_with(200), 0);
    wait_until("the backend to see the end", || server.stats().in_progress == 0);
    assert_eq!(server.stats().served, 0);
}

#[test]
fn an_early_response_reaches_a_client_that_is_still_sending() {
    let over = Arc::new(AtomicBool::new(false));
    let rest = Arc::new(Mutex::new(0));
    let (done, got) = (over.clone(), rest.clone());
    // Responds after the head, then reads the whole upload.
    let server = Hostile::start(move |_, wire| {
        while wire.head().is_some() {
            wire.write(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\nno");
            *got.lock().unwrap() = wire.until(b"the last word").len();
            done.store(true, SeqCst);
        }
    });
    let lb = Setup::new(&[server.addr]).start();
    let mut client = lb.client();
    client.send(&request("POST", "/", &["transfer-encoding: chunked"]));
    client.send(&chunk(b"some of it"));
    assert_eq!((client.head().unwrap().status, client.raw(2)), (401, b"no".to_vec()));
    // The response is complete, so neither lb nor the backend waits for the rest of the upload.
    wait_until("the backend's connection to end", || over.load(SeqCst));
    lb.comes_to_rest();
    assert_eq!((lb.ended_with(401), server.accepted()), (1, 1));
}

#[test]
fn an_early_response_with_a_close_reaches_a_client_that_sends_much() {
    let server = Hostile::start(|_, wire| {
        if wire.head().is_some() {
            wire.write(b"HTTP/1.1 413 Payload Too Large\r\ncontent-length: 3\r\nconnection: close\r\n\r\nbig");
            wire.until(b"never"); // Keeps reading, so that its close causes no reset.
        }
    });
    let lb = Setup::new(&[server.addr]).start();
    for _ in 0..5 {
        let mut client = lb.client();
        // More than all sockets hold, so the client cannot finish sending before the response comes.
        let _ = client.try_send(&request_with("POST", "/", &[], &vec![b'x'; 16 * MIB]));
        let answer = client.answer();
        assert_eq!((answer.status(), answer.text()), (413, "big"));
        assert!(client.ends_well(), "a reset could have lost the response");
    }
    lb.comes_to_rest();
    assert_eq!(lb.ended_with(413), 5);
}

#[test]
fn a_body_that_contradicts_its_head_is_400_and_no_abort() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).start();
    for (times, body) in (1..).zip([&b"zz\r\nhello\r\n0\r\n\r\n"[..], b"ffffffffffffffffff\r\n", b"5\r\nhelloworld"]) {
        let mut client = lb.client();
        client.send(&request("POST", "/upload", &["transfer-encoding: chunked"]));
        client.send(body);
        client.answer().is_own(400, "bad_request");
        lb.comes_to_rest();
        assert_eq!((lb.ended_with(400), lb.errors("client_abort")), (times, 0));
    }
    assert_eq!(lb.backends[0].stats.consecutive_errors.load(std::sync::atomic::Ordering::Relaxed), 0);
}
