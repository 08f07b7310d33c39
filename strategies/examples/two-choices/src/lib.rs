//! Two choices: draw two backends at random and take the one with fewer requests in flight.
//!
//! Idea: two random choices are nearly as good as a look at all backends. Of N requests on N backends, the busiest gets
//! about log log N instead of about log N / log log N with one choice. Source: Mitzenmacher, "The Power of Two Choices
//! in Randomized Load Balancing", 1996.
//!
//! Why it exists: as a strategy to copy. It is one type, three functions and one line that exports it. `two_choices.c`
//! is the same in C, with the same picks.
//!
//! Invariants: both draws come from the request's random bits, so the same seed gives the same picks. If both have the
//! same load, the first draw is picked, so an idle pool is drawn evenly. Weights are not used.

use lb_strategy::{Backends, Error, Host, NoOptions, Pick, Request, Strategy};

pub struct TwoChoices;

lb_strategy::export!(TwoChoices);

// === impl TwoChoices ===

impl Strategy for TwoChoices {
    const NAME: &'static str = "two_choices";
    const EXPECTATION: &'static str = r#"{"balance":"by_load"}"#;
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
        Pick::Backend(if other.1.in_flight() < one.1.in_flight() { other.0 } else { one.0 })
    }
}

#[cfg(test)]
mod tests {
    use lb_strategy::abi::LbStrategyTable;
    use lb_strategy_conformance::{Requests, World, properties, strategy};
    use serde_json::json;

    use super::*;

    static TABLE: LbStrategyTable = lb_strategy::ffi::hooks::table::<TwoChoices>("0", "test");

    #[test]
    fn has_the_properties_of_every_strategy() {
        properties::check_all(&TABLE, &json!({})).unwrap();
    }

    #[test]
    fn of_two_backends_the_lighter_one_is_picked() {
        let world = World::of(2);
        world.set_load(0, 1);
        let picker = world.picker(&strategy(&TABLE, &json!({})).unwrap()).unwrap();
        let mut requests = Requests::seeded(51);
        assert!((0..1000).all(|_| requests.ask().pick_backend(&picker) == Ok(1)));
    }
}
