//! The place of one request that waits: its looks for room, and the wakes that it passes on.
//!
//! Invariant: a wake that the request does not use reaches another one, on every way out.

use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use lb_balance::Ticket;

use super::{Line, Waiter, Wake};

/// Dropped, it leaves the queue, and passes a wake on.
pub(in crate::proxy) struct Turn {
    line: Rc<Line>,
    ticket: Ticket,
    is_served: bool,
}

// === impl Turn ===

impl Turn {
    pub(super) fn new(line: Rc<Line>, ticket: Ticket) -> Self {
        Self { line, ticket, is_served: false }
    }

    /// It may use the same backends as all others with this key. Room that it cannot use wakes none of these.
    pub(in crate::proxy) fn set_key(&self, key: u64) {
        if let Some(waiter) = self.line.queue.borrow_mut().get_mut(self.ticket) {
            waiter.key = Some(key);
        }
    }

    /// Ready if it was woken: the request may look for room.
    pub(in crate::proxy) fn poll_woken(&self, cx: &Context<'_>) -> Poll<()> {
        let mut queue = self.line.queue.borrow_mut();
        if queue.is_woken(self.ticket) {
            return Poll::Ready(());
        }
        if let Some(waiter) = queue.get_mut(self.ticket) {
            waiter.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Looks for room with `pick`, which returns `None` if there is none for this request. Then it waits on.
    ///
    /// Room that appears while it is woken wakes another request or none. So it looks again as soon as it is visible as
    /// waiting, if `is_worth_a_look` says so. If that room is not for it, it passes its wake on, unless `is_blocked`
    /// says that the requests behind it cannot use it either.
    pub(in crate::proxy) fn look<T, E>(
        &self,
        is_worth_a_look: impl FnOnce() -> bool,
        mut pick: impl FnMut() -> Result<Option<T>, E>,
        is_blocked: impl FnOnce() -> bool,
    ) -> Result<Option<T>, E> {
        let was_woken = self.is_woken();
        if was_woken {
            match pick()? {
                None => self.wait_again(),
                picked => return Ok(picked),
            }
        }
        if !is_worth_a_look() {
            return Ok(None);
        }
        let picked = pick();
        if was_woken && !matches!(picked, Ok(Some(_))) && !self.is_woken() && !is_blocked() {
            self.pass_on();
        }
        picked
    }

    /// No request of this worker may begin now, whatever room there is. It waits again, and if `is_shared` each other
    /// worker wakes one in its place.
    pub(in crate::proxy) fn leave_to_others(&self, is_shared: bool) {
        if !self.is_woken() {
            return;
        }
        let is_last = self.line.queue.borrow_mut().get_mut(self.ticket).is_some_and(|waiter| waiter.wake.is_last);
        self.wait_again();
        if is_shared && !is_last {
            self.line.lobby.send_last_wakes(self.line.owner.number);
        }
    }

    pub(super) fn is_woken(&self) -> bool {
        self.line.queue.borrow().is_woken(self.ticket)
    }

    /// It was woken and found no room. When this returns, it is visible as waiting.
    fn wait_again(&self) {
        let mut queue = self.line.queue.borrow_mut();
        self.line.note_end_of_wake(&mut queue, self.ticket);
        queue.wait_again(self.ticket);
        self.line.show(&queue);
    }

    /// There is room that it may not use: a request behind it is woken in its place. If there is none, the requests of
    /// other workers get last wakes. One that entered meanwhile, before this one in the order, gets one, too.
    fn pass_on(&self) {
        let line = &self.line;
        let mut queue = line.queue.borrow_mut();
        let Some(&mut Waiter { wake, key, .. }) = queue.get_mut(self.ticket) else { return };
        let now_ns = line.now_ns();
        let may_fit = |waiter: &Waiter| key.is_none() || waiter.key != key;
        let behind = queue.pass_on(now_ns, self.ticket, may_fit).map(|(_, waiter)| line.note_wake(waiter, wake));
        let is_end = behind.is_none() && !wake.is_last;
        let woken = behind.or_else(|| {
            let is_new = |waiter: &Waiter| waiter.entry >= wake.entries && may_fit(waiter);
            let (_, waiter) = queue.wake_where(now_ns, is_new)?;
            Some(line.note_wake(waiter, Wake { is_last: true, entries: line.entries.get() }))
        });
        line.show(&queue);
        drop(queue);
        woken.flatten().into_iter().for_each(Waker::wake);
        if is_end {
            line.lobby.send_last_wakes(line.owner.number);
        }
    }

    /// The request has a backend. One that entered meanwhile left `free` room to its claim, so the next one is called.
    pub(in crate::proxy) fn serve(mut self, free: impl FnOnce() -> Option<usize>) {
        self.is_served = true;
        let line = self.line.clone();
        drop(self);
        if line.is_occupied() {
            line.call_next(free());
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let line = &self.line;
        let mut queue = line.queue.borrow_mut();
        let was_woken = line.note_end_of_wake(&mut queue, self.ticket);
        queue.cancel(self.ticket);
        line.show(&queue);
        drop(queue);
        if was_woken && !self.is_served {
            line.wake_first();
        }
    }
}
