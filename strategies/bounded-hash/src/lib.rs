//! Consistent hashing with bounded loads: a ring, and a cap on the requests in flight of each backend.
//!
//! Source: Mirrokni, Thorup and Zadimoghaddam, "Consistent Hashing with Bounded Loads", SODA 2018, arXiv 1608.01350,
//! section 2. HAProxy has it as `hash-balance-factor`.
//!
//! Idea: with `m` requests in flight, the next request finds backend `i` full if that one has `c·(m+1)·w/W` or more in
//! flight. Here `w` is the weight of the backend, `W` the sum of the weights of all eligible backends, and `c` the
//! factor. The request goes clockwise on the ring from its hash to the first backend that is not full. As `c` is above
//! 1, there is always one. So a popular key overflows to the next backends on the ring, always the same ones, and their
//! caches fill too.
//!
//! The factor: near 1 the load is as even as with least connections, and many requests leave their own backend. 1.25 is
//! the default; 1.25 to 2 is sensible. Without bound it is the plain ring.
//!
//! Counts: the strategy counts its own attempts in flight, from begin to end. One number has all of them, and word 0 of
//! a backend's slot has those of the backend. Attempts that a session or the fallback picked do not count. If several
//! workers pick at the same moment, each may exceed the cap by one, because a pick does not reserve a place. After a
//! swap the counts begin at 0, and requests from before do not count.
//!
//! Lost ends: an attempt that ends under another strategy, or while its backend is not in the list, ends unseen. A
//! rollback or the return of the backend puts the slot back, with that attempt. So each new picker lowers the count of
//! a backend to its requests in flight, and computes the sum of all counts anew.
//!
//! Invariants: the ring is that of `consistent_hash` with the same options. With one worker, a backend never has more
//! than ceil(c·(m+1)·w/W) own attempts in flight. In an idle pool each key has the backend of the plain ring. Caps
//! follow the effective weight, so a slow start limits the load of a backend but moves no key in an idle pool.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use lb_hashing::{Kept, Ring, score};
use lb_strategy::{Backend, Backends, Error, Finish, Host, Pick, Request, Start, Strategy};
use serde::Deserialize;
use serde_json::json;

const VIRTUAL_NODES_MAX: u32 = 4096;
const FACTOR_MAX: f64 = 1e6;
/// The cap is computed in whole numbers, with the factor in thousandths.
const THOUSAND: u128 = 1000;
/// The points of a walk. After so many a rendezvous among the backends that are not full decides.
const STEPS_MAX: usize = 512;
/// The word of a slot with the backend's attempts in flight.
const IN_FLIGHT: usize = 0;

pub struct BoundedHash {
    virtual_nodes: u32,
    factor_thousandths: u32,
    last: Kept<Ring>,
    in_flight: Total,
}

/// `[strategy.config.bounded_hash]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The largest load of a backend, relative to the mean.
    #[serde(default = "default_factor")]
    factor: f64,
    /// Points on the ring for each unit of a backend's weight.
    #[serde(default = "default_virtual_nodes")]
    virtual_nodes: u32,
}

/// The view of one list.
pub struct View {
    ring: Arc<Ring>,
    /// The effective weight of each backend; 0 if it is not eligible. Here and not in the list, so that a pick reads
    /// less memory.
    weights: Box<[u32]>,
    /// Their sum.
    sum: u64,
}

/// The attempts in flight of all backends. On cache lines of its own, because all workers write it.
#[derive(Default)]
#[repr(align(128))]
struct Total(AtomicU64);

/// What a walk found.
struct Found {
    backend: usize,
    /// The points before it.
    steps: usize,
    /// Whether the backend is not full.
    has_room: bool,
}

lb_strategy::export!(BoundedHash);

fn default_factor() -> f64 {
    1.25
}

fn default_virtual_nodes() -> u32 {
    160
}

// === impl BoundedHash ===

impl Strategy for BoundedHash {
    const NAME: &'static str = "bounded_hash";
    const WANTS_HASH: bool = true;
    const WANTS_START: bool = true;
    const WANTS_FINISH: bool = true;
    const EXPLAINS: bool = true;
    const EXPECTATION: &'static str = r#"{"balance":"ring:160","weights":true,"consistent":true}"#;
    type Config = Options;
    type Picker = View;

    fn new(options: Options, _: Host) -> Result<Self, Error> {
        let Options { factor, virtual_nodes } = options;
        if !(1.0..=FACTOR_MAX).contains(&factor) {
            return Err(format!("factor is {factor}: it may be 1 to {FACTOR_MAX}, and 1.25 to 2 is sensible").into());
        }
        if !(1..=VIRTUAL_NODES_MAX).contains(&virtual_nodes) {
            return Err(format!("virtual_nodes is {virtual_nodes}: it may be 1 to {VIRTUAL_NODES_MAX}").into());
        }
        let factor_thousandths = (factor * 1000.0).round() as u32;
        Ok(Self { virtual_nodes, factor_thousandths, last: Kept::default(), in_flight: Total::default() })
    }

    fn picker(&self, backends: &Backends<'_>) -> Result<View, Error> {
        let ring = self.last.get(backends, || Ring::by_weight(backends, self.virtual_nodes, "virtual_nodes"))?;
        // An eligible backend takes part even if a slow start leaves it no weight.
        let weight = |backend: Backend<'_>| if backend.is_eligible() { backend.effective_weight().max(1) } else { 0 };
        let weights: Box<[u32]> = backends.iter().map(weight).collect();
        let sum = weights.iter().map(|weight| u64::from(*weight)).sum();
        self.in_flight.0.store(backends.iter().map(count_again).sum(), Relaxed);
        Ok(View { ring, weights, sum })
    }

