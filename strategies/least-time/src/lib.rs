//! Least time: the backend with the shortest expected time, by its average time and its requests in flight.
//!
//! Idea: a request at a backend with k others takes about k + 1 times as long as one alone. So the expected time is the
//! average time, multiplied by the requests in flight and this one, and divided by the weight. The least is picked.
//! Source: `least_time` of NGINX Plus R4 (2014), "the least average response time and least number of active
//! connections". `measure` chooses between the time to the header and to the last byte, as there.
//!
//! It differs from `peak_ewma` in two points. It looks at all candidates, up to 64, and at 64 neighbours of more. And
//! its average is a plain one: it follows a change with its time constant, and forgives a single slow response. With
//! few backends and one balancer it is the more exact one. With several balancers `peak_ewma` is better, because these
//! would all send their requests to the same backend.
//!
//! - Without requests an average decays to 0, so a backend that was slow is tried again. See [`Average`].
//! - A backend without a time gets one request, and the next one after its first response.
//! - A failure counts as `failure_factor` times the average, at once. Otherwise a backend that fails fast would be the
//!   fastest.
//!
//! Cost: one pass over at most 64 candidates, no lock. Words 0 and 1 of a slot are the average and its time.
//!
//! Invariants: of equal scores each is drawn by weight. A pick changes nothing, so a dry pick shows the real one.

use lb_strategy::{Backend, Backends, Error, Finish, Host, Pick, Request, StateSchema, Strategy};
use lb_strategy_loads::{Average, Draws, Expected, Kind, Memory, Sample, Tau, UNKNOWN, explained, least};
use serde::Deserialize;

pub struct LeastTime {
    memory: Memory,
    measure: Measure,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// The time that is averaged.
    measure: Measure,
    /// The time constant of the average, in milliseconds.
    tau_ms: u32,
    /// A failure counts this many times the average, at least 1.
    failure_factor: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Measure {
    /// To the head of the response.
    #[default]
    Header,
    /// To its end. Large responses and slow clients count, too.
    LastByte,
}

lb_strategy::export!(LeastTime);

// === impl LeastTime ===

impl LeastTime {
    /// The expected time at a backend, to compare for each unit of its weight.
    #[inline]
    fn expected(&self, backend: Backend<'_>, now_ns: u64) -> Expected {
        let average = Average::of(backend.slot(), 0).at(now_ns, self.memory.tau);
        let in_flight = f64::from(backend.in_flight());
        let is_unknown = average == 0.0 && in_flight > 0.0;
        Expected::new(if is_unknown { UNKNOWN + in_flight } else { average * (in_flight + 1.0) }, backend)
    }

    fn choose(&self, backends: &Backends<'_>, request: &Request<'_>) -> Option<usize> {
        let now_ns = request.now_ns();
        least(backends, request, &mut Draws::of(request), |backend| self.expected(backend, now_ns))
    }
}

impl Strategy for LeastTime {
    const NAME: &'static str = "least_time";
    const WANTS_FINISH: bool = true;
    const STATE: Option<StateSchema> = Some(StateSchema { schema: "least_time", version: 1 });
    const EXPECTATION: &'static str = r#"{"balance":"by_latency","weights":true}"#;
    const EXPLAINS: bool = true;
    type Config = Options;
    type Picker = ();

    fn new(Options { measure, tau_ms, failure_factor }: Options, _: Host) -> Result<Self, Error> {
        if tau_ms == 0 {
            return Err("tau_ms is 0: it must be at least 1".into());
        }
        if !(1.0..=1000.0).contains(&failure_factor) {
            return Err(format!("failure_factor is {failure_factor}: it must be 1 to 1000").into());
        }
        Ok(Self { memory: Memory { tau: Tau::of_ms(tau_ms), failure_factor, kind: Kind::Plain }, measure })
    }

