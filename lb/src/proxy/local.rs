//! The data that the connections and exchanges of one worker share.
//!
//! Invariants: one thread uses it, so nothing in it locks. The view is replaced between two polls, so no request sees
//! half of one.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::listeners::Listeners;
use super::owner::Owner;
use super::queue::Lines;
use super::shown::Shown;
use super::view::View;
use crate::http1::{Fields, RequestHead, ResponseHead};
use crate::net::{Buffers, Descriptor, Descriptors, Spare};
use crate::telemetry::BackendShard;

/// The number of kept heads, and the most memory of a kept head.
const HEADS_MAX: usize = 1024;
const HEAD_BYTES_MAX: usize = 16 * 1024;

pub(super) struct Local {
    pub(super) number: u32,
    pub(super) view: RefCell<View>,
    pub(super) listeners: RefCell<Listeners>,
    pub(super) random: RefCell<fastrand::Rng>,
    pub(super) buffers: Rc<Buffers>,
    pub(super) requests: Heads<RequestHead>,
    pub(super) responses: Heads<ResponseHead>,
    /// The header Date, updated every second.
    pub(super) date: RefCell<Fields>,
    /// Each connection ends after its present response; an idle one ends now.
    pub(super) is_draining: Cell<bool>,
    pub(super) descriptors: Arc<Descriptors>,
    /// Tells control that a backend fails.
    pub(super) alarm: Arc<Notify>,
    pub(super) lines: Lines,
    /// Counts the connections of probes, and no scrape reads it.
    pub(super) uncounted: Arc<BackendShard>,
    /// For the attempts of pools with shadows.
    pub(super) shown: Spare<Box<Shown>>,
}

/// Unused heads: the next message is read into one of them, which allocates nothing.
pub(super) struct Heads<T>(Spare<Box<T>>);

// === impl Local ===

impl Local {
    pub(super) fn new(
        lines: Lines,
        view: View,
        listeners: Listeners,
        descriptors: Arc<Descriptors>,
        alarm: Arc<Notify>,
    ) -> Rc<Self> {
        let local = Self {
            number: lines.owner().number as u32,
            view: RefCell::new(view),
            listeners: RefCell::new(listeners),
            random: RefCell::new(fastrand::Rng::new()),
            buffers: Rc::default(),
            requests: Heads::new(),
            responses: Heads::new(),
            date: RefCell::default(),
            is_draining: Cell::new(false),
            descriptors,
            alarm,
            lines,
            uncounted: BackendShard::uncounted(),
            shown: Spare::new(HEADS_MAX),
        };
        local.set_date();
        Rc::new(local)
    }

    /// Nanoseconds on the clock that strategies see.
    pub(super) fn clock_ns(&self, now: Instant) -> u64 {
        self.lines.owner().clock_ns(now)
    }

    pub(super) fn owner(&self) -> Owner {
        self.lines.owner()
    }

    /// A descriptor for a connection to a backend. If none is free, closes the connection that has been idle the
    /// longest. `None` if this worker has no idle one either.
    pub(super) fn descriptor(&self) -> Option<Descriptor> {
        loop {
            let taken = self.descriptors.take();
            if taken.is_some() || !self.view.borrow().close_longest_idle() {
                return taken;
            }
        }
    }

    /// Calls `tell` with the name of the listener at this place.
    pub(super) fn with_listener(&self, place: usize, tell: impl FnOnce(&str)) {
        if let Some(Some(name)) = self.listeners.borrow().names().nth(place) {
            tell(name);
        }
    }

    /// Frees memory that was not needed for a while; to be called every second.
    pub(super) fn shrink(&self) {
        self.buffers.shrink();
        self.requests.0.shrink();
        self.responses.0.shrink();
        self.shown.shrink();
    }

    /// Writes the present date; to be called every second.
    pub(super) fn set_date(&self) {
        let now = httpdate::fmt_http_date(std::time::SystemTime::now());
        *self.date.borrow_mut() = [("date", &*now)].into_iter().collect();
    }
}

// === impl Heads ===

impl<T: Default + Memory> Heads<T> {
    fn new() -> Self {
        Self(Spare::new(HEADS_MAX))
    }

    /// A head with arbitrary content.
    pub(super) fn take(&self) -> Box<T> {
        self.0.take().unwrap_or_default()
    }

    pub(super) fn give_back(&self, head: Box<T>) {
        if head.memory() <= HEAD_BYTES_MAX {
            self.0.put(head);
        }
    }
}

/// The memory that a head keeps when it is reused.
pub(super) trait Memory {
    /// In bytes.
    fn memory(&self) -> usize;
}

impl Memory for RequestHead {
    fn memory(&self) -> usize {
        self.fields.memory() + self.target.memory()
    }
}

impl Memory for ResponseHead {
    fn memory(&self) -> usize {
        self.fields.memory()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_that_has_grown_is_not_kept() {
        let heads = Heads::<RequestHead>::new();
        for long in ["fields", "target"] {
            let mut head = Box::<RequestHead>::default();
            match long {
                "fields" => head.fields.push(b"x", &[b'y'; HEAD_BYTES_MAX]),
                _ => head.target.set(&format!("/{}", "y".repeat(HEAD_BYTES_MAX))).unwrap(),
            }
            heads.give_back(head);
            assert!(heads.0.take().is_none(), "{long}");
        }
        heads.give_back(Box::default());
        assert!(heads.0.take().is_some());
    }
}
