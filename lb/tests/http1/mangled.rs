//! Messages with random changes must pass every check: the parser neither panics nor reads past the end of a message.

use crate::checks;

const REQUESTS: &[&[u8]] = &[
    b"GET /a?b=c HTTP/1.1\r\nHost: a\r\nX-Long-Name: some value here\r\nConnection: keep-alive\r\n\r\n",
    b"POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhelloGET / HTTP/1.0\r\nConnection: close\r\n\r\n",
    b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n1\r\n,\r\n0\r\nx-t: 1\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    b"\r\nOPTIONS * HTTP/1.1\r\n\r\nGET http://u@b:80/p HTTP/1.1\r\nhost: b\r\n\r\n",
];
const RESPONSES: &[&[u8]] = &[
    b"HTTP/1.1 200 OK\r\nServer: a\r\nContent-Length: 12\r\nConnection: keep-alive\r\n\r\nhello, worldHTTP/1.1 204 \r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 404 Not Found\r\nX: y\r\n\r\nbody until close",
    b"HTTP/1.1 200\r\ntransfer-encoding: Chunked\r\n\r\n3\r\nabc\r\n0\r\nt: 1\r\n\r\nHTTP/1.1 304 Not Modified\r\n\r\n",
];
const BODIES: &[&[u8]] = &[
    b"5\r\nhello\r\na;x\r\n0123456789\r\n0\r\nx: y\r\n\r\n",
    b"1\r\na\r\n1\r\nb\r\n002\r\ncd\r\n0;e=\"f\"\r\n\r\nnext",
];

#[track_caller]
fn run(seed: u64, rounds: usize, samples: &[&[u8]], check: impl Fn(&[u8])) {
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for round in 0..rounds {
        let mut mangled = samples[round % samples.len()].to_vec();
        for _ in 0..random.usize(0..4) {
            if mangled.is_empty() {
                break;
            }
            let at = random.usize(0..mangled.len());
            match random.u8(0..5) {
                0 => mangled[at] = random.u8(..),
                1 => drop(mangled.remove(at)),
                2 => mangled.truncate(at + 1),
                // Repeats a part of the message.
                3 => mangled.extend_from_within(at..mangled.len().min(at + 20)),
                _ => mangled.insert(at, b"\r\n: ,;0\0\t"[random.usize(0..9)]),
            }
        }
        check(&mangled);
    }
}

#[test]
fn mangled_requests_keep_the_invariants() {
    run(912, 10_000, REQUESTS, checks::request);
}

#[test]
fn mangled_responses_keep_the_invariants() {
    run(815, 10_000, RESPONSES, checks::response);
}

#[test]
fn mangled_chunks_keep_the_invariants() {
    run(4711, 20_000, BODIES, checks::chunked);
}

#[test]
fn mangled_messages_differ_from_other_parsers_only_for_listed_reasons() {
    run(2026, 10_000, REQUESTS, checks::differential);
    run(2027, 10_000, RESPONSES, checks::differential);
}
