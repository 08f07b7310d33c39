//! Connections that use lb slowly: slow bodies, silent tunnels, unreachable hosts, bodies in one-byte chunks.

use std::io::Write;
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lb_test_support::{Hostile, PATIENCE, chunk, mock, request, request_with, wait_for, wait_until};

use crate::support::{Setup, ms};

/// Short compared with the 30 s of other time-outs, long enough for a busy machine.
const SHORT: Duration = ms(250);

#[test]
fn a_body_below_the_minimum_rate_is_408() {
    let server = mock("1");
    let setup = Setup::of(&[&server]).timeouts(|timeouts| timeouts.body_grace = SHORT);
    let lb = setup.limits(|limits| limits.body_min_bytes_per_s = Some(1_000_000)).start();
    let crumb = chunk(b"x");
    for (field, crumb) in [("content-length: 1000000", &b"x"[..]), ("transfer-encoding: chunked", &crumb)] {
        let mut client = lb.client();
        let started = Instant::now();
        client.send(&request("POST", "/upload", &[field]));
        // Each byte comes long before the idle time-out.
        client.stream.set_read_timeout(Some(ms(20))).unwrap();
        let is_patient = || started.elapsed() < PATIENCE;
        while is_patient() && client.try_send(crumb).is_ok() && client.stream.peek(&mut [0]).is_err() {}
        assert!(is_patient(), "lb reads the slow body without a limit");
        client.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        client.answer().is_own(408, "client_timeout");
        assert!(started.elapsed() + ms(20) >= SHORT, "the grace was too short: {:?}", started.elapsed());
        client.rest();
    }
    lb.comes_to_rest();
    assert_eq!((lb.errors("client_timeout"), lb.ended_with(408)), (2, 2));
    wait_until("the backend's connections to be closed", || server.stats().open_connections == 0);
    assert_eq!(lb.metric("lb_backend_errors_total", &["reason=\"timeout\""]), 0.0);
}

#[test]
fn a_body_above_the_minimum_rate_may_take_any_time() {
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
    // At this minimum rate, received bytes extend the time by almost nothing.
    let lb = setup.limits(|limits| limits.body_min_bytes_per_s = Some(1_000_000_000)).start();
    let mut client = lb.client();
    let started = Instant::now();
    // More than all buffers can hold, so the client soon waits for the backend.
    let mut sending = client.stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || sending.write_all(&request_with("POST", "/", &[], &[b'x'; 30_000_000])));
    wait_until("twice the grace to pass", || started.elapsed() > 2 * GRACE);
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
    assert_eq!(lb.metric("lb_backend_errors_total", &[]), 0.0, "no error counts against a backend");
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
fn tcp_keep_alive_is_on_for_both_sides() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).start();
    let mut client = lb.client();
    let own = client.stream.local_addr().unwrap();
    wait_until("TCP keep-alive on the client's connection", || is_kept_alive(lb.address, |remote| remote == own));
    assert_eq!(client.get("/home").status(), 200);
    // The test does not know the local port of lb towards the backend, so it matches the backend's side.
    let table = || std::fs::read_to_string("/proc/net/tcp").unwrap();
    let backend = format!("0100007F:{:04X}", server.addr.port());
    wait_for("TCP keep-alive on the backend's connection", || {
        let table = table();
        let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        lines.any(|fields| fields[2] == backend && fields[5].starts_with("02:")).then_some(())
    });
    lb.comes_to_rest();
}

#[test]
fn chunks_of_one_byte_are_sent_together_if_they_are_ready() {
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
    // lb pauses after each buffer, which limits the rate to 64 chunks per millisecond.
    assert!(started.elapsed() > ms(40_000 / 64 / 2), "lb made no pauses: {:?}", started.elapsed());
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
    assert!(got == body, "the bytes or their order differ");
    // lb reads at least 8 KiB at once if they are there, which is more than a thousand one-byte chunks.
    assert!(chunks < 40_000 / 100, "{chunks} chunks");
}

#[test]
fn a_single_small_chunk_is_not_delayed() {
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
        wait_until("the backend to have the chunk", || arrived.load(SeqCst) == index + 1);
    }
    assert_eq!(client.answer().status(), 200);
    lb.comes_to_rest();
}
