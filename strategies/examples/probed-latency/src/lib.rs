//! Probed latency: of two random backends, take the one that answered its probes faster and is less busy.
//!
//! Why it exists: it shows periodic probes. `lb` probes each eligible backend about every 100 ms, also one that gets no
//! requests. So a backend that was slow once is not avoided longer than it is slow. `probed_latency.c` is the same in
//! C, with the same picks.
//!
//! It needs `[strategy.probe]` with a `path`. Until both backends of a draw were probed, the one with fewer requests in
//! flight is picked.
//!
//! Invariants: both draws come from the request's random bits. A failed probe counts as a latency of at least a second,
//! and a later good one makes up for it. Weights are not used.

use std::sync::atomic::Ordering::Relaxed;

use lb_strategy::{Backend, Backends, Error, Host, NoOptions, Outcome, Pick, Probe, Request, Strategy};

pub struct ProbedLatency;

/// The latency of a failed probe, in microseconds.
const FAILED_US: u64 = 1_000_000;
/// The words of a backend's slot. The average latency is in microseconds; 0: no probe has ended.
const LATENCY: usize = 0;
const GOOD: usize = 1;
const FAILED: usize = 2;

lb_strategy::export!(ProbedLatency);

fn word(backend: Backend<'_>, index: usize) -> u64 {
    backend.slot().word(index).load(Relaxed)
}

/// Whether `one` is better than `other`.
fn is_better(one: Backend<'_>, other: Backend<'_>) -> bool {
    let (latency, other_latency) = (word(one, LATENCY), word(other, LATENCY));
    if latency == 0 || other_latency == 0 {
        return one.in_flight() < other.in_flight();
    }
    let busy = |backend: Backend<'_>| u64::from(backend.in_flight()) + 1;
    latency * busy(one) < other_latency * busy(other)
}

// === impl ProbedLatency ===

impl Strategy for ProbedLatency {
    const NAME: &'static str = "probed_latency";
    const PROBE_MS: u32 = 100;
    const EXPECTATION: &'static str = r#"{"balance":"by_latency"}"#;
    const EXPLAINS: bool = true;
    type Config = NoOptions;
    type Picker = ();

    fn new(_: NoOptions, _: Host) -> Result<Self, Error> {
        Ok(Self)
    }

    fn picker(&self, _: &Backends<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn pick(&self, _: &(), backends: &Backends<'_>, request: &Request<'_>) -> Pick {
        let n = backends.candidate_count(request) as u64;
        if n == 0 {
            return Pick::NoBackend;
        }
        // Two draws from 64 random bits. The second is one of the n - 1 others.
        let (high, low) = (request.random() >> 32, request.random() & 0xFFFF_FFFF);
        let first = (high * n) >> 32;
        let second = (first + 1 + ((low * (n - 1)) >> 32)) % n;
        let drawn = |number: u64| backends.candidate(request, number as usize).expect("one of n");
        let (one, other) = (drawn(first), drawn(second));
        Pick::Backend(if is_better(other.1, one.1) { other.0 } else { one.0 })
    }

    /// On the builder thread, so no other call writes these words.
    fn on_probe(&self, probe: &Probe<'_>) {
        let Some(slot) = probe.slot() else { return };
        let is_good = probe.outcome() == Outcome::Ok && probe.http_status().is_some_and(|status| status < 500);
        let before = slot.word(LATENCY).load(Relaxed);
        let latency = if is_good { (probe.latency_ns() / 1_000).max(1) } else { before.max(FAILED_US) };
        let average = if before == 0 { latency } else { before - before / 4 + latency / 4 };
        slot.word(LATENCY).store(average, Relaxed);
        slot.word(if is_good { GOOD } else { FAILED }).fetch_add(1, Relaxed);
    }

    /// What the probes of each backend have told.
    fn explain(&self, _: &(), backends: &Backends<'_>, _: &Request<'_>) -> String {
        let entry = |backend: Backend<'_>| {
            let [latency, good, failed] = [LATENCY, GOOD, FAILED].map(|index| word(backend, index));
            let name = backend.name();
            format!(r#"{{"backend":"{name}","latency_us":{latency},"good":{good},"failed":{failed}}}"#)
        };
        format!(r#"{{"probes":[{}]}}"#, backends.iter().map(entry).collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use lb_strategy::abi::LbStrategyTable;
    use lb_strategy_conformance::{Requests, World, properties, strategy};
    use serde_json::json;

    use super::*;

    static TABLE: LbStrategyTable = lb_strategy::ffi::hooks::table::<ProbedLatency>("0", "test");

    /// Two backends with these latencies and requests in flight.
    fn world(backends: [(u64, u32); 2]) -> World {
        let world = World::of(2);
        for (index, (latency, in_flight)) in backends.into_iter().enumerate() {
            world.list().specs()[index].slot.words()[LATENCY].store(latency, Relaxed);
            world.set_load(index, in_flight);
        }
        world
    }

    #[test]
    fn has_the_properties_of_every_strategy() {
        properties::check_all(&TABLE, &json!({})).unwrap();
    }

    #[test]
    fn of_two_backends_the_faster_one_is_picked_unless_it_is_busy_or_one_is_not_known() {
        for (backends, picked) in [
            ([(300, 0), (100, 0)], 1),
            ([(300, 0), (100, 1)], 1),
            ([(300, 0), (100, 3)], 0),
            ([(0, 0), (100, 1)], 0),
            ([(300, 1), (0, 0)], 1),
        ] {
            let picker = world(backends).picker(&strategy(&TABLE, &json!({})).unwrap()).unwrap();
            let mut requests = Requests::seeded(51);
            let is_picked = |_| requests.ask().pick_backend(&picker) == Ok(picked);
            assert!((0..1000).all(is_picked), "{backends:?}");
        }
    }
}
