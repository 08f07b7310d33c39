//! The request that a strategy routes: key, random bits, clock, tried backends, headers and parts.
//!
//! Invariant: the callbacks get the same pointer that the host lent, because the host has private data behind
//! the public fields.

use std::marker::PhantomData;
use std::net::{IpAddr, Ipv6Addr};

use super::bytes;
use crate::abi::{
    LB_PART_BODY, LB_PART_CLIENT, LB_PART_HOST, LB_PART_METHOD, LB_PART_PATH, LB_REQ_DRY, LB_REQ_HASH, LB_REQ_SHADOW,
    LB_WORKER_ANY, LbRequest, LbStr,
};

/// The request that a strategy routes.
///
/// This code picks a backend by the hash of the key:
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
    /// A pointer and not a reference, because it also leads to the host's private data behind the public fields.
    raw: *const LbRequest,
    _lent: PhantomData<&'a LbRequest>,
}

/// A part of a request that the host looks up when a strategy asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Part {
    /// As sent: `GET`.
    Method = LB_PART_METHOD,
    /// The path with the query, as sent to the backend.
    Path = LB_PART_PATH,
    /// The host that the request names, without port.
    Host = LB_PART_HOST,
    /// The client's address: 16 bytes of IPv6; IPv4 is mapped (`::ffff:a.b.c.d`).
    Client = LB_PART_CLIENT,
    /// The first bytes of the body, see [`BODY_BYTES`](crate::Strategy::BODY_BYTES).
    Body = LB_PART_BODY,
}

// === impl Part ===

impl Part {
    /// The part with this number of the contract.
    pub fn of(number: u32) -> Option<Self> {
        const ALL: [Part; 5] = [Part::Method, Part::Path, Part::Host, Part::Client, Part::Body];
        ALL.into_iter().find(|part| *part as u32 == number)
    }
}

// === impl Request ===

impl<'a> Request<'a> {
    /// Wraps the request that the host lends.
    ///
    /// # Safety
    /// `raw` and all it points to must stay valid for `'a`.
    pub unsafe fn from_raw(raw: *const LbRequest) -> Self {
        Self { raw, _lent: PhantomData }
    }

    #[inline]
    fn raw(&self) -> &'a LbRequest {
        // SAFETY: the caller of `from_raw` ensures it.
        unsafe { &*self.raw }
    }

    /// The bytes of the configured key. `None` if the request has no key, or without
    /// [`WANTS_HASH`](crate::Strategy::WANTS_HASH).
    #[inline]
    pub fn key(&self) -> Option<&'a [u8]> {
        // SAFETY: the key is valid during the call.
        (self.raw().flags & LB_REQ_HASH != 0).then(|| unsafe { bytes(self.raw().key) })
    }

    /// The 64-bit hash of the key, by the configured function. `None` where [`key`](Self::key) is `None`.
    #[inline]
    pub fn hash(&self) -> Option<u64> {
        (self.raw().flags & LB_REQ_HASH != 0).then_some(self.raw().hash)
    }

    /// 64 random bits, new for each pick. All 0 in the call of `explain` that asks for the ring.
    #[inline]
    pub fn random(&self) -> u64 {
        self.raw().rand
    }

    /// The host's monotonic clock in nanoseconds, read once per attempt.
    #[inline]
    pub fn now_ns(&self) -> u64 {
        self.raw().now_ns
    }

    /// The number of this attempt, from 0.
    pub fn attempt(&self) -> u32 {
        self.raw().attempt
    }

    /// The backends that were already tried for this request, as indexes into the list of this call.
    #[inline]
    pub fn tried(&self) -> &'a [u32] {
        if self.raw().n_tried == 0 || self.raw().tried.is_null() {
            return &[];
        }
        // SAFETY: `tried` points to `n_tried` indexes, valid during the call.
        unsafe { std::slice::from_raw_parts(self.raw().tried, self.raw().n_tried as usize) }
    }

    /// Whether an earlier attempt of this request went to the backend at `index`.
    #[inline]
    pub fn is_tried(&self, index: usize) -> bool {
        self.tried().contains(&(index as u32))
    }

    /// Whether the host only asks, for an explanation or a check. Decide as for a real request, and change nothing that
    /// a later pick sees.
    #[inline]
    pub fn is_dry(&self) -> bool {
        self.raw().flags & LB_REQ_DRY != 0
    }

    /// Whether this instance is a shadow: another strategy routes the request, and this
    /// pick is only counted. Its state changes as for a real one: round robin takes a turn.
    #[inline]
    pub fn is_shadow(&self) -> bool {
        self.raw().flags & LB_REQ_SHADOW != 0
    }

    /// The worker's number, below [`Host::workers`](crate::Host::workers), for state that is divided by worker. `None`
    /// if no worker calls: use shared state.
    pub fn worker(&self) -> Option<usize> {
        (self.raw().worker != LB_WORKER_ANY).then_some(self.raw().worker as usize)
    }

    /// The `nth` value of the header `name`, counted from 0, in any case of letters. The host looks it up in this call.
    pub fn header(&self, name: &str, nth: u32) -> Option<&'a [u8]> {
        let lookup = self.raw().header?;
        let mut out = LbStr::EMPTY;
        // SAFETY: the callback gets the pointer that the host lent. The name is valid during the call.
        let found = unsafe { lookup(self.raw, LbStr::new(name.as_bytes()), nth, &raw mut out) };
        // SAFETY: a found value is part of the request, which lives for `'a`.
        (found == 1).then(|| unsafe { bytes(out) })
    }

    /// The method, as sent: `GET`. The host looks it up in this call, like the next three.
    pub fn method(&self) -> &'a str {
        text(self.part(Part::Method))
    }

    /// The path with the query, as sent to the backend: `/search?q=1`. "" if the host has none.
    pub fn path(&self) -> &'a str {
        text(self.part(Part::Path))
    }

    /// The host that the request names, without port; "" if it names none.
    pub fn host(&self) -> &'a str {
        text(self.part(Part::Host))
    }

    /// The address of the client's connection. `None` if there is none, as in a check.
    pub fn client(&self) -> Option<IpAddr> {
        let bytes: [u8; 16] = self.part(Part::Client)?.try_into().ok()?;
        Some(Ipv6Addr::from(bytes).to_canonical())
    }

    /// The first [`BODY_BYTES`](crate::Strategy::BODY_BYTES) bytes of the body, or all of a shorter one, after the
    /// transfer coding and before the content coding. Empty without a body.
    ///
    /// Right after a swap it may be shorter, because these bytes were read for the strategy before.
    pub fn body(&self) -> &'a [u8] {
        self.part(Part::Body).unwrap_or_default()
    }

    /// The length of the whole body in bytes; 0 without a body. `None` if it is not known yet.
    pub fn body_length(&self) -> Option<u64> {
        (self.raw().body_length != u64::MAX).then_some(self.raw().body_length)
    }

    fn part(&self, part: Part) -> Option<&'a [u8]> {
        let lookup = self.raw().part?;
        let mut out = LbStr::EMPTY;
        // SAFETY: the callback gets the pointer that the host lent.
        let found = unsafe { lookup(self.raw, part as u32, &raw mut out) };
        // SAFETY: a found value is part of the request, which lives for `'a`.
        (found == 1).then(|| unsafe { bytes(out) })
    }
}

/// A part as text; "" if there is none, or if it is not UTF-8.
fn text(part: Option<&[u8]>) -> &str {
    part.and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
}
