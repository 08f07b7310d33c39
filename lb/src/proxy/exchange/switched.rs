//! The rest of an exchange whose backend has switched protocols: two sockets, and the guards of attempt and request.
//!
//! Invariant: attempt and request stay in flight while the tunnel exists.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::attempt::Attempt;
use super::finish::RequestGuard;
use crate::config::Policy;
use crate::net::Stream;
use crate::proxy::fault::Fault;
use crate::proxy::upstream::{InUse, Link, Upstream};

pub(in crate::proxy) struct Switched {
    backend: Stream,
    /// The bytes right behind the backend's head.
    pub(in crate::proxy) early: Bytes,
    /// The tunnel is closed after this time of silence in both directions.
    pub(in crate::proxy) idle: Duration,
    attempt: Attempt,
    guard: RequestGuard,
    _counts: (Option<InUse>, Option<Link>),
}

// === impl Switched ===

impl Switched {
    pub(super) fn new(upstream: Upstream, mut attempt: Attempt, guard: RequestGuard, policy: &Policy) -> Box<Self> {
        attempt.upgrade();
        let (backend, early, counts) = upstream.into_tunnel();
        let idle = policy.timeouts.tunnel_idle;
        Box::new(Self { backend, early, idle, attempt, guard, _counts: counts })
    }

    /// There will be no tunnel, by the client's fault.
    pub(in crate::proxy) fn refuse(mut self, fault: Fault) {
        self.attempt.fail(fault);
        self.guard.finish(fault.status().as_u16(), Some(fault), Instant::now());
    }

    /// The backend's side, and whether the deadline of the backend's drain has passed.
    pub(in crate::proxy) fn backend(&mut self) -> (&mut Stream, impl Fn() -> bool) {
        let attempt = &self.attempt;
        (&mut self.backend, || attempt.is_cut())
    }

    /// The tunnel is over; `fault` if lb closed it. Every end of an established tunnel counts as success of the
    /// backend: an abort cannot be told from an orderly close.
    pub(in crate::proxy) fn finish(mut self, fault: Option<Fault>) {
        let now = Instant::now();
        self.attempt.succeed(now);
        self.guard.finish(101, fault, now);
    }
}
