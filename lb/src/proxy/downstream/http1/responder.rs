//! The futures that respond to requests. They belong to the worker and are lent to a connection for one request each.
//!
//! Why: such a future has some kilobytes. An idle connection should not hold one, and a busy one should not allocate,
//! fill and free one per request. So a future never ends: it waits for a request in its slot, responds, leaves the
//! outcome in the slot, and waits again. Invariants: a kept future waits for a request. One that is dropped during a
//! request, or whose poll panics, is not kept.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use super::{After, Arrived, Client};
use crate::net::Spare;

/// The number of kept futures.
const SPARE_MAX: usize = 1024;

/// Futures that wait for a request.
pub(in crate::proxy) struct Responders(Spare<Responder>);

struct Responder {
    future: Pin<Box<dyn Future<Output = Infallible>>>,
    slot: Rc<Slot>,
}

/// The request, then the connection's next step.
#[derive(Default)]
struct Slot {
    request: Cell<Option<(Rc<Client>, Arrived)>>,
    after: Cell<Option<After>>,
}

// === impl Responders ===

impl Responders {
    /// Lends a future to the connection and has the request served.
    pub(in crate::proxy::downstream) async fn respond(&self, client: &Rc<Client>, request: Arrived) -> After {
        let mut responder = self.0.take().unwrap_or_default();
        responder.slot.request.set(Some((client.clone(), request)));
        let after = poll_fn(|cx| {
            let Poll::Pending = responder.future.as_mut().poll(cx);
            responder.slot.after.take().map_or(Poll::Pending, Poll::Ready)
        })
        .await;
        self.0.put(responder);
        after
    }

    /// Drops futures that were not needed for a while; to be called every second.
    pub(in crate::proxy) fn shrink(&self) {
        self.0.shrink();
    }
}

impl Default for Responders {
    fn default() -> Self {
        Self(Spare::new(SPARE_MAX))
    }
}

// === impl Responder ===

impl Default for Responder {
    fn default() -> Self {
        let slot = Rc::<Slot>::default();
        Self { future: Box::pin(run(slot.clone())), slot }
    }
}

async fn run(slot: Rc<Slot>) -> Infallible {
    loop {
        let (client, request) = poll_fn(|_| slot.request.take().map_or(Poll::Pending, Poll::Ready)).await;
        let after = client.respond(request).await;
        slot.after.set(Some(after));
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;
    use crate::net::Stream;
    use crate::proxy::downstream::serve;
    use crate::proxy::peer::Peer;
    use crate::proxy::stand::{Stand, round_robin};

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";

    /// A backend on a real socket; `None` never responds.
    async fn backend(answer: Option<&'static [u8]>) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::task::spawn_local(async move {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                match answer {
                    Some(answer) => drop(tokio::task::spawn_local(async move {
                        while stream.read(&mut [0; 1024]).await.is_ok_and(|bytes| bytes > 0) {
                            stream.write_all(answer).await.unwrap();
                        }
                    })),
                    None => open.push(stream),
                }
            }
        });
        address
    }

    fn on_a_worker(test: impl AsyncFnOnce()) {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build_local(tokio::runtime::LocalOptions::default()).unwrap().block_on(test());
    }

    #[test]
    fn one_future_serves_request_after_request() {
        on_a_worker(async || {
            let address = backend(Some(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")).await;
            let (stand, responders) = (Stand::new(&round_robin(), address), Rc::<Responders>::default());
            for _ in 0..2 {
                let (mut client, far) = duplex(64 * 1024);
                let peer = Peer::new(SocketAddr::from(([192, 0, 2, 7], 4000)), Stand::LISTENER);
                let (local, signal) = (stand.local.clone(), Rc::default());
                let served = serve(local, responders.clone(), peer, Stream::Memory(far), signal);
                let served = tokio::task::spawn_local(served);
                for _ in 0..3 {
                    client.write_all(REQUEST).await.unwrap();
                    let mut read = Vec::new();
                    while !read.ends_with(b"\r\n\r\n") {
                        assert_ne!(client.read_buf(&mut read).await.unwrap(), 0);
                    }
                    assert!(read.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", String::from_utf8_lossy(&read));
                }
                drop(client);
                served.await.unwrap();
            }
            let kept: Vec<_> = std::iter::from_fn(|| responders.0.take()).collect();
            assert_eq!(kept.len(), 1);
            assert!(kept.iter().all(|one| Rc::strong_count(&one.slot) == 2), "the future and its owner know the slot");
            assert_eq!(stand.in_flight(), 0);
        });
    }

    #[test]
    fn a_future_that_is_dropped_in_the_middle_is_not_kept_and_leaves_nothing_in_flight() {
        on_a_worker(async || {
            let (stand, responders) = (Stand::new(&round_robin(), backend(None).await), Rc::<Responders>::default());
            let (mut client, far) = duplex(64 * 1024);
            let peer = Peer::new(SocketAddr::from(([192, 0, 2, 7], 4000)), Stand::LISTENER);
            let served = serve(stand.local.clone(), responders.clone(), peer, Stream::Memory(far), Rc::default());
            let served = tokio::task::spawn_local(served);
            client.write_all(REQUEST).await.unwrap();
            while stand.in_flight() == 0 {
                tokio::task::yield_now().await;
            }
            served.abort();
            assert!(served.await.unwrap_err().is_cancelled());
            assert_eq!((stand.in_flight(), responders.0.take().is_none()), (0, true));
        });
    }
}
