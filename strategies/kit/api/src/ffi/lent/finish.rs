//! The end of one attempt: its backend, its outcome and its duration.
//!
//! Invariants: each accepted attempt has exactly one end, also if the fallback or an earlier instance picked. The
//! strategy in charge at that time gets it. `token` is 0 unless `is_own`.

use super::backends::Slot;
use super::bytes;
use crate::abi::{LB_FIN_OWN, LB_FIN_UPGRADED, LbFinish};

/// The end of one attempt.
///
/// This code counts failures in word 0 of the backend's slot:
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
    /// The client left or was too slow, or a tunnel was idle for too long. Also if another attempt of the request
    /// responded first, so that this one was not needed.
    ClientGone,
    /// The backend is not to blame: a keep-alive connection was closed before the request, or lb itself failed. Also
    /// if the deadline of a drain cut the attempt.
    NotSent,
    /// A value that this version does not know.
    Other(u32),
}

// === impl Outcome ===

impl Outcome {
    pub(super) fn of(number: u32) -> Self {
        match number {
            0 => Self::Ok,
            1 => Self::ConnectError,
            2 => Self::Timeout,
            3 => Self::Reset,
            4 => Self::ClientGone,
            5 => Self::NotSent,
            other => Self::Other(other),
        }
    }

    /// The number of the contract.
    pub fn number(self) -> u32 {
        match self {
            Self::Ok => 0,
            Self::ConnectError => 1,
            Self::Timeout => 2,
            Self::Reset => 3,
            Self::ClientGone => 4,
            Self::NotSent => 5,
            Self::Other(other) => other,
        }
    }
}

// === impl Finish ===

impl<'a> Finish<'a> {
    /// Wraps the struct that the host lends.
    ///
    /// # Safety
    /// `raw` and all it points to must stay valid for `'a`.
    pub unsafe fn from_raw(raw: *const LbFinish) -> Self {
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

    /// How the attempt ended.
    pub fn outcome(&self) -> Outcome {
        Outcome::of(self.raw.outcome)
    }

    /// The HTTP status of the response; `None` without a response.
    pub fn http_status(&self) -> Option<u16> {
        u16::try_from(self.raw.http_status).ok().filter(|status| *status != 0)
    }

    /// 0 for the first attempt of a request.
    pub fn attempt(&self) -> u32 {
        self.raw.attempt
    }

    /// The token of the pick, see [`Pick::BackendWithToken`](crate::Pick::BackendWithToken). It is 0 unless this
    /// instance picked.
    pub fn token(&self) -> u64 {
        self.raw.token
    }

    /// Whether this instance picked, and not its predecessor or the fallback.
    pub fn is_own(&self) -> bool {
        self.raw.flags & LB_FIN_OWN != 0
    }

    /// Whether the attempt became a tunnel. The total is then the tunnel's duration, and only the time to the head says
    /// something about the backend.
    pub fn is_upgraded(&self) -> bool {
        self.raw.flags & LB_FIN_UPGRADED != 0
    }

    /// Nanoseconds from the start of the attempt to the response head; 0 without one.
    pub fn time_to_head_ns(&self) -> u64 {
        self.raw.ttfb_ns
    }

    /// Nanoseconds from the start of the attempt to its end.
    pub fn total_ns(&self) -> u64 {
        self.raw.total_ns
    }

    /// The host's monotonic clock at the end of the attempt, in nanoseconds.
    pub fn now_ns(&self) -> u64 {
        self.raw.now_ns
    }

    /// Bytes of the request's body that the client has sent by now. 0 without
    /// [`WANTS_ANSWER`](crate::Strategy::WANTS_ANSWER), like the next ones, and for a tunnel.
    pub fn bytes_in(&self) -> u64 {
        self.raw.bytes_in
    }

    /// Bytes of the response's body that went on to the client.
    pub fn bytes_out(&self) -> u64 {
        self.raw.bytes_out
    }

    /// Nanoseconds from the start of the attempt to the first byte of the response's body; 0 without one.
    pub fn first_body_ns(&self) -> u64 {
        self.raw.first_body_ns
    }

    /// The value of the response header at place `index` of
    /// [`RESPONSE_HEADERS`](crate::Strategy::RESPONSE_HEADERS). `None` if the response has no such header, or if the
    /// values are longer than 512 bytes together.
    pub fn response_header(&self, index: usize) -> Option<&'a [u8]> {
        if index >= self.raw.n_response_headers as usize || self.raw.response_headers.is_null() {
            return None;
        }
        // SAFETY: `response_headers` points to `n_response_headers` values, valid during the call.
        let value = unsafe { *self.raw.response_headers.add(index) };
        // SAFETY: as above.
        (!value.ptr.is_null()).then(|| unsafe { bytes(value) })
    }
}
