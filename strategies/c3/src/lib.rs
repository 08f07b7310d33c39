//! C3: ranks backends by their response times and by the cube of their queues.
//!
//! Idea: the best backend is not always the one with the shortest queue, because others may serve faster. But a queue
//! of twice the length must weigh more than twice: other balancers add to it, too, and its estimate is old. So C3 ranks
//! by
//!
//! ```text
//! R − s + q³ · s       q = 1 + clients · in flight + queue
//! ```
//!
//! `R` is the average time to the response, and `s` the average service time. `clients` is the number of balancers, and
//! `queue` the length that the backend reports. The least rank is picked. Source: L. Suresh, M. Canini, S. Schmid and
//! A. Feldmann, "C3: Cutting Tail Latency in Cloud Data Stores via Adaptive Replica Selection", NSDI 2015, section 3.1.
//!
//! Where the numbers come from: `R` is measured. If the backend reports its service time and its queue in load reports,
//! the options name those metrics. Otherwise `s` is estimated: the time of a request that found `k` others, divided by
//! `k + 1`. And `queue` is 0, because the requests of this balancer are in flight already.
//!
//! What is left out: the rate control of section 3.2, which limits requests to a backend. In lb the limits
//! `requests_in_flight_per_backend` and the queue of the pool do that.
//!
//! What is added:
//! - Queues are divided by weights, relative to the mean weight.
//! - A failure counts as three times the average time. Averages decay without requests (see [`Average`]).
//! - A backend without a time gets one request, and the next one after its response.
//!
//! Cost: one pass over at most 64 candidates, no lock. Words 0 to 3 of a slot are the two averages and their times.
//!
//! Invariants: of equal ranks each is drawn by weight. A pick changes nothing; the requests that it found in flight are
//! its token.

use lb_strategy::{Backend, Backends, Error, Finish, Host, Pick, Request, StateSchema, Strategy};
use lb_strategy_loads::{Average, Draws, Kind, Memory, Sample, Tau, UNKNOWN, explained, least};
use serde::Deserialize;

/// A load report may have this many metrics of its own.
const METRICS: usize = 4;
/// An older report says nothing about now.
const REPORT_MAX_NS: u64 = 10_000_000_000;
const FAILURE_FACTOR: f64 = 3.0;

pub struct C3 {
    memory: Memory,
    clients: f64,
    queue_metric: Option<usize>,
    service_metric: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// The number of balancers that send requests to these backends, each about as many as this one.
    clients: u32,
    /// The time constant of the averages, in milliseconds.
    tau_ms: u32,
    /// The place in `strategy.load_reports.metrics` of the length of the queue.
    queue_metric: Option<usize>,
    /// The same of the service time in seconds.
    service_metric: Option<usize>,
}

/// The mean effective weight, so that queues are compared in units of an average backend.
pub struct MeanWeight(f64);

/// The numbers of one candidate.
struct Rank {
    response_ns: f64,
    service_ns: f64,
    queue: f64,
    score: f64,
}

lb_strategy::export!(C3);

// === impl C3 ===

impl C3 {
    fn rank(&self, mean: &MeanWeight, backend: Backend<'_>, now_ns: u64) -> Rank {
        let metric = |place: Option<usize>| {
            let place = place?;
            let report = backend.report().filter(|report| now_ns.saturating_sub(report.at_ns) <= REPORT_MAX_NS)?;
            Some(report.metrics[place])
        };
        let at = |word: usize| Average::of(backend.slot(), word).at(now_ns, self.memory.tau);
        let (response_ns, in_flight) = (at(0), f64::from(backend.in_flight()));
        // A backend that does not report the metric has a 0 there.
        let reported = metric(self.service_metric).filter(|seconds| *seconds > 0.0);
        let service_ns = reported.map_or_else(|| at(2), |seconds| seconds * 1e9);
        let waiting = self.clients * in_flight + metric(self.queue_metric).unwrap_or_default();
        let queue = 1.0 + waiting * mean.0 / f64::from(backend.effective_weight().max(1));
        let score = if response_ns == 0.0 && in_flight > 0.0 {
            UNKNOWN + in_flight
        } else {
            response_ns - service_ns + queue * queue * queue * service_ns
        };
        Rank { response_ns, service_ns, queue, score }
    }

    fn choose(&self, mean: &MeanWeight, backends: &Backends<'_>, request: &Request<'_>) -> Option<usize> {
        let now_ns = request.now_ns();
        least(backends, request, &mut Draws::of(request), |backend| self.rank(mean, backend, now_ns).score)
    }
}

impl Strategy for C3 {
    const NAME: &'static str = "c3";
    const WANTS_FINISH: bool = true;
    const STATE: Option<StateSchema> = Some(StateSchema { schema: "c3", version: 1 });
    const EXPECTATION: &'static str = r#"{"balance":"by_latency","weights":true}"#;
    const EXPLAINS: bool = true;
    type Config = Options;
    type Picker = MeanWeight;

    fn new(Options { clients, tau_ms, queue_metric, service_metric }: Options, _: Host) -> Result<Self, Error> {
        if clients == 0 || tau_ms == 0 {
            return Err("clients and tau_ms must be at least 1".into());
        }
        if [queue_metric, service_metric].into_iter().flatten().any(|place| place >= METRICS) {
            return Err(format!("a metric is a place in strategy.load_reports.metrics: 0 to {}", METRICS - 1).into());
        }
        let memory = Memory { tau: Tau::of_ms(tau_ms), failure_factor: FAILURE_FACTOR, kind: Kind::Plain };
        Ok(Self { memory, clients: f64::from(clients), queue_metric, service_metric })
    }

