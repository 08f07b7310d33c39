//! Power of two: of two random backends, the one with fewer requests in flight for its weight.
//!
//! Idea: one look at a second backend removes nearly all of the unevenness of a random pick. Of n requests on n
//! backends, the busiest gets about ln ln n / ln 2 instead of ln n / ln ln n. A third look gains little. Sources: M.
//! Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 1996, section 2. Y. Azar, A. Broder, A.
//! Karlin and E. Upfal, "Balanced Allocations", 1994.
//!
//! Why not always the least of all: several balancers would all send their requests to the same backend at the same
//! time. Random pairs differ, so they do not. And the cost does not grow with the number of backends.
//!
//! Weights: both backends are drawn with probabilities in proportion to the weights (see [`Lots`]), and requests in
//! flight are compared for each unit of weight. So in an idle pool, and in a busy one, the shares follow the weights.
//!
//! Invariants: of equal loads the first draw is taken. With `choices` = 2 the draws differ if there are two backends.
//! Limit: a backend that fails at once is always the better one of its pair, so it gets up to 2 / n of the requests.
//! The outlier detection of lb ejects it.

use lb_strategy::{Backends, Error, Host, Pick, Request, Strategy};
use lb_strategy_loads::{Draws, Load, Lots, explained};
use serde::Deserialize;

/// With more choices `least_connections` is the better strategy.
const CHOICES_MAX: u32 = 16;

pub struct PowerOfTwo {
    choices: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// The number of draws, 1 to 16. With 1 it is `random`.
    choices: u32,
}

lb_strategy::export!(PowerOfTwo);

// === impl PowerOfTwo ===

impl PowerOfTwo {
    #[inline]
    fn choose(&self, lots: &Lots, backends: &Backends<'_>, request: &Request<'_>) -> Option<usize> {
        lots.best_of(self.choices, backends, request, &mut Draws::of(request), Load::of)
    }
}

impl Strategy for PowerOfTwo {
    const NAME: &'static str = "power_of_two";
    const EXPECTATION: &'static str = r#"{"balance":"by_load","weights":true}"#;
    const EXPLAINS: bool = true;
    type Config = Options;
    type Picker = Lots;

    fn new(Options { choices }: Options, _: Host) -> Result<Self, Error> {
        match choices {
            1..=CHOICES_MAX => Ok(Self { choices }),
            _ => Err(format!("choices is {choices}: it must be 1 to {CHOICES_MAX}").into()),
        }
    }

    fn picker(&self, backends: &Backends<'_>) -> Result<Lots, Error> {
        Ok(Lots::of_eligible(backends))
    }

    fn pick(&self, lots: &Lots, backends: &Backends<'_>, request: &Request<'_>) -> Pick {
        self.choose(lots, backends, request).map_or(Pick::NoBackend, Pick::Backend)
    }

    /// The load of each candidate. Only `choices` of them were looked at.
    fn explain(&self, lots: &Lots, backends: &Backends<'_>, request: &Request<'_>) -> String {
        explained(self.choose(lots, backends, request), backends, request, |backend| {
            [("in_flight", f64::from(backend.in_flight())), ("weight", f64::from(backend.effective_weight()) / 1e3)]
        })
    }
}

// === impl Options ===

impl Default for Options {
    fn default() -> Self {
        Self { choices: 2 }
    }
}

#[cfg(test)]
mod tests {
    use lb_strategy::abi::LbStrategyTable;
    use lb_strategy_conformance::scorecard::{self, Check, Verdict};
    use lb_strategy_conformance::statistics::counts;
    use lb_strategy_conformance::{Requests, World, json, properties, steadiness, strategy};

    use super::*;

    static TABLE: LbStrategyTable = lb_strategy::ffi::hooks::table::<PowerOfTwo>("0", "test");

    #[test]
    fn has_the_properties_of_every_strategy() {
        for choices in [1, 2, 3, 16] {
            properties::check_all(&TABLE, &json!({ "choices": choices })).unwrap();
        }
    }

    #[test]
    fn keeps_what_it_declares() {
        for check in [Check::Expectation, Check::Fairness, Check::Weights, Check::Explain] {
            let row = scorecard::row(check, &TABLE, &json!({}), 1);
            assert_eq!(row.verdict, Verdict::Pass, "{row:?}");
        }
    }

    #[test]
    fn no_backend_starves_and_one_that_fails_gets_at_most_two_fifths() {
        steadiness::check(&TABLE, &json!({}), 0.42).unwrap();
    }

    #[test]
    fn of_two_backends_the_lighter_one_for_its_weight_is_picked() {
        let instance = strategy(&TABLE, &json!({})).unwrap();
        let mut requests = Requests::seeded(72);
        for (weights, loads, lighter) in [([1, 1], [1, 0], 1), ([3, 1], [2, 1], 0), ([3, 1], [4, 1], 1)] {
            let world = World::of(2).weights(&weights);
            loads.into_iter().enumerate().for_each(|(index, load)| world.set_load(index, load));
            let picker = world.picker(&instance).unwrap();
            let picks = counts(2, (0..1000).map(|_| requests.ask().pick_backend(&picker).unwrap()));
            assert_eq!(picks[lighter], 1000, "{weights:?} {loads:?}");
        }
    }

    /// Each number of choices d: the busiest of n backends is picked with probability (1/n)^d, up to the first two,
    /// which differ.
    #[test]
    fn more_choices_avoid_busy_backends_more_often() {
        let world = World::of(10);
        (0..5).for_each(|index| world.set_load(index, 9));
        let mut requests = Requests::seeded(73);
        let mut busy = |choices: u32| {
            let picker = world.picker(&strategy(&TABLE, &json!({ "choices": choices })).unwrap()).unwrap();
            counts(10, (0..9_000).map(|_| requests.ask().pick_backend(&picker).unwrap()))[..5].iter().sum::<u64>()
        };
        for (choices, expected) in [(1, 4_500), (2, 2_000), (3, 1_000), (4, 500)] {
            let busy = busy(choices);
            assert!(busy.abs_diff(expected) < 200, "{choices} choices: {busy} instead of {expected}");
        }
    }

    #[test]
    fn choices_have_limits() {
        for wrong in [json!({ "choices": 0 }), json!({ "choices": 17 }), json!({ "choice": 2 })] {
            assert!(strategy(&TABLE, &wrong).is_err(), "{wrong}");
        }
    }
}
