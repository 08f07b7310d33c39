//! Strategies that pick by the first bytes of the body: what is held before the pick, and what the backend gets.
//!
//! Each test that concerns the strategy runs with `prefix_affinity` in Rust and in C. Both ask for 8,192 bytes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, LazyLock};

use lb_strategy_host::{Decision, Lookup, Part, PickRequest, Strategy};
use lb_test_support::{Client, Hostile, Wire, chunk, closed_address, compile, request, request_with, wait_until};
use mock_server::Running;
use parking_lot::Mutex;

use crate::mirror;
use crate::support::{Balancer, Setup, ms, strategy, strategy_of};

const WANTED: usize = 8192;
const CHUNKED: &str = "transfer-encoding: chunked";
const EXPECT: &str = "expect: 100-continue";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// The requests that servers got, each with the server's place.
type Served = Arc<Mutex<Vec<(usize, mirror::Seen)>>>;

/// A request of which only the body can be looked up.
struct Body<'a>(&'a [u8]);

// === impl Body ===

impl Lookup for Body<'_> {
    fn header(&self, _: &[u8], _: usize) -> Option<&[u8]> {
        None
    }

    fn part(&self, part: Part) -> Option<&[u8]> {
        (part == Part::Body).then_some(&self.0[..self.0.len().min(WANTED)])
    }
}

/// The example in Rust and the one in C.
fn both() -> [Arc<Strategy>; 2] {
    static C: LazyLock<PathBuf> = LazyLock::new(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("proxy-c-plugins");
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("libprefix_affinity.so");
        compile("examples/prefix_affinity.c", &[], &file);
        file
    });
    [strategy("prefix_affinity"), strategy_of(&C)]
}

fn setup(strategy: &Arc<Strategy>, servers: &[SocketAddr]) -> Setup {
    Setup::new(servers).with(|setup| (setup.pools[0].strategy, setup.workers) = (strategy.clone(), 1))
}

/// The same, started with a name for the counts of the strategy.
fn start(strategy: &Arc<Strategy>, servers: &[SocketAddr]) -> Balancer {
    let lb = setup(strategy, servers).start();
    lb.metrics.set_strategy("default", "prefix_affinity", "1");
    lb
}

fn fallbacks(lb: &Balancer, reason: &str) -> f64 {
    assert!(lb.metrics.render().contains("lb_strategy_fallbacks_total{"));
    lb.metric("lb_strategy_fallbacks_total", &[reason])
}

/// Servers that serve every request, after `failures` requests: these get a reset after the first byte of their body.
fn servers<const N: usize>(failures: usize) -> ([Hostile; N], Served) {
    let served = Served::default();
    let left = Arc::new(AtomicUsize::new(failures));
    let server = |place: usize| {
        let (served, left) = (served.clone(), left.clone());
        Hostile::start(move |_, wire: &mut Wire| {
            while let Some(head) = wire.head() {
                let is_failure = left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok();
                if is_failure {
                    wire.raw(1);
                    return wire.reset();
                }
                let Some(seen) = mirror::take_body(wire, head) else { return };
                served.lock().push((place, seen));
                wire.write(OK);
            }
        })
    };
    (std::array::from_fn(server), served)
}

/// The backend that the strategy in charge picks for a body, after those that were tried.
fn pick(lb: &Balancer, body: &[u8], tried: &[u32]) -> usize {
    let current = lb.hall.current();
    let decision = current.pools[0].picker.pick(&PickRequest {
        worker: Some(0),
        attempt: tried.len() as u32,
        tried,
        key: None,
        random: 1,
        now_ns: 1,
        dry: true,
        body_length: None,
        lookup: &Body(body),
    });
    let Decision::Backend { index, .. } = decision else { panic!("{decision:?}") };
    index
}

