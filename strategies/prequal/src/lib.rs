//! Prequal: picks by the latency and the requests in flight that backends told in response to probes.
//!
//! Idea: a backend knows its load better than its balancers, because all of them, and other programs on its machine,
//! use it. Probes ask for it: small requests beside the real ones. Their responses are in a pool, so no request waits
//! for a probe. Latency is what clients feel, but it shows an overload late; requests in flight show it at once. So a
//! backend with many requests in flight is *hot* and avoided, and among the cold ones the latency decides. Source: B.
//! Wydrowski, R. Kleinberg, S. M. Rumble and A. Archer, "Load is not what you should balance: Introducing Prequal",
//! NSDI 2024.
//!
//! The rules, with the defaults of the paper (section 4):
//! - With each pick, `probes` = 3 random backends get a probe. A pool has up to `pool` = 16 responses. They count for
//!   `age_ms` = 1 s.
//! - A response is hot if its requests in flight are above the `quantile` = 0.84 (2^−0.25) of the recent responses. If
//!   all are hot, the one with the fewest requests in flight is picked, otherwise the cold one with the least latency.
//! - A response that is used counts one request more, and may be used
//!   `max(1, (1 + delta) / ((1 − pool/n) · probes − remove))` times, with `delta` = 1 and `remove` = 1 (equation 1).
//! - With each pick, `remove` = 1 response is removed: in turns the oldest and the worst one. Otherwise bad responses,
//!   which are never picked, would fill the pool.
//! - With fewer than two responses there is nothing to compare. The paper then picks at random. Here it is the better
//!   of two random backends by requests in flight, so without probes the strategy is `power_of_two`.
//!
//! What is added: probes and the fallback are drawn by weight, and requests in flight count for the weight of an
//! average backend. Three failures in a row make a pause (see [`Backoff`]); the paper says that such a rule is needed,
//! not which. In a pool of fewer than about 24 backends the equation has no limit; then a response may be used 8 times.
//!
//! It needs `[strategy.probe]` with a `path`. A response has the headers `x-in-flight` and `x-latency-ms`. Without the
//! first one the requests of this balancer count, without the second one the time of the probe.
//!
//! Cost: a look at 16 responses; for each probe a quantile of 64 numbers; no lock. Each worker has a pool of its own.
//! Words 0 and 1 of a slot are the failures and the pause. Words 2 and 3 are the index and the share of the newest
//! list. Word 4 is the requests in flight of this balancer when the last probe was sent.
//!
//! Invariants: a dry pick uses and removes nothing. A response counts only if the list has its backend, by id.

mod pool;

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use lb_strategy::{
    Backend, Backends, Error, Finish, Host, Outcome, Pick, Probe, Probes, Request, StateSchema, Strategy,
};
use lb_strategy_loads::{Backoff, Draws, Load, Lots, Sample, explained};
use serde::Deserialize;

use pool::{PLACES, Pool, Told};

/// The most uses of a response, where the equation gives no limit.
const USES_MAX: f64 = 8.0;
/// The words of a slot for the newest list: the index of the backend, and the mean weight divided by its own.
const INDEX: usize = 2;
const SHARE: usize = 3;
/// The word of a slot for the requests of this balancer at the last probe. `on_probe` gets no other number of them.
const OWN_IN_FLIGHT: usize = 4;
/// A response that was received so long ago is the same as none.
const AGE_MAX_MS: u32 = 60_000;

pub struct Prequal {
    /// By the number of the worker.
    pools: Box<[Pool]>,
    options: Options,
    /// The places that are used, and the uses of a response in thousandths: both follow from the number of backends.
    size: AtomicU32,
    uses: AtomicU32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// The probes with each pick, 0 to 4. A fraction is the probability of one more.
    probes: f64,
    /// The most responses in a pool, 2 to 16.
    pool: usize,
    /// The time in which a response counts, in milliseconds.
    age_ms: u32,
    /// The quantile of the requests in flight above which a backend is hot, 0 to 1.
    quantile: f64,
}

/// A response that a pick may use.
#[derive(Clone, Copy)]
struct Choice {
    place: usize,
    index: usize,
    is_hot: bool,
    /// For the weight of an average backend.
    in_flight: f64,
    latency_ns: f64,
}

lb_strategy::export!(Prequal);

/// Writes down the requests in flight of a backend that gets a probe.
fn note_in_flight(backend: Backend<'_>) {
    let (word, in_flight) = (backend.slot().word(OWN_IN_FLIGHT), u64::from(backend.in_flight()));
    // A read does not take the cache line from other workers.
    if word.load(Relaxed) != in_flight {
        word.store(in_flight, Relaxed);
    }
}

// === impl Prequal ===

impl Prequal {
    /// The pool of the calling worker. A call of the builder looks at the first one.
    #[inline]
    fn pool(&self, worker: Option<usize>) -> &Pool {
        &self.pools[worker.unwrap_or_default().min(self.pools.len() - 1)]
    }

