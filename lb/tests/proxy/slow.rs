//! Clients and tunnels that hold what they do not use: slow bodies, silent tunnels, hosts that are gone, bodies in crumbs.

use std::io::Write;
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lb_test_support::{Hostile, PATIENCE, chunk, mock, request, request_with, wait_for, wait_until};

use crate::support::{Setup, ms};

/// Short against the 30 s of all others, long against a busy machine.
const SHORT: Duration = ms(250);

#[test]
fn a_body_that_trickles_below_the_minimum_rate_is_408() {
    let server = mock("1");
    let setup = Setup::of(&[&server]).timeouts(|timeouts| timeouts.body_grace = SHORT);
    let lb = setup.limits(|limits| limits.body_min_bytes_per_s = Some(1_000_000)).start();
    let crumb = chunk(b"x");
    for (field, crumb) in [("content-length: 1000000", &b"x"[..]), ("transfer-encoding: chunked", &crumb)] {
        let mut client = lb.client();
        let started = Instant::now();
        client.send(&request("POST", "/upload", &[field]));
        // Each byte comes long before the idle time is over.
        client.stream.set_read_timeout(Some(ms(20))).unwrap();
        let is_patient = || started.elapsed() < PATIENCE;
        while is_patient() && client.try_send(crumb).is_ok() && client.stream.peek(&mut [0]).is_err() {}
        assert!(is_patient(), "crumbs are taken for ever");
        client.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        client.answer().is_own(408, "client_timeout");
        assert!(started.elapsed() + ms(20) >= SHORT, "the grace was cut short: {:?}", started.elapsed());
        client.rest();
    }
    lb.comes_to_rest();
    assert_eq!((lb.errors("client_timeout"), lb.ended_with(408)), (2, 2));
    wait_until("the backend's connections to be closed", || server.stats().open_connections == 0);
    assert_eq!(lb.metric("lb_backend_errors_total", &["reason=\"timeout\""]), 0.0);
}

#[test]
fn a_body_at_more_than_the_minimum_rate_takes_as_long_as_it_takes() {
    let server = mock("1");
    let setup = Setup::of(&[&server]).timeouts(|timeouts| timeouts.body_grace = ms(1_000));
    let lb = setup.limits(|limits| limits.body_min_bytes_per_s = Some(10)).start();
    let mut client = lb.client();
    client.send(&request("POST", "/upload", &["transfer-encoding: chunked"]));
    let started = Instant::now();
    while started.elapsed() < ms(2_500) {
        client.send(&chunk(&[b'x'; 1_000]));
        assert!(client.stream.set_read_timeout(Some(ms(100))).is_ok());
        assert!(client.stream.peek(&mut [0]).is_err(), "cut off after {:?}", started.elapsed());
    }
    client.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    client.send(&chunk(b""));
    assert_eq!(client.answer().status(), 200);
    lb.comes_to_rest();
}

#[test]
fn a_client_that_waits_for_a_slow_backend_is_not_slow() {
    const GRACE: Duration = ms(1_000);
    let (answers, answer) = channel();
    let answer = Mutex::new(answer);
    let server = Hostile::start(move |_, wire| {
        wire.head();
        let _ = answer.lock().unwrap().recv();
        wire.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        wire.rest();
    });
    let setup = Setup::new(&[server.addr]).timeouts(|timeouts| timeouts.body_grace = GRACE);
    // Bytes earn next to nothing.
    let lb = setup.limits(|limits| limits.body_min_bytes_per_s = Some(1_000_000_000)).start();
    let mut client = lb.client();
    let started = Instant::now();
    // More than all buffers on the way can hold: soon it is the backend that is waited for.
    let mut sending = client.stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || sending.write_all(&request_with("POST", "/", &[], &[b'x'; 30_000_000])));
    wait_until("the grace to be long over", || started.elapsed() > 2 * GRACE);
    answers.send(()).unwrap();
    assert_eq!(client.answer().status(), 200);
    let _ = client.stream.shutdown(Shutdown::Both);
    let _ = sender.join().unwrap();
    lb.comes_to_rest();
}

#[test]
fn a_silent_tunnel_is_closed() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).timeouts(|timeouts| timeouts.tunnel_idle = SHORT).start();
    let mut client = lb.client();
    client.send(&request("GET", "/echo", &["connection: upgrade", "upgrade: echo"]));
    assert_eq!(client.answer().status(), 101);
    let started = Instant::now();
    assert_eq!(client.rest(), b"");
    assert!(started.elapsed() + ms(20) >= SHORT, "closed after {:?}", started.elapsed());
    lb.comes_to_rest();
    wait_until("the backend's connection to be closed", || server.stats().open_connections == 0);
    assert_eq!((lb.ended_with(101), lb.errors("tunnel_idle")), (1, 1));
    assert_eq!(lb.metric("lb_backend_errors_total", &[]), 0.0, "no backend is to blame");
}