    fn pick(&self, view: &View, backends: &Backends<'_>, request: &Request<'_>) -> Pick {
        let Some(hash) = request.hash() else { return Pick::Fallback };
        self.walk(hash, view, backends, request).map_or(Pick::NoBackend, |found| Pick::Backend(found.backend))
    }

    fn on_start(&self, start: &Start<'_>) {
        // Without a slot the backend has left the list, and its end cannot be counted.
        if let Some(slot) = start.slot().filter(|_| start.is_own()) {
            self.in_flight.0.fetch_add(1, Relaxed);
            slot.word(IN_FLIGHT).fetch_add(1, Relaxed);
        }
    }

    fn on_finish(&self, finish: &Finish<'_>) {
        if let Some(slot) = finish.slot().filter(|_| finish.is_own())
            && decrease(slot.word(IN_FLIGHT))
        {
            decrease(&self.in_flight.0);
        }
    }

    fn explain(&self, view: &View, backends: &Backends<'_>, request: &Request<'_>) -> String {
        let Some(hash) = request.hash() else {
            return json!({ "pick": "fallback", "reason": "the request has no key", "ring": view.ring.arcs() })
                .to_string();
        };
        let name = |index: usize| backends.get(index).map_or("", |backend| backend.name());
        let (first, found) = (view.ring.at_or_after(hash), self.walk(hash, view, backends, request));
        let backend = found.as_ref().and_then(|found| backends.get(found.backend));
        json!({
            "position": format!("{hash:016x}"),
            "owner": view.ring.owner(first).map(name),
            "backend": backend.map(|backend| backend.name()),
            "steps": found.as_ref().map(|found| found.steps),
            "has_room": found.as_ref().map(|found| found.has_room),
            "in_flight": backend.map(|backend| backend.slot().word(IN_FLIGHT).load(Relaxed)),
            "cap": found.as_ref().map(|found| self.cap(view, found.backend)),
            "in_flight_of_all": self.in_flight.0.load(Relaxed),
        })
        .to_string()
    }
}

impl BoundedHash {
    /// Goes clockwise from `hash` to the first backend that may serve and is not full.
    fn walk(&self, hash: u64, view: &View, backends: &Backends<'_>, request: &Request<'_>) -> Option<Found> {
        let first = view.ring.at_or_after(hash);
        let total = self.in_flight.0.load(Relaxed);
        for steps in 0..STEPS_MAX.min(view.ring.len()) {
            let backend = view.ring.owner(first + steps)?;
            let may_serve = view.weights[backend] > 0 && !request.is_tried(backend);
            if may_serve && self.has_room(total, view, backend, &backends.get(backend)?) {
                return Some(Found { backend, steps, has_room: true });
            }
        }
        self.elect(hash, total, view, backends, request)
    }

    /// A rendezvous among the backends that are not full. If all are full, among all that may serve: that is possible
    /// if several workers pick at once, and for a retry.
    #[cold]
    fn elect(
        &self,
        hash: u64,
        total: u64,
        view: &View,
        backends: &Backends<'_>,
        request: &Request<'_>,
    ) -> Option<Found> {
        let scored = backends.candidates(request).map(|(index, backend)| {
            let is_full = !self.has_room(total, view, index, &backend);
            (is_full, score(hash, backend.id(), backend.weight().max(1)), backend.id(), index)
        });
        let best = scored.min_by(|one, two| one.0.cmp(&two.0).then(one.1.total_cmp(&two.1)).then(one.2.cmp(&two.2)))?;
        Some(Found { backend: best.3, steps: STEPS_MAX.min(view.ring.len()), has_room: !best.0 })
    }

    /// Whether the backend may get one more, with `total` in flight: in flight < c·(total+1)·w/W, without a division.
    #[inline]
    fn has_room(&self, total: u64, view: &View, index: usize, backend: &Backend<'_>) -> bool {
        let in_flight = backend.slot().word(IN_FLIGHT).load(Relaxed);
        u128::from(in_flight) * u128::from(view.sum) * THOUSAND < self.load_of(total, view.weights[index])
    }

    /// The most attempts that the backend may have in flight now.
    fn cap(&self, view: &View, index: usize) -> u64 {
        let load = self.load_of(self.in_flight.0.load(Relaxed), view.weights[index]);
        load.div_ceil((u128::from(view.sum) * THOUSAND).max(1)) as u64
    }

    /// c·(total+1)·w, in thousandths.
    #[inline]
    fn load_of(&self, total: u64, weight: u32) -> u128 {
        u128::from(self.factor_thousandths) * (u128::from(total) + 1) * u128::from(weight)
    }
}

/// Subtracts 1, but not below 0: after a swap an end may come without its begin. Returns whether it was above 0.
fn decrease(count: &AtomicU64) -> bool {
    count.fetch_update(Relaxed, Relaxed, |count| count.checked_sub(1)).is_ok()
}

/// Lowers the count of a backend to all of its requests in flight, and returns it. More cannot be true.
fn count_again(backend: Backend<'_>) -> u64 {
    let in_flight = u64::from(backend.in_flight());
    backend.slot().word(IN_FLIGHT).fetch_min(in_flight, Relaxed).min(in_flight)
}

#[cfg(test)]
mod tests;
