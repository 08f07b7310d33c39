//! Weighted by load: backends take turns, by the capacity that they report.
//!
//! Idea: a backend that serves 100 requests a second at half of its capacity can serve 200. So the weight of a backend
//! is its request rate divided by its utilisation, both from its load reports. Errors count as load, because a backend
//! that fails at once is idle:
//!
//! ```text
//! weight = qps / (utilisation + eps / qps · error_penalty)
//! ```
//!
//! Source: gRPC A58 "Client-side weighted round robin LB policy", and A114 for utilisation from named metrics. The
//! rules of A58 with its default values:
//! - The weights of all backends are computed once a second.
//! - `blackout_ms`: a backend counts only after it has reported for 10 s, because a cold one reports high numbers.
//! - `expiry_ms`: a report older than 3 minutes does not count, and a new blackout begins with the next one.
//! - A backend that does not count has the mean weight of the others. With fewer than two that count, all are equal.
//!
//! What is added: the weight of the operator and of a slow start multiplies the computed one. A computed weight is at
//! most 10 times the mean, and at least a tenth of it. So a wrong report neither starves nor floods a backend. In A114
//! `application_utilization` comes before named metrics. Here named metrics come first, because strategies get one
//! utilisation from lb.
//!
//! It needs `[strategy.load_reports]` with `enabled = true`. Without reports it is round robin by weight.
//!
//! Cost: one addition to a shared counter and one read, as round robin. A backend's word 0 is the time since which it
//! reports. Invariant: with equal weights, counts differ by at most 1 in any stretch of first attempts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use lb_strategy::{Backend, Backends, Error, Host, Pick, Request, StateSchema, Strategy, Tick};
use lb_strategy_loads::{Counter, Turns, explained};
use serde::Deserialize;

/// A load report may have this many metrics of its own.
const METRICS: usize = 4;
/// A computed weight is at most this many times the mean, and at least the mean divided by this.
const RATIO_MAX: f64 = 10.0;

pub struct WeightedByLoad {
    next: Counter,
    /// The time of the last tick. A picker has no clock of its own.
    now_ns: AtomicU64,
    options: Options,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Reports count only after this time, in milliseconds.
    blackout_ms: u64,
    /// Reports do not count after this time, in milliseconds.
    expiry_ms: u64,
    /// How much the part of failed requests counts as utilisation.
    error_penalty: f64,
    /// Places in `strategy.load_reports.metrics`. The greatest of them is the utilisation, if it is above 0.
    metrics: Vec<usize>,
}

lb_strategy::export!(WeightedByLoad);

// === impl WeightedByLoad ===

impl WeightedByLoad {
    /// The weight by the report of a backend; `None` if it does not count. `since` is its word 0.
    fn reported(&self, backend: Backend<'_>, now_ns: u64, since: &AtomicU64) -> Option<f64> {
        let Options { blackout_ms, expiry_ms, error_penalty, metrics } = &self.options;
        let report = backend.report()?;
        let greatest = metrics.iter().map(|place| report.metrics[*place]).fold(0.0, f64::max);
        let utilization = if greatest > 0.0 { greatest } else { report.utilization };
        let weight = report.qps / (utilization + report.eps / report.qps * error_penalty);
        if now_ns.saturating_sub(report.at_ns) >= expiry_ms * 1_000_000 {
            since.store(0, Relaxed);
            return None;
        }
        // Without a rate or a utilisation there is nothing to divide.
        if report.qps <= 0.0 || utilization <= 0.0 || !weight.is_normal() {
            return None;
        }
        // A time ahead of the clock is from before the clock was set back, because slots may outlive the process.
        if since.load(Relaxed) == 0 || since.load(Relaxed) > now_ns {
            since.store(report.at_ns.max(1), Relaxed);
        }
        let reports_for_ns = now_ns.saturating_sub(since.load(Relaxed));
        (reports_for_ns >= blackout_ms * 1_000_000).then_some(weight)
    }

