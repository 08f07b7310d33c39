//! Join idle queue: a request goes to an idle backend. Only if there is none, it goes to a busy one.
//!
//! Idea: a request at an idle backend begins at once, so an idle backend is as good as the best one. To find one, no
//! loads need to be compared. Source: Y. Lu, Q. Xie, G. Kliot, A. Geller, J. R. Larus and A. Greenberg,
//! "Join-Idle-Queue: A Novel Load Balancing Algorithm for Dynamically Scalable Web Services", 2011. There, servers that
//! become idle join a queue at one of many dispatchers. At medium to high load this has 30 times less queueing than two
//! choices.
//!
//! What differs: this strategy knows the requests in flight of its own balancer only. So it needs no messages from
//! backends, and looks at the counts instead of a queue. With one balancer that is the same. Beside other balancers, a
//! backend that looks idle may be busy.
//!
//! Without an idle backend, the paper picks at random. Here `busy` decides:
//! - `two_choices` (default): the better of two, as `power_of_two`.
//! - `random`: as in the paper.
//! - `wait`: the request waits in the pool's queue until a backend is idle.
//!
//! A backend that fails at once would always be idle. So three failures in a row make a pause (see [`Backoff`]), in
//! which it does not count as idle. With `wait` no request waits beside it. The pause may last longer than the request
//! may wait, and lb takes a wait beside an idle backend for a fault. Such a request goes to the least busy of the other
//! backends.
//!
//! Cost: mostly one draw. Else a look at up to 64 candidates. Words 0 and 1 of a slot are the failures and the pause.
//!
//! Invariants: an idle backend is drawn by weight. With up to 64 candidates, an idle one is always found. The count is
//! read and not reserved, so workers that pick at the same time may find the same idle backend.

use lb_strategy::{Backend, Backends, Error, Finish, Host, Pick, Request, StateSchema, Strategy};
use lb_strategy_loads::{Backoff, Draws, Load, Lots, Sample, explained, least};
use serde::Deserialize;

/// Draws before the look at all: enough to find an idle backend in a pool that is mostly idle.
const QUICK_DRAWS: usize = 2;

pub struct JoinIdleQueue {
    busy: Busy,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// The pick without an idle backend.
    busy: Busy,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Busy {
    #[default]
    TwoChoices,
    Random,
    Wait,
}

lb_strategy::export!(JoinIdleQueue);

#[inline]
fn is_paused(backend: Backend<'_>, now_ns: u64) -> bool {
    Backoff::of(backend.slot(), 0).is_paused(now_ns)
}

#[inline]
fn is_idle(backend: Backend<'_>, now_ns: u64) -> bool {
    backend.in_flight() == 0 && !is_paused(backend, now_ns)
}

// === impl JoinIdleQueue ===

impl JoinIdleQueue {
    fn choose(&self, lots: &Lots, backends: &Backends<'_>, request: &Request<'_>) -> Pick {
        let (now_ns, mut draws) = (request.now_ns(), Draws::of(request));
        let is_idle = |index: &usize| backends.get(*index).is_some_and(|backend| is_idle(backend, now_ns));
        let quick = (0..QUICK_DRAWS).find_map(|_| lots.draw(backends, request, &mut draws).filter(is_idle));
        let idle = quick.or_else(|| {
            least(backends, request, &mut draws, |backend| !self::is_idle(backend, now_ns)).filter(is_idle)
        });
        if let Some(index) = idle {
            return Pick::Backend(index);
        }
        let picked = match self.busy {
            Busy::TwoChoices => lots
                .best_of(2, backends, request, &mut draws, |backend| (is_paused(backend, now_ns), Load::of(backend))),
            // Of equal ones each is drawn by weight.
            Busy::Random => least(backends, request, &mut draws, |backend| is_paused(backend, now_ns)),
            Busy::Wait => {
                // One that has nothing in flight is in a pause.
                let some = least(backends, request, &mut draws, |backend| backend.in_flight() > 0);
                if some.and_then(|index| backends.get(index)).is_some_and(|backend| backend.in_flight() > 0) {
                    return Pick::Wait;
                }
                least(backends, request, &mut draws, |backend| (is_paused(backend, now_ns), Load::of(backend)))
            }
        };
        picked.map_or(Pick::NoBackend, Pick::Backend)
    }
}

impl Strategy for JoinIdleQueue {
    const NAME: &'static str = "join_idle_queue";
    const WANTS_FINISH: bool = true;
    const STATE: Option<StateSchema> = Some(StateSchema { schema: "join_idle_queue", version: 1 });
    const EXPECTATION: &'static str = r#"{"balance":"by_load","weights":true}"#;
    const EXPLAINS: bool = true;
    type Config = Options;
    type Picker = Lots;

    fn new(Options { busy }: Options, _: Host) -> Result<Self, Error> {
        Ok(Self { busy })
    }

    fn picker(&self, backends: &Backends<'_>) -> Result<Lots, Error> {
        Ok(Lots::of_eligible(backends))
    }

    fn pick(&self, lots: &Lots, backends: &Backends<'_>, request: &Request<'_>) -> Pick {
        self.choose(lots, backends, request)
    }

    fn on_finish(&self, finish: &Finish<'_>) {
        if let Some(slot) = finish.slot() {
            Backoff::of(slot, 0).record(Sample::of(finish), finish.now_ns());
        }
    }

