//! The backend list, read-only: ids, eligibility, weights and live counts.
//!
//! Invariant: each index below `len` has a backend with statistics and a slot. The host ensures that.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::bytes;
use super::request::Request;
use crate::abi::{
    LB_BACKEND_DRAINING, LB_BACKEND_ELIGIBLE, LB_BACKEND_HEALTHY, LbBackend, LbBackends, LbSlot, LbStats,
};

/// The backend list of a pool. `pick` returns an index into it.
///
/// This code picks the backend with the fewest requests in flight:
///
/// ```
/// use lb_strategy::{Backends, Pick, Request};
///
/// fn least_busy(backends: &Backends<'_>, request: &Request<'_>) -> Pick {
///     let least = backends.candidates(request).min_by_key(|(_, backend)| backend.in_flight());
///     least.map_or(Pick::NoBackend, |(index, _)| Pick::Backend(index))
/// }
/// ```
///
/// A walk over the candidates costs more with each backend. [`draw`](Self::draw) and
/// [`candidate`](Self::candidate) do not: the host made the slice [`eligible`](Self::eligible) with the list.
///
/// | changes with | what |
/// |---|---|
/// | each list (`epoch`) | eligible backends, effective weights |
/// | each list with other members (`members_epoch`) | ids, addresses, weights, labels, indexes |
/// | at any time, in one list | requests in flight, errors in a row, average latency, load reports, words of slots |
#[derive(Clone, Copy)]
pub struct Backends<'a> {
    raw: &'a LbBackends,
}

/// One backend of the list.
#[derive(Clone, Copy)]
pub struct Backend<'a> {
    raw: &'a LbBackend,
}

/// The newest load report of one backend. A number that the report does not have is 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoadReport {
    /// When it arrived, on the clock of [`Request::now_ns`].
    pub at_ns: u64,
    /// The share of the backend's capacity that is in use: 1 means full, and it may be above 1.
    pub utilization: f64,
    /// Requests a second, as the backend counts them.
    pub qps: f64,
    /// Errors a second.
    pub eps: f64,
    /// The metrics that the configuration lists, in its order.
    pub metrics: [f64; 4],
}

