//! Zone aware: requests stay in the zone of the balancer, as far as its healthy backends suffice.
//!
//! Idea: a request that stays in its zone is faster, and often cheaper. But if many backends of the zone are down, the
//! others must not get all of its requests. So the zone keeps
//!
//! ```text
//! share = min(1, overprovisioning · healthy weight / whole weight)
//! ```
//!
//! of the requests, and the other zones get the rest. With the factor 1.4 a zone keeps all of them until fewer than 71
//! % of it are healthy. The share of the other zones is limited in the same way. If both shares together are below 1,
//! they are scaled up. Source: Envoy, "Locality weighted load balancing" and "Priority levels", with the default
//! `overprovisioning_factor` of 140 %.
//!
//! In a zone, the better of two random backends by requests in flight is picked, as `power_of_two`.
//!
//! The zone of a backend is its label `zone`, or another `label`. Without the option `zone` all backends are one zone.
//! What is left out, from Envoy's "Zone aware routing": the sizes of the zones of the balancers. So each zone should
//! have backends in proportion to its clients.
//!
//! Cost: as `power_of_two`, and one draw for the zone. Labels are read once for each list.
//!
//! Invariants: a request goes to the other zone if all backends of the drawn one were tried. Weights decide the draws
//! and the shares; a backend that is drained or has weight 0 belongs to no zone.

use lb_strategy::{Backend, Backends, Error, Host, Pick, Request, Strategy};
use lb_strategy_loads::{Draws, Load, Lots, explained};
use serde::Deserialize;

pub struct ZoneAware {
    options: Options,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// The zone of this balancer.
    zone: Option<String>,
    /// The label of a backend that names its zone.
    label: String,
    /// A zone may serve this many times its healthy part, at least 1.
    overprovisioning: f64,
}

/// The eligible backends of one list, and the share of the own zone in parts of 2^32.
pub struct Zones {
    own: Lots,
    others: Lots,
    own_share: u64,
}

/// The weights of the backends of one side.
#[derive(Clone, Copy, Debug, Default)]
struct Weights {
    healthy: f64,
    whole: f64,
}

const ONE: u64 = 1 << 32;

lb_strategy::export!(ZoneAware);

// === impl ZoneAware ===

impl ZoneAware {
    fn is_own(&self, backend: Backend<'_>) -> bool {
        self.options.zone.is_none() || backend.label(&self.options.label) == self.options.zone
    }

    /// The part of the requests that the own zone keeps.
    fn own_share(&self, own: Weights, others: Weights) -> f64 {
        let serves = |side: Weights| {
            if side.whole == 0.0 { 0.0 } else { (self.options.overprovisioning * side.healthy / side.whole).min(1.0) }
        };
        let keeps = serves(own);
        let sends = serves(others).min(1.0 - keeps);
        if keeps + sends == 0.0 { 1.0 } else { keeps / (keeps + sends) }
    }
}

impl Strategy for ZoneAware {
    const NAME: &'static str = "zone_aware";
    const EXPECTATION: &'static str = r#"{"balance":"by_load","weights":true}"#;
    const EXPLAINS: bool = true;
    type Config = Options;
    type Picker = Zones;

    fn new(options: Options, _: Host) -> Result<Self, Error> {
        if !(1.0..=100.0).contains(&options.overprovisioning) {
            return Err(format!("overprovisioning is {}: it must be 1 to 100", options.overprovisioning).into());
        }
        Ok(Self { options })
    }

    fn picker(&self, backends: &Backends<'_>) -> Result<Zones, Error> {
        let (mut weights, mut members) = ([Weights::default(); 2], [Vec::new(), Vec::new()]);
        for (index, backend) in (0..).zip(backends.iter()).filter(|(_, backend)| !backend.is_draining()) {
            let side = usize::from(!self.is_own(backend));
            weights[side].whole += f64::from(backend.weight());
            if backend.is_eligible() {
                weights[side].healthy += f64::from(backend.weight());
                members[side].push((index, backend.effective_weight().max(1)));
            }
        }
        let own_share = (self.own_share(weights[0], weights[1]) * ONE as f64) as u64;
        Ok(Zones { own: Lots::new(&members[0]), others: Lots::new(&members[1]), own_share })
    }

    fn pick(&self, zones: &Zones, backends: &Backends<'_>, request: &Request<'_>) -> Pick {
        zones.choose(backends, request).map_or(Pick::NoBackend, Pick::Backend)
    }

