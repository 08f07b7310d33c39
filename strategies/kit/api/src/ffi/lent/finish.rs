//! The end of one attempt: on which backend, how, and how long it took.
//!
//! Invariant: exactly one per accepted attempt, whoever picked it; `token` is the strategy's own only where `is_own`.

use super::backends::Slot;
use crate::abi::{LB_FIN_OWN, LB_FIN_UPGRADED, LbFinish};

/// The end of one attempt.
pub struct Finish<'a> {
    raw: &'a LbFinish,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Ok,
    ConnectError,
    Timeout,
    Reset,
    ClientGone,
    NotSent,
    /// A value that this version does not know.
    Other(u32),
}

// === impl Finish ===

impl<'a> Finish<'a> {
    /// # Safety
    /// `raw` and all it points to must stay valid for `'a`.
    pub unsafe fn from_raw(raw: *const LbFinish) -> Self {
        // SAFETY: the caller's promise.
        Self { raw: unsafe { &*raw } }
    }

    pub fn backend_id(&self) -> u64 {
        self.raw.backend_id
    }

    /// This strategy's words for the backend; `None`: it is in no list of this strategy.
    pub fn slot(&self) -> Option<Slot<'a>> {
        // SAFETY: null, or a slot that lives at least as long as the call.
        unsafe { self.raw.slot.as_ref() }.map(Slot::new)
    }

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

    pub fn http_status(&self) -> Option<u16> {
        u16::try_from(self.raw.http_status).ok().filter(|status| *status != 0)
    }

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

    /// A tunnel: the time to the head counts, the total is the tunnel's life.
    pub fn is_upgraded(&self) -> bool {
        self.raw.flags & LB_FIN_UPGRADED != 0
    }

    /// Nanoseconds to the response head; 0 without one.
    pub fn time_to_head_ns(&self) -> u64 {
        self.raw.ttfb_ns
    }

    pub fn total_ns(&self) -> u64 {
        self.raw.total_ns
    }

    pub fn now_ns(&self) -> u64 {
        self.raw.now_ns
    }
}
