//! One worker's probes of one backend: which are on their way, and the connection that waits for the next one.
//!
//! Why connections of their own: those of requests have counts and caps, which a probe must not move. Invariant: an
//! instance has at most one probe on its way.

use std::cell::RefCell;
use std::sync::Arc;

use super::Idle;
use crate::telemetry::BackendShard;

pub(in crate::proxy) struct Probing {
    /// At most one connection waits, so that probes keep few descriptors.
    pub(in crate::proxy) idle: Idle,
    /// The strategy instances whose probe is on its way: mostly one, and the one before during a swap.
    instances: RefCell<Vec<u64>>,
}

// === impl Probing ===

impl Probing {
    /// `uncounted`: the counts of connections that no scrape reads.
    pub(in crate::proxy) fn new(uncounted: &Arc<BackendShard>) -> Self {
        Self { idle: Idle::new(uncounted.clone()), instances: RefCell::default() }
    }

    /// A probe of this instance begins; false if one is on its way. [`end`](Self::end) follows exactly once.
    pub(in crate::proxy) fn begin(&self, instance: u64) -> bool {
        let mut instances = self.instances.borrow_mut();
        let is_new = !instances.contains(&instance);
        if is_new {
            instances.push(instance);
        }
        is_new
    }

    pub(in crate::proxy) fn end(&self, instance: u64) {
        self.instances.borrow_mut().retain(|other| *other != instance);
    }
}