    /// The share of the own zone, and for each candidate whether it belongs to it.
    fn explain(&self, zones: &Zones, backends: &Backends<'_>, request: &Request<'_>) -> String {
        explained(zones.choose(backends, request), backends, request, |backend| {
            [
                ("own_zone", f64::from(u8::from(self.is_own(backend)))),
                ("own_share", zones.own_share as f64 / ONE as f64),
                ("in_flight", f64::from(backend.in_flight())),
            ]
        })
    }
}

// === impl Zones ===

impl Zones {
    #[inline]
    fn choose(&self, backends: &Backends<'_>, request: &Request<'_>) -> Option<usize> {
        let mut draws = Draws::of(request);
        let stays = self.own_share == ONE || draws.below(ONE) < self.own_share;
        let (first, second) = if stays { (&self.own, &self.others) } else { (&self.others, &self.own) };
        let mut best = |lots: &Lots| lots.best_of(2, backends, request, &mut draws, Load::of);
        best(first).or_else(|| best(second))
    }
}

// === impl Options ===

impl Default for Options {
    fn default() -> Self {
        Self { zone: None, label: "zone".to_owned(), overprovisioning: 1.4 }
    }
}

#[cfg(test)]
mod tests {
    use lb_strategy::abi::LbStrategyTable;
    use lb_strategy_conformance::scorecard::{self, Check, Verdict};
    use lb_strategy_conformance::statistics::counts;
    use lb_strategy_conformance::{Requests, World, json, properties, steadiness, strategy};

    use super::*;

    static TABLE: LbStrategyTable = lb_strategy::ffi::hooks::table::<ZoneAware>("0", "test");
    const A: &str = r#"{"zone":"a"}"#;
    const B: &str = r#"{"zone":"b"}"#;

    /// The share of the backends 0 to 4, all in zone a, in 10,000 requests. Backends 5 to 9 are in zone b.
    fn share_of_a(up: &[bool; 10], tried: &[u32]) -> f64 {
        let world = World::of(10).labels(&[A, A, A, A, A, B, B, B, B, B]).up(up);
        let picker = world.picker(&strategy(&TABLE, &json!({ "zone": "a" })).unwrap()).unwrap();
        let mut requests = Requests::seeded(89);
        let picked = counts(10, (0..10_000).map(|_| requests.ask().tried(tried).pick_backend(&picker).unwrap()));
        picked[..5].iter().sum::<u64>() as f64 / 10_000.0
    }

    /// The first backends of each zone are up.
    fn up(own: usize, others: usize) -> [bool; 10] {
        std::array::from_fn(|index| index % 5 < if index < 5 { own } else { others })
    }

    #[test]
    fn has_the_properties_of_every_strategy() {
        for options in [json!({}), json!({ "zone": "a" }), json!({ "zone": "a", "label": "rack" })] {
            properties::check_all(&TABLE, &options).unwrap();
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
    fn a_zone_keeps_its_requests_until_too_few_of_its_backends_are_healthy() {
        // 1.4 · 4/5 is above 1, 1.4 · 3/5 = 0.84, 1.4 · 1/5 = 0.28.
        for (own, others, expected) in [
            (5, 5, 1.0),
            (4, 5, 1.0),
            (3, 5, 0.84),
            (1, 5, 0.28),
            (0, 5, 0.0),
            (2, 0, 1.0),
            // 0.28 and 0.28 are scaled up.
            (1, 1, 0.5),
        ] {
            let share = share_of_a(&up(own, others), &[]);
            assert!((share - expected).abs() < 0.02, "{own} and {others} up: {share} instead of {expected}");
        }
    }

    #[test]
    fn a_retry_leaves_the_zone_only_if_all_of_it_was_tried() {
        assert_eq!(share_of_a(&up(5, 5), &[0, 3]), 1.0);
        assert_eq!(share_of_a(&up(5, 5), &[0, 1, 2, 3, 4]), 0.0);
    }

    #[test]
    fn a_side_that_is_empty_or_down_serves_nothing() {
        let zones = ZoneAware::new(Options { zone: Some("a".to_owned()), ..Options::default() }, Host::NONE).unwrap();
        let side = |healthy: f64, whole: f64| Weights { healthy, whole };
        assert_eq!(zones.own_share(side(1.0, 1.0), side(5.0, 5.0)), 1.0);
        assert_eq!(zones.own_share(side(0.0, 0.0), side(5.0, 5.0)), 0.0);
        assert_eq!(zones.own_share(side(0.0, 2.0), side(0.0, 5.0)), 1.0, "there is nothing to draw");
    }

    #[test]
    fn wrong_options_are_refused() {
        for wrong in [json!({ "zone": 1 }), json!({ "overprovisioning": 0.9 }), json!({ "region": "a" })] {
            assert!(strategy(&TABLE, &wrong).is_err(), "{wrong}");
        }
    }
}
