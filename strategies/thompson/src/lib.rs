//! Thompson: guesses the time and the success of each backend from what is known, and takes the best guess.
//!
//! Idea: a backend that looks bad after two requests may be good. A strategy that always takes the best average never
//! finds out, and one that tries at random tries too often. Thompson sampling does neither. For each backend it draws
//! a possible value from the probabilities that the data leave open, and takes the best one. Much data give nearly the
//! same value each time; little data give very different ones, so such a backend is sometimes tried. Source: W. R.
//! Thompson, "On the Likelihood that One Unknown Probability Exceeds Another in View of the Evidence of Two Samples",
//! 1933. For rates and times see D. Russo et al., "A Tutorial on Thompson Sampling", 2018, sections 3 and 6.
//!
//! What is drawn, for each backend:
//! - the probability of a success: Beta(1 + successes, 1 + failures);
//! - the mean time: the times are taken for exponential, so their rate is Gamma(1 + successes, prior + sum of times).
//!   The prior is the typical time of the pool.
//!
//! The score is the expected time until a success: time / probability, multiplied by the requests in flight and this
//! one, and divided by the weight. The bandit problem has no requests in flight, but the time at a backend grows with
//! them. Without this factor one backend would get all requests between two responses.
//!
//! Forgetting: backends change, so old data must count less. Counts decay with a time constant (`forget_ms`), and at
//! most `samples` are kept. So a backend without requests becomes unknown again, and a change is noticed after about
//! `samples` requests.
//!
//! Cost: three draws for each of up to 8 candidates. Of more backends, 8 are drawn by weight. Words 0 to 3 of a slot
//! are the successes, the failures, the sum of times, and the time of the last change.
//!
//! Invariants: all draws come from the request's random bits, so a dry pick shows the real one. Failures have no time.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use lb_strategy::{Backend, Backends, Error, Finish, Host, Pick, Request, Slot, StateSchema, Strategy};
use lb_strategy_loads::{Draws, Lots, Sample, Tau, beta, explained, gamma, window};
use serde::Deserialize;

/// Candidates that are compared.
const COMPARED: usize = 8;
/// The typical time before the first response.
const FIRST_TYPICAL_NS: f64 = 1e7;
/// One in so many responses moves the typical time, by this part.
const MOVES_ONE_IN: u64 = 16;
const MOVES_BY: f64 = 1.0 / 16.0;

pub struct Thompson {
    /// The average time of the pool, as bits of an f64. It changes seldom, so that workers can share its cache line.
    typical_ns: AtomicU64,
    forgets: Tau,
    samples: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// The time constant of forgetting, in milliseconds.
    forget_ms: u32,
    /// The most results that count, at least 2. Fewer are forgotten faster.
    samples: u32,
}

/// What is known of one backend, with what was forgotten up to now.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Known {
    successes: f64,
    failures: f64,
    sum_ns: f64,
}

lb_strategy::export!(Thompson);

// === impl Thompson ===

impl Thompson {
    /// A possible time until a success, for each unit of the weight.
    fn guess(&self, backend: Backend<'_>, now_ns: u64, draws: &mut Draws) -> f64 {
        let known = Known::at(backend.slot(), now_ns, self.forgets);
        let probability = beta(1.0 + known.successes, 1.0 + known.failures, draws);
        let time_ns = (self.typical_ns() + known.sum_ns) / gamma(1.0 + known.successes, draws);
        let waiting = f64::from(backend.in_flight()) + 1.0;
        time_ns / probability * waiting / f64::from(backend.effective_weight().max(1))
    }

    fn choose(&self, lots: &Lots, backends: &Backends<'_>, request: &Request<'_>) -> Option<usize> {
        let (now_ns, mut draws) = (request.now_ns(), Draws::of(request));
        let mut guesses = Draws::seeded(draws.bits());
        if lots.len() <= COMPARED {
            let candidates = window(backends, request, COMPARED, &mut draws);
            let guessed = candidates.map(|(index, backend)| (index, self.guess(backend, now_ns, &mut guesses)));
            return guessed.min_by(|one, other| one.1.total_cmp(&other.1)).map(|(index, _)| index);
        }
        let drawn = (0..COMPARED).filter_map(|_| lots.draw(backends, request, &mut draws));
        let guessed = drawn.filter_map(|index| Some((index, self.guess(backends.get(index)?, now_ns, &mut guesses))));
        guessed.min_by(|one, other| one.1.total_cmp(&other.1)).map(|(index, _)| index)
    }

