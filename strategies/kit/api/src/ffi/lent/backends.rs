//! The backend list as a strategy reads it: ids, eligibility, weights and live counts.
//!
//! Invariant: an index below `len` always has a backend, its statistics and its slot. The host ensures that.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::bytes;
use super::request::Request;
use crate::abi::{
    LB_BACKEND_DRAINING, LB_BACKEND_ELIGIBLE, LB_BACKEND_HEALTHY, LbBackend, LbBackends, LbSlot, LbStats,
};

/// The backend list of a pool. `pick` returns an index into it.
///
/// The backend with the fewest requests in flight:
///
/// ```
/// use lb_strategy::{Backends, Pick, Request};
///
/// fn least_busy(backends: &Backends<'_>, request: &Request<'_>) -> Pick {
///     let least = backends.candidates(request).min_by_key(|(_, backend)| backend.in_flight());
///     least.map_or(Pick::NoBackend, |(index, _)| Pick::Backend(index))
/// }
/// ```
#[derive(Clone, Copy)]
pub struct Backends<'a> {
    raw: &'a LbBackends,
}

/// One backend of the list.
#[derive(Clone, Copy)]
pub struct Backend<'a> {
    raw: &'a LbBackend,
}

/// Eight words for each backend, for the strategy's own use. They begin as 0 and survive a swap of equal state schema.
///
/// A count of picks in word 0:
///
/// ```
/// use std::sync::atomic::Ordering::Relaxed;
///
/// fn count(backend: lb_strategy::Backend<'_>) -> u64 {
///     backend.slot().word(0).fetch_add(1, Relaxed)
/// }
/// ```
#[derive(Clone, Copy)]
pub struct Slot<'a> {
    raw: &'a LbSlot,
}

// === impl Backends ===

impl<'a> Backends<'a> {
    /// The list that the host has lent.
    ///
    /// # Safety
    /// `raw` and all it points to must stay valid and unchanged (but for atomics) for `'a`.
    pub unsafe fn from_raw(raw: *const LbBackends) -> Self {
        // SAFETY: the caller's promise.
        Self { raw: unsafe { &*raw } }
    }

    /// Backends in the list, eligible or not.
    pub fn len(&self) -> usize {
        self.raw.len as usize
    }

    /// Whether the list has no backend.
    pub fn is_empty(&self) -> bool {
        self.raw.len == 0
    }

    /// The backend at `index`, or `None` past the end.
    #[inline]
    pub fn get(&self, index: usize) -> Option<Backend<'a>> {
        if index >= self.len() {
            return None;
        }
        // SAFETY: `base` is an array of `len` elements `stride` bytes apart, each beginning with an `LbBackend`; index was checked.
        let raw = unsafe { &*self.raw.base.cast::<u8>().add(index * self.raw.stride as usize).cast::<LbBackend>() };
        Some(Backend { raw })
    }

    /// All backends, eligible or not, in list order.
    #[inline]
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Backend<'a>> + ExactSizeIterator + use<'a> {
        let list = *self;
        (0..self.len()).map(move |index| list.get(index).expect("index below len"))
    }

    /// Indexes and backends that may be chosen for `request`: eligible and not yet tried.
    #[inline]
    pub fn candidates<'r>(&self, request: &'r Request<'_>) -> impl Iterator<Item = (usize, Backend<'a>)> + use<'a, 'r> {
        let tried = request.tried();
        self.iter()
            .enumerate()
            .filter(move |(index, backend)| backend.is_eligible() && !tried.contains(&(*index as u32)))
    }

    /// Changes with every list.
    pub fn epoch(&self) -> u64 {
        self.raw.epoch
    }

    /// Changes only with ids, addresses, weights or their order. While it is the same, a ring or table made for an earlier list is valid,
    /// indexes included.
    pub fn members_epoch(&self) -> u64 {
        self.raw.members_epoch
    }
}

// === impl Backend ===

impl<'a> Backend<'a> {
    /// xxh3-64 of the name: the same on every node, every restart, in any order.
    #[inline]
    pub fn id(&self) -> u64 {
        self.raw.id
    }

    /// The configured id, 1 to 64 bytes of `[A-Za-z0-9 ._:-]`.
    pub fn name(&self) -> &'a str {
        // SAFETY: the host keeps the name alive with the list; ids are checked to be ASCII, and anything else shows as "".
        std::str::from_utf8(unsafe { bytes(self.raw.name) }).unwrap_or("")
    }

    /// "host:port".
    pub fn address(&self) -> &'a str {
        // SAFETY: as for the name.
        std::str::from_utf8(unsafe { bytes(self.raw.addr) }).unwrap_or("")
    }

    /// Configured weight, 0 to 256.
    #[inline]
    pub fn weight(&self) -> u32 {
        self.raw.weight
    }

    /// Weight × 1000 × slow start; 0 takes nothing new.
    #[inline]
    pub fn effective_weight(&self) -> u32 {
        self.raw.effective
    }

    /// May get new requests. A pick must obey this flag.
    #[inline]
    pub fn is_eligible(&self) -> bool {
        self.raw.flags & LB_BACKEND_ELIGIBLE != 0
    }

    /// Its health checks pass, or none has ended yet.
    pub fn is_healthy(&self) -> bool {
        self.raw.flags & LB_BACKEND_HEALTHY != 0
    }

    /// An operator drains it: it gets no new request.
    pub fn is_draining(&self) -> bool {
        self.raw.flags & LB_BACKEND_DRAINING != 0
    }

    /// Attempts accepted and not yet ended, now.
    #[inline]
    pub fn in_flight(&self) -> u32 {
        self.stats().in_flight.load(Relaxed)
    }

    /// Failed attempts in a row, now.
    pub fn consecutive_errors(&self) -> u32 {
        self.stats().consecutive_errors.load(Relaxed)
    }

    /// Exponentially weighted mean time to the response head, nanoseconds, time constant 10 s; `None` without a sample.
    pub fn ewma_latency_ns(&self) -> Option<u64> {
        match self.stats().ewma_latency_ns.load(Relaxed) {
            0 => None,
            sample => Some(sample),
        }
    }

    /// This strategy's own words for this backend.
    pub fn slot(&self) -> Slot<'a> {
        // SAFETY: every list carries one valid slot per backend.
        Slot { raw: unsafe { &*self.raw.slot } }
    }

    #[inline]
    fn stats(&self) -> &'a LbStats {
        // SAFETY: every list carries valid statistics per backend.
        unsafe { &*self.raw.stats }
    }
}

// === impl Slot ===

impl<'a> Slot<'a> {
    pub(super) fn new(raw: &'a LbSlot) -> Self {
        Self { raw }
    }

    /// Word `index`, 0 to 7.
    #[inline]
    pub fn word(&self, index: usize) -> &'a AtomicU64 {
        &self.raw.word[index]
    }
}
