//! The request to be routed: key, random bits, clock, what was tried, headers looked up only when asked for.
//!
//! Invariant: `header` gets back the very pointer that was lent, because the host keeps more of its own behind the public fields.

use std::marker::PhantomData;

use super::bytes;
use crate::abi::{LB_REQ_DRY, LB_REQ_HASH, LB_WORKER_ANY, LbRequest, LbStr};

/// What is known of the request to be routed.
///
/// A backend by the hash of the key:
///
/// ```
/// use lb_strategy::{Backends, Pick, Request};
///
/// fn by_hash(backends: &Backends<'_>, request: &Request<'_>) -> Pick {
///     let Some(hash) = request.hash() else { return Pick::Fallback };
///     let n = backends.candidates(request).count() as u64;
///     let place = if n == 0 { return Pick::NoBackend } else { hash % n };
///     backends.candidates(request).nth(place as usize).map_or(Pick::NoBackend, |(index, _)| Pick::Backend(index))
/// }
/// ```
pub struct Request<'a> {
    /// A pointer, not a reference: the host may keep more of its own behind the public fields, and `header` gets this pointer back.
    raw: *const LbRequest,
    _lent: PhantomData<&'a LbRequest>,
}

// === impl Request ===

impl<'a> Request<'a> {
    /// The request that the host has lent.
    ///
    /// # Safety
    /// `raw` and all it points to must stay valid for `'a`.
    pub unsafe fn from_raw(raw: *const LbRequest) -> Self {
        Self { raw, _lent: PhantomData }
    }

    #[inline]
    fn raw(&self) -> &'a LbRequest {
        // SAFETY: `from_raw`'s promise.
        unsafe { &*self.raw }
    }

    /// Bytes of the configured key, if the strategy wants it and the request has it.
    #[inline]
    pub fn key(&self) -> Option<&'a [u8]> {
        // SAFETY: the key is borrowed for the call.
        (self.raw().flags & LB_REQ_HASH != 0).then(|| unsafe { bytes(self.raw().key) })
    }

    /// 64-bit hash of the key by the configured function, if the strategy wants it and the request has it.
    #[inline]
    pub fn hash(&self) -> Option<u64> {
        (self.raw().flags & LB_REQ_HASH != 0).then_some(self.raw().hash)
    }

    /// Fresh random bits: 64 for this pick.
    #[inline]
    pub fn random(&self) -> u64 {
        self.raw().rand
    }

    /// The host's monotonic clock, read once per attempt.
    #[inline]
    pub fn now_ns(&self) -> u64 {
        self.raw().now_ns
    }

    /// 0 for the first attempt.
    pub fn attempt(&self) -> u32 {
        self.raw().attempt
    }

    /// Indexes of the backends already tried for this request.
    #[inline]
    pub fn tried(&self) -> &'a [u32] {
        if self.raw().n_tried == 0 || self.raw().tried.is_null() {
            return &[];
        }
        // SAFETY: `tried` points to `n_tried` indexes for the call.
        unsafe { std::slice::from_raw_parts(self.raw().tried, self.raw().n_tried as usize) }
    }

    /// Whether an earlier attempt of this request went to the backend at `index`.
    #[inline]
    pub fn is_tried(&self, index: usize) -> bool {
        self.tried().contains(&(index as u32))
    }

    /// Explain, plan or shadow: decide as always, change nothing that a later pick sees.
    #[inline]
    pub fn is_dry(&self) -> bool {
        self.raw().flags & LB_REQ_DRY != 0
    }

    /// This worker's number, for sharded state; `None`: use shared state.
    pub fn worker(&self) -> Option<usize> {
        (self.raw().worker != LB_WORKER_ANY).then_some(self.raw().worker as usize)
    }

    /// The `nth` value of a header, looked up when asked for.
    pub fn header(&self, name: &str, nth: u32) -> Option<&'a [u8]> {
        let lookup = self.raw().header?;
        let mut out = LbStr::EMPTY;
        // SAFETY: the host's callback takes this very request and a name borrowed for the call.
        let found = unsafe { lookup(self.raw, LbStr::new(name.as_bytes()), nth, &raw mut out) };
        // SAFETY: a found value is borrowed from the request, which lives for `'a`.
        (found == 1).then(|| unsafe { bytes(out) })
    }
}
