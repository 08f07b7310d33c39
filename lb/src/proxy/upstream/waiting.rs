//! The requests of one worker that wait for a response head of one backend.
//!
//! Why: a backend that stops without closing its connections (a hung process, a lost machine) would hold these requests
//! until their own time-out. When control finds that it is lost, they end and may be sent elsewhere. Invariants: a
//! request ends only if the backend was lost *after* it began to wait. So a backend that gets requests although it is
//! lost keeps them. A place is free again when its [`Wait`] is dropped.

use std::cell::{Cell, RefCell};
use std::task::{Context, Poll, Waker};

use slab::Slab;

#[derive(Default)]
pub(in crate::proxy) struct Waiting {
    is_lost: Cell<bool>,
    /// How often the backend was lost.
    losses: Cell<u64>,
    wakers: RefCell<Slab<Waker>>,
}

/// The place of one request.
pub(in crate::proxy) struct Wait<'a> {
    waiting: &'a Waiting,
    /// When it began.
    losses: u64,
    place: Option<usize>,
}

// === impl Waiting ===

impl Waiting {
    pub(in crate::proxy) fn begin(&self) -> Wait<'_> {
        Wait { waiting: self, losses: self.losses.get(), place: None }
    }

    /// Takes note whether the backend is lost now. If it was not before, wakes all that wait.
    pub(in crate::proxy) fn note(&self, is_lost: bool) {
        if !self.is_lost.replace(is_lost) && is_lost {
            self.losses.set(self.losses.get() + 1);
            self.wakers.borrow().iter().for_each(|(_, waker)| waker.wake_by_ref());
        }
    }
}

// === impl Wait ===

impl Wait<'_> {
    /// Ready if the backend was lost since the wait began; else the task is woken when it is.
    #[inline]
    pub(in crate::proxy) fn poll_lost(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.losses != self.waiting.losses.get() {
            return Poll::Ready(());
        }
        let mut wakers = self.waiting.wakers.borrow_mut();
        match self.place {
            None => self.place = Some(wakers.insert(cx.waker().clone())),
            Some(place) => wakers[place].clone_from(cx.waker()),
        }
        Poll::Pending
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.waiting.wakers.borrow_mut().remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn a_loss_ends_the_requests_that_wait_and_none_that_begins_later() {
        let (waiting, woken) = (Waiting::default(), Arc::<Woken>::default());
        let waker = Waker::from(woken.clone());
        let cx = Context::from_waker(&waker);
        let (mut first, mut second) = (waiting.begin(), waiting.begin());
        assert!(first.poll_lost(&cx).is_pending() && first.poll_lost(&cx).is_pending());
        assert!(second.poll_lost(&cx).is_pending());
        waiting.note(false);
        assert_eq!(woken.0.load(Relaxed), 0);
        waiting.note(true);
        assert_eq!(woken.0.load(Relaxed), 2, "each is woken once");
        assert!(first.poll_lost(&cx).is_ready());
        let mut late = waiting.begin();
        waiting.note(true);
        assert!(late.poll_lost(&cx).is_pending(), "it is lost still, not again");
        waiting.note(false);
        waiting.note(true);
        assert!(late.poll_lost(&cx).is_ready());
        drop((first, second, late));
        assert!(waiting.wakers.borrow().is_empty());
    }
}
