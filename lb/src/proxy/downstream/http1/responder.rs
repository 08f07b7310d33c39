//! The futures that respond to requests. They belong to the worker and are lent to a connection for one request each.
//!
//! Why: such a future has some kilobytes. An idle connection should not hold one, and a busy one should not allocate, fill and free one
//! per request. So a future never ends: it waits for a request in its slot, responds, leaves what follows in the slot, and waits again.
//! Invariants: a future that is kept waits for a request; one that is dropped in the middle of a request, or whose poll panics, is not
//! kept.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use super::{After, Arrived, Client};
use crate::net::Spare;

/// So many are kept.
const SPARE_MAX: usize = 1024;

/// Those that wait for a request.
pub(in crate::proxy) struct Responders(Spare<Responder>);

struct Responder {
    future: Pin<Box<dyn Future<Output = Infallible>>>,
    slot: Rc<Slot>,
}

/// What goes in, and what comes out.
#[derive(Default)]
struct Slot {
    request: Cell<Option<(Rc<Client>, Arrived)>>,
    after: Cell<Option<After>>,
}

// === impl Responders ===

impl Responders {
    /// Has a request answered.
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

    /// Lets go of those that were not needed for a while; to be called every second.
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
