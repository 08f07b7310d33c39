//! Own zone: prefer the backends of one zone, and use the others only if none of these is eligible.
//!
//! Idea: a request that stays in its zone is faster, and often cheaper. The zone of a backend is its label `zone`, and
//! the zone to prefer is the option `zone`. Among the backends of a zone the pick is random.
//!
//! Why it exists: as a strategy that reads labels. `own_zone.c` is the same in C, with the same picks.
//!
//! Invariants: labels are read once for each list, not in a pick. The draw comes from the request's random bits, so the
//! same seed gives the same picks. Weights are not used. There is no EXPECTATION, because the shares depend on labels.

use lb_strategy::{Backends, Error, Host, Pick, Request, Strategy};
use serde::Deserialize;

pub struct OwnZone {
    zone: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The zone to prefer.
    zone: String,
}

/// The indexes of the eligible backends of one list.
pub struct Zones {
    near: Vec<u32>,
    far: Vec<u32>,
}

lb_strategy::export!(OwnZone);

// === impl OwnZone ===

impl Strategy for OwnZone {
    const NAME: &'static str = "own_zone";
    type Config = Options;
    type Picker = Zones;

    fn new(Options { zone }: Options, _: Host) -> Result<Self, Error> {
        Ok(Self { zone })
    }

    fn picker(&self, backends: &Backends<'_>) -> Result<Zones, Error> {
        let zone = |index: &u32| backends.get(*index as usize).and_then(|backend| backend.label("zone"));
        let (near, far) = backends.eligible().iter().partition(|index| zone(index).as_ref() == Some(&self.zone));
        Ok(Zones { near, far })
    }

    fn pick(&self, zones: &Zones, _: &Backends<'_>, request: &Request<'_>) -> Pick {
        let drawn = draw(&zones.near, request).or_else(|| draw(&zones.far, request));
        drawn.map_or(Pick::NoBackend, |index| Pick::Backend(index as usize))
    }
}

/// One of `indexes` at random. If it was tried before, the next one that was not.
fn draw(indexes: &[u32], request: &Request<'_>) -> Option<u32> {
    let drawn = (u128::from(request.random()) * indexes.len() as u128) >> 64;
    let (before, from) = indexes.split_at(drawn as usize);
    from.iter().chain(before).copied().find(|index| !request.tried().contains(index))
}

#[cfg(test)]
mod tests {
    use lb_strategy::abi::LbStrategyTable;
    use lb_strategy_conformance::{Decision, Requests, World, properties, strategy};
    use serde_json::{Value, json};

    use super::*;

    static TABLE: LbStrategyTable = lb_strategy::ffi::hooks::table::<OwnZone>("0", "test");

    fn options() -> Value {
        json!({ "zone": "a" })
    }

    /// The backends that 1,000 picks find.
    fn picked(world: &World, tried: &[u32]) -> Vec<usize> {
        let picker = world.picker(&strategy(&TABLE, &options()).unwrap()).unwrap();
        let mut requests = Requests::seeded(61);
        let mut found: Vec<usize> =
            (0..1000).map(|_| requests.ask().tried(tried).pick_backend(&picker).unwrap()).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    #[test]
    fn has_the_properties_of_every_strategy() {
        properties::check_all(&TABLE, &options()).unwrap();
    }

    #[test]
    fn other_zones_serve_only_while_no_backend_of_the_zone_can() {
        let world = World::of(4).labels(&[r#"{"zone":"a"}"#, r#"{"zone":"b"}"#, "", r#"{"n":1,"zone":"a"}"#]);
        assert_eq!(picked(&world, &[]), [0, 3]);
        assert_eq!(picked(&world, &[3]), [0], "a retry stays in the zone");
        assert_eq!(picked(&world, &[3, 0]), [1, 2]);
        assert_eq!(picked(&world.clone().up(&[false, true, true, true]), &[]), [3]);
        assert_eq!(picked(&world.up(&[false, true, true, false]), &[]), [1, 2]);
    }

    #[test]
    fn without_an_eligible_backend_there_is_no_pick() {
        let world = World::of(2).up(&[false, false]);
        let picker = world.picker(&strategy(&TABLE, &options()).unwrap()).unwrap();
        assert_eq!(Requests::seeded(62).ask().pick(&picker), Decision::NoBackend);
    }

    #[test]
    fn the_zone_must_be_given() {
        for wrong in [json!({}), json!({ "zone": 1 }), json!({ "zone": "a", "region": "b" })] {
            assert!(strategy(&TABLE, &wrong).is_err(), "{wrong}");
        }
    }
}
