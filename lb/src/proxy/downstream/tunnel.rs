//! A connection after 101: bytes both ways until both sides are done, one fails, or nothing moves for too long. The
//! deadline of the backend's drain ends it, too.
//!
//! Invariant: [`Switched`] holds the attempt and the request, so both are in flight while the tunnel exists.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, copy_bidirectional_with_sizes};
use tokio::time::{Instant, sleep_until};

use crate::net::Stream;
use crate::proxy::body::Wire;
use crate::proxy::exchange::Switched;
use crate::proxy::fault::Fault;

/// Per direction; tunnels are many and mostly idle.
const BUFFER_BYTES: usize = 8 * 1024;

/// A stream that records when a byte has moved on it.
struct Watched<'a, S> {
    stream: S,
    moved: &'a Cell<bool>,
}

/// The client's side of a tunnel.
struct Client<'a>(&'a Wire);

/// Runs a tunnel to its end.
pub(super) async fn run(wire: &Wire, mut switched: Box<Switched>) {
    let moved = Cell::new(false);
    let (idle, early) = (switched.idle, std::mem::take(&mut switched.early));
    let (backend, is_cut) = switched.backend();
    let fault = closed(copy(Client(wire), backend, early, &moved), &moved, idle, is_cut).await;
    switched.finish(fault);
}

async fn copy(client: Client<'_>, backend: &mut Stream, early: Bytes, moved: &Cell<bool>) -> io::Result<()> {
    let mut client = Watched { stream: client, moved };
    let mut backend = Watched { stream: backend, moved };
    client.write_all(&early).await?;
    copy_bidirectional_with_sizes(&mut client, &mut backend, BUFFER_BYTES, BUFFER_BYTES).await?;
    Ok(())
}

/// Runs `copying` until it ends by itself (`None`), until nothing `moved` for the idle time, or until it `is_cut`. One
/// timer, armed again only when it rings.
async fn closed<T>(
    copying: impl Future<Output = T>,
    moved: &Cell<bool>,
    idle: Duration,
    is_cut: impl Fn() -> bool,
) -> Option<Fault> {
    let mut copying = pin!(copying);
    let mut last = Instant::now();
    let mut timer = pin!(sleep_until(last + idle));
    poll_fn(|cx| {
        if copying.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        if is_cut() {
            return Poll::Ready(Some(Fault::Drained));
        }
        if moved.replace(false) {
            last = Instant::now();
        }
        while timer.as_mut().poll(cx).is_ready() {
            if timer.deadline() >= last + idle {
                return Poll::Ready(Some(Fault::TunnelIdle));
            }
            timer.as_mut().reset(last + idle);
        }
        Poll::Pending
    })
    .await
}

// === impl Client ===

impl AsyncRead for Client<'_> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.stream.borrow_mut()).poll_read(cx, buf)
    }
}

impl AsyncWrite for Client<'_> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut *self.0.stream.borrow_mut()), cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.stream.borrow_mut()).poll_shutdown(cx)
    }
}

// === impl Watched ===

impl<S> Watched<'_, S> {
    /// Passes a write's outcome on. A read is followed by a write, so only writes are recorded.
    fn wrote(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.moved.set(true);
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<'_, S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<'_, S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, duplex};
    use tokio::time::sleep;

    use super::*;

    const IDLE: Duration = Duration::from_secs(3_600);

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn a_tunnel_lives_as_long_as_a_byte_moves_either_way() {
        let (client, mut near) = duplex(64);
        let (backend, mut far) = duplex(64);
        let moved = Cell::new(false);
        let mut client = Watched { stream: client, moved: &moved };
        let mut backend = Watched { stream: backend, moved: &moved };
        let started = Instant::now();
        let copying = copy_bidirectional_with_sizes(&mut client, &mut backend, 16, 16);
        let talk = async {
            let mut byte = [0];
            for _ in 0..10 {
                sleep(IDLE - Duration::from_secs(1)).await;
                near.write_all(b"x").await.unwrap();
                far.read_exact(&mut byte).await.unwrap();
                sleep(IDLE - Duration::from_secs(1)).await;
                far.write_all(b"y").await.unwrap();
                near.read_exact(&mut byte).await.unwrap();
            }
            Instant::now()
        };
        let (fault, spoken) = tokio::join!(closed(copying, &moved, IDLE, || false), talk);
        assert!(fault == Some(Fault::TunnelIdle) && spoken - started > 19 * IDLE);
        let silence = started.elapsed() - (spoken - started);
        assert!(silence >= IDLE && silence < IDLE + Duration::from_secs(1), "{silence:?}");
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn a_tunnel_that_ends_by_itself_is_not_idle() {
        let moved = Cell::new(false);
        assert_eq!(closed(sleep(IDLE / 2), &moved, IDLE, || false).await, None);
        assert_eq!(closed(sleep(2 * IDLE), &moved, IDLE, || false).await, Some(Fault::TunnelIdle));
    }
}
