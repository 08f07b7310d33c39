//! Tunnels: another protocol than HTTP passes byte for byte, and each direction closes independently.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use lb_test_support::{Client, Hostile, Wire, mock, request, wait_until};

use crate::support::Setup;

const ASK: [&str; 2] = ["connection: keep-alive, Upgrade", "upgrade: echo"];

fn switched(client: &mut Client) {
    let answer = client.answer();
    assert_eq!(answer.status(), 101);
    assert_eq!(answer.field("connection").map(|value| value.to_ascii_lowercase()).as_deref(), Some("upgrade"));
    assert_eq!(answer.field("upgrade").as_deref(), Some("echo"));
}

#[test]
fn bytes_pass_in_both_directions_and_each_direction_ends_independently() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).start();
    let mut client = lb.client();
    assert_eq!(client.get("/home").status(), 200, "a connection may be upgraded after a request");
    client.send(&request("GET", "/echo", &ASK));
    switched(&mut client);
    for word in [&b"one"[..], b"\x00\xff\r\n\r\n", b"three"] {
        client.send(word);
        assert_eq!(client.raw(word.len()), word);
    }
    assert_eq!(
        (lb.backends[0].in_flight(), lb.metrics.pool_totals("default").in_flight),
        (1, 1),
        "a tunnel is in flight"
    );
    assert_eq!(lb.metric("lb_backend_connections", &["state=\"active\""]), 1.0);
    client.send(b"last");
    client.end_sending();
    assert_eq!(client.rest(), b"last", "bytes in transit still arrive");
    lb.comes_to_rest();
    assert_eq!((lb.ended_with(101), lb.ended_with(200)), (1, 1));
    assert!(lb.metrics.pool_totals("default").errors_by_reason.is_empty());
    wait_until("the backend's connection to be closed", || server.stats().open_connections <= 1);
}