    fn typical_ns(&self) -> f64 {
        f64::from_bits(self.typical_ns.load(Relaxed))
    }
}

impl Strategy for Thompson {
    const NAME: &'static str = "thompson";
    const WANTS_FINISH: bool = true;
    const STATE: Option<StateSchema> = Some(StateSchema { schema: "thompson", version: 1 });
    const EXPECTATION: &'static str = r#"{"balance":"by_latency","weights":true}"#;
    const EXPLAINS: bool = true;
    type Config = Options;
    type Picker = Lots;

    fn new(Options { forget_ms, samples }: Options, _: Host) -> Result<Self, Error> {
        if forget_ms == 0 {
            return Err("forget_ms is 0: it must be at least 1".into());
        }
        if !(2..=1_000_000).contains(&samples) {
            return Err(format!("samples is {samples}: it must be 2 to 1000000").into());
        }
        let typical_ns = AtomicU64::new(FIRST_TYPICAL_NS.to_bits());
        Ok(Self { typical_ns, forgets: Tau::of_ms(forget_ms), samples: f64::from(samples) })
    }

    fn picker(&self, backends: &Backends<'_>) -> Result<Lots, Error> {
        Ok(Lots::of_eligible(backends))
    }

    fn pick(&self, lots: &Lots, backends: &Backends<'_>, request: &Request<'_>) -> Pick {
        self.choose(lots, backends, request).map_or(Pick::NoBackend, Pick::Backend)
    }

    fn on_finish(&self, finish: &Finish<'_>) {
        let (Some(slot), now_ns) = (finish.slot(), finish.now_ns()) else { return };
        let mut known = Known::at(slot, now_ns, self.forgets);
        match Sample::of(finish) {
            Sample::Took(ns) => {
                known.successes += 1.0;
                known.sum_ns += ns;
                let typical_ns = self.typical_ns();
                if (now_ns >> 10).is_multiple_of(MOVES_ONE_IN) || typical_ns == FIRST_TYPICAL_NS {
                    let moved = typical_ns + (ns - typical_ns) * MOVES_BY;
                    self.typical_ns.store(moved.max(1.0).to_bits(), Relaxed);
                }
            }
            Sample::Failed(_) => known.failures += 1.0,
            Sample::NotYet(_) | Sample::Nothing => return,
        }
        known.limited(self.samples).store(slot, now_ns);
    }

    fn export(&self) -> Vec<u8> {
        self.typical_ns.load(Relaxed).to_le_bytes().to_vec()
    }

    fn import(&self, version: u32, bytes: &[u8]) -> Result<(), Error> {
        let typical_ns = match (version, bytes.try_into()) {
            (1, Ok(bytes)) => f64::from_le_bytes(bytes),
            _ => return Err("it knows one number of 8 bytes, in version 1".into()),
        };
        if !typical_ns.is_normal() || typical_ns < 1.0 {
            return Err(format!("the typical time is {typical_ns} ns: it must be at least 1").into());
        }
        self.typical_ns.store(typical_ns.to_bits(), Relaxed);
        Ok(())
    }

    /// What is known of each candidate. The guesses of a request follow from these numbers and its random bits.
    fn explain(&self, lots: &Lots, backends: &Backends<'_>, request: &Request<'_>) -> String {
        explained(self.choose(lots, backends, request), backends, request, |backend| {
            let known = Known::at(backend.slot(), request.now_ns(), self.forgets);
            [
                ("successes", known.successes),
                ("failures", known.failures),
                ("mean_ms", known.sum_ns / known.successes / 1e6),
                ("in_flight", f64::from(backend.in_flight())),
            ]
        })
    }
}

// === impl Known ===

impl Known {
    fn at(slot: Slot<'_>, now_ns: u64, forgets: Tau) -> Self {
        let word = |index: usize| f64::from_bits(slot.word(index).load(Relaxed));
        let left = forgets.left(slot.word(3).load(Relaxed), now_ns);
        Self { successes: word(0) * left, failures: word(1) * left, sum_ns: word(2) * left }
    }

    /// No more than `samples` results: all count less in the same proportion.
    fn limited(self, samples: f64) -> Self {
        let left = (samples / (self.successes + self.failures)).min(1.0);
        Self { successes: self.successes * left, failures: self.failures * left, sum_ns: self.sum_ns * left }
    }

