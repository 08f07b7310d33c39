//! An exchange from end to end in memory, for `cargo bench`: a client, a connection of lb's, and a backend, without a
//! socket.
//!
//! Why inside of lb: the request path takes streams of its own type, which no other crate can make. Invariants: one
//! request is in progress at a time. All requests use one connection on either side. An unexpected response ends the
//! run with a panic.

use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use lb_strategy_host::Strategy;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::Instant;

use super::downstream;
use super::peer::Peer;
use super::stand::Stand;
use super::upstream::Upstream;
use crate::net::Stream;

/// As curl sends it.
const REQUEST: &[u8] = b"GET /home HTTP/1.1\r\nHost: shop.test:8080\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 26\r\n\
    date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n{\"message\":\"hello\",\"id\":1}";
/// The buffer of a stream, in each direction.
const BUFFER_BYTES: usize = 64 * 1024;

/// One connection of a client to lb, and one of lb to a backend.
pub struct World {
    stand: Stand,
    client: DuplexStream,
    served: JoinHandle<()>,
    request: Vec<u8>,
    /// The received bytes.
    response: Vec<u8>,
}

// === impl World ===

impl World {
    /// Makes it and serves one request. Must be called on a local runtime, because it starts tasks. The requests have
    /// bodies of `body_bytes` bytes.
    pub async fn new(strategy: &Arc<Strategy>, body_bytes: usize) -> Self {
        let request = match body_bytes {
            0 => REQUEST.to_vec(),
            _ => {
                let lines = format!("content-length: {body_bytes}\r\n\r\n");
                let head = REQUEST.strip_suffix(b"\r\n").expect("an empty line").strip_prefix(b"GET").expect("a GET");
                [b"POST", head, lines.as_bytes(), &vec![b'x'; body_bytes]].concat()
            }
        };
        // No connection can be made to port 0, so a lost connection is not replaced unnoticed.
        let stand = Stand::new(strategy, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let (near, far) = duplex(BUFFER_BYTES);
        spawn_local(answer(far, body_bytes));
        {
            let view = stand.local.view.borrow();
            let current = view.pools[0].current();
            let member = &current.as_ref().expect("the stand has a pool").members[0];
            let upstream = Upstream::new(Stream::Memory(near), &member.shard, &stand.local.buffers);
            member.idle.put(upstream, Instant::now(), 1);
        }
        let (mut client, far) = duplex(BUFFER_BYTES);
        let peer = Peer::new(SocketAddr::from(([192, 0, 2, 7], 4000)), Stand::LISTENER);
        let (local, stream) = (stand.local.clone(), Stream::Memory(far));
        let served = spawn_local(downstream::serve(local, Rc::default(), peer, stream, Rc::default()));
        client.write_all(&request).await.expect("lb reads");
        let mut response = Vec::new();
        let body = RESPONSE.rsplit(|byte| *byte == b'\n').next().expect("it has lines");
        while !response.ends_with(body) {
            assert_ne!(client.read_buf(&mut response).await.expect("lb responds"), 0, "lb closed the connection");
            // lb writes a head at once.
            assert!(response.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", String::from_utf8_lossy(&response));
        }
        Self { stand, client, served, request, response }
    }

    /// Sends `requests` requests, one after the other.
    pub async fn run(&mut self, requests: u64) {
        let mut response = vec![0; self.response.len()];
        for _ in 0..requests {
            self.client.write_all(&self.request).await.expect("lb reads");
            self.client.read_exact(&mut response).await.expect("lb responds");
            assert!(response == self.response, "{}", String::from_utf8_lossy(&response));
        }
    }

    /// Ends the connection. Returns how many requests are still in flight by any count: 0.
    pub async fn end(self) -> i64 {
        drop(self.client);
        self.served.await.expect("no connection panics");
        self.stand.in_flight()
    }
}

/// The backend: a response for each request. Requests come one at a time, with bodies of `body_bytes` bytes.
async fn answer(mut stream: DuplexStream, body_bytes: usize) {
    let mut read = Vec::with_capacity(BUFFER_BYTES);
    while stream.read_buf(&mut read).await.is_ok_and(|bytes| bytes > 0) {
        if read.len().checked_sub(body_bytes).is_some_and(|head| read[..head].ends_with(b"\r\n\r\n")) {
            read.clear();
            if stream.write_all(RESPONSE).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::{Builder, LocalOptions};

    use super::*;
    use crate::proxy::stand::round_robin;

    #[test]
    fn requests_go_through_in_memory_and_leave_nothing_in_flight() {
        let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();
        runtime.block_on(async {
            for body_bytes in [0, 8192] {
                let mut world = World::new(&round_robin(), body_bytes).await;
                world.run(100).await;
                assert_eq!(world.stand.ended_with(200), 101);
                assert_eq!(world.end().await, 0);
            }
        });
    }
}
