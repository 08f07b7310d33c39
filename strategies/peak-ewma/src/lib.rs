//! Peak EWMA: of two random backends, the one with the shorter expected time, by an average that follows peaks at once.
//!
//! Idea: the expected time at a backend is its average time to a response, multiplied by the requests in flight and
//! this one. The average is exponentially weighted and sensitive to peaks. A worse time replaces the average at once,
//! so one slow response is enough to avoid a backend. Better times move it with a time constant of 10 s. Source:
//! Finagle, `PeakEwma.scala`; measured by Linkerd in "Beyond Round Robin: Load Balancing for Latency", 2016.
//!
//! What else holds, as in Finagle:
//! - Without requests an average decays to 0, so a backend that was slow is tried again. See [`Average`].
//! - A backend without a time gets one request. Until its first response it is avoided, so that it is not flooded.
//!
//! What is added: a failure counts as `failure_factor` times the average. In Finagle another part of the client ejects
//! backends that fail. Without it, a backend that fails at once has the best times and gets most of the requests.
//!
//! Cost: two draws, two averages, no lock. Words 0 and 1 of a slot are the average and its time. They survive a swap.
//!
//! Invariants: both backends are drawn by weight, and scores are divided by the weight. Of equal scores the first draw
//! is taken. A pick changes nothing, so a dry pick shows the real one.

use lb_strategy::{Backend, Backends, Error, Finish, Host, Pick, Request, StateSchema, Strategy};
use lb_strategy_loads::{Average, Draws, Expected, Kind, Lots, Memory, Sample, Tau, UNKNOWN, explained};
use serde::Deserialize;

/// With more choices `least_time` is the better strategy.
const CHOICES_MAX: u32 = 16;

pub struct PeakEwma {
    memory: Memory,
    choices: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// The time constant of the decay, in milliseconds.
    tau_ms: u32,
    /// A failure counts this many times the average, at least 1.
    failure_factor: f64,
    /// The number of draws, 2 to 16.
    choices: u32,
}

lb_strategy::export!(PeakEwma);

// === impl PeakEwma ===

impl PeakEwma {
    /// The expected time at a backend, to compare for each unit of its weight.
    #[inline]
    fn expected(&self, backend: Backend<'_>, now_ns: u64) -> Expected {
        let average = Average::of(backend.slot(), 0).at(now_ns, self.memory.tau);
        let in_flight = f64::from(backend.in_flight());
        let is_unknown = average == 0.0 && in_flight > 0.0;
        Expected::new(if is_unknown { UNKNOWN + in_flight } else { average * (in_flight + 1.0) }, backend)
    }

    #[inline]
    fn choose(&self, lots: &Lots, backends: &Backends<'_>, request: &Request<'_>) -> Option<usize> {
        let now_ns = request.now_ns();
        lots.best_of(self.choices, backends, request, &mut Draws::of(request), |backend| self.expected(backend, now_ns))
    }
}

impl Strategy for PeakEwma {
    const NAME: &'static str = "peak_ewma";
    const WANTS_FINISH: bool = true;
    const STATE: Option<StateSchema> = Some(StateSchema { schema: "peak_ewma", version: 1 });
    const EXPECTATION: &'static str = r#"{"balance":"by_latency","weights":true}"#;
    const EXPLAINS: bool = true;
    type Config = Options;
    type Picker = Lots;

    fn new(Options { tau_ms, failure_factor, choices }: Options, _: Host) -> Result<Self, Error> {
        if tau_ms == 0 {
            return Err("tau_ms is 0: it must be at least 1".into());
        }
        if !(1.0..=1000.0).contains(&failure_factor) {
            return Err(format!("failure_factor is {failure_factor}: it must be 1 to 1000").into());
        }
        if !(2..=CHOICES_MAX).contains(&choices) {
            return Err(format!("choices is {choices}: it must be 2 to {CHOICES_MAX}").into());
        }
        Ok(Self { memory: Memory { tau: Tau::of_ms(tau_ms), failure_factor, kind: Kind::Peak }, choices })
    }

    fn picker(&self, backends: &Backends<'_>) -> Result<Lots, Error> {
        Ok(Lots::of_eligible(backends))
    }

    fn pick(&self, lots: &Lots, backends: &Backends<'_>, request: &Request<'_>) -> Pick {
        self.choose(lots, backends, request).map_or(Pick::NoBackend, Pick::Backend)
    }

    fn on_finish(&self, finish: &Finish<'_>) {
        if let Some(slot) = finish.slot() {
            Average::of(slot, 0).record(Sample::of(finish), finish.now_ns(), &self.memory);
        }
    }

    /// The average time, the requests in flight and the score of each candidate. Only `choices` were looked at.
    fn explain(&self, lots: &Lots, backends: &Backends<'_>, request: &Request<'_>) -> String {
        let now_ns = request.now_ns();
        explained(self.choose(lots, backends, request), backends, request, |backend| {
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
        Self { tau_ms: 10_000, failure_factor: 3.0, choices: 2 }
    }
}

#[cfg(test)]
mod tests {
    use lb_strategy::abi::LbStrategyTable;
    use lb_strategy_conformance::scorecard::{self, Check, Verdict};
    use lb_strategy_conformance::{ClosedLoop, World, json, properties, steadiness, strategy};

    use super::*;

    static TABLE: LbStrategyTable = lb_strategy::ffi::hooks::table::<PeakEwma>("0", "test");

    #[test]
    fn has_the_properties_of_every_strategy() {
        properties::check_all(&TABLE, &json!({})).unwrap();
        properties::check_all(&TABLE, &json!({ "tau_ms": 1, "failure_factor": 1, "choices": 5 })).unwrap();
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

    /// Check A of Linkerd's article in small: one backend of 11 answers in 2 s, the others in 167 ms.
    #[test]
    fn a_backend_that_becomes_slow_gets_nearly_no_request() {
        let instance = strategy(&TABLE, &json!({})).unwrap();
        let mut pool = ClosedLoop::new(&instance, World::of(11), 74).unwrap().clients(170).service_ms(&[167; 11]);
        pool.run(15_000).unwrap();
        let mut slow = [167; 11];
        slow[7] = 2_000;
        pool.set_service_ms(&slow);
        let counts = pool.run(15_000).unwrap();
        assert!(counts[7] < 60, "{counts:?}: round robin gives it 1,364");
    }

    #[test]
    fn a_successor_keeps_what_was_learnt() {
        let world = World::of(2);
        let old = strategy(&TABLE, &json!({})).unwrap();
        let mut pool = ClosedLoop::new(&old, world.clone(), 75).unwrap().clients(4).service_ms(&[10, 500]);
        pool.run(1_000).unwrap();
        let new = strategy(&TABLE, &json!({})).unwrap();
        let mut pool = ClosedLoop::new(&new, world, 76).unwrap().service_ms(&[10, 500]);
        assert!(pool.run(100).unwrap()[1] <= 2, "the slots say which one is slow");
    }

    #[test]
    fn wrong_options_are_refused() {
        for wrong in [
            json!({ "tau_ms": 0 }),
            json!({ "failure_factor": 0.5 }),
            json!({ "choices": 1 }),
            json!({ "choices": 17 }),
            json!({ "decay": 1 }),
        ] {
            assert!(strategy(&TABLE, &wrong).is_err(), "{wrong}");
        }
    }
}