    /// The eligible backends with their weights, in units of the mean.
    fn weights(&self, backends: &Backends<'_>) -> Vec<(u32, f64)> {
        let now_ns = self.now_ns.load(Relaxed);
        let eligible = || backends.eligible().iter().filter_map(|&index| Some((index, backends.get(index as usize)?)));
        let reported: Vec<_> = eligible().map(|(_, one)| self.reported(one, now_ns, one.slot().word(0))).collect();
        let known: Vec<f64> = reported.iter().copied().flatten().collect();
        // Divided before the sum, so that one very large report does not make the sum infinite.
        let mean: f64 = known.iter().map(|weight| weight / known.len() as f64).sum();
        let weight = |own: Option<f64>| match own {
            Some(weight) if known.len() >= 2 => (weight / mean).clamp(1.0 / RATIO_MAX, RATIO_MAX),
            _ => 1.0,
        };
        let share = |backend: Backend<'_>| f64::from(backend.effective_weight().max(1));
        eligible().zip(reported).map(|((index, backend), own)| (index, weight(own) * share(backend))).collect()
    }
}

impl Strategy for WeightedByLoad {
    const NAME: &'static str = "weighted_by_load";
    const STATE: Option<StateSchema> = Some(StateSchema { schema: "weighted_by_load", version: 1 });
    const EXPECTATION: &'static str = r#"{"balance":"exact","weights":true}"#;
    const TICK_MS: u32 = 1_000;
    const EXPLAINS: bool = true;
    type Config = Options;
    type Picker = Turns;

    fn new(options: Options, _: Host) -> Result<Self, Error> {
        if options.metrics.iter().any(|place| *place >= METRICS) {
            return Err(format!("metrics are places in strategy.load_reports.metrics: 0 to {}", METRICS - 1).into());
        }
        if !(0.0..=1e6).contains(&options.error_penalty) {
            return Err(format!("error_penalty is {}: it must be 0 to 1000000", options.error_penalty).into());
        }
        if [options.blackout_ms, options.expiry_ms].into_iter().any(|ms| ms > u64::from(u32::MAX)) {
            return Err(format!("blackout_ms and expiry_ms must be at most {}", u32::MAX).into());
        }
        Ok(Self { next: Counter::default(), now_ns: AtomicU64::new(0), options })
    }

    fn picker(&self, backends: &Backends<'_>) -> Result<Turns, Error> {
        Ok(Turns::new(&self.weights(backends)))
    }

    fn pick(&self, turns: &Turns, _: &Backends<'_>, request: &Request<'_>) -> Pick {
        turns.turn(self.next.next(request), request).map_or(Pick::NoBackend, Pick::Backend)
    }

    fn tick(&self, now_ns: u64) -> Tick {
        self.now_ns.store(now_ns, Relaxed);
        Tick::Rebuild
    }

    fn export(&self) -> Vec<u8> {
        self.next.get().to_le_bytes().to_vec()
    }

    fn import(&self, version: u32, bytes: &[u8]) -> Result<(), Error> {
        match (version, bytes.try_into()) {
            (1, Ok(bytes)) => self.next.set(u64::from_le_bytes(bytes)),
            (1, Err(_)) => return Err(format!("its counter has 8 bytes, not {}", bytes.len()).into()),
            _ => return Err(format!("it knows version 1 of its counter, not {version}").into()),
        }
        Ok(())
    }

    /// The weight of each candidate by its report, in requests a second; 0 if it does not count.
    fn explain(&self, turns: &Turns, backends: &Backends<'_>, request: &Request<'_>) -> String {
        let now_ns = self.now_ns.load(Relaxed);
        explained(turns.turn(self.next.next(request), request), backends, request, |backend| {
            // A copy of the word, because an explanation changes nothing.
            let since = AtomicU64::new(backend.slot().word(0).load(Relaxed));
            [
                ("capacity", self.reported(backend, now_ns, &since).unwrap_or_default()),
                ("weight", f64::from(backend.effective_weight()) / 1e3),
            ]
        })
    }
}

// === impl Options ===

