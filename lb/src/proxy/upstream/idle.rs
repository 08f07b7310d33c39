//! Connections to one backend that wait for a request.
//!
//! An idle connection is not polled. So lb notices that the backend has closed it when it is taken again, before a byte
//! is sent on it. Invariants: the youngest is taken first; the gauge of idle connections is their number.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::Instant;

use super::Upstream;
use crate::telemetry::BackendShard;

pub(in crate::proxy) struct Idle {
    shard: Arc<BackendShard>,
    /// The youngest is at the back.
    waiting: RefCell<VecDeque<(Instant, Box<Upstream>)>>,
    /// The backend is removed: connections that are given back are closed.
    is_closed: Cell<bool>,
}

// === impl Idle ===

impl Idle {
    pub(in crate::proxy) fn new(shard: Arc<BackendShard>) -> Self {
        Self { shard, waiting: RefCell::default(), is_closed: Cell::new(false) }
    }

    /// The youngest connection that is still open and has waited since `oldest` or later. With `careful` the kernel is
    /// asked whether it is open: a system call that pays only for a request that cannot be retried.
    pub(in crate::proxy) fn take(&self, oldest: Instant, careful: bool) -> Option<Box<Upstream>> {
        loop {
            let mut waiting = self.waiting.borrow_mut();
            let (since, mut upstream) = waiting.pop_back()?;
            if since < oldest {
                // The youngest is too old, so all are.
                waiting.clear();
                self.shard.connections_idle.set(0);
                return None;
            }
            drop(waiting);
            self.shard.connections_idle.dec();
            if upstream.resume(&self.shard, careful) {
                return Some(upstream);
            }
        }
    }

    /// Keeps a connection whose response is complete, if it can be used again and fewer than `most` wait.
    pub(in crate::proxy) fn put(&self, mut upstream: Box<Upstream>, now: Instant, most: usize) {
        if !upstream.suspend() || self.is_closed.get() || most == 0 {
            return;
        }
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() >= most {
            waiting.pop_front();
        } else {
            self.shard.connections_idle.inc();
        }
        waiting.push_back((now, upstream));
    }

    pub(in crate::proxy) fn len(&self) -> usize {
        self.waiting.borrow().len()
    }

    /// Closes the connection that has waited the longest; false if none waits.
    pub(in crate::proxy) fn close_oldest(&self) -> bool {
        let oldest = self.waiting.borrow_mut().pop_front();
        if oldest.is_some() {
            self.shard.connections_idle.dec();
        }
        oldest.is_some()
    }

    /// The time since which the oldest one waits.
    pub(in crate::proxy) fn oldest(&self) -> Option<Instant> {
        self.waiting.borrow().front().map(|(since, _)| *since)
    }

    /// Closes connections that have waited since before `oldest`.
    pub(in crate::proxy) fn purge(&self, oldest: Instant) {
        let mut waiting = self.waiting.borrow_mut();
        let keep_from = waiting.partition_point(|(since, _)| *since < oldest);
        waiting.drain(..keep_from);
        self.shard.connections_idle.set(waiting.len() as i64);
    }

    /// Closes all connections, and later those that are given back.
    pub(in crate::proxy) fn close(&self) {
        self.is_closed.set(true);
        self.shard.connections_idle.set(0);
        self.waiting.borrow_mut().clear();
    }
}