#[test]
fn bytes_that_a_backend_sends_with_its_101_belong_to_the_tunnel() {
    let server = Hostile::start(|_, wire| {
        wire.head();
        wire.write(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\nearly ");
        let got = wire.raw(5);
        wire.write(&got.unwrap_or_default());
    });
    let lb = Setup::new(&[server.addr]).start();
    let mut client = lb.client();
    client.send(&request("GET", "/", &ASK));
    switched(&mut client);
    assert_eq!(client.raw(6), b"early ");
    client.send(b"hello");
    assert_eq!(client.raw(5), b"hello");
    drop(client);
    lb.comes_to_rest();
}

#[test]
fn an_upgrade_is_retried_after_a_reset_and_after_a_status() {
    let fails: [fn(&mut Wire); 2] =
        [Wire::reset, |wire| wire.write(b"HTTP/1.1 503 Busy\r\ncontent-length: 2\r\n\r\nno")];
    for fails in fails {
        let accepted = Arc::new(AtomicUsize::new(0));
        let servers = [(); 2].map(|()| {
            let accepted = accepted.clone();
            Hostile::start(move |_, wire| {
                let head = wire.head().unwrap().to_lowercase() + "\r\n";
                assert!(
                    head.contains("\r\nconnection: upgrade\r\n") && head.contains("\r\nupgrade: echo\r\n"),
                    "{head}"
                );
                if accepted.fetch_add(1, SeqCst) == 0 {
                    return fails(wire);
                }
                wire.write(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n");
                let got = wire.raw(5);
                wire.write(&got.unwrap_or_default());
            })
        });
        let lb = Setup::new(&servers.each_ref().map(|server| server.addr)).start();
        let mut client = lb.client();
        client.send(&request("GET", "/", &ASK));
        switched(&mut client);
        client.send(b"hello");
        assert_eq!(client.raw(5), b"hello");
        drop(client);
        lb.comes_to_rest();
        assert_eq!((accepted.load(SeqCst), lb.metric("lb_retries_total", &[])), (2, 1.0));
    }
}

#[test]
fn bytes_of_a_client_before_the_101_end_the_request() {
    let server = mock("1");
    for (lb, sends) in [
        (Setup::of(&[&server]).start(), [request("GET", "/echo", &ASK), b"early".to_vec()].concat()),
        (Setup::of(&[&server]).start(), [request("GET", "/echo", &ASK), request("GET", "/home", &[])].concat()),
    ] {
        let mut client = lb.client();
        client.send(&sends);
        client.answer().is_own(400, "bad_request");
        assert_eq!(client.rest(), b"");
        lb.comes_to_rest();
        assert_eq!((lb.ended_with(400), lb.ended_with(101), lb.errors("bad_request")), (1, 0, 1));
    }
}

#[test]
fn much_passes_through_many_tunnels_at_once() {
    const BYTES: usize = 2 << 20;
    let server = mock("1");
    let lb = Setup::of(&[&server]).start();
    std::thread::scope(|scope| {
        for number in 0..8u8 {
            let lb = &lb;
            scope.spawn(move || {
                let mut client = lb.client();
                client.send(&request("GET", "/echo", &ASK));
                switched(&mut client);
                let data: Vec<u8> = (0..BYTES).map(|n| (n % 251) as u8 ^ number).collect();
                let (mut writer, sent) = (client.stream.try_clone().unwrap(), data.clone());
                let sender = std::thread::spawn(move || {
                    writer.write_all(&sent).unwrap();
                    writer.shutdown(std::net::Shutdown::Write).unwrap();
                });
                assert!(client.rest() == data, "tunnel {number}: the bytes differ");
                sender.join().unwrap();
            });
        }
    });
    lb.comes_to_rest();
    assert_eq!(lb.ended_with(101), 8);
}

#[test]
fn bytes_that_a_backend_sends_with_its_101_reach_the_client() {
    let server = Hostile::start(|_, wire| {
        wire.head();
        wire.write(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: echo\r\nconnection: upgrade\r\n\r\nwelcome");
        wire.until(b"bye");
        wire.write(b"bye");
    });
    let lb = Setup::new(&[server.addr]).start();
    let mut client = lb.client();
    client.send(&request("GET", "/", &ASK));
    switched(&mut client);
    assert_eq!(client.raw(7), b"welcome");
    client.send(b"bye");
    assert_eq!(client.rest(), b"bye", "the close of the backend reaches the client");
    drop(client); // Until now, the client could still send.
    lb.comes_to_rest();
    let head = server.heads()[0].to_ascii_lowercase();
    assert!(head.contains("upgrade: echo") && head.contains("connection: upgrade"), "{head}");
}

#[test]
fn a_client_that_leaves_its_tunnel_ends_it() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).start();
    for times in 1..=4 {
        let mut client = lb.client();
        client.send(&request("GET", "/echo", &ASK));
        switched(&mut client);
        client.send(b"word");
        client.raw(4);
        if times % 2 == 0 {
            client.reset()
        } else {
            drop(client)
        }
        wait_until("the tunnel to be counted", || lb.ended_with(101) == times);
        lb.comes_to_rest();
    }
    wait_until("the backend's connections to be closed", || server.stats().open_connections == 0);
}

#[test]
fn a_refused_upgrade_is_an_ordinary_response() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).start();
    let mut client = lb.client();
    let answer = client.ask("GET", "/echo", &["connection: upgrade", "upgrade: websocket"]);
    assert_eq!(answer.status(), 426);
    assert_eq!(answer.field("upgrade").as_deref(), Some("echo"), "the protocols that the backend offers are passed on");
    assert_eq!(
        client.ask("GET", "/home", &ASK).status(),
        200,
        "an upgrade that the backend ignores is an ordinary response"
    );
    client.send(&request("GET", "/echo", &ASK));
    switched(&mut client);
    drop(client);
    lb.comes_to_rest();
}

#[test]
fn an_invalid_upgrade_request_is_not_upgraded() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).start();
    let mut client = lb.client();
    assert_eq!(client.ask("GET", "/echo", &["upgrade: echo"]).status(), 426, "Connection must name the upgrade");
    let mut client = lb.client();
    client.send(b"GET /echo HTTP/1.0\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n");
    assert_eq!(client.answer().status(), 426, "HTTP/1.0 has no upgrade");
    lb.comes_to_rest();
}
