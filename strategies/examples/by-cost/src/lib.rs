//! By cost: picks the backend whose responses have cost least in the last seconds.
//!
//! Idea: requests differ. A backend that has just served three dear ones has done more than one that served ten cheap
//! ones. The response says what it cost in the header `x-cost`, a whole number. Without it the cost is the size of both
//! bodies in kilobytes.
//!
//! Why it exists: it shows the answers of backends: named response headers and bytes. `by_cost.c` is the same in C,
//! with the same picks.
//!
//! Invariants: each second halves what a backend has cost so far. A request in flight costs what a response costs on
//! average. Random bits decide between equal backends. Weights are not used.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use lb_strategy::{Backend, Backends, Error, Finish, Host, NoOptions, Pick, Request, Slot, Strategy};

pub struct ByCost {
    /// The cost of a response, in thousandths.
    average: AtomicU64,
}

const SECOND_NS: u64 = 1_000_000_000;
/// Longer numbers are no cost.
const DIGITS_MAX: usize = 9;
/// The words of a backend's slot: the costs in thousandths, and the second when they were halved last.
const COSTS: usize = 0;
const SECOND: usize = 1;
/// Clocks of workers differ by less. A time further ahead is from before the clock was set back; its costs are over.
const AHEAD_MAX_S: u64 = 60;

lb_strategy::export!(ByCost);

/// What is left of a backend's costs in this second.
fn left(slot: Slot<'_>, second: u64) -> u64 {
    let [costs, since] = [COSTS, SECOND].map(|index| slot.word(index).load(Relaxed));
    if since > second + AHEAD_MAX_S { 0 } else { costs >> second.saturating_sub(since).min(63) }
}

/// The cost that the response tells, in thousandths.
fn told(text: &[u8]) -> Option<u64> {
    let is_number = !text.is_empty() && text.len() <= DIGITS_MAX && text.iter().all(u8::is_ascii_digit);
    is_number.then(|| text.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')) * 1_000)
}

// === impl ByCost ===

impl Strategy for ByCost {
    const NAME: &'static str = "by_cost";
    const WANTS_FINISH: bool = true;
    const WANTS_ANSWER: bool = true;
    const RESPONSE_HEADERS: &'static [&'static str] = &["x-cost"];
    type Config = NoOptions;
    type Picker = ();

    fn new(_: NoOptions, _: Host) -> Result<Self, Error> {
        Ok(Self { average: AtomicU64::new(1_000) })
    }

    fn picker(&self, _: &Backends<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn pick(&self, _: &(), backends: &Backends<'_>, request: &Request<'_>) -> Pick {
        let (average, second) = (self.average.load(Relaxed), request.now_ns() / SECOND_NS);
        let cost = |backend: Backend<'_>| left(backend.slot(), second) + u64::from(backend.in_flight()) * average;
        // Of equal ones, the first behind a random place.
        let n = backends.candidate_count(request) as u64;
        let first = ((request.random() >> 32) * n) >> 32;
        let order = |place: usize| (place as u64 + n - first) % n;
        let candidates = backends.candidates(request).enumerate();
        let least = candidates.min_by_key(|(place, (_, backend))| (cost(*backend), order(*place)));
        least.map_or(Pick::NoBackend, |(_, (index, _))| Pick::Backend(index))
    }

    /// Workers may call it at the same time: then a cost may be lost.
    fn on_finish(&self, finish: &Finish<'_>) {
        let Some(slot) = finish.slot() else { return };
        let bytes = finish.bytes_in().saturating_add(finish.bytes_out());
        let cost = finish.response_header(0).and_then(told).unwrap_or(bytes).max(1);
        let second = finish.now_ns() / SECOND_NS;
        let rest = left(slot, second);
        if slot.word(SECOND).swap(second, Relaxed) != second {
            slot.word(COSTS).store(rest, Relaxed);
        }
        slot.word(COSTS).fetch_add(cost, Relaxed);
        let average = self.average.load(Relaxed);
        self.average.store((average - average / 8 + cost / 8).max(1), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use lb_strategy::abi::LbStrategyTable;
    use lb_strategy_conformance::{Requests, World, properties, strategy};
    use serde_json::json;

    use super::*;

    static TABLE: LbStrategyTable = lb_strategy::ffi::hooks::table::<ByCost>("0", "test");

    #[test]
    fn has_the_properties_of_every_strategy() {
        properties::check_all(&TABLE, &json!({})).unwrap();
    }

    #[test]
    fn a_cost_is_a_whole_number() {
        let costs = ["7", "0", "000000012", "999999999"].map(|text| told(text.as_bytes()));
        assert_eq!(costs, [Some(7_000), Some(0), Some(12_000), Some(999_999_999_000)]);
        assert_eq!(["", "-1", "1.5", "+1", "1e3", "1234567890"].map(|text| told(text.as_bytes())), [None; 6]);
    }

    #[test]
    fn the_backend_that_has_cost_less_is_picked() {
        let world = World::of(2);
        let picker = world.picker(&strategy(&TABLE, &json!({})).unwrap()).unwrap();
        let mut requests = Requests::seeded(52);
        world.list().specs()[0].slot.words()[COSTS].store(1, Relaxed);
        assert!((0..100).all(|_| requests.ask().pick_backend(&picker) == Ok(1)));
        world.set_load(1, 1);
        assert!((0..100).all(|_| requests.ask().pick_backend(&picker) == Ok(0)), "one in flight costs 1000");
        world.list().specs()[0].slot.words()[COSTS].store(5_000, Relaxed);
        world.list().specs()[0].slot.words()[SECOND].store(60, Relaxed);
        assert_eq!(requests.ask().pick_backend(&picker), Ok(1));
        world.list().specs()[0].slot.words()[SECOND].store(61, Relaxed);
        assert_eq!(requests.ask().pick_backend(&picker), Ok(0), "the clock was set back");
    }
}
