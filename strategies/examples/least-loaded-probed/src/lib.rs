//! Least loaded, probed: picks the backend that told the fewest requests in flight in its last probe.
//!
//! Idea: with many balancers, the requests that one of them has in flight say little about a backend. The backend
//! knows. With each pick, two random backends get a probe. The response tells the requests in flight in the header
//! `x-in-flight`, as that of `mock-server --probe-path` does. Prequal goes on from here: it also compares latencies,
//! and drops answers after some uses (Wydrowski et al., 2024).
//!
//! It needs `[strategy.probe]` with a `path`. An answer counts for a second. If no candidate has one, the backend with
//! the fewest requests in flight of this balancer is picked. Random bits decide between equal ones.
//! `least_loaded_probed.c` is the same in C, with the same picks.
//!
//! Invariants: only the request's random bits are drawn, so the same seed and the same answers give the same picks and
//! the same probes. Words 0 and 1 of a slot are the answer and the time at which it came.

use std::sync::atomic::Ordering::Relaxed;

use lb_strategy::{Backend, Backends, Error, Host, NoOptions, Outcome, Pick, Probe, Probes, Request, Strategy};

pub struct LeastLoadedProbed;

/// An older answer says nothing about now. One so far ahead is from before the clock was set back.
const AGE_MAX_NS: u64 = 1_000_000_000;

lb_strategy::export!(LeastLoadedProbed);

/// The requests in flight that the backend told; `None` without a new answer.
fn told(backend: Backend<'_>, request: &Request<'_>) -> Option<u64> {
    let slot = backend.slot();
    let at_ns = slot.word(1).load(Relaxed);
    let is_new = at_ns > 0 && request.now_ns().abs_diff(at_ns) <= AGE_MAX_NS;
    is_new.then(|| slot.word(0).load(Relaxed))
}

/// Two different numbers below `n` by the request's random bits; the same one twice if there is only one.
fn two_of(n: u64, request: &Request<'_>) -> [u64; 2] {
    let (high, low) = (request.random() >> 32, request.random() & 0xFFFF_FFFF);
    let first = (high * n) >> 32;
    [first, (first + 1 + ((low * (n - 1)) >> 32)) % n]
}

// === impl LeastLoadedProbed ===

impl Strategy for LeastLoadedProbed {
    const NAME: &'static str = "least_loaded_probed";
    const EXPECTATION: &'static str = r#"{"balance":"by_load"}"#;
    const PROBES: bool = true;
    const RESPONSE_HEADERS: &'static [&'static str] = &["x-in-flight"];
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
        let [first, _] = two_of(n, request);
        // Of equal ones, the first behind a random place.
        let candidates = (0..).zip(backends.candidates(request));
        let ordered = candidates.map(|(place, (index, backend))| ((place + n - first) % n, index, backend));
        let least = ordered.min_by_key(|(order, _, backend)| match told(*backend, request) {
            Some(told) => (0, told, *order),
            None => (1, u64::from(backend.in_flight()), *order),
        });
        least.map_or(Pick::NoBackend, |(_, index, _)| Pick::Backend(index))
    }

    /// Two random backends of those that may get requests.
    fn probes(&self, _: &(), backends: &Backends<'_>, request: &Request<'_>, _picked: usize, probes: &mut Probes<'_>) {
        let eligible = backends.eligible();
        let [first, second] = two_of(eligible.len() as u64, request).map(|number| eligible[number as usize] as usize);
        probes.add(first);
        if second != first {
            probes.add(second);
        }
    }

    /// A backend that does not respond has no answer: others are picked before it.
    fn on_probe(&self, probe: &Probe<'_>) {
        let Some(slot) = probe.slot() else { return };
        let text = probe.response_header(0).and_then(|text| str::from_utf8(text).ok());
        let told = text.and_then(|text| text.parse().ok()).filter(|_| probe.outcome() == Outcome::Ok);
        slot.word(0).store(told.unwrap_or_default(), Relaxed);
        slot.word(1).store(told.map_or(0, |_| probe.now_ns()), Relaxed);
    }

    /// The answer of each backend.
    fn explain(&self, _: &(), backends: &Backends<'_>, request: &Request<'_>) -> String {
        let entry = |backend: Backend<'_>| match told(backend, request) {
            None => format!(r#"{{"backend":"{}"}}"#, backend.name()),
            Some(told) => format!(r#"{{"backend":"{}","in_flight":{told}}}"#, backend.name()),
        };
        format!(r#"{{"probed":[{}]}}"#, backends.iter().map(entry).collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use lb_strategy::abi::LbStrategyTable;
    use lb_strategy_conformance::{Requests, World, properties, strategy};
    use serde_json::json;

    use super::*;

    static TABLE: LbStrategyTable = lb_strategy::ffi::hooks::table::<LeastLoadedProbed>("0", "test");

    /// How many of 10,000 picks each backend gets.
    fn counts(world: &World) -> Vec<usize> {
        let picker = world.picker(&strategy(&TABLE, &json!({})).unwrap()).unwrap();
        let mut requests = Requests::seeded(51);
        let mut counts = vec![0; world.len()];
        (0..10_000).for_each(|_| counts[requests.ask().pick_backend(&picker).unwrap()] += 1);
        counts
    }

    #[test]
    fn has_the_properties_of_every_strategy() {
        properties::check_all(&TABLE, &json!({})).unwrap();
    }

    #[test]
    fn without_answers_the_fewest_requests_in_flight_decide() {
        let world = World::of(3);
        world.set_load(0, 1);
        let counts = counts(&world);
        assert_eq!(counts[0], 0);
        // Places behind the loaded one are as likely as the others, so the one behind it gets two of three.
        assert!(counts[1].abs_diff(6_667) < 200, "{counts:?}");
    }

    #[test]
    fn an_answer_from_before_the_clock_was_set_back_does_not_count() {
        let world = World::of(2);
        world.set_load(0, 1);
        let picker = world.picker(&strategy(&TABLE, &json!({})).unwrap()).unwrap();
        let pick = |at_ns: u64| {
            world.list().specs()[0].slot.words()[1].store(at_ns, Relaxed);
            Requests::seeded(52).ask().at(5_000_000_000).pick_backend(&picker)
        };
        assert_eq!(pick(5_000_000_001), Ok(0));
        assert_eq!(pick(6_000_000_001), Ok(1));
    }
}
