//! The begin of one attempt: its backend, its token and the length of the body.
//!
//! Invariants: each accepted attempt has exactly one begin, on its worker, before a byte is sent. `token` is 0 unless
//! `is_own`. The end comes as a [`Finish`](crate::Finish), possibly to a later instance.

use super::backends::Slot;
use crate::abi::{LB_FIN_OWN, LbStart};

/// The begin of one attempt.
///
/// This code adds up the bytes on their way to each backend, in word 1 of its slot:
///
/// ```
/// use lb_strategy::Start;
/// use std::sync::atomic::Ordering::Relaxed;
///
/// fn on_start(start: &Start<'_>) {
///     if let (Some(slot), Some(length)) = (start.slot(), start.body_length()) {
///         slot.word(1).fetch_add(length, Relaxed);
///     }
/// }
/// ```
pub struct Start<'a> {
    raw: &'a LbStart,
}

// === impl Start ===

impl<'a> Start<'a> {
    /// Wraps the struct that the host lends.
    ///
    /// # Safety
    /// `raw` and all it points to must stay valid for `'a`.
    pub unsafe fn from_raw(raw: *const LbStart) -> Self {
        // SAFETY: the caller ensures it.
        Self { raw: unsafe { &*raw } }
    }

    /// [`Backend::id`](crate::Backend::id) of the attempt's backend.
    pub fn backend_id(&self) -> u64 {
        self.raw.backend_id
    }

    /// This strategy's words for the backend; `None` if the backend has left the list since the pick.
    pub fn slot(&self) -> Option<Slot<'a>> {
        // SAFETY: null, or a slot that lives at least as long as the call.
        unsafe { self.raw.slot.as_ref() }.map(Slot::new)
    }

    /// 0 for the first attempt of a request.
    pub fn attempt(&self) -> u32 {
        self.raw.attempt
    }

    /// Whether this instance picked, and not its predecessor, the fallback or a session.
    pub fn is_own(&self) -> bool {
        self.raw.flags & LB_FIN_OWN != 0
    }

    /// The token of the pick. It is 0 unless this instance picked.
    pub fn token(&self) -> u64 {
        self.raw.token
    }

    /// The length of the request's body in bytes; `None` if it is not known yet.
    pub fn body_length(&self) -> Option<u64> {
        (self.raw.body_length != u64::MAX).then_some(self.raw.body_length)
    }

    /// The host's monotonic clock at the begin of the attempt, in nanoseconds.
    pub fn now_ns(&self) -> u64 {
        self.raw.now_ns
    }
}
