//! A connection as the request path reads and writes it.
//!
//! Why an enum and no trait object: the branch of a call is always predicted. Invariant: one task polls both reading
//! and writing.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use socket2::SockRef;
#[cfg(any(test, feature = "bench"))]
use tokio::io::DuplexStream;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use super::Descriptor;

#[derive(Debug)]
pub(crate) enum Stream {
    /// The descriptor comes last, so that it is given back after the socket is closed.
    Plain(TcpStream, #[expect(dead_code, reason = "it is only dropped")] Descriptor),
    /// In memory, for tests and benches. Its input cannot be seen without reading it, so it never reports unread input.
    #[cfg(any(test, feature = "bench"))]
    Memory(DuplexStream),
}

// === impl Stream ===

impl Stream {
    /// Reads into the room that `buffer` has; 0 bytes are the end.
    #[inline]
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>, buffer: &mut BytesMut) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream, _) => pin!(stream.read_buf(buffer)).poll(cx),
            #[cfg(any(test, feature = "bench"))]
            Self::Memory(stream) => pin!(stream.read_buf(buffer)).poll(cx),
        }
    }

    /// Ready when a read would return bytes, an end or an error.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream, _) => stream.poll_read_ready(cx),
            #[cfg(any(test, feature = "bench"))]
            Self::Memory(_) => Poll::Ready(Ok(())),
        }
    }

    /// Whether the runtime has an event for bytes, an end or an error since reading was last pending. Neither asks the
    /// kernel nor registers to be woken.
    #[inline]
    pub(crate) fn has_news(&self) -> bool {
        match self {
            Self::Plain(stream, _) => stream.try_io(Interest::READABLE, || Ok(())).is_ok(),
            #[cfg(any(test, feature = "bench"))]
            Self::Memory(_) => true,
        }
    }

    /// Writes as much of `bytes` as possible.
    #[inline]
    pub(crate) fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream, _) => Pin::new(stream).poll_write(cx, bytes),
            #[cfg(any(test, feature = "bench"))]
            Self::Memory(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    /// Writes as much of `slices` as possible.
    pub(crate) fn poll_send_all(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream, _) => Pin::new(stream).poll_write_vectored(cx, slices),
            #[cfg(any(test, feature = "bench"))]
            Self::Memory(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    /// Whether the runtime has an event for unread bytes, an end or an error. Asks the kernel only if so. Takes a byte
    /// if there is one: for connections that are closed then.
    pub(crate) fn has_heard(&self) -> bool {
        match self {
            Self::Plain(stream, _) => {
                let would_block = |error: io::Error| error.kind() == io::ErrorKind::WouldBlock;
                self.has_news() && !stream.try_read(&mut [0]).is_err_and(would_block)
            }
            #[cfg(any(test, feature = "bench"))]
            Self::Memory(_) => false,
        }
    }

    /// Whether the kernel holds bytes, an end or an error. The runtime's event may be old if the socket is quiet. Takes
    /// nothing.
    pub(crate) fn has_unread_input(&self) -> bool {
        match self {
            Self::Plain(stream, _) => {
                let mut byte = [MaybeUninit::uninit()];
                let peeked = SockRef::from(stream).peek(&mut byte);
                !peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
            }
            #[cfg(any(test, feature = "bench"))]
            Self::Memory(_) => false,
        }
    }

    /// Whether the kernel resets the connection when it is closed, so that the other side does not take a part for the
    /// whole.
    pub(crate) fn reset_on_close(&self, resets: bool) {
        match self {
            Self::Plain(stream, _) => {
                if let Err(error) = SockRef::from(stream).set_linger(resets.then_some(Duration::ZERO)) {
                    tracing::debug!("how a connection is closed cannot be set: {error}");
                }
            }
            #[cfg(any(test, feature = "bench"))]
            Self::Memory(_) => {}
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream, _) => Pin::new(stream).poll_read(cx, buf),
            #[cfg(any(test, feature = "bench"))]
            Self::Memory(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream, _) => Pin::new(stream).poll_write(cx, bytes),
            #[cfg(any(test, feature = "bench"))]
            Self::Memory(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream, _) => Pin::new(stream).poll_shutdown(cx),
            #[cfg(any(test, feature = "bench"))]
            Self::Memory(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
