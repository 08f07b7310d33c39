//! Random: each request goes to a random backend, with probabilities in proportion to the weights.
//!
//! Idea: the simplest strategy that needs no shared state. Any number of balancers can use it side by side, because
//! they need not agree. Its price is unevenness. With n requests on n backends, the busiest one gets about ln n / ln ln
//! n of them (Gonnet 1981). So at high load some backends have queues while others are idle. Use it as the base line of
//! a comparison, or with many balancers and low load.
//!
//! Cost: one draw from an alias table (Walker 1977, see [`Lots`]), for any number of backends.
//!
//! Invariants: picks are independent, so their counts follow the multinomial law. In a slow start the effective weight
//! counts. A retry draws from the untried backends, by weight too.

use lb_strategy::{Backends, Error, Host, NoOptions, Pick, Request, Strategy};
use lb_strategy_loads::{Draws, Lots, explained};

pub struct Random;

lb_strategy::export!(Random);

// === impl Random ===

impl Strategy for Random {
    const NAME: &'static str = "random";
    const EXPECTATION: &'static str = r#"{"balance":"multinomial","weights":true}"#;
    const EXPLAINS: bool = true;
    type Config = NoOptions;
    type Picker = Lots;

    fn new(_: NoOptions, _: Host) -> Result<Self, Error> {
        Ok(Self)
    }

    fn picker(&self, backends: &Backends<'_>) -> Result<Lots, Error> {
        Ok(Lots::of_eligible(backends))
    }

    fn pick(&self, lots: &Lots, backends: &Backends<'_>, request: &Request<'_>) -> Pick {
        let drawn = lots.draw(backends, request, &mut Draws::of(request));
        drawn.map_or(Pick::NoBackend, Pick::Backend)
    }

    /// The weight of each candidate.
    fn explain(&self, lots: &Lots, backends: &Backends<'_>, request: &Request<'_>) -> String {
        let drawn = lots.draw(backends, request, &mut Draws::of(request));
        explained(drawn, backends, request, |backend| [("weight", f64::from(backend.effective_weight()) / 1e3)])
    }
}

#[cfg(test)]
mod tests {
    use lb_strategy::abi::LbStrategyTable;
    use lb_strategy_conformance::scorecard::{self, Check, Verdict};
    use lb_strategy_conformance::statistics::{chi_square_p, counts};
    use lb_strategy_conformance::{Requests, World, json, properties, steadiness, strategy};

    use super::*;

    static TABLE: LbStrategyTable = lb_strategy::ffi::hooks::table::<Random>("0", "test");

    #[test]
    fn has_the_properties_of_every_strategy() {
        properties::check_all(&TABLE, &json!({})).unwrap();
    }

    #[test]
    fn keeps_what_it_declares() {
        for check in [Check::Expectation, Check::Fairness, Check::Weights, Check::Explain] {
            let row = scorecard::row(check, &TABLE, &json!({}), 1);
            assert_eq!(row.verdict, Verdict::Pass, "{row:?}");
        }
    }

    #[test]
    fn no_backend_starves_and_one_that_fails_keeps_its_fifth() {
        steadiness::check(&TABLE, &json!({}), 0.22).unwrap();
    }

    #[test]
    fn in_a_slow_start_a_backend_gets_its_part() {
        let world = World::of(3).weights(&[1, 2, 1]).shares(&[1000, 1000, 100]);
        let picker = world.picker(&strategy(&TABLE, &json!({})).unwrap()).unwrap();
        let mut requests = Requests::seeded(71);
        let drawn = counts(3, (0..20_000).map(|_| requests.ask().pick_backend(&picker).unwrap()));
        let p = chi_square_p(&drawn, &[10.0, 20.0, 1.0]);
        assert!(p > 0.001, "{drawn:?}, p {p}");
    }
}