    /// Whether each candidate is idle, and whether it is in a pause. `backend` is null for a request that waits.
    fn explain(&self, lots: &Lots, backends: &Backends<'_>, request: &Request<'_>) -> String {
        let now_ns = request.now_ns();
        let picked = match self.choose(lots, backends, request) {
            Pick::Backend(index) => Some(index),
            _ => None,
        };
        explained(picked, backends, request, |backend| {
            [
                ("in_flight", f64::from(backend.in_flight())),
                ("idle", f64::from(u8::from(is_idle(backend, now_ns)))),
                ("paused", f64::from(u8::from(is_paused(backend, now_ns)))),
            ]
        })
    }
}

#[cfg(test)]
mod tests {
    use lb_strategy::abi::LbStrategyTable;
    use lb_strategy_conformance::scorecard::{self, Check, Verdict};
    use lb_strategy_conformance::statistics::{chi_square_p, counts};
    use lb_strategy_conformance::{ClosedLoop, Decision, Requests, World, json, properties, steadiness, strategy};

    use super::*;

    static TABLE: LbStrategyTable = lb_strategy::ffi::hooks::table::<JoinIdleQueue>("0", "test");

    #[test]
    fn has_the_properties_of_every_strategy() {
        for busy in ["two_choices", "random", "wait"] {
            properties::check_all(&TABLE, &json!({ "busy": busy })).unwrap();
        }
    }

    #[test]
    fn keeps_what_it_declares() {
        for check in [Check::Expectation, Check::Fairness, Check::Weights, Check::Determinism, Check::Explain] {
            let row = scorecard::row(check, &TABLE, &json!({}), 1);
            assert_eq!(row.verdict, Verdict::Pass, "{row:?}");
        }
        let waits = scorecard::row(Check::Waits, &TABLE, &json!({ "busy": "wait" }), 1);
        assert_eq!(waits.verdict, Verdict::Pass, "{waits:?}");
    }

    #[test]
    fn no_backend_starves_and_one_that_fails_gets_one_request_in_a_hundred() {
        for busy in ["two_choices", "random", "wait"] {
            steadiness::check(&TABLE, &json!({ "busy": busy }), 0.01).unwrap_or_else(|error| panic!("{busy}: {error}"));
        }
    }

    #[test]
    fn idle_backends_are_drawn_by_weight_and_always_found() {
        let mut weights = [1; 64];
        weights[40] = 3;
        let world = World::of(64).weights(&weights);
        (0..64).for_each(|index| world.set_load(index, u32::from(![5, 40, 41].contains(&index))));
        let picker = world.picker(&strategy(&TABLE, &json!({})).unwrap()).unwrap();
        let mut requests = Requests::seeded(81);
        let picked = counts(64, (0..10_000).map(|_| requests.ask().pick_backend(&picker).unwrap()));
        let p = chi_square_p(&[picked[5], picked[40], picked[41]], &[1.0, 3.0, 1.0]);
        assert_eq!(picked.iter().sum::<u64>(), picked[5] + picked[40] + picked[41]);
        assert!(p > 0.001, "{picked:?}, p {p}");
    }

    #[test]
    fn without_an_idle_backend_the_option_decides() {
        let world = World::of(2);
        world.set_load(0, 2);
        world.set_load(1, 1);
        let mut requests = Requests::seeded(82);
        let mut decide = |busy: &str| {
            let picker = world.picker(&strategy(&TABLE, &json!({ "busy": busy })).unwrap()).unwrap();
            (0..100).map(|_| requests.ask().pick(&picker)).collect::<Vec<_>>()
        };
        assert!(decide("two_choices").iter().all(|one| *one == Decision::Backend { index: 1, token: 0 }));
        assert!(decide("random").contains(&Decision::Backend { index: 0, token: 0 }));
        assert!(decide("wait").iter().all(|one| *one == Decision::Wait));
    }

    #[test]
    fn no_request_waits_while_a_backend_is_idle_in_a_pause() {
        let world = World::of(3);
        let picker = world.picker(&strategy(&TABLE, &json!({ "busy": "wait" })).unwrap()).unwrap();
        let slot = world.list().specs()[1].slot.clone();
        slot.words()[1].store(20_000_000_000, std::sync::atomic::Ordering::Relaxed);
        let mut requests = Requests::seeded(84);
        let mut pick = || requests.ask().pick(&picker);
        world.set_load(0, 1);
        assert_eq!(pick(), Decision::Backend { index: 2, token: 0 }, "an idle one without a pause comes first");
        world.set_load(2, 2);
        assert!((0..100).all(|_| pick() == Decision::Backend { index: 0, token: 0 }), "the least busy one");
        world.set_load(1, 1);
        assert_eq!(pick(), Decision::Wait);
    }

    #[test]
    fn no_request_waits_only_because_all_backends_are_in_a_pause() {
        let instance = strategy(&TABLE, &json!({ "busy": "wait" })).unwrap();
        let mut pool = ClosedLoop::new(&instance, World::of(2), 83).unwrap();
        pool.set_failing(&[true, true]);
        assert_eq!(pool.run(200).unwrap().iter().sum::<u64>(), 200);
    }

    #[test]
    fn wrong_options_are_refused() {
        for wrong in [json!({ "busy": "least" }), json!({ "idle": true })] {
            assert!(strategy(&TABLE, &wrong).is_err(), "{wrong}");
        }
    }
}