    fn picker(&self, backends: &Backends<'_>) -> Result<MeanWeight, Error> {
        let weights = backends.iter().filter(|backend| backend.is_eligible()).map(|backend| backend.effective_weight());
        let sum: f64 = weights.map(f64::from).sum();
        Ok(MeanWeight(sum / backends.eligible().len().max(1) as f64))
    }

    fn pick(&self, mean: &MeanWeight, backends: &Backends<'_>, request: &Request<'_>) -> Pick {
        let Some(index) = self.choose(mean, backends, request) else { return Pick::NoBackend };
        let found = backends.get(index).map_or(0, |backend| backend.in_flight());
        Pick::BackendWithToken(index, u64::from(found))
    }

    fn on_finish(&self, finish: &Finish<'_>) {
        let Some(slot) = finish.slot() else { return };
        let sample = Sample::of(finish);
        Average::of(slot, 0).record(sample, finish.now_ns(), &self.memory);
        if let Sample::Took(ns) = sample
            && finish.is_own()
        {
            Average::of(slot, 2).add(ns / (finish.token() as f64 + 1.0), finish.now_ns(), self.memory.tau);
        }
    }

    /// The numbers of the formula for each candidate.
    fn explain(&self, mean: &MeanWeight, backends: &Backends<'_>, request: &Request<'_>) -> String {
        explained(self.choose(mean, backends, request), backends, request, |backend| {
            let Rank { response_ns, service_ns, queue, score } = self.rank(mean, backend, request.now_ns());
            [("response_ms", response_ns / 1e6), ("service_ms", service_ns / 1e6), ("queue", queue), ("score", score)]
        })
    }
}

// === impl Options ===

impl Default for Options {
    fn default() -> Self {
        Self { clients: 1, tau_ms: 10_000, queue_metric: None, service_metric: None }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use lb_strategy::abi::LbStrategyTable;
    use lb_strategy_conformance::scorecard::{self, Check, Verdict};
    use lb_strategy_conformance::{ClosedLoop, Requests, World, json, properties, steadiness, strategy};

    use super::*;

    static TABLE: LbStrategyTable = lb_strategy::ffi::hooks::table::<C3>("0", "test");

    #[test]
    fn has_the_properties_of_every_strategy() {
        properties::check_all(&TABLE, &json!({})).unwrap();
        properties::check_all(&TABLE, &json!({ "clients": 9, "queue_metric": 0, "service_metric": 3 })).unwrap();
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

    /// With the metrics of a report, the rank is the formula of the paper.
    #[test]
    fn reported_queues_and_service_times_decide() {
        let options = json!({ "queue_metric": 1, "service_metric": 0, "clients": 2 });
        let instance = strategy(&TABLE, &options).unwrap();
        let world = World::of(2);
        let report = |index: usize, service_s: f64, queue: f64| {
            let stats = world.list().specs()[index].stats.clone();
            stats.metric[0].store(service_s.to_bits(), Relaxed);
            stats.metric[1].store(queue.to_bits(), Relaxed);
            stats.report_at_ns.store(1, Relaxed);
        };
        let picker = world.picker(&instance).unwrap();
        let mut requests = Requests::seeded(83);
        // 20 ms · (1 + 2)³ = 540 against 4 ms · (1 + 4)³ = 500, minus one service time of each.
        report(0, 0.020, 2.0);
        report(1, 0.004, 4.0);
        assert!((0..100).all(|_| requests.ask().pick_backend(&picker) == Ok(1)));
        // 4 ms · 6³ = 864.
        report(1, 0.004, 5.0);
        assert!((0..100).all(|_| requests.ask().pick_backend(&picker) == Ok(0)));
        // The report is 11 s old, so both are unknown and idle.
        let picked: Vec<_> = (0..100).map(|n| requests.ask().at(11_000_000_000 + n).pick_backend(&picker)).collect();
        assert!(picked.contains(&Ok(0)) && picked.contains(&Ok(1)));
    }

    /// In a report without the metric it is 0.
    #[test]
    fn without_a_reported_service_time_the_estimate_counts() {
        let instance = strategy(&TABLE, &json!({ "service_metric": 0 })).unwrap();
        let world = World::of(2);
        for (index, service_ns) in [40e6_f64, 10e6].into_iter().enumerate() {
            world.set_report(index, Some(0.5));
            world.set_load(index, 1);
            let words = world.list().specs()[index].slot.clone();
            [50e6_f64, 1.0, service_ns, 1.0].into_iter().enumerate().for_each(|(word, value)| {
                let bits = if word % 2 == 0 { value.to_bits() } else { value as u64 };
                words.words()[word].store(bits, Relaxed);
            });
        }
        let picker = world.picker(&instance).unwrap();
        let mut requests = Requests::seeded(85);
        assert!((0..100).all(|_| requests.ask().pick_backend(&picker) == Ok(1)));
    }

    #[test]
    fn a_slow_backend_gets_few_requests() {
        let instance = strategy(&TABLE, &json!({})).unwrap();
        let mut pool = ClosedLoop::new(&instance, World::of(3), 84).unwrap().clients(9).service_ms(&[20, 20, 400]);
        pool.run(1_000).unwrap();
        let counts = pool.run(5_000).unwrap();
        assert!(counts[2] < 500, "{counts:?}");
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
            json!({ "clients": 0 }),
            json!({ "tau_ms": 0 }),
            json!({ "queue_metric": 4 }),
            json!({ "service_metric": -1 }),
            json!({ "rate": 1 }),
        ] {
            assert!(strategy(&TABLE, &wrong).is_err(), "{wrong}");
        }
    }
}
