//! What a connection becomes after 101: bytes both ways until both sides are done.
//!
//! Invariant: the attempt and the request stay in flight as long as the tunnel lives.

use bytes::Bytes;
use tokio::io::{AsyncWriteExt, copy_bidirectional_with_sizes};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::attempt::{Attempt, RequestGuard};
use super::client::{Client, ClientIo};
use super::upstream::InUse;

/// Per direction; tunnels are many and mostly idle.
const BUFFER_BYTES: usize = 8 * 1024;

pub(super) struct Tunnel {
    pub(super) upstream: TcpStream,
    /// What the backend sent right behind its head.
    pub(super) early: Bytes,
    pub(super) attempt: Attempt,
    pub(super) guard: RequestGuard,
    pub(super) _in_use: Option<InUse>,
}

// === impl Tunnel ===

impl Tunnel {
    /// Runs to the end. `early` is what the client sent right behind its head.
    pub(super) async fn run(mut self, _client: &Client, io: ClientIo, early: Bytes) {
        let mut downstream = io.into_socket();
        let _ = self.copy(&mut downstream, early).await;
        // However a tunnel ends, it had been made: there is no telling an abort from a good-bye here.
        let now = Instant::now();
        self.attempt.succeed(now);
        self.guard.finish(101, None, now);
    }

    async fn copy(&mut self, downstream: &mut TcpStream, early: Bytes) -> std::io::Result<()> {
        self.upstream.write_all(&early).await?;
        downstream.write_all(&self.early).await?;
        copy_bidirectional_with_sizes(downstream, &mut self.upstream, BUFFER_BYTES, BUFFER_BYTES).await?;
        Ok(())
    }
}
