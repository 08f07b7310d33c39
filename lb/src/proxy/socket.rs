//! A TCP socket as hyper reads and writes it, on both sides.
//!
//! Why not hyper-util's wrapper: hyper hands over a head and a small body as two slices, and `writev` costs the kernel more than one
//! `send` of the few bytes gathered. Large bodies are still written without a copy.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::net::TcpStream;

/// Up to so many bytes are gathered on the stack.
const GATHER_MAX_BYTES: usize = 2048;

pub(super) struct Socket {
    io: TokioIo<TcpStream>,
    /// Set while the kernel is to be asked whether the other side has closed.
    probe: Option<Probe>,
}

/// The way to a socket that hyper owns.
pub(super) type Probe = Rc<Cell<bool>>;

// === impl Socket ===

impl Socket {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { io: TokioIo::new(stream), probe: None }
    }

    /// The same, with a way to have the kernel asked: what the runtime has heard of a quiet socket may be old.
    pub(super) fn with_probe(stream: TcpStream) -> (Self, Probe) {
        let probe = Probe::default();
        (Self { io: TokioIo::new(stream), probe: Some(probe.clone()) }, probe)
    }

    /// Whether the kernel holds bytes, an end or an error.
    pub(super) fn has_news(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        let peeked = SockRef::from(self.stream()).peek(&mut byte);
        !peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    pub(super) fn stream(&self) -> &TcpStream {
        self.io.inner()
    }

    pub(super) fn into_stream(self) -> TcpStream {
        self.io.into_inner()
    }
}

impl Read for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if read.is_pending() && self.probe.as_ref().is_some_and(|probe| probe.get()) && self.has_news() {
            return Poll::Ready(Ok(())); // nothing was asked, so whatever came is the end of this connection
        }
        read
    }
}

impl Write for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
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
            return Pin::new(&mut self.io).poll_write_vectored(cx, slices);
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
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
