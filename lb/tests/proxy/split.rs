//! The meaning of a message does not depend on how its bytes are split: requests at lb, and responses of backends.
//!
//! There are two ways to split. In the first, both parts are sent at once, and the kernel may join them. In the second,
//! the worker has seen the first part before the second is sent. Invariant: all connections are reused, so one byte too
//! many or too few breaks the next message.

use std::sync::{Arc, Mutex, OnceLock};

use lb_test_support::{Client, Hostile, Whole, Wire};

use crate::mirror::{Probe, mirror};
use crate::support::{self, Balancer, Setup};

/// Method, and the bytes of a request.
const REQUESTS: [(&str, &str); 7] = [
    ("GET", "GET /get?q=1 HTTP/1.1\r\nhost: a\r\nx-one: 1\r\n\r\n"),
    ("POST", "POST /length HTTP/1.1\r\nhost: a\r\ncontent-length: 11\r\n\r\nhello world"),
    (
        "POST",
        "POST /chunks HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
         5\r\nhello\r\n001;x=\"y\"\r\n \r\n5\r\nworld\r\n0\r\nx-sum: 11\r\nx-two:\r\n\r\n",
    ),
    ("HEAD", "HEAD /head HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("GET", "GET /old HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\n"),
    ("POST", "POST /expect HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\nhello"),
    ("GET", "\r\nGET /behind-an-empty-line HTTP/1.1\r\nHost: a\r\n\r\n"),
];

/// Method of the request, the bytes of the response, and whether the backend closes after it.
const RESPONSES: [(&str, &str, bool); 10] = [
    ("GET", "HTTP/1.1 200 OK\r\ndate: d\r\ncontent-length: 11\r\nx-one: 1\r\n\r\nhello world", false),
    (
        "GET",
        "HTTP/1.1 200 OK\r\ndate: d\r\ntransfer-encoding: chunked\r\n\r\n\
         5\r\nhello\r\n001;x\r\n \r\n5\r\nworld\r\n0\r\nx-sum: 11\r\nx-two:\r\n\r\n",
        false,
    ),
    ("GET", "HTTP/1.1 200 OK\r\ndate: d\r\n\r\nuntil the end", true),
    ("GET", "HTTP/1.0 200 OK\r\ndate: d\r\ncontent-length: 2\r\n\r\nok", true),
    (
        "GET",
        "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ndate: d\r\ncontent-length: 2\r\n\r\nok",
        false,
    ),
    ("GET", "HTTP/1.1 404 Not Found\r\ndate: d\r\ncontent-length: 2\r\n\r\nno", false),
    ("GET", "HTTP/1.1 204 No Content\r\ndate: d\r\nx-one: 1\r\n\r\n", false),
    ("GET", "HTTP/1.1 304 Not Modified\r\ndate: d\r\netag: \"1\"\r\n\r\n", false),
    ("HEAD", "HTTP/1.1 200 OK\r\ndate: d\r\ncontent-length: 11\r\n\r\n", false),
    ("HEAD", "HTTP/1.1 200 OK\r\ndate: d\r\ntransfer-encoding: chunked\r\n\r\n", false),
];

/// How a message is sent.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Whole,
    /// Cut after this number of bytes.
    At(usize),
    /// Cut after every byte.
    Everywhere,
}

// === impl Cut ===

impl Cut {
    /// All ways to cut `length` bytes.
    fn all(length: usize) -> impl Iterator<Item = Self> {
        (1..length).map(Self::At).chain([Self::Everywhere])
    }

    fn pieces(self, bytes: &[u8]) -> Vec<&[u8]> {
        match self {
            Self::Whole => vec![bytes],
            Self::At(at) => vec![&bytes[..at], &bytes[at..]],
            Self::Everywhere => bytes.chunks(1).collect(),
        }
    }
}

fn one_worker(server: &Hostile, strategy: &str) -> Balancer {
    let change = |setup: &mut Setup| (setup.pools[0].strategy, setup.workers) = (support::strategy(strategy), 1);
    Setup::new(&[server.addr]).with(change).start()
}

