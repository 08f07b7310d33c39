//! A client's connection: one task that reads requests, has them served, and writes the responses, until one side ends
//! it.
//!
//! Invariants: the connection knows only its present request. While it is idle its task holds no buffer and no future
//! of a request: both belong to the worker and are lent ([`Responders`]). Unread bytes are read (`linger`) before it is
//! closed, because the kernel resets a connection that is closed with unread bytes. If the response is lost anyway,
//! they are not read.

mod http1;
#[cfg(test)]
mod http2_sketch;
mod tunnel;

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context as Task, Poll, Waker};

pub(super) use self::http1::Responders;

use self::http1::{After, Connection, Next};
use super::local::Local;
use super::peer::Peer;
use crate::net::Stream;

/// Wakes a connection's task, because draining has begun, or because the requests of a backend were cut.
#[derive(Default)]
pub(super) struct Signal(RefCell<Option<Waker>>);

/// Serves one connection until its end.
pub(super) async fn serve(
    local: Rc<Local>,
    responders: Rc<Responders>,
    peer: Peer,
    stream: Stream,
    signal: Rc<Signal>,
) {
    let mut connection = Connection::new(local, peer, stream, signal);
    loop {
        let after = match connection.next().await {
            Next::Request(request) => {
                // Lets the worker read all ready sockets before anything is sent. Successive sends then find their
                // receivers awake, which saves a tenth of all the work on one machine.
                yield_once().await;
                responders.respond(connection.client(), request).await
            }
            Next::Refused(head, fault) => Box::pin(connection.client().refuse(head, fault)).await,
            Next::Closed => return,
        };
        match after {
            After::Next => {}
            After::Tunnel(switched) => return Box::pin(tunnel::run(connection.wire(), switched)).await,
            After::Linger => return Box::pin(connection.linger()).await,
            After::Close => return,
        }
    }
}

/// Moves the task to the end of the worker's queue.
async fn yield_once() {
    let mut has_yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

// === impl Signal ===

impl Signal {
    pub(super) fn wake(&self) {
        if let Some(waker) = &*self.0.borrow() {
            waker.wake_by_ref();
        }
    }

    /// The task that is to be woken.
    fn remember(&self, cx: &Task<'_>) {
        let mut waker = self.0.borrow_mut();
        if waker.is_none() {
            *waker = Some(cx.waker().clone());
        }
    }
}
