//! Bytes that were read from a socket and not taken yet.
//!
//! Why not a buffer alone: a connection that waits must hold none. The inbox takes a buffer when bytes arrive and gives
//! it back when they are used up. So idle connections, and requests that wait for a slow backend, cost no buffer. It
//! takes a large buffer only in a message of which the last read brought many bytes. Invariants: while the inbox is
//! empty and waits, it holds no buffer. One task polls it until [`change_task`](Inbox::change_task).

use std::io;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::task::coop::has_budget_remaining;

use super::buffers::{Buffers, Lease, ROOM_BYTES};
use super::stream::Stream;

#[derive(Debug, Default)]
pub(crate) struct Inbox {
    bytes: BytesMut,
    /// The last try to read was pending, so the runtime wakes the task for new bytes.
    is_watched: bool,
    /// The last read brought [`ROOM_BYTES`] or filled the buffer, or a large message is expected.
    is_fast: bool,
    /// For large buffers.
    lease: Option<Lease>,
}

// === impl Inbox ===

impl Inbox {
    /// The bytes that are here. They are taken from the front.
    #[inline]
    pub(crate) fn bytes(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Waits for bytes and reads them; 0 means the end. `wanted`: the number of bytes that should have room.
    pub(crate) fn poll_fill(
        &mut self,
        stream: &mut Stream,
        buffers: &Buffers,
        cx: &mut Context<'_>,
        wanted: usize,
    ) -> Poll<io::Result<usize>> {
        let is_there = stream.has_news()
            || (!self.is_watched
                && match stream.poll_readable(cx) {
                    Poll::Ready(readable) => readable.map(|()| true)?,
                    Poll::Pending => false,
                });
        let polled = if is_there {
            let may_be_large = self.is_fast && wanted > ROOM_BYTES && self.has_lease(buffers);
            buffers.make_room(&mut self.bytes, if may_be_large { wanted } else { wanted.min(ROOM_BYTES) });
            let polled = stream.poll_fill(cx, &mut self.bytes);
            if let Poll::Ready(Ok(bytes)) = polled {
                self.is_fast = bytes >= ROOM_BYTES || self.bytes.len() == self.bytes.capacity();
            }
            polled
        } else {
            Poll::Pending
        };
        // A task without poll budget gets no events of the socket, so the kernel is asked.
        self.is_watched = polled.is_pending() && has_budget_remaining();
        if self.bytes.is_empty() {
            self.give_back(buffers);
        }
        polled
    }

    fn has_lease(&mut self, buffers: &Buffers) -> bool {
        if self.lease.is_none() {
            self.lease = buffers.lease();
        }
        self.lease.is_some()
    }

    fn give_back(&mut self, buffers: &Buffers) {
        if self.bytes.capacity() > 0 {
            buffers.give_back(std::mem::take(&mut self.bytes));
        }
    }

    /// A message is over. Frees the buffer if it is empty.
    #[inline]
    pub(crate) fn rest(&mut self, buffers: &Buffers) {
        self.relax();
        if self.bytes.is_empty() {
            self.give_back(buffers);
        }
    }

    /// A message was read; other messages may be read in large pieces instead.
    #[inline]
    pub(crate) fn relax(&mut self) {
        (self.is_fast, self.lease) = (false, None);
    }

    /// Another task polls it from now on.
    pub(crate) fn change_task(&mut self) {
        self.is_watched = false;
    }

    /// The next message is expected to be large.
    pub(crate) fn expect_much(&mut self) {
        self.is_fast = true;
    }

    /// The bytes that are left at the end.
    pub(crate) fn into_bytes(self) -> BytesMut {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::net::Descriptors;

    async fn pair() -> (Stream, TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let descriptor = Descriptors::of_process(1).take().unwrap();
        (Stream::Plain(near, descriptor), listener.accept().await.unwrap().0)
    }

    async fn fill(inbox: &mut Inbox, stream: &mut Stream, buffers: &Buffers, wanted: usize) -> usize {
        poll_fn(|cx| inbox.poll_fill(stream, buffers, cx, wanted)).await.unwrap()
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_waiting_inbox_holds_no_buffer_and_wakes_for_bytes_and_for_the_end() {
        let (mut stream, mut peer) = pair().await;
        let (buffers, mut inbox) = (Buffers::default(), Inbox::default());
        for round in 0..3 {
            let mut polls = 0;
            let filled = poll_fn(|cx| {
                polls += 1;
                let polled = inbox.poll_fill(&mut stream, &buffers, cx, 1);
                if polled.is_pending() {
                    assert_eq!((inbox.bytes.capacity(), inbox.is_watched), (0, true), "round {round}, poll {polls}");
                    // A poll for another reason; it goes on waiting.
                    assert!(inbox.poll_fill(&mut stream, &buffers, cx, 1).is_pending());
                    if polls == 1 {
                        peer.try_write(b"abc").unwrap();
                    }
                }
                polled
            });
            assert_eq!((filled.await.unwrap(), &inbox.bytes()[..]), (3, &b"abc"[..]));
            assert!(polls > 1);
            inbox.bytes().clear();
        }
        peer.shutdown().await.unwrap();
        assert_eq!(fill(&mut inbox, &mut stream, &buffers, 1).await, 0);
        assert_eq!(inbox.bytes.capacity(), 0);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_buffer_is_large_where_much_came_before_and_a_lease_is_left() {
        let (mut stream, mut peer) = pair().await;
        let (buffers, mut inbox) = (Buffers::default(), Inbox::default());
        let most = usize::MAX;
        peer.write_all(&[7; 5 * ROOM_BYTES]).await.unwrap();
        assert_eq!(fill(&mut inbox, &mut stream, &buffers, most).await, ROOM_BYTES, "nothing is known yet");
        inbox.bytes().clear();
        assert_eq!(fill(&mut inbox, &mut stream, &buffers, most).await, 4 * ROOM_BYTES);
        inbox.bytes().clear();
        inbox.rest(&buffers);
        inbox.expect_much();
        peer.write_all(&[7; 2 * ROOM_BYTES]).await.unwrap();
        assert_eq!(fill(&mut inbox, &mut stream, &buffers, most).await, 2 * ROOM_BYTES);
        inbox.bytes().clear();
        inbox.rest(&buffers);
        let _leases: Vec<_> = std::iter::from_fn(|| buffers.lease()).collect();
        inbox.expect_much();
        peer.write_all(&[7; 2 * ROOM_BYTES]).await.unwrap();
        assert_eq!(fill(&mut inbox, &mut stream, &buffers, most).await, ROOM_BYTES, "no lease is left");
    }
}