/// Sends a request and returns its response. Without `100 Continue`, which depends on whether the body had arrived.
fn ask(client: &mut Client, probe: Option<&mut Probe>, method: &str, bytes: &str, cut: Cut) -> Whole {
    let pieces = cut.pieces(bytes.as_bytes());
    if let Some(probe) = probe {
        let (last, first) = pieces.split_last().unwrap();
        for piece in first {
            client.send(piece);
            probe.pass();
        }
        client.send(last);
    } else {
        pieces.iter().for_each(|piece| client.send(piece));
    }
    let mut whole = client.whole(method).unwrap_or_else(|broken| panic!("{bytes:?} {cut:?}: {broken:?}"));
    let interim = whole.heads.len() - 1;
    assert!(interim == 0 || (interim == 1 && bytes.contains("expect") && whole.heads[0].starts_with("HTTP/1.1 100 ")));
    whole.heads.drain(..interim);
    whole
}

#[test]
fn a_request_means_the_same_for_every_cut() {
    requests_mean_the_same_for_every_cut("round_robin", 2);
    // This one holds the bodies, and no connection to the backend is in use meanwhile.
    requests_mean_the_same_for_every_cut("prefix_affinity", 1);
}

fn requests_mean_the_same_for_every_cut(strategy: &str, connections: usize) {
    let server = mirror();
    let lb = one_worker(&server, strategy);
    let (mut client, mut probe) = (lb.client(), Probe::new(&lb));
    let mut requests = 0;
    for (method, bytes) in REQUESTS {
        let expected = ask(&mut client, None, method, bytes, Cut::Whole);
        assert!(expected.heads[0].starts_with("HTTP/1."), "{expected:?}");
        for cut in Cut::all(bytes.len()) {
            assert_eq!(ask(&mut client, None, method, bytes, cut), expected, "{bytes:?} {cut:?}");
            assert_eq!(ask(&mut client, Some(&mut probe), method, bytes, cut), expected, "{bytes:?} {cut:?}, seen");
            requests += 2;
        }
        requests += 1;
    }
    lb.comes_to_rest();
    let seen = server.heads().iter().filter(|head| !head.starts_with("GET /probe ")).count();
    // One for all requests, and one for the probe if a request has the first one.
    assert_eq!((seen, server.accepted()), (requests, connections));
    assert_eq!(lb.metric("lb_client_connections_accepted_total", &[]), 2.0);
}

#[test]
fn a_response_means_the_same_for_every_cut() {
    let probe: Arc<OnceLock<Mutex<Probe>>> = Arc::default();
    let own = probe.clone();
    // The path /NUMBER/CUT names the response and its cut, from 0 (whole) to the length (everywhere).
    let server = Hostile::start(move |_, wire| {
        while let Some(head) = wire.head() {
            let numbers: Vec<usize> = head.split(['/', ' ']).filter_map(|part| part.parse().ok()).collect();
            let [number, cut, is_seen] = numbers[..] else {
                wire.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
                continue;
            };
            let (_, bytes, closes) = RESPONSES[number];
            let cut = match cut {
                0 => Cut::Whole,
                all if all == bytes.len() => Cut::Everywhere,
                at => Cut::At(at),
            };
            respond(wire, &cut.pieces(bytes.as_bytes()), (is_seen == 1).then(|| own.get().unwrap()));
            if closes {
                return;
            }
        }
    });
    let lb = one_worker(&server, "round_robin");
    probe.set(Mutex::new(Probe::new(&lb))).ok().unwrap();
    let mut client = lb.client();
    for (number, (method, bytes, _)) in RESPONSES.iter().enumerate() {
        let mut get = |cut: usize, is_seen: u8| {
            client.send(&lb_test_support::request(method, &format!("/{number}/{cut}/{is_seen}"), &[]));
            client.whole(method).unwrap_or_else(|broken| panic!("{bytes:?} cut at {cut}: {broken:?}"))
        };
        let expected = get(0, 0);
        for cut in 1..=bytes.len() {
            for is_seen in [0, 1] {
                assert_eq!(get(cut, is_seen), expected, "{bytes:?} cut at {cut}, seen: {is_seen}");
            }
        }
        assert_eq!(expected.heads.len() == 2, bytes.contains(" 103 "));
        assert_eq!(expected.trailers.len(), if bytes.contains("x-sum") { 2 } else { 0 });
    }
    lb.comes_to_rest();
    assert_eq!(
        lb.metric("lb_client_connections_accepted_total", &[]),
        2.0,
        "every response left its connection usable"
    );
    assert_eq!(lb.metric("lb_retries_total", &[]), 0.0);
}

fn respond(wire: &mut Wire, pieces: &[&[u8]], probe: Option<&Mutex<Probe>>) {
    let (last, first) = pieces.split_last().unwrap();
    for piece in first {
        wire.write(piece);
        if let Some(probe) = probe {
            probe.lock().unwrap().pass();
        }
    }
    wire.write(last);
}