    /// Two workers may do this at the same time. Then a result of one is lost, or a sum of one stands beside a count of
    /// the other. The next decays make such an error small.
    fn store(self, slot: Slot<'_>, now_ns: u64) {
        for (index, value) in [self.successes, self.failures, self.sum_ns].into_iter().enumerate() {
            slot.word(index).store(value.to_bits(), Relaxed);
        }
        slot.word(3).store(now_ns, Relaxed);
    }
}

// === impl Options ===

impl Default for Options {
    fn default() -> Self {
        Self { forget_ms: 10_000, samples: 30 }
    }
}

#[cfg(test)]
mod tests {
    use lb_strategy::abi::LbStrategyTable;
    use lb_strategy_conformance::scorecard::{self, Check, Verdict};
    use lb_strategy_conformance::{ClosedLoop, World, json, properties, steadiness, strategy};

    use super::*;

    static TABLE: LbStrategyTable = lb_strategy::ffi::hooks::table::<Thompson>("0", "test");

    #[test]
    fn has_the_properties_of_every_strategy() {
        properties::check_all(&TABLE, &json!({})).unwrap();
        properties::check_all(&TABLE, &json!({ "forget_ms": 1, "samples": 2 })).unwrap();
    }

    #[test]
    fn keeps_what_it_declares() {
        for check in [Check::Expectation, Check::Fairness, Check::Weights, Check::Determinism, Check::Explain] {
            let row = scorecard::row(check, &TABLE, &json!({}), 1);
            assert_eq!(row.verdict, Verdict::Pass, "{row:?}");
        }
    }

    #[test]
    fn no_backend_starves_and_one_that_fails_gets_three_requests_in_a_hundred() {
        steadiness::check(&TABLE, &json!({}), 0.03).unwrap();
    }

    #[test]
    fn a_large_pool_spares_its_slow_backend() {
        let instance = strategy(&TABLE, &json!({})).unwrap();
        let mut service_ms = [50; 30];
        service_ms[11] = 500;
        let mut pool = ClosedLoop::new(&instance, World::of(30), 86).unwrap().clients(60).service_ms(&service_ms);
        pool.run(3_000).unwrap();
        let counts = pool.run(40_000).unwrap();
        assert!((1..300).contains(&counts[11]), "{counts:?}: an even share is 1,333, and it is tried sometimes");
    }

    #[test]
    fn with_fewer_samples_a_change_is_noticed_sooner() {
        let requests_until_noticed = |samples: u32| {
            let instance = strategy(&TABLE, &json!({ "samples": samples })).unwrap();
            let mut pool = ClosedLoop::new(&instance, World::of(4), 87).unwrap().clients(8);
            pool.run(4_000).unwrap();
            pool.set_failing(&[false, false, true, false]);
            pool.run(2_000).unwrap()[2]
        };
        let (few, many) = (requests_until_noticed(10), requests_until_noticed(500));
        assert!(few * 3 < many, "{few} failures with 10 samples, {many} with 500");
    }

    #[test]
    fn after_the_clock_was_set_back_a_backend_is_unknown() {
        let world = World::of(1);
        let list = world.list();
        let known = Known { successes: 5.0, failures: 1.0, sum_ns: 1e9 };
        let backends = list.lend();
        let slot = backends.get(0).unwrap().slot();
        known.store(slot, 1_000_000_000_000);
        assert_eq!(Known::at(slot, 950_000_000_000, Tau::of_ms(10_000)), known);
        let unknown = Known { successes: 0.0, failures: 0.0, sum_ns: 0.0 };
        assert_eq!(Known::at(slot, 900_000_000_000, Tau::of_ms(10_000)), unknown);
    }

    #[test]
    fn the_typical_time_is_handed_over() {
        let old = strategy(&TABLE, &json!({})).unwrap();
        ClosedLoop::new(&old, World::of(3), 88).unwrap().run(500).unwrap();
        let exported = old.export_state().unwrap().unwrap();
        let typical_ms = f64::from_le_bytes((*exported).try_into().unwrap()) / 1e6;
        assert!((35.0..65.0).contains(&typical_ms), "{typical_ms} ms");
        let new = strategy(&TABLE, &json!({})).unwrap();
        new.import_state(1, &exported).unwrap();
        assert_eq!(new.export_state().unwrap().unwrap(), exported);
        for wrong in [0.0, -1.0, f64::NAN] {
            assert!(new.import_state(1, &wrong.to_le_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn wrong_options_are_refused() {
        for wrong in [json!({ "forget_ms": 0 }), json!({ "samples": 1 }), json!({ "prior": 1 })] {
            assert!(strategy(&TABLE, &wrong).is_err(), "{wrong}");
        }
    }
}
