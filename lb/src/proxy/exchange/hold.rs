//! The wait for the first part of a request's body, before the pick.
//!
//! A strategy that picks by the body names the number of bytes. They are read here; mostly they are in the read buffer
//! already. Invariants: the time-outs and limits of a body hold during the wait, as while it streams. A request without
//! a body does not wait, and a body that is shorter is awaited to its end. No backend has a place taken meanwhile.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use tokio::time::Instant;

use super::Exchange;
use super::pace::Pace;
use crate::proxy::fault::Fault;

// === impl Exchange: the wait for the body ===

impl Exchange {
    /// The bytes of the body that the strategy asks for; 0: the pick can be made at once.
    #[inline]
    pub(super) fn wanted_body(&self) -> u32 {
        if self.body.has_ended() {
            return 0;
        }
        self.pool.current().as_ref().map_or(0, |current| current.shared.wants.body)
    }

    /// Holds the first `most` bytes of the body. Returns the time when they were here. The wait is boxed so that other
    /// requests do not contain it.
    pub(super) async fn hold(&mut self, most: u32) -> Result<Instant, Fault> {
        self.body.hold(most);
        let held = match poll_fn(|cx| Poll::Ready(self.body.poll_held(cx))).await {
            Poll::Ready(held) => held,
            Poll::Pending => self.wait_for_body().await,
        };
        self.guard.received(self.body.bytes());
        held.map(|()| Instant::now())
    }

    #[cold]
    #[inline(never)]
    fn wait_for_body(&mut self) -> Pin<Box<dyn Future<Output = Result<(), Fault>> + '_>> {
        let Self { context, policy, body, guard, .. } = self;
        let total = policy.timeouts.total.map(|total| guard.started + total);
        let mut pace = Pace::new(0, guard.started, &policy.timeouts, &policy.limits);
        Box::pin(poll_fn(move |cx| {
            if let Poll::Ready(held) = body.poll_held(cx) {
                return Poll::Ready(held);
            }
            pace.note(body.bytes(), body.is_awaited());
            let deadline = total.map_or(pace.deadline(), |total| total.min(pace.deadline()));
            context.timer.poll(cx, deadline).map(|()| Err(Fault::SlowBody))
        }))
    }
}
