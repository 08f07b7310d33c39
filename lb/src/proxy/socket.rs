//! A TCP socket as both sides write it.
//!
//! Why not hyper-util's wrapper: a head and a small body come as two slices, and `writev` costs the kernel more than one `send` of the
//! few bytes gathered. Large bodies are still written without a copy.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::net::TcpStream;

/// Up to so many bytes are gathered on the stack.
const GATHER_MAX_BYTES: usize = 2048;

pub(super) struct Socket(TokioIo<TcpStream>);

// === impl Socket ===

impl Socket {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self(TokioIo::new(stream))
    }

    /// Whether the kernel holds bytes, an end or an error: what the runtime has heard of a quiet socket may be old.
    pub(super) fn has_news(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        let peeked = SockRef::from(self.stream()).peek(&mut byte);
        !peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    pub(super) fn stream(&self) -> &TcpStream {
        self.0.inner()
    }

    pub(super) fn stream_mut(&mut self) -> &mut TcpStream {
        self.0.inner_mut()
    }

    pub(super) fn into_stream(self) -> TcpStream {
        self.0.into_inner()
    }
}

impl Read for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl Write for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [slice] = slices {
            return self.poll_write(cx, slice);
        }
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        if total > GATHER_MAX_BYTES {
            return Pin::new(&mut self.0).poll_write_vectored(cx, slices);
        }
        let mut gathered = [0; GATHER_MAX_BYTES];
        let mut end = 0;
        for slice in slices {
            gathered[end..end + slice.len()].copy_from_slice(slice);
            end += slice.len();
        }
        self.poll_write(cx, &gathered[..end])
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
