//! Probes: the backends that a pick has probed, and the end of one probe.
//!
//! A probe is a small request of the host's own to a backend, for the strategy alone. Invariants: it moves no count and
//! no average of requests. Only the instance that asked for it gets its end.

use super::backends::Slot;
use super::bytes;
use super::finish::Outcome;
use crate::abi::{LB_PROBES_MAX, LB_WORKER_ANY, LbPick, LbProbe};

/// The backends that get a probe with this pick, at most [`Probes::MAX`].
pub struct Probes<'a> {
    raw: &'a mut LbPick,
}

/// The end of one probe.
///
/// This code keeps the number of requests in flight that the backend told in its response, in word 0 of its slot:
///
/// ```
/// use lb_strategy::{Outcome, Probe};
/// use std::sync::atomic::Ordering::Relaxed;
///
/// fn on_probe(probe: &Probe<'_>) {
///     let told = probe.response_header(0).and_then(|text| str::from_utf8(text).ok()?.parse().ok());
///     if let (Outcome::Ok, Some(slot), Some(in_flight)) = (probe.outcome(), probe.slot(), told) {
///         slot.word(0).store(in_flight, Relaxed);
///     }
/// }
/// ```
pub struct Probe<'a> {
    raw: &'a LbProbe,
}

// === impl Probes ===

impl<'a> Probes<'a> {
    /// The most backends that one pick can have probed.
    pub const MAX: usize = LB_PROBES_MAX;

    pub(crate) fn new(raw: &'a mut LbPick) -> Self {
        Self { raw }
    }

    /// Asks for a probe of the backend at this index of the list. Returns whether there was room for it. The host skips
    /// a backend that is not eligible, and one to which this worker has a probe of this strategy on its way.
    pub fn add(&mut self, index: usize) -> bool {
        let (Some(place), Ok(index)) = (self.raw.probe.get_mut(self.raw.n_probes as usize), u32::try_from(index))
        else {
            return false;
        };
        *place = index;
        self.raw.n_probes += 1;
        true
    }
}

// === impl Probe ===

impl<'a> Probe<'a> {
    /// Wraps the struct that the host lends.
    ///
    /// # Safety
    /// `raw` and all it points to must stay valid for `'a`.
    pub unsafe fn from_raw(raw: *const LbProbe) -> Self {
        // SAFETY: the caller ensures it.
        Self { raw: unsafe { &*raw } }
    }

    /// [`Backend::id`](crate::Backend::id) of the probed backend.
    pub fn backend_id(&self) -> u64 {
        self.raw.backend_id
    }

    /// This strategy's words for the backend; `None` if the backend has left the list since the start of the probe.
    pub fn slot(&self) -> Option<Slot<'a>> {
        // SAFETY: null, or a slot that lives at least as long as the call.
        unsafe { self.raw.slot.as_ref() }.map(Slot::new)
    }

    /// Whether it is one of [`PROBE_MS`](crate::Strategy::PROBE_MS), on the builder thread, and not one of a pick.
    pub fn is_periodic(&self) -> bool {
        self.raw.worker == LB_WORKER_ANY
    }

    /// The worker that sent it and calls now, as in [`Request::worker`](crate::Request::worker). `None` for a periodic
    /// probe.
    pub fn worker(&self) -> Option<usize> {
        (!self.is_periodic()).then_some(self.raw.worker as usize)
    }

    /// How the probe ended: [`Outcome::Ok`] with any response, whatever its status.
    pub fn outcome(&self) -> Outcome {
        Outcome::of(self.raw.outcome)
    }

    /// The HTTP status of the response; `None` without a response.
    pub fn http_status(&self) -> Option<u16> {
        u16::try_from(self.raw.http_status).ok().filter(|status| *status != 0)
    }

    /// Nanoseconds from the start of the probe to the response head; 0 without one.
    pub fn latency_ns(&self) -> u64 {
        self.raw.latency_ns
    }

    /// The host's monotonic clock at the end of the probe, in nanoseconds.
    pub fn now_ns(&self) -> u64 {
        self.raw.now_ns
    }

    /// The body of the response, at most its first 1,024 bytes.
    pub fn body(&self) -> &'a [u8] {
        // SAFETY: valid during the call.
        unsafe { bytes(self.raw.body) }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pick_has_at_most_four_probes() {
        let mut pick = LbPick::default();
        let mut probes = Probes::new(&mut pick);
        let added = [7, 0, 3, 9, 5].map(|index| probes.add(index));
        assert_eq!(added, [true, true, true, true, false]);
        assert_eq!((pick.n_probes, pick.probe), (4, [7, 0, 3, 9]));
        assert!(!Probes::new(&mut LbPick::default()).add(usize::MAX), "no index of a list");
    }
}