    fn age_ns(&self) -> u64 {
        u64::from(self.options.age_ms) * 1_000_000
    }

    /// The response to use by the rule of hot and cold; `None` with fewer than two.
    fn choice(&self, pool: &Pool, backends: &Backends<'_>, request: &Request<'_>) -> Option<Choice> {
        let (threshold, mut usable, mut best) = (pool.threshold(), 0, None::<Choice>);
        for (place, told) in pool.fresh(request.now_ns(), self.age_ns()) {
            let Some(backend) = backends.get(told.hint).filter(|backend| backend.id() == told.id) else { continue };
            let is_paused = Backoff::of(backend.slot(), 0).is_paused(request.now_ns());
            if is_paused || !backend.is_eligible() || request.is_tried(told.hint) {
                continue;
            }
            usable += 1;
            let this = Choice::of(place, &told, backend, threshold);
            if best.is_none_or(|best| this.is_better_than(&best)) {
                best = Some(this);
            }
        }
        best.filter(|_| usable >= 2)
    }

    /// Without enough responses.
    fn fallback(lots: &Lots, backends: &Backends<'_>, request: &Request<'_>) -> Option<usize> {
        let now_ns = request.now_ns();
        lots.best_of(2, backends, request, &mut Draws::of(request), |backend| {
            (Backoff::of(backend.slot(), 0).is_paused(now_ns), Load::of(backend))
        })
    }

    /// The sizes that follow from the number of backends.
    fn set_sizes(&self, n: usize) {
        let size = self.options.pool.min(n);
        self.size.store(size as u32, Relaxed);
        // Equation 1 of the paper, with remove = 1 and delta = 1.
        let gained = (1.0 - size as f64 / n.max(1) as f64) * self.options.probes - 1.0;
        let uses = if gained > 0.0 { (2.0 / gained).clamp(1.0, USES_MAX) } else { USES_MAX };
        self.uses.store((uses * 1e3) as u32, Relaxed);
    }

    /// The uses of response number `received`: rounded up or down, so that the mean is right.
    fn uses(&self, received: u64) -> u32 {
        let uses = u64::from(self.uses.load(Relaxed));
        // Multiples of the golden ratio are spread evenly over the thousandths.
        ((uses + received.wrapping_mul(618) % 1000) / 1000) as u32
    }
}

