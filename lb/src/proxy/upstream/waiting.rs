//! The requests of one worker that wait for a response head of one backend.
//!
//! Why: a backend that stops without closing its connections (a hung process, a lost machine) would hold these requests
//! until their own time-out. When control finds that it is lost ([`Loss`]), they end and may be sent elsewhere.
//! Invariants: a request ends only if the backend was lost *after* it was picked. So a backend that gets requests
//! although it is lost keeps them. A place is free again when its [`Wait`] is dropped.

use std::cell::{Cell, RefCell};
use std::task::{Context, Poll, Waker};

use lb_balance::Loss;
use slab::Slab;

#[derive(Default)]
pub(in crate::proxy) struct Waiting {
    loss: Cell<Loss>,
    /// How often the loss became worse.
    losses: Cell<u64>,
    wakers: RefCell<Slab<Waker>>,
}

/// The place of one request.
pub(in crate::proxy) struct Wait<'a> {
    waiting: &'a Waiting,
    /// When the backend was picked, or when the request went on waiting.
    losses: u64,
    place: Option<usize>,
}

// === impl Waiting ===

impl Waiting {
    /// `losses`: [`Self::losses`] when the backend was picked.
    pub(in crate::proxy) fn begin(&self, losses: u64) -> Wait<'_> {
        Wait { waiting: self, losses, place: None }
    }

    pub(in crate::proxy) fn losses(&self) -> u64 {
        self.losses.get()
    }

    /// Takes note of the backend's loss now. If it is worse than before, wakes all that wait.
    pub(in crate::proxy) fn note(&self, loss: Loss) {
        if loss > self.loss.replace(loss) {
            self.losses.set(self.losses.get() + 1);
            self.wakers.borrow().iter().for_each(|(_, waker)| waker.wake_by_ref());
        }
    }
}

// === impl Wait ===

impl Wait<'_> {
    /// Ready if the backend was lost since it was picked; else the task is woken when it is. A request that cannot be
    /// sent again (`is_sent_again` is false) goes on waiting for a backend that is only ejected.
    #[inline]
    pub(in crate::proxy) fn poll_lost(&mut self, cx: &Context<'_>, is_sent_again: impl FnOnce() -> bool) -> Poll<()> {
        let losses = self.waiting.losses.get();
        if self.losses != losses {
            if self.waiting.loss.get() == Loss::Down || is_sent_again() {
                return Poll::Ready(());
            }
            self.losses = losses;
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
        let begin = || waiting.begin(waiting.losses());
        let (mut first, mut second) = (begin(), begin());
        assert!(first.poll_lost(&cx, || true).is_pending() && first.poll_lost(&cx, || true).is_pending());
        assert!(second.poll_lost(&cx, || true).is_pending());
        waiting.note(Loss::None);
        assert_eq!(woken.0.load(Relaxed), 0);
        waiting.note(Loss::Down);
        assert_eq!(woken.0.load(Relaxed), 2, "each is woken once");
        assert!(first.poll_lost(&cx, || true).is_ready());
        let mut late = begin();
        waiting.note(Loss::Down);
        assert!(late.poll_lost(&cx, || true).is_pending(), "it is lost still, not again");
        waiting.note(Loss::None);
        waiting.note(Loss::Down);
        assert!(late.poll_lost(&cx, || true).is_ready());
        drop((first, second, late));
        assert!(waiting.wakers.borrow().is_empty());
    }

    #[test]
    fn an_ejection_ends_only_requests_that_may_be_sent_again() {
        let waiting = Waiting::default();
        let cx = Context::from_waker(Waker::noop());
        let picked = waiting.losses();
        waiting.note(Loss::Ejected);
        let (mut safe, mut other) = (waiting.begin(picked), waiting.begin(picked));
        assert!(safe.poll_lost(&cx, || true).is_ready(), "lost between its pick and its wait");
        assert!(other.poll_lost(&cx, || false).is_pending());
        waiting.note(Loss::Down);
        assert!(other.poll_lost(&cx, || false).is_ready());
    }
}
