//! Trailers pass in both directions if both hops use chunks. A field that belongs in a head is dropped as a trailer.

use std::io::Read;

use lb_test_support::{Hostile, chunk, request};

use crate::mirror::mirror;
use crate::support::Setup;

/// Trailers that pass, and forbidden trailers.
const TRAILERS: &str = "X-Checksum: 11\r\nhost: evil\r\ncontent-length: 9\r\ntransfer-encoding: chunked\r\n\
    x-forwarded-for: 6.6.6.6\r\nx_forwarded_for: 6.6.6.6\r\nauthorization: Basic x\r\ncookie: a=b\r\n\
    set-cookie: a=b\r\nconnection: close\r\nx-request-id: mine\r\ngrpc-status: 0\r\n";

/// One chunk, then these trailers.
fn chunked(data: &[u8], trailers: &str) -> Vec<u8> {
    [&chunk(data)[..], b"0\r\n", trailers.as_bytes(), b"\r\n"].concat()
}

#[test]
fn trailers_of_a_request_reach_the_backend_without_the_forbidden_ones() {
    let server = mirror();
    let lb = Setup::new(&[server.addr]).with(|setup| setup.workers = 1).start();
    let mut client = lb.client();
    for _ in 0..3 {
        client.send(&request("POST", "/", &["transfer-encoding: chunked", "trailer: x-checksum"]));
        client.send(&chunked(b"hello world", TRAILERS));
        let saw = String::from_utf8(client.whole("POST").unwrap().body).unwrap();
        assert!(saw.ends_with(" / hello world / x-checksum: 11 | grpc-status: 0"), "{saw}");
        // An empty body may have trailers as well.
        client.send(&request("POST", "/", &["transfer-encoding: chunked"]));
        client.send(format!("0\r\n{TRAILERS}\r\n").as_bytes());
        let saw = String::from_utf8(client.whole("POST").unwrap().body).unwrap();
        assert!(saw.ends_with(" /  / x-checksum: 11 | grpc-status: 0"), "{saw}");
        assert_eq!(client.get("/next").status(), 200, "the client's connection stays open");
    }
    lb.comes_to_rest();
    assert_eq!(server.accepted(), 1, "the backend's connection stays open");
}

#[test]
fn trailers_of_a_response_reach_the_client_without_the_forbidden_ones() {
    let server = Hostile::start(|_, wire| {
        while let Some(head) = wire.head() {
            wire.write(b"HTTP/1.1 200 OK\r\ntrailer: x-checksum\r\ntransfer-encoding: chunked\r\n\r\n");
            let data: &[u8] = if head.contains("/empty ") { b"" } else { b"hello world" };
            let body =
                if data.is_empty() { format!("0\r\n{TRAILERS}\r\n").into_bytes() } else { chunked(data, TRAILERS) };
            wire.write(&body);
        }
    });
    let lb = Setup::new(&[server.addr]).with(|setup| setup.workers = 1).start();
    let mut client = lb.client();
    for _ in 0..3 {
        for (path, body) in [("/", &b"hello world"[..]), ("/empty", b"")] {
            client.send(&request("GET", path, &[]));
            let whole = client.whole("GET").unwrap();
            assert_eq!(
                (&*whole.body, whole.trailers),
                (body, vec!["x-checksum: 11".to_owned(), "grpc-status: 0".to_owned()])
            );
        }
    }
    lb.comes_to_rest();
    assert_eq!((server.accepted(), lb.ended_with(200)), (1, 6), "both connections stay open");
    assert_eq!(lb.metric("lb_response_bytes_total", &[]), 3.0 * 11.0, "trailers do not count as bytes of the body");

    // HTTP/1.0 has no trailers: its body ends with the connection.
    for path in ["/", "/empty"] {
        let mut old = lb.client();
        old.send(format!("GET {path} HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\n").as_bytes());
        let head = old.head().unwrap();
        assert_eq!((head.field("connection").as_deref(), head.field("transfer-encoding")), (Some("close"), None));
        let mut rest = old.raw(if path == "/" { 11 } else { 0 });
        old.stream.read_to_end(&mut rest).expect("a close without a reset");
        assert_eq!(rest, if path == "/" { &b"hello world"[..] } else { b"" });
    }
    lb.comes_to_rest();
    assert_eq!(server.accepted(), 1);
}

#[test]
fn after_a_body_with_a_length_there_are_no_trailers() {
    let server = Hostile::start(|_, wire| {
        while wire.head().is_some() {
            // Unexpected bytes, which could be taken for trailers or for a response.
            wire.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhellox-checksum: 11\r\n\r\n");
        }
    });
    let lb = Setup::new(&[server.addr]).with(|setup| setup.workers = 1).start();
    let mut client = lb.client();
    for _ in 0..3 {
        client.send(&request("GET", "/", &[]));
        let whole = client.whole("GET").unwrap();
        assert_eq!((&whole.body[..], whole.trailers.len()), (&b"hello"[..], 0));
    }
    lb.comes_to_rest();
    assert_eq!((server.accepted(), lb.ended_with(200)), (3, 3), "a connection with unexpected bytes is not reused");
}

#[test]
fn an_invalid_trailer_breaks_the_message() {
    let server = mirror();
    let lb = Setup::new(&[server.addr]).start();
    for bad in ["x : 1\r\n\r\n", " x: 1\r\n\r\n", "x\r\n\r\n", "x: 1\n\r\n", "\n"] {
        let mut client = lb.client();
        client.send(&request("POST", "/", &["transfer-encoding: chunked"]));
        client.send(&[&chunk(b"hello")[..], b"0\r\n", bad.as_bytes()].concat());
        client.answer().is_own(400, "bad_request");
        assert_eq!(client.rest(), b"", "{bad:?}");
    }
    lb.comes_to_rest();
    assert_eq!((lb.ended_with(400), lb.errors("bad_request")), (5, 5));
}
