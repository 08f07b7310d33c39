//! Safe views of what the host lends to a call: backends, request, finish, host.
//!
//! Invariant: a view's lifetime is the call's, so nothing lent can be kept. Every accessor is a plain read; none allocates.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::abi::{
    LB_BACKEND_DRAINING, LB_BACKEND_ELIGIBLE, LB_BACKEND_HEALTHY, LB_FIN_OWN, LB_FIN_UPGRADED, LB_REQ_DRY, LB_REQ_HASH,
    LB_WORKER_ANY, LbBackend, LbBackends, LbFinish, LbHost, LbRequest, LbSlot, LbStats, LbStr,
};

/// The backend list of a pool. Indexes into it are what `pick` answers with.
#[derive(Clone, Copy)]
pub struct Backends<'a> {
    raw: &'a LbBackends,
}

/// One backend of the list.
#[derive(Clone, Copy)]
pub struct Backend<'a> {
    raw: &'a LbBackend,
}

/// Eight zero-initialised words of a strategy's own for each backend; kept over a swap of equal state schema.
#[derive(Clone, Copy)]
pub struct Slot<'a> {
    raw: &'a LbSlot,
}

/// What is known of the request to be routed.
pub struct Request<'a> {
    /// A pointer, not a reference: the host may keep more of its own behind the public fields, and `header` gets this pointer back.
    raw: *const LbRequest,
    _lent: PhantomData<&'a LbRequest>,
}

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

/// The host, as a strategy sees it: a log and the number of workers.
#[derive(Clone, Copy)]
pub struct Host {
    raw: Option<&'static LbHost>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum LogLevel {
    Error = 1,
    Warn = 2,
    Info = 3,
    Debug = 4,
    Trace = 5,
}

/// # Safety
/// `text` must be null with length 0, or point to `len` bytes that live for `'a`.
pub(crate) unsafe fn bytes<'a>(text: LbStr) -> &'a [u8] {
    if text.ptr.is_null() || text.len == 0 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(text.ptr, text.len) }
}

// === impl Backends ===

impl<'a> Backends<'a> {
    /// # Safety
    /// `raw` and all it points to must stay valid and unchanged (but for atomics) for `'a`.
    pub unsafe fn from_raw(raw: *const LbBackends) -> Self {
        // SAFETY: the caller's promise.
        Self { raw: unsafe { &*raw } }
    }

    pub fn len(&self) -> usize {
        self.raw.len as usize
    }

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

    /// Changes only with ids, addresses and weights: a ring or table made for an equal one still stands.
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

    /// May get new requests. The one flag that a pick must obey.
    #[inline]
    pub fn is_eligible(&self) -> bool {
        self.raw.flags & LB_BACKEND_ELIGIBLE != 0
    }

    pub fn is_healthy(&self) -> bool {
        self.raw.flags & LB_BACKEND_HEALTHY != 0
    }

    pub fn is_draining(&self) -> bool {
        self.raw.flags & LB_BACKEND_DRAINING != 0
    }

    /// Attempts accepted and not yet ended, now.
    #[inline]
    pub fn in_flight(&self) -> u32 {
        self.stats().in_flight.load(Relaxed)
    }

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
    /// Word `index`, 0 to 7.
    #[inline]
    pub fn word(&self, index: usize) -> &'a AtomicU64 {
        &self.raw.word[index]
    }
}

// === impl Request ===

impl<'a> Request<'a> {
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
        unsafe { self.raw.slot.as_ref() }.map(|raw| Slot { raw })
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

// === impl Host ===

impl Host {
    /// A host that is not there, for unit tests of a strategy: it logs nothing and has one worker.
    pub const NONE: Self = Self { raw: None };

    /// # Safety
    /// `raw` must stay valid until the process ends.
    pub unsafe fn from_raw(raw: *const LbHost) -> Self {
        // SAFETY: the caller's promise; null becomes `NONE`.
        Self { raw: unsafe { raw.as_ref() } }
    }

    /// The raw host, null for `NONE`.
    pub(crate) fn as_raw(&self) -> *const LbHost {
        self.raw.map_or(std::ptr::null(), std::ptr::from_ref)
    }

    /// Workers that may pick at the same time.
    pub fn workers(&self) -> usize {
        self.raw.map_or(1, |host| host.n_workers as usize)
    }

    /// One line into the host's log. Never blocks; the host may drop it.
    pub fn log(&self, level: LogLevel, message: &str) {
        if let Some(host) = self.raw
            && let Some(log) = host.log
        {
            // SAFETY: the host's function takes its own context and a message borrowed for the call, from any thread.
            unsafe { log(host.ctx, level as u32, LbStr::new(message.as_bytes())) }
        }
    }
}

// SAFETY: the host struct is immutable and lives until the process ends; its functions may be called from any thread.
unsafe impl Send for Host {}
// SAFETY: as above.
unsafe impl Sync for Host {}
