//! A connection as the request path reads and writes it.
//!
//! Why an enum and no trait object: a call is a branch that is always taken the same way. Invariant: reading and writing are polled by
//! one task alone.

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
    /// In memory, for tests and benches. It cannot be looked at without being read, so it never says that it has unread input.
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

    /// Ready when reading would give something: bytes, an end or an error.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream, _) => stream.poll_read_ready(cx),
            #[cfg(any(test, feature = "bench"))]
            Self::Memory(_) => Poll::Ready(Ok(())),
        }
    }

    /// Whether the runtime has heard of bytes, an end or an error since reading was last found pending. Neither asks the kernel nor
    /// arranges to be woken.
    #[inline]
    pub(crate) fn has_news(&self) -> bool {
        match self {
            Self::Plain(stream, _) => stream.try_io(Interest::READABLE, || Ok(())).is_ok(),
            #[cfg(any(test, feature = "bench"))]
            Self::Memory(_) => true,
        }
    }

    /// Writes what it can of `bytes`.
    #[inline]
    pub(crate) fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream, _) => Pin::new(stream).poll_write(cx, bytes),
            #[cfg(any(test, feature = "bench"))]
            Self::Memory(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    /// Writes what it can of `slices`.
    pub(crate) fn poll_send_all(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream, _) => Pin::new(stream).poll_write_vectored(cx, slices),
            #[cfg(any(test, feature = "bench"))]
            Self::Memory(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    /// Whether the runtime has heard of bytes, an end or an error that nothing has read yet. Asks the kernel only if it has. Takes a
    /// byte where there is one: for connections that end if there is.
    pub(crate) fn has_heard(&self) -> bool {
        match self {
            Self::Plain(stream, _) => {
                let read = stream.try_read(&mut [0]);
                !read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
            }
            #[cfg(any(test, feature = "bench"))]
            Self::Memory(_) => false,
        }
    }

    /// Whether the kernel holds bytes, an end or an error: what the runtime has heard of a quiet socket may be old. Takes nothing.
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

    /// Whether the kernel resets the connection when it is closed, so that the other side does not take a part for the whole.
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
