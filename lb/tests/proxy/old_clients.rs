//! HTTP/1.0 clients: the connection ends without a reset only if the body is complete.

use std::io::Read;

use lb_test_support::{Client, Hostile, mock, wait_until};

use crate::mirror::mirror;
use crate::support::{Balancer, Setup, ms};

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n";

/// Sends a request and reads the head of its response.
fn get(lb: &Balancer, path: &str) -> Client {
    let mut client = lb.client();
    client.send(format!("GET {path} HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\n").as_bytes());
    let head = client.head().unwrap();
    assert_eq!((head.status, &*head.version, head.field("connection").as_deref()), (200, "HTTP/1.0", Some("close")));
    client
}

/// Whether the connection ends without a reset.
fn ends_in_order(client: &mut Client) -> bool {
    client.stream.read_to_end(&mut Vec::new()).is_ok()
}

#[test]
fn a_complete_response_ends_without_a_reset() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).start();
    for bytes in [1, 3_000_000] {
        let mut client = get(&lb, &format!("/stream?bytes={bytes}&chunk=65536"));
        let mut body = client.raw(1);
        client
            .body(lb_test_support::Framing::Close, |piece| body.extend_from_slice(piece))
            .expect("a close without a reset");
        assert_eq!(body.len(), bytes);
    }
    lb.comes_to_rest();
    assert_eq!(lb.ended_with(200), 2);
}

#[test]
fn a_response_that_its_backend_breaks_off_ends_with_a_reset() {
    let server = Hostile::start(|number, wire| {
        if wire.head().is_none() {
            return;
        }
        wire.write(HEAD);
        match number {
            0 => {}
            1 => wire.reset(),
            2 => wire.write(b"no chunk\r\n"),
            _ => wire.hold(),
        }
    });
    let lb = Setup::new(&[server.addr]).timeouts(|timeouts| timeouts.idle = ms(250)).start();
    for number in 0..4 {
        assert!(!ends_in_order(&mut get(&lb, "/")), "number {number}");
    }
    lb.comes_to_rest();
    assert_eq!((lb.errors("reset"), lb.errors("timeout")), (3, 1));
}

#[test]
fn a_response_that_its_client_does_not_read_in_time_ends_with_a_reset() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).timeouts(|timeouts| timeouts.idle = ms(250)).start();
    let mut client = get(&lb, "/stream?bytes=100000000&chunk=65536");
    wait_until("the client connection to be cut", || lb.ended_with(499) == 1);
    assert!(!ends_in_order(&mut client));
    lb.comes_to_rest();
}

#[test]
fn a_response_that_a_drain_cuts_ends_with_a_reset() {
    let server = Hostile::start(|_, wire| {
        if wire.head().is_some() {
            wire.write(HEAD);
            wire.hold();
        }
    });
    let mut lb = Setup::new(&[server.addr]).start();
    let mut client = get(&lb, "/");
    assert_eq!(client.raw(5), b"hello");
    assert_eq!(lb.drain(ms(50)), 1);
    assert!(!ends_in_order(&mut client));
}

#[test]
fn chunks_of_an_http_1_0_client_are_refused_and_reach_no_backend() {
    let server = mirror();
    let lb = Setup::new(&[server.addr]).start();
    for fields in [
        "transfer-encoding: chunked",
        "transfer-encoding: chunked\r\nconnection: keep-alive",
        "content-length: 5\r\ntransfer-encoding: chunked",
        "transfer-encoding: identity\r\ncontent-length: 5",
    ] {
        let mut client = lb.client();
        client
            .send(format!("POST / HTTP/1.0\r\nhost: a\r\n{fields}\r\n\r\n0\r\n\r\nGET /x HTTP/1.0\r\n\r\n").as_bytes());
        client.answer().is_own(400, "bad_request");
        assert_eq!(client.rest(), b"", "{fields}");
    }
    lb.comes_to_rest();
    assert_eq!((server.accepted(), lb.errors("bad_request")), (0, 4));
}
