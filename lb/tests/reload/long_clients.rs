//! Long clients of the soak test: tunnels, long downloads, long uploads, and clients that send a request in pieces.
//!
//! Each takes a step every few swaps, the first before the first swap and the last after the last swap. Invariant: a
//! long client returns only if all bytes in both directions are complete. It returns one server for each of its
//! requests.

use std::net::SocketAddr;

use lb_test_support::{Answer, Client, Head, chunk, parse, request, request_with};

use crate::pace::{Pace, STEPS};

/// Several times more than sockets and buffers on the way can hold.
const DOWNLOAD_BYTES: u64 = 32 << 20;
const PIECE_BYTES: usize = 16 << 10;
/// Steps for one request of a slow client.
const STEPS_PER_REQUEST: usize = 10;

/// Ids of the servers that responded.
pub(crate) type Served = Vec<String>;

/// One connection that stays open.
pub(crate) struct LongClient<'a> {
    number: usize,
    client: Client,
    pace: &'a Pace,
}

pub(crate) type Stay = fn(LongClient<'_>) -> Served;

/// All long clients.
pub(crate) const LONG_CLIENTS: [Stay; 13] = [
    |client| client.tunnel(),
    |client| client.tunnel(),
    |client| client.tunnel(),
    |client| client.download(),
    |client| client.download(),
    |client| client.download(),
    |client| client.upload(),
    |client| client.upload(),
    |client| client.upload(),
    |client| client.slow_head(),
    |client| client.slow_head(),
    |client| client.slow_body(),
    |client| client.slow_body(),
];

fn server(head: &Head) -> String {
    head.field("x-server-id").expect("every response names its server")
}

// === impl LongClient ===

impl<'a> LongClient<'a> {
    pub(crate) fn new(number: usize, proxy: SocketAddr, pace: &'a Pace) -> Self {
        Self { number, client: Client::connect(proxy), pace }
    }

    fn step(&mut self, step: u64, take: impl FnOnce(&mut Client)) {
        self.pace.before_step(step);
        take(&mut self.client);
        self.pace.stepped(self.number);
    }

    /// A tunnel: every word comes back, and at the end the close comes back.
    fn tunnel(mut self) -> Served {
        self.client.send(&request("GET", "/echo", &["connection: upgrade", "upgrade: echo"]));
        let head = self.client.head().unwrap();
        assert_eq!(head.status, 101);
        for step in 0..STEPS {
            let word = format!("tunnel {} at step {step}", self.number);
            self.step(step, |client| {
                client.send(word.as_bytes());
                assert_eq!(client.raw(word.len()), word.as_bytes());
            });
        }
        self.client.end_sending();
        assert_eq!(self.client.rest(), b"");
        vec![server(&head)]
    }

    /// Reads a part of the body at each step. The offset determines each byte.
    fn download(mut self) -> Served {
        socket2::SockRef::from(&self.client.stream).set_recv_buffer_size(64 << 10).unwrap();
        self.client.send(&request("GET", &format!("/stream?bytes={DOWNLOAD_BYTES}&chunk={PIECE_BYTES}"), &[]));
        let head = self.client.head().unwrap();
        assert_eq!(head.status, 200);
        let alphabet: Vec<u8> = (b'a'..=b'z').cycle().take(26 + (64 << 10)).collect();
        let (pace, number) = (self.pace, self.number);
        let (mut offset, mut step) = (0, 0);
        let whole = self.client.body(head.framing("GET"), |bytes| {
            for piece in bytes.chunks(64 << 10) {
                let from = (offset % 26) as usize;
                assert!(piece == &alphabet[from..from + piece.len()], "wrong bytes after {offset}");
                offset += piece.len() as u64;
                while offset * STEPS >= DOWNLOAD_BYTES * (step + 1) {
                    pace.stepped(number);
                    step += 1;
                    if step < STEPS {
                        pace.before_step(step);
                    }
                }
            }
        });
        assert_eq!((whole, offset, step), (Ok(()), DOWNLOAD_BYTES, STEPS));
        vec![server(&head)]
    }

    /// Sends a chunk at each step.
    fn upload(mut self) -> Served {
        self.client.send(&request("PUT", "/upload", &["transfer-encoding: chunked"]));
        let piece = chunk(&[b'x'; PIECE_BYTES]);
        for step in 0..STEPS {
            self.step(step, |client| client.send(&piece));
        }
        self.client.send(&chunk(b""));
        let answer = self.client.answer();
        assert_eq!((answer.status(), &parse(&answer.body)["bytes"]), (200, &(STEPS * PIECE_BYTES as u64).into()));
        vec![server(&answer.head)]
    }

    fn slow_head(self) -> Served {
        self.trickle(&request("GET", "/home", &["x-slow: a head that comes in pieces"]), |answer| {
            assert_eq!(parse(&answer.body)["status"], "successful");
        })
    }

    fn slow_body(self) -> Served {
        const BODY: &[u8] = b"a body that comes in pieces, behind a head that does so";
        self.trickle(&request_with("POST", "/upload", &[], BODY), |answer| {
            assert_eq!(parse(&answer.body)["bytes"], BODY.len());
        })
    }

    /// Sends requests one after the other, each in pieces.
    fn trickle(mut self, request: &[u8], is_whole: impl Fn(&Answer)) -> Served {
        let piece = request.len().div_ceil(STEPS_PER_REQUEST);
        let (mut served, mut sent) = (Served::new(), 0);
        for step in 0..STEPS {
            let end = if step + 1 == STEPS { request.len() } else { request.len().min(sent + piece) };
            self.step(step, |client| client.send(&request[sent..end]));
            sent = end;
            if sent == request.len() {
                let answer = self.client.answer();
                assert_eq!(answer.status(), 200);
                is_whole(&answer);
                served.push(server(&answer.head));
                sent = 0;
            }
        }
        served
    }
}