impl Default for Options {
    fn default() -> Self {
        Self { blackout_ms: 10_000, expiry_ms: 180_000, error_penalty: 1.0, metrics: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lb_strategy::abi::LbStrategyTable;
    use lb_strategy_conformance::scorecard::{self, Check, Verdict};
    use lb_strategy_conformance::statistics::counts;
    use lb_strategy_conformance::{Requests, Value, World, json, properties, steadiness, strategy};

    use super::*;

    static TABLE: LbStrategyTable = lb_strategy::ffi::hooks::table::<WeightedByLoad>("0", "test");
    const SECOND: u64 = 1_000_000_000;

    /// A report: its time, utilisation, requests and errors a second.
    fn report(world: &World, index: usize, at_s: u64, [utilization, qps, eps]: [f64; 3]) {
        let stats = world.list().specs()[index].stats.clone();
        stats.utilization.store(utilization.to_bits(), Relaxed);
        stats.qps.store(qps.to_bits(), Relaxed);
        stats.eps.store(eps.to_bits(), Relaxed);
        stats.metric[2].store((utilization / 2.0).to_bits(), Relaxed);
        stats.report_at_ns.store(at_s * SECOND, Relaxed);
    }

    fn instance(options: &Value) -> Arc<lb_strategy_conformance::Strategy> {
        strategy(&TABLE, options).unwrap()
    }

    /// The shares of 1,600 picks with the picker that the tick at this second asks for.
    fn shares(world: &World, instance: &Arc<lb_strategy_conformance::Strategy>, at_s: u64) -> Vec<f64> {
        assert!(instance.tick(at_s * SECOND).unwrap(), "it asks for a picker");
        let picker = world.picker(instance).unwrap();
        let mut requests = Requests::seeded(85);
        let counts = counts(world.len(), (0..1600).map(|_| requests.ask().pick_backend(&picker).unwrap()));
        counts.into_iter().map(|count| count as f64 / 1600.0).collect()
    }

    #[track_caller]
    fn assert_near(shares: &[f64], expected: &[f64]) {
        assert!(shares.iter().zip(expected).all(|(one, other)| (one - other).abs() < 0.02), "{shares:?}");
    }

    #[test]
    fn has_the_properties_of_every_strategy() {
        properties::check_all(&TABLE, &json!({})).unwrap();
        properties::check_all(&TABLE, &json!({ "blackout_ms": 0, "metrics": [0, 3] })).unwrap();
    }

    #[test]
    fn keeps_what_it_declares() {
        for check in [Check::Expectation, Check::Fairness, Check::Weights, Check::Explain, Check::Threads] {
            let row = scorecard::row(check, &TABLE, &json!({}), 1);
            assert_eq!(row.verdict, Verdict::Pass, "{row:?}");
        }
    }

    #[test]
    fn no_backend_starves_and_one_that_fails_keeps_its_fifth() {
        steadiness::check(&TABLE, &json!({}), 0.21).unwrap();
    }

    #[test]
    fn turns_follow_the_reported_capacities_after_the_blackout() {
        let (world, instance) = (World::of(3), instance(&json!({})));
        // 200, 400 and 600 requests a second at full use.
        [[0.5, 100.0, 0.0], [0.25, 100.0, 0.0], [0.5, 300.0, 0.0]].into_iter().enumerate().for_each(
            |(index, numbers)| {
                report(&world, index, 100, numbers);
            },
        );
        assert_near(&shares(&world, &instance, 101), &[1.0 / 3.0; 3]);
        assert_near(&shares(&world, &instance, 110), &[1.0 / 6.0, 2.0 / 6.0, 3.0 / 6.0]);
    }

    #[test]
    fn old_reports_expire_and_a_new_blackout_begins() {
        let (world, instance) = (World::of(2), instance(&json!({})));
        let both = |at_s: u64| {
            report(&world, 0, at_s, [0.5, 100.0, 0.0]);
            report(&world, 1, at_s, [0.5, 300.0, 0.0]);
        };
        both(100);
        shares(&world, &instance, 100);
        assert_near(&shares(&world, &instance, 279), &[0.25, 0.75]);
        assert_near(&shares(&world, &instance, 280), &[0.5, 0.5]);
        both(290);
        assert_near(&shares(&world, &instance, 290), &[0.5, 0.5]);
        assert_near(&shares(&world, &instance, 300), &[0.25, 0.75]);
    }

    #[test]
    fn a_backend_that_does_not_count_has_the_mean_weight() {
        let (world, instance) = (World::of(3), instance(&json!({ "blackout_ms": 0 })));
        report(&world, 0, 100, [0.5, 50.0, 0.0]);
        assert_near(&shares(&world, &instance, 101), &[1.0 / 3.0; 3]);
        report(&world, 1, 100, [0.5, 150.0, 0.0]);
        assert_near(&shares(&world, &instance, 101), &[1.0 / 6.0, 3.0 / 6.0, 2.0 / 6.0]);
        report(&world, 2, 100, [0.5, 0.0, 0.0]);
        assert_near(&shares(&world, &instance, 101), &[1.0 / 6.0, 3.0 / 6.0, 2.0 / 6.0]);
    }

    #[test]
    fn errors_count_as_load_and_no_report_starves_or_floods() {
        let (world, instance) = (World::of(2), instance(&json!({ "blackout_ms": 0 })));
        report(&world, 0, 100, [0.5, 100.0, 0.0]);
        // 100 / (0.5 + 1) instead of 100 / 0.5.
        report(&world, 1, 100, [0.5, 100.0, 100.0]);
        assert_near(&shares(&world, &instance, 101), &[0.75, 0.25]);
        report(&world, 1, 100, [1e-9, 1e6, 0.0]);
        // At least a tenth of the mean, so 0.1 of 2.1; in whole turns 2 of 32.
        let share = shares(&world, &instance, 101)[0];
        assert!((0.045..0.065).contains(&share), "{share}");
    }

    #[test]
    fn the_largest_numbers_of_a_report_leave_every_backend_its_turns() {
        let (world, instance) = (World::of(3), instance(&json!({ "blackout_ms": 0 })));
        (0..3).for_each(|index| report(&world, index, 100, [1.0, 100.0, 0.0]));
        report(&world, 1, 100, [1.0, 1e308, 0.0]);
        assert_near(&shares(&world, &instance, 101), &[0.1 / 3.2, 3.0 / 3.2, 0.1 / 3.2]);
        (0..3).for_each(|index| report(&world, index, 100, [1.0, f64::MAX, 0.0]));
        assert_near(&shares(&world, &instance, 101), &[1.0 / 3.0; 3]);
    }

    #[test]
    fn after_the_clock_was_set_back_a_new_blackout_begins() {
        let (world, instance) = (World::of(2), instance(&json!({})));
        let both = |at_s: u64| {
            report(&world, 0, at_s, [0.5, 100.0, 0.0]);
            report(&world, 1, at_s, [0.5, 300.0, 0.0]);
        };
        both(1000);
        shares(&world, &instance, 1000);
        both(100);
        assert_near(&shares(&world, &instance, 100), &[0.5, 0.5]);
        both(110);
        assert_near(&shares(&world, &instance, 110), &[0.25, 0.75]);
    }

    #[test]
    fn weights_of_the_operator_multiply_and_named_metrics_come_first() {
        let world = World::of(2).weights(&[3, 1]);
        report(&world, 0, 100, [0.5, 100.0, 0.0]);
        report(&world, 1, 100, [0.5, 100.0, 0.0]);
        assert_near(&shares(&world, &instance(&json!({ "blackout_ms": 0 })), 101), &[0.75, 0.25]);
        let stats = world.list().specs()[1].stats.clone();
        stats.metric[2].store(0.75_f64.to_bits(), Relaxed);
        assert_near(&shares(&world, &instance(&json!({ "blackout_ms": 0, "metrics": [2] })), 101), &[0.9, 0.1]);
    }

    #[test]
    fn wrong_options_are_refused() {
        for wrong in [
            json!({ "metrics": [4] }),
            json!({ "error_penalty": -1 }),
            json!({ "expiry_ms": 1_u64 << 40 }),
            json!({ "update_ms": 100 }),
        ] {
            assert!(strategy(&TABLE, &wrong).is_err(), "{wrong}");
        }
    }
}