impl Strategy for Prequal {
    const NAME: &'static str = "prequal";
    const WANTS_FINISH: bool = true;
    const PROBES: bool = true;
    const RESPONSE_HEADERS: &'static [&'static str] = &["x-in-flight", "x-latency-ms"];
    const STATE: Option<StateSchema> = Some(StateSchema { schema: "prequal", version: 1 });
    const EXPECTATION: &'static str = r#"{"balance":"by_load","weights":true}"#;
    const EXPLAINS: bool = true;
    type Config = Options;
    type Picker = Lots;

    fn new(options: Options, host: Host) -> Result<Self, Error> {
        if !(0.0..=Probes::MAX as f64).contains(&options.probes) {
            return Err(format!("probes is {}: it must be 0 to {}", options.probes, Probes::MAX).into());
        }
        if !(2..=PLACES).contains(&options.pool) {
            return Err(format!("pool is {}: it must be 2 to {PLACES}", options.pool).into());
        }
        if !(1..=AGE_MAX_MS).contains(&options.age_ms) {
            return Err(format!("age_ms is {}: it must be 1 to {AGE_MAX_MS}", options.age_ms).into());
        }
        if !(0.0..=1.0).contains(&options.quantile) {
            return Err(format!("quantile is {}: it must be 0 to 1", options.quantile).into());
        }
        let pools = (0..host.workers().max(1)).map(|_| Pool::new()).collect();
        let [size, uses] = [PLACES as u32, 1000].map(AtomicU32::new);
        Ok(Self { pools, options, size, uses })
    }

    fn picker(&self, backends: &Backends<'_>) -> Result<Lots, Error> {
        let n = backends.eligible().len();
        let eligible = backends.iter().filter(|backend| backend.is_eligible());
        let mean = eligible.map(|backend| f64::from(backend.effective_weight())).sum::<f64>() / n.max(1) as f64;
        for (index, backend) in (0..).zip(backends.iter()) {
            let share = mean / f64::from(backend.effective_weight().max(1));
            backend.slot().word(INDEX).store(index, Relaxed);
            backend.slot().word(SHARE).store(share.to_bits(), Relaxed);
        }
        self.set_sizes(n);
        Ok(Lots::of_eligible(backends))
    }

    fn pick(&self, lots: &Lots, backends: &Backends<'_>, request: &Request<'_>) -> Pick {
        let pool = self.pool(request.worker());
        let Some(choice) = self.choice(pool, backends, request) else {
            return Self::fallback(lots, backends, request).map_or(Pick::NoBackend, Pick::Backend);
        };
        if !request.is_dry() {
            pool.used(choice.place);
            pool.remove_one(request.now_ns(), self.age_ns());
        }
        Pick::Backend(choice.index)
    }

    fn probes(&self, lots: &Lots, backends: &Backends<'_>, request: &Request<'_>, _: usize, probes: &mut Probes<'_>) {
        // Other numbers than those of the pick.
        let mut draws = Draws::seeded(request.random().rotate_left(32));
        let wanted = (self.options.probes + draws.unit()) as usize;
        let n = lots.len();
        let mut asked = [usize::MAX; Probes::MAX];
        for place in 0..wanted.min(n) {
            // The same backend may be drawn twice; then it gets one probe, and the next pick has others.
            if let Some(index) = lots.draw(backends, request, &mut draws)
                && !asked.contains(&index)
            {
                asked[place] = index;
                probes.add(index);
                backends.get(index).into_iter().for_each(note_in_flight);
            }
        }
    }

    fn on_probe(&self, probe: &Probe<'_>) {
        let Some(slot) = probe.slot() else { return };
        let pool = self.pool(probe.worker());
        let is_error = probe.http_status().is_none_or(|status| status >= 400);
        if probe.outcome() != Outcome::Ok || is_error {
            return pool.forget(probe.backend_id());
        }
        let text = |place: usize| probe.response_header(place).and_then(|text| str::from_utf8(text).ok());
        let latency_ms = text(1).and_then(|text| text.trim().parse().ok()).filter(|ms: &f64| *ms >= 0.0);
        let share = f64::from_bits(slot.word(SHARE).load(Relaxed));
        let told = Told {
            id: probe.backend_id(),
            hint: slot.word(INDEX).load(Relaxed) as usize,
            in_flight: text(0).and_then(|text| text.trim().parse().ok()).map(|told: u32| f64::from(told) * share),
            own_in_flight: slot.word(OWN_IN_FLIGHT).load(Relaxed) as f64 * share,
            share,
            latency_ns: latency_ms.map_or(probe.latency_ns(), |ms| (ms * 1e6) as u64),
            at_ns: probe.now_ns(),
            uses: self.uses(pool.received()),
        };
        pool.put(told, self.size.load(Relaxed) as usize, self.options.quantile);
    }

    fn on_finish(&self, finish: &Finish<'_>) {
        if let Some(slot) = finish.slot() {
            Backoff::of(slot, 0).record(Sample::of(finish), finish.now_ns());
        }
    }

    /// The response of each candidate in the worker's pool, and whether it is hot. -1: none.
    fn explain(&self, lots: &Lots, backends: &Backends<'_>, request: &Request<'_>) -> String {
        let pool = self.pool(request.worker());
        let choice = self.choice(pool, backends, request).map(|choice| choice.index);
        let picked = choice.or_else(|| Self::fallback(lots, backends, request));
        explained(picked, backends, request, |backend| {
            let mut fresh = pool.fresh(request.now_ns(), self.age_ns());
            let found = fresh.find(|(_, told)| told.id == backend.id());
            let choice = found.map(|(place, told)| (Choice::of(place, &told, backend, pool.threshold()), told));
            [
                ("in_flight", choice.map_or(-1.0, |(choice, _)| choice.in_flight)),
                ("latency_ms", choice.map_or(-1.0, |(choice, _)| choice.latency_ns / 1e6)),
                ("hot", choice.map_or(-1.0, |(choice, _)| f64::from(u8::from(choice.is_hot)))),
                ("uses_left", choice.map_or(-1.0, |(_, told)| f64::from(told.uses))),
            ]
        })
    }
}

// === impl Choice ===

impl Choice {
    #[inline]
    fn of(place: usize, told: &Told, backend: Backend<'_>, threshold: f64) -> Self {
        let in_flight = told.in_flight.unwrap_or_else(|| f64::from(backend.in_flight()) * told.share);
        Self { place, index: told.hint, is_hot: in_flight > threshold, in_flight, latency_ns: told.latency_ns as f64 }
    }

    /// Cold before hot, then the fewest requests in flight of hot ones, and the least latency of cold ones.
    #[inline]
    fn is_better_than(&self, other: &Self) -> bool {
        match (self.is_hot, other.is_hot) {
            (false, true) => true,
            (true, false) => false,
            (true, true) => (self.in_flight, self.latency_ns) < (other.in_flight, other.latency_ns),
            (false, false) => (self.latency_ns, self.in_flight) < (other.latency_ns, other.in_flight),
        }
    }
}

// === impl Options ===

impl Default for Options {
    fn default() -> Self {
        Self { probes: 3.0, pool: PLACES, age_ms: 1_000, quantile: 0.840_896_415_253_714_5 }
    }
}

#[cfg(test)]
mod tests;