/// Whether the kernel's keep-alive timer runs for a connection of this machine (`tr` of /proc/net/tcp is 2).
fn is_kept_alive(local: SocketAddr, remote: impl Fn(SocketAddr) -> bool) -> bool {
    let address = |text: &str| -> Option<SocketAddr> {
        let (ip, port) = text.split_once(':')?;
        let ip = u32::from_str_radix(ip, 16).ok()?.to_ne_bytes();
        Some((ip, u16::from_str_radix(port, 16).ok()?).into())
    };
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().skip(1).any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let ends = (address(fields[1]), address(fields[2]));
        matches!(ends, (Some(one), Some(other)) if one == local && remote(other)) && fields[5].starts_with("02:")
    })
}

#[test]
fn the_kernel_looks_after_connections_on_both_sides() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).start();
    let mut client = lb.client();
    let own = client.stream.local_addr().unwrap();
    wait_until("the client's connection to be kept alive", || is_kept_alive(lb.address, |remote| remote == own));
    assert_eq!(client.get("/home").status(), 200);
    // lb's own port towards the backend is not known; the backend's side names it.
    let table = || std::fs::read_to_string("/proc/net/tcp").unwrap();
    let backend = format!("0100007F:{:04X}", server.addr.port());
    wait_for("the backend's connection to be kept alive", || {
        let table = table();
        let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        lines.any(|fields| fields[2] == backend && fields[5].starts_with("02:")).then_some(())
    });
    lb.comes_to_rest();
}

#[test]
fn chunks_of_one_byte_go_on_together_as_far_as_they_are_ready() {
    let received = Arc::new(Mutex::new(Vec::new()));
    let own = received.clone();
    let server = Hostile::start(move |_, wire| {
        wire.head();
        *own.lock().unwrap() = wire.raw_until(b"\r\n0\r\n\r\n").unwrap_or_default();
        wire.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    });
    let lb = Setup::new(&[server.addr]).with(|setup| setup.workers = 1).start();
    let mut client = lb.client();
    client.send(&request("POST", "/", &["transfer-encoding: chunked"]));
    let body: Vec<u8> = (b'a'..=b'z').cycle().take(40_000).collect();
    let crumbs: Vec<u8> = body.iter().flat_map(|byte| chunk(&[*byte])).collect();
    let started = Instant::now();
    client.send(&[crumbs, chunk(b"")].concat());
    assert_eq!(client.answer().status(), 200);
    // Behind each buffer of them a pause that brings them down to 64 a millisecond.
    assert!(started.elapsed() > ms(40_000 / 64 / 2), "no pauses in {:?}", started.elapsed());
    lb.comes_to_rest();
    let seen = received.lock().unwrap().clone();
    let (mut rest, mut got, mut chunks) = (&seen[..], Vec::new(), 0);
    while rest != b"0\r\n\r\n"
        && let Some(at) = rest.windows(2).position(|window| window == b"\r\n")
    {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..at]).unwrap(), 16).unwrap();
        got.extend_from_slice(&rest[at + 2..at + 2 + size]);
        rest = &rest[at + 2 + size + 2..];
        chunks += 1;
    }
    assert!(got == body, "other bytes, or in another order");
    // lb reads 8 KiB and more at once where they are there: a thousand crumbs.
    assert!(chunks < 40_000 / 100, "{chunks} chunks");
}

#[test]
fn a_single_crumb_is_not_kept_back() {
    let arrived = Arc::new(AtomicUsize::new(0));
    let own = arrived.clone();
    let server = Hostile::start(move |_, wire| {
        wire.head();
        for word in [&b"1\r\na\r\n"[..], b"1\r\nb\r\n", b"2\r\ncd\r\n", b"0\r\n\r\n"] {
            if wire.raw(word.len()).as_deref() != Some(word) {
                return;
            }
            own.fetch_add(1, SeqCst);
        }
        wire.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    });
    let lb = Setup::new(&[server.addr]).start();
    let mut client = lb.client();
    client.send(&request("POST", "/", &["transfer-encoding: chunked"]));
    for (index, word) in [&b"a"[..], b"b", b"cd", b""].into_iter().enumerate() {
        client.send(&chunk(word));
        wait_until("the backend to have it", || arrived.load(SeqCst) == index + 1);
    }
    assert_eq!(client.answer().status(), 200);
    lb.comes_to_rest();
}