/// Bytes of this length, for which the strategy picks the backend `wanted` first. They differ by their first byte.
fn body_for(lb: &Balancer, length: usize, wanted: usize) -> Vec<u8> {
    let body = |first: u8| [&[first][..], &pattern(length)[1..]].concat();
    (0..=255).map(body).find(|body| pick(lb, body, &[]) == wanted).unwrap()
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

/// A request with this body. In the chunked form it has a trailer and uneven chunks.
fn with_body(method: &str, is_chunked: bool, body: &[u8], fields: &[&str]) -> Vec<u8> {
    if !is_chunked {
        return request_with(method, "/", fields, body);
    }
    let chunks: Vec<u8> = body.chunks(3000).flat_map(chunk).collect();
    let head = request(method, "/", &[fields, &[CHUNKED]].concat());
    [&head, &chunks, &b"0\r\nx-sum: 7\r\n\r\n"[..]].concat()
}

/// The only request that was served: its place, its framing, body and trailers.
#[track_caller]
fn only(served: &Served) -> (usize, bool, Vec<u8>, Vec<String>) {
    let mut served = served.lock();
    assert_eq!(served.len(), 1, "{} requests were served", served.len());
    let (place, seen) = served.pop().unwrap();
    (place, seen.head.to_ascii_lowercase().contains(CHUNKED), seen.body, seen.trailers)
}

fn trailers(is_chunked: bool) -> Vec<String> {
    if is_chunked { vec!["x-sum: 7".to_owned()] } else { Vec::new() }
}

#[test]
fn the_first_8_kb_decide_and_nothing_behind_them() {
    let mut places = Vec::new();
    for strategy in both() {
        let (servers, served) = servers::<4>(0);
        let lb = start(&strategy, &servers.each_ref().map(|server| server.addr));
        let mut client = lb.client();
        let mut place_of = |is_chunked: bool, body: &[u8]| {
            client.send(&with_body("POST", is_chunked, body, &[]));
            assert_eq!(client.answer().status(), 200);
            let (place, _, got, _) = only(&served);
            assert!(got == body, "{} bytes of {} came", got.len(), body.len());
            assert_eq!(place, pick(&lb, body, &[]));
            place
        };
        for number in 0..20 {
            let mut body = vec![number; WANTED];
            let first = place_of(false, &body);
            body.extend_from_slice(b"behind");
            assert_eq!(place_of(true, &body), first, "the bytes behind decide");
            body[WANTED - 1] ^= 1;
            places.push((first, place_of(false, &body)));
        }
        lb.comes_to_rest();
        assert_eq!(fallbacks(&lb, ""), 0.0);
    }
    let (rust, c) = places.split_at(20);
    assert_eq!(rust, c, "both pick alike");
    assert!((0..4).all(|place| rust.iter().any(|(first, _)| *first == place)), "{rust:?}");
    assert!(rust.iter().any(|(first, last_byte)| first != last_byte), "the last of the bytes decides, too");
}

#[test]
fn a_body_of_any_length_arrives_byte_for_byte_after_a_connect_error() {
    for strategy in both() {
        let (servers, served) = servers::<1>(0);
        let lb = start(&strategy, &[closed_address(), servers[0].addr]);
        let mut client = lb.client();
        let lengths = [1, WANTED - 1, WANTED, WANTED + 1, 100_000];
        for (length, is_chunked) in lengths.into_iter().flat_map(|length| [(length, false), (length, true)]) {
            let body = body_for(&lb, length, 0);
            // Not idempotent: it may be sent again, because nothing of it was sent.
            client.send(&with_body("POST", is_chunked, &body, &[]));
            assert_eq!(client.answer().status(), 200, "{length} {is_chunked}");
            let (_, framing, got, trailing) = only(&served);
            assert!((framing, &got) == (is_chunked, &body), "{length} {is_chunked}");
            assert_eq!(trailing, trailers(is_chunked));
        }
        lb.comes_to_rest();
        assert_eq!(lb.metric("lb_retries_total", &["reason=\"not_sent\""]), 10.0);
        let bytes = lengths.iter().sum::<usize>() * 2;
        assert_eq!(lb.metric("lb_request_bytes_total", &[]), bytes as f64, "each byte is counted once");
    }
}

#[test]
fn a_body_is_sent_again_after_a_reset_to_the_next_backend_of_its_first_bytes() {
    for strategy in both() {
        for (length, is_chunked) in [(1, false), (5_000, true), (WANTED, false), (WANTED + 1, true), (60_000, false)] {
            let (servers, served) = servers::<3>(1);
            let lb = start(&strategy, &servers.each_ref().map(|server| server.addr));
            let body = body_for(&lb, length, 1);
            let mut client = lb.client();
            client.send(&with_body("PUT", is_chunked, &body, &[]));
            assert_eq!(client.answer().status(), 200, "{length} {is_chunked}");
            let (place, framing, got, trailing) = only(&served);
            assert!((framing, &got) == (is_chunked, &body), "{length} {is_chunked}");
            assert_eq!((place, trailing), (pick(&lb, &body, &[1]), trailers(is_chunked)));
            lb.comes_to_rest();
            assert_eq!(lb.metric("lb_retries_total", &["reason=\"reset\""]), 1.0);
            assert_eq!(fallbacks(&lb, ""), 0.0);
        }
    }
}

#[test]
fn a_body_over_the_limit_of_retries_is_sent_once() {
    let (servers, served) = servers::<2>(1);
    let addresses = servers.each_ref().map(|server| server.addr);
    let lb = setup(&strategy("prefix_affinity"), &addresses).retry(|retry| retry.rules.replay_bytes = 100).start();
    let mut client = lb.client();
    client.send(&request_with("PUT", "/", &[], &pattern(101)));
    client.answer().is_own(502, "reset");
    lb.comes_to_rest();
    assert!(served.lock().is_empty());
}

#[test]
fn a_request_without_a_body_does_not_wait_and_the_fallback_picks() {
    for strategy in both() {
        let (servers, served) = servers::<2>(0);
        let lb = start(&strategy, &servers.each_ref().map(|server| server.addr));
        let mut client = lb.client();
        assert_eq!(client.get("/").status(), 200);
        client.send(&request_with("POST", "/", &[EXPECT], b""));
        assert_eq!(client.whole("POST").unwrap().heads.len(), 1, "there is no body to wait for");
        client.send(&[&request("POST", "/", &[CHUNKED])[..], b"0\r\n\r\n"].concat());
        assert_eq!(client.answer().status(), 200);
        let seen = served.lock();
        let framing = |field: &str| seen.iter().map(|(_, seen)| seen.head.to_lowercase().contains(field)).collect();
        let (chunks, lengths): (Vec<bool>, Vec<bool>) = (framing(CHUNKED), framing("content-length: 0"));
        assert_eq!((chunks, lengths), (vec![false, false, true], vec![false, true, false]));
        drop(seen);
        lb.comes_to_rest();
        assert_eq!(fallbacks(&lb, "reason=\"undecided\""), 3.0);
    }
}

#[test]
fn lb_sends_100_once_and_waits_for_the_part_or_the_end() {
    for strategy in both() {
        // Sends a 100 of its own, too.
        let server = Hostile::start(|_, wire| {
            while mirror::take(wire).is_some() {
                wire.write(b"HTTP/1.1 100 Continue\r\n\r\n");
                wire.write(OK);
            }
        });
        let lb = start(&strategy, &[server.addr]);
        let (mut client, mut probe) = (lb.client(), mirror::Probe::new(&lb));
        for (number, (length, is_chunked)) in
            [(5, false), (5, true), (20_000, false), (20_000, true)].into_iter().enumerate()
        {
            let bytes = with_body("POST", is_chunked, &pattern(length), &[EXPECT]);
            let head = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
            let (head, body) = bytes.split_at(head);
            client.send(head);
            assert_eq!(client.raw_head(), b"HTTP/1.1 100 Continue\r\n\r\n");
            // All but the last byte of the end or of the part.
            let held = if length < WANTED { body.len() - 1 } else { WANTED - 1 };
            client.send(&body[..held]);
            probe.pass();
            let posts = server.heads().iter().filter(|head| head.starts_with("POST")).count();
            assert_eq!(posts, number, "a backend has the request before the pick");
            client.send(&body[held..]);
            let whole = client.whole("POST").unwrap();
            assert!(whole.heads.len() == 1 && whole.heads[0].starts_with("HTTP/1.1 200"), "{whole:?}");
        }
        lb.comes_to_rest();
        assert!(server.heads().iter().all(|head| !head.to_lowercase().contains("expect")));
    }
}

#[test]
fn the_rest_of_a_long_body_streams_after_the_pick() {
    let (servers, served) = servers::<1>(0);
    let lb = setup(&strategy("prefix_affinity"), &[servers[0].addr]).start();
    for is_chunked in [false, true] {
        let bytes = with_body("POST", is_chunked, &pattern(100_000), &[]);
        let (first, rest) = bytes.split_at(20_000);
        let mut client = lb.client();
        let heads = servers[0].heads().len();
        client.send(first);
        wait_until("the backend to have the head", || servers[0].heads().len() > heads);
        client.send(rest);
        assert_eq!(client.answer().status(), 200);
        assert!(only(&served).2 == pattern(100_000));
    }
    lb.comes_to_rest();
}

/// Sends a part of the held bytes in both framings, with this end of the client.
fn with_parts(lb: &Balancer, end: impl Fn(Client)) {
    for part in [request("POST", "/", &["content-length: 10000"]), request("POST", "/", &[CHUNKED])] {
        let mut client = lb.client();
        client.send(&[part, chunk(b"some")].concat());
        end(client);
    }
}

#[test]
fn a_client_that_is_slow_with_the_held_part_gets_408_and_no_backend_is_asked() {
    let (servers, _) = servers::<1>(0);
    let strategy = strategy("prefix_affinity");
    let slow: [fn(&mut lb::config::Timeouts); 3] = [
        |timeouts| timeouts.idle = ms(50),
        |timeouts| timeouts.body_grace = ms(50),
        |timeouts| timeouts.total = Some(ms(50)),
    ];
    for change in slow {
        let lb = setup(&strategy, &[servers[0].addr]).timeouts(change).start();
        with_parts(&lb, |mut client| client.answer().is_own(408, "client_timeout"));
        lb.comes_to_rest();
        assert_eq!((lb.errors("client_timeout"), lb.ended_with(408)), (2, 2));
        assert_eq!(lb.metric("lb_request_bytes_total", &[]), 4.0 + 9.0, "with and without the framing of the chunk");
    }
    assert_eq!(servers[0].accepted(), 0);
}

#[test]
fn a_client_that_leaves_during_the_held_part_is_counted_and_no_backend_is_asked() {
    let (servers, _) = servers::<1>(0);
    let lb = setup(&strategy("prefix_affinity"), &[servers[0].addr]).start();
    with_parts(&lb, drop);
    with_parts(&lb, Client::reset);
    wait_until("the aborts to be counted", || lb.ended_with(499) == 4);
    lb.comes_to_rest();
    assert_eq!((lb.errors("client_abort"), servers[0].accepted()), (4, 0));
}

#[test]
fn a_held_part_that_is_too_long_or_malformed_is_refused_and_no_backend_is_asked() {
    let (servers, _) = servers::<1>(0);
    let lb =
        setup(&strategy("prefix_affinity"), &[servers[0].addr]).limits(|limits| limits.body_bytes = Some(1000)).start();
    let send = |bytes: &[u8]| {
        let mut client = lb.client();
        client.send(&[&request("POST", "/", &[CHUNKED])[..], bytes].concat());
        client
    };
    send(&[chunk(&pattern(600)), chunk(&pattern(401))].concat()).answer().is_own(413, "body_too_large");
    send(&[chunk(&pattern(600)), b"no size\r\n".to_vec()].concat()).answer().is_own(400, "bad_request");
    lb.comes_to_rest();
    assert_eq!(servers[0].accepted(), 0);
    assert_eq!(send(&[chunk(&pattern(1000)), chunk(b"")].concat()).answer().status(), 200);
    lb.comes_to_rest();
}

#[test]
fn old_clients_and_tunnels_are_served_as_ever() {
    let server: Running = lb_test_support::mock("1");
    let lb = setup(&strategy("prefix_affinity"), &[server.addr]).start();
    let mut client = lb.client();
    client.send(b"POST /upload HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n");
    client.send(b"expect: 100-continue\r\ncontent-length: 2\r\n\r\n");
    client.send(b"ab");
    assert_eq!(client.answer().status(), 200);
    client.send(&request("GET", "/echo", &["connection: Upgrade", "upgrade: echo"]));
    assert_eq!(client.answer().status(), 101);
    client.send(b"word");
    assert_eq!(client.raw(4), b"word");
    drop(client);
    lb.comes_to_rest();
}
