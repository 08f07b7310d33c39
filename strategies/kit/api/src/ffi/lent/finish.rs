//! The end of one attempt: its backend, its outcome and its duration.
//!
//! Invariant: there is exactly one for each accepted attempt, also if the fallback or an earlier instance picked.
//! `token` is this instance's own only if `is_own`.

use super::backends::Slot;
use crate::abi::{LB_FIN_OWN, LB_FIN_UPGRADED, LbFinish};

/// The end of one attempt.
///
/// Failures in word 0 of the backend's slot:
///
/// ```
/// use lb_strategy::{Finish, Outcome};
/// use std::sync::atomic::Ordering::Relaxed;
///
/// fn on_finish(finish: &Finish<'_>) {
///     let has_failed = matches!(finish.outcome(), Outcome::ConnectError | Outcome::Timeout | Outcome::Reset);
///     if let Some(slot) = finish.slot().filter(|_| has_failed) {
///         slot.word(0).fetch_add(1, Relaxed);
///     }
/// }
/// ```
pub struct Finish<'a> {
    raw: &'a LbFinish,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The response was read to its end.
    Ok,
    /// No connection to the backend could be opened, or not in time.
    ConnectError,
    /// The backend exceeded a time-out.
    Timeout,
    /// The backend closed the connection, or its response was not valid HTTP.
    Reset,
    /// The client left, or was too slow.
    ClientGone,
    /// The backend is not to blame: a keep-alive connection was closed before the request, or lb itself failed.
    NotSent,
    /// A value that this version does not know.
    Other(u32),
}

// === impl Finish ===

impl<'a> Finish<'a> {
    /// The end that the host has lent.
    ///
    /// # Safety
    /// `raw` and all it points to must stay valid for `'a`.
    pub unsafe fn from_raw(raw: *const LbFinish) -> Self {
        // SAFETY: the caller's promise.
        Self { raw: unsafe { &*raw } }
    }

    /// [`Backend::id`](crate::Backend::id) of the attempt's backend.
    pub fn backend_id(&self) -> u64 {
        self.raw.backend_id
    }

    /// This strategy's words for the backend; `None` if the backend is in no list of this strategy.
    pub fn slot(&self) -> Option<Slot<'a>> {
        // SAFETY: null, or a slot that lives at least as long as the call.
        unsafe { self.raw.slot.as_ref() }.map(Slot::new)
    }

    /// How the attempt ended.
    pub fn outcome(&self) -> Outcome {
        match self.raw.outcome {
            0 => Outcome::Ok,
            1 => Outcome::ConnectError,
            2 => Outcome::Timeout,
            3 => Outcome::Reset,
            4 => Outcome::ClientGone,
            5 => Outcome::NotSent,
            other => Outcome::Other(other),
        }
    }

    /// The status of the response; `None` without a response.
    pub fn http_status(&self) -> Option<u16> {
        u16::try_from(self.raw.http_status).ok().filter(|status| *status != 0)
    }

    /// 0 for the first attempt of a request.
    pub fn attempt(&self) -> u32 {
        self.raw.attempt
    }

    /// The word given with the pick; 0 when another strategy (or the fallback) picked.
    pub fn token(&self) -> u64 {
        self.raw.token
    }

    /// Whether this very instance picked it.
    pub fn is_own(&self) -> bool {
        self.raw.flags & LB_FIN_OWN != 0
    }

    /// The attempt became a tunnel: the total is the tunnel's life, and only the time to the head says something about
    /// the backend.
    pub fn is_upgraded(&self) -> bool {
        self.raw.flags & LB_FIN_UPGRADED != 0
    }

    /// Nanoseconds to the response head; 0 without one.
    pub fn time_to_head_ns(&self) -> u64 {
        self.raw.ttfb_ns
    }

    /// Nanoseconds from the attempt's begin to its end.
    pub fn total_ns(&self) -> u64 {
        self.raw.total_ns
    }

    /// The host's monotonic clock, nanoseconds.
    pub fn now_ns(&self) -> u64 {
        self.raw.now_ns
    }
}