    fn picker(&self, _: &Backends<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn pick(&self, _: &(), backends: &Backends<'_>, request: &Request<'_>) -> Pick {
        self.choose(backends, request).map_or(Pick::NoBackend, Pick::Backend)
    }

    fn on_finish(&self, finish: &Finish<'_>) {
        let sample = match self.measure {
            Measure::Header => Sample::of(finish),
            Measure::LastByte => Sample::of_whole(finish),
        };
        if let Some(slot) = finish.slot() {
            Average::of(slot, 0).record(sample, finish.now_ns(), &self.memory);
        }
    }

    /// The average time, the requests in flight and the score of each candidate.
    fn explain(&self, _: &(), backends: &Backends<'_>, request: &Request<'_>) -> String {
        let now_ns = request.now_ns();
        explained(self.choose(backends, request), backends, request, |backend| {
            [
                ("average_ms", Average::of(backend.slot(), 0).at(now_ns, self.memory.tau) / 1e6),
                ("in_flight", f64::from(backend.in_flight())),
                ("score", self.expected(backend, now_ns).score()),
            ]
        })
    }
}

// === impl Options ===

impl Default for Options {
    fn default() -> Self {
        Self { measure: Measure::Header, tau_ms: 10_000, failure_factor: 3.0 }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use lb_strategy::abi::LbStrategyTable;
    use lb_strategy_conformance::scorecard::{self, Check, Verdict};
    use lb_strategy_conformance::{ClosedLoop, Requests, World, json, properties, steadiness, strategy};

    use super::*;

    static TABLE: LbStrategyTable = lb_strategy::ffi::hooks::table::<LeastTime>("0", "test");

    #[test]
    fn has_the_properties_of_every_strategy() {
        properties::check_all(&TABLE, &json!({})).unwrap();
        properties::check_all(&TABLE, &json!({ "measure": "last_byte", "tau_ms": 1 })).unwrap();
    }

    #[test]
    fn keeps_what_it_declares() {
        for check in [Check::Expectation, Check::Fairness, Check::Weights, Check::Determinism, Check::Explain] {
            let row = scorecard::row(check, &TABLE, &json!({}), 1);
            assert_eq!(row.verdict, Verdict::Pass, "{row:?}");
        }
    }

    #[test]
    fn no_backend_starves_and_one_that_fails_gets_one_request_in_a_hundred() {
        steadiness::check(&TABLE, &json!({}), 0.01).unwrap();
        steadiness::an_unknown_backend_gets_one_request(&TABLE, &json!({})).unwrap();
    }

    #[test]
    fn both_measures_find_the_slow_backend() {
        for measure in ["header", "last_byte"] {
            let instance = strategy(&TABLE, &json!({ "measure": measure })).unwrap();
            let mut pool = ClosedLoop::new(&instance, World::of(3), 77).unwrap().clients(6).service_ms(&[50, 50, 500]);
            pool.run(500).unwrap();
            let counts = pool.run(5_000).unwrap();
            assert!(counts[2] < 250, "{measure}: {counts:?}");
        }
    }

    #[test]
    fn in_an_idle_pool_the_measured_times_decide() {
        for measure in ["header", "last_byte"] {
            let instance = strategy(&TABLE, &json!({ "measure": measure })).unwrap();
            let mut pool = ClosedLoop::new(&instance, World::of(2), 78).unwrap().service_ms(&[10, 100]);
            pool.run(50).unwrap();
            // 100 s.
            let counts = pool.run(10_000).unwrap();
            assert!((1..100).contains(&counts[1]), "{measure}: {counts:?}, and it is tried again");
        }
    }

    /// It was out for 10 minutes. With a request in flight it gets no second one before the first response.
    #[test]
    fn a_backend_without_responses_for_long_is_as_a_new_one() {
        let instance = strategy(&TABLE, &json!({})).unwrap();
        let world = World::of(2);
        let picker = world.picker(&instance).unwrap();
        for (index, at_ns) in [(0, 600_000_000_000), (1, 1)] {
            let slot = world.list().specs()[index].slot.clone();
            for word in [0, 2] {
                slot.words()[word].store(50e6_f64.to_bits(), Relaxed);
                slot.words()[word + 1].store(at_ns, Relaxed);
            }
        }
        let mut requests = Requests::seeded(86);
        let mut pick = || requests.ask().at(600_000_000_000).pick_backend(&picker);
        assert_eq!(pick(), Ok(1), "it is tried");
        world.set_load(1, 1);
        world.set_load(0, 3);
        assert!((0..100).all(|_| pick() == Ok(0)));
    }

    #[test]
    fn wrong_options_are_refused() {
        for wrong in [
            json!({ "tau_ms": 0 }),
            json!({ "failure_factor": 0 }),
            json!({ "measure": "first_byte" }),
            json!({ "decay": 1 }),
        ] {
            assert!(strategy(&TABLE, &wrong).is_err(), "{wrong}");
        }
    }
}