/// Eight words of one backend, for the strategy's own numbers. They start at 0.
///
/// After a swap, the new strategy gets the same words if both have the same [`StateSchema`](crate::StateSchema), name
/// and version. Otherwise its words start at 0.
///
/// This code counts picks in word 0:
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
    /// Wraps the list that the host lends.
    ///
    /// # Safety
    /// `raw` and all it points to must stay valid for `'a`, and unchanged except for atomics.
    pub unsafe fn from_raw(raw: *const LbBackends) -> Self {
        // SAFETY: the caller ensures it.
        Self { raw: unsafe { &*raw } }
    }

    /// The number of backends in the list, eligible or not.
    pub fn len(&self) -> usize {
        self.raw.len as usize
    }

    /// Whether the list has no backend.
    pub fn is_empty(&self) -> bool {
        self.raw.len == 0
    }

    /// The backend at `index`; `None` if `index` is not in the list.
    #[inline]
    pub fn get(&self, index: usize) -> Option<Backend<'a>> {
        if index >= self.len() {
            return None;
        }
        // SAFETY: `base` points to `len` elements, `stride` bytes apart. Each begins with an `LbBackend`. `index` is
        // below `len`.
        let raw = unsafe { &*self.raw.base.cast::<u8>().add(index * self.raw.stride as usize).cast::<LbBackend>() };
        Some(Backend { raw })
    }

    /// All backends, eligible or not, in list order.
    #[inline]
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Backend<'a>> + ExactSizeIterator + use<'a> {
        let list = *self;
        (0..self.len()).map(move |index| list.get(index).expect("index below len"))
    }

    /// The indexes of the eligible backends, ascending: made with the list, so that a pick need not walk it.
    #[inline]
    pub fn eligible(&self) -> &'a [u32] {
        if self.raw.n_eligible == 0 || self.raw.eligible.is_null() {
            return &[];
        }
        // SAFETY: `eligible` points to `n_eligible` indexes below `len`, valid as long as the list. A host without
        // these fields is refused at the entry.
        unsafe { std::slice::from_raw_parts(self.raw.eligible, self.raw.n_eligible as usize) }
    }

    /// How many backends may be picked for `request`: eligible and not yet tried. Takes no time that grows with the
    /// list, except for retries.
    #[inline]
    pub fn candidate_count(&self, request: &Request<'_>) -> usize {
        let tried = request.tried();
        if tried.is_empty() {
            return self.eligible().len();
        }
        // A backend may have been tried twice, or may no longer be eligible.
        self.eligible().iter().filter(|index| !tried.contains(index)).count()
    }

    /// The `nth` candidate for `request`, from 0; `None` if there are fewer. O(1), except for retries.
    #[inline]
    pub fn candidate(&self, request: &Request<'_>, nth: usize) -> Option<(usize, Backend<'a>)> {
        let tried = request.tried();
        let index = if tried.is_empty() {
            *self.eligible().get(nth)?
        } else {
            *self.eligible().iter().filter(|index| !tried.contains(index)).nth(nth)?
        };
        Some((index as usize, self.get(index as usize)?))
    }

    /// A candidate for `request`, drawn by 32 random bits: the high half or the low half of
    /// [`Request::random`](Request::random), for example. All candidates are equally likely, up to a difference of
    /// 2^-32 times their number. `None` if there is no candidate. O(1), except for retries.
    ///
    /// ```
    /// use lb_strategy::{Backends, Pick, Request};
    ///
    /// fn any(backends: &Backends<'_>, request: &Request<'_>) -> Pick {
    ///     backends.draw(request, request.random() as u32).map_or(Pick::NoBackend, |(index, _)| Pick::Backend(index))
    /// }
    /// ```
    #[inline]
    pub fn draw(&self, request: &Request<'_>, bits: u32) -> Option<(usize, Backend<'a>)> {
        let count = self.candidate_count(request) as u64;
        self.candidate(request, ((u64::from(bits) * count) >> 32) as usize)
    }

    /// The backends that may be picked for `request`, each with its index: eligible and not yet tried.
    #[inline]
    pub fn candidates<'r>(&self, request: &'r Request<'_>) -> impl Iterator<Item = (usize, Backend<'a>)> + use<'a, 'r> {
        let (list, tried) = (*self, request.tried());
        let untried = self.eligible().iter().filter(move |index| !tried.contains(index));
        untried.map(move |index| (*index as usize, list.get(*index as usize).expect("index below len")))
    }

    /// A number that changes with every new list.
    pub fn epoch(&self) -> u64 {
        self.raw.epoch
    }

    /// A number that changes only if ids, addresses, weights, labels or their order change. While it is equal, a ring
    /// that was made for an earlier list is valid, and so are its indexes.
    pub fn members_epoch(&self) -> u64 {
        self.raw.members_epoch
    }
}

// === impl Backend ===

impl<'a> Backend<'a> {
    /// The XXH3 64-bit hash of the name: the same on every machine, after each restart and in any list order.
    #[inline]
    pub fn id(&self) -> u64 {
        self.raw.id
    }

    /// The configured id, 1 to 64 bytes of `[A-Za-z0-9 ._:-]`.
    pub fn name(&self) -> &'a str {
        // SAFETY: the name lives as long as the list. `lb` accepts only ASCII ids; a name that is not UTF-8 becomes "".
        std::str::from_utf8(unsafe { bytes(self.raw.name) }).unwrap_or("")
    }

    /// The address, "host:port".
    pub fn address(&self) -> &'a str {
        // SAFETY: as for the name.
        std::str::from_utf8(unsafe { bytes(self.raw.addr) }).unwrap_or("")
    }

    /// The labels as a JSON object; "" if the backend has none. Read them when a picker is made, not in each pick.
    pub fn labels(&self) -> &'a str {
        // SAFETY: as for the name.
        std::str::from_utf8(unsafe { bytes(self.raw.labels_json) }).unwrap_or("")
    }

    /// The label `key`: text as it is, numbers and booleans as JSON writes them. `None` if the backend has no such
    /// label. It parses the labels, so call it when a picker is made.
    pub fn label(&self, key: &str) -> Option<String> {
        let labels: serde_json::Map<String, serde_json::Value> = serde_json::from_str(self.labels()).ok()?;
        labels.get(key).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    }

    /// The configured weight, 0 to 256.
    #[inline]
    pub fn weight(&self) -> u32 {
        self.raw.weight
    }

    /// The weight to pick by, in thousandths; 0 means no new request. It is the configured weight × 1000, and less in a
    /// slow start. It changes in steps, each with a new list and the same `members_epoch`. A strategy that maps keys to
    /// backends uses [`Self::weight`], so that no key moves.
    #[inline]
    pub fn effective_weight(&self) -> u32 {
        self.raw.effective
    }

    /// Whether the backend may get new requests: healthy, not draining, weight above 0. A pick must obey this.
    #[inline]
    pub fn is_eligible(&self) -> bool {
        self.raw.flags & LB_BACKEND_ELIGIBLE != 0
    }

    /// Whether its health checks pass. Before the first result, a configured backend is healthy, and one that `lb`
    /// starts is not.
    pub fn is_healthy(&self) -> bool {
        self.raw.flags & LB_BACKEND_HEALTHY != 0
    }

    /// Whether an operator drains it: it then gets no new request.
    pub fn is_draining(&self) -> bool {
        self.raw.flags & LB_BACKEND_DRAINING != 0
    }

    /// The number of attempts in flight now.
    #[inline]
    pub fn in_flight(&self) -> u32 {
        self.stats().in_flight.load(Relaxed)
    }

    /// The number of failed attempts in a row, now. A response head sets it to 0. Failures of the client do not count.
    pub fn consecutive_errors(&self) -> u32 {
        self.stats().consecutive_errors.load(Relaxed)
    }

    /// The average time to the response head in nanoseconds, exponentially weighted with a time constant of 10 s.
    /// `None` before the first response.
    pub fn ewma_latency_ns(&self) -> Option<u64> {
        match self.stats().ewma_latency_ns.load(Relaxed) {
            0 => None,
            sample => Some(sample),
        }
    }

    /// The newest load report of this backend. `None` without one, and in pools without `[strategy.load_reports]`. Each
    /// value is whole; while a report arrives, two values may be of two reports.
    ///
    /// ```
    /// use lb_strategy::{Backend, Request};
    ///
    /// fn utilization(backend: Backend<'_>, request: &Request<'_>) -> Option<f64> {
    ///     let report = backend.report().filter(|report| report.age_ns(request) < 10_000_000_000)?;
    ///     Some(report.utilization)
    /// }
    /// ```
    #[inline]
    pub fn report(&self) -> Option<LoadReport> {
        let stats = self.stats();
        let value = |word: &AtomicU64| f64::from_bits(word.load(Relaxed));
        match stats.report_at_ns.load(Relaxed) {
            0 => None,
            at_ns => Some(LoadReport {
                at_ns,
                utilization: value(&stats.utilization),
                qps: value(&stats.qps),
                eps: value(&stats.eps),
                metrics: stats.metric.each_ref().map(value),
            }),
        }
    }

    /// This strategy's own words for this backend.
    pub fn slot(&self) -> Slot<'a> {
        // SAFETY: in every list each backend has a valid slot.
        Slot { raw: unsafe { &*self.raw.slot } }
    }

    #[inline]
    fn stats(&self) -> &'a LbStats {
        // SAFETY: in every list each backend has valid statistics.
        unsafe { &*self.raw.stats }
    }
}

// === impl LoadReport ===

impl LoadReport {
    /// The time since it arrived, in nanoseconds.
    #[inline]
    pub fn age_ns(&self, request: &Request<'_>) -> u64 {
        request.now_ns().saturating_sub(self.at_ns)
    }
}

// === impl Slot ===

impl<'a> Slot<'a> {
    pub(super) fn new(raw: &'a LbSlot) -> Self {
        Self { raw }
    }

    /// Word `index`, 0 to 7.
    ///
    /// # Panics
    /// If `index` is above 7.
    #[inline]
    pub fn word(&self, index: usize) -> &'a AtomicU64 {
        &self.raw.word[index]
    }
}
