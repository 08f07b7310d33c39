//! Fastest half: most requests go to the half of the backends with the shorter latency.
//!
//! Why it exists: it shows ticks and metrics. A tick asks for a new picker once a second, because latencies change
//! while the list of backends stays. Two metrics say how many backends are in the half, and how many pickers were made.
//! `fastest_half.c` is the same in C, with the same picks.
//!
//! Invariants: a backend without a measured latency belongs to the half, so that it gets measured. One request in 16
//! may go to any backend. Otherwise a backend that was slow once would never get a request again.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use lb_strategy::{Backends, Error, Host, Metrics, NoOptions, Pick, Request, Strategy, Tick};

/// One request in this many may go to any backend. A power of two.
const EXPLORES_ONE_IN: u64 = 16;

#[derive(Default)]
pub struct FastestHalf {
    /// Backends in the half of the newest picker.
    fast: AtomicU64,
    pickers: AtomicU64,
}

lb_strategy::export!(FastestHalf);

// === impl FastestHalf ===

impl Strategy for FastestHalf {
    const NAME: &'static str = "fastest_half";
    const TICK_MS: u32 = 1_000;
    const METRICS: bool = true;
    type Config = NoOptions;
    /// The indexes of the half, ascending.
    type Picker = Vec<u32>;

    fn new(_: NoOptions, _: Host) -> Result<Self, Error> {
        Ok(Self::default())
    }

    fn picker(&self, backends: &Backends<'_>) -> Result<Vec<u32>, Error> {
        let (mut fast, mut measured) = (Vec::new(), Vec::new());
        for &index in backends.eligible() {
            match backends.get(index as usize).and_then(|backend| backend.ewma_latency_ns()) {
                Some(latency_ns) => measured.push((latency_ns, index)),
                None => fast.push(index),
            }
        }
        measured.sort_unstable();
        let half = measured.len().div_ceil(2);
        fast.extend(measured[..half].iter().map(|(_, index)| *index));
        fast.sort_unstable();
        self.fast.store(fast.len() as u64, Relaxed);
        self.pickers.fetch_add(1, Relaxed);
        Ok(fast)
    }

    fn pick(&self, fast: &Vec<u32>, backends: &Backends<'_>, request: &Request<'_>) -> Pick {
        let (random, tried) = (request.random(), request.tried());
        let draw = (random >> 32) as u32;
        let may_serve = |index: &&u32| !tried.contains(index);
        let n = if tried.is_empty() { fast.len() } else { fast.iter().filter(may_serve).count() };
        if n == 0 || random.is_multiple_of(EXPLORES_ONE_IN) {
            return backends.draw(request, draw).map_or(Pick::NoBackend, |(index, _)| Pick::Backend(index));
        }
        let nth = ((u64::from(draw) * n as u64) >> 32) as usize;
        let index = if tried.is_empty() { fast.get(nth) } else { fast.iter().filter(may_serve).nth(nth) };
        index.map_or(Pick::Fallback, |index| Pick::Backend(*index as usize))
    }

    /// The list of backends is not an argument, so the work is done where the picker is made.
    fn tick(&self, _now_ns: u64) -> Tick {
        Tick::Rebuild
    }

    fn metrics(&self, metrics: &mut Metrics<'_>) {
        let [fast, pickers] = [&self.fast, &self.pickers].map(|count| count.load(Relaxed) as f64);
        metrics.gauge("fast_backends", "Backends that get most requests.", fast);
        metrics.counter("pickers_total", "Pickers that were made.", pickers);
    }
}

#[cfg(test)]
mod tests {
    use lb_strategy::abi::LbStrategyTable;
    use lb_strategy_conformance::statistics::counts;
    use lb_strategy_conformance::{Requests, World, properties, strategy};
    use serde_json::json;

    use super::*;

    static TABLE: LbStrategyTable = lb_strategy::ffi::hooks::table::<FastestHalf>("0", "test");

    /// Backends with these latencies; 0: not measured.
    fn world(latencies: &[u64]) -> World {
        let world = World::of(latencies.len());
        for (spec, latency) in world.list().specs().iter().zip(latencies) {
            spec.stats.ewma_latency_ns.store(*latency, Relaxed);
        }
        world
    }

    #[test]
    fn has_the_properties_of_every_strategy() {
        properties::check_all(&TABLE, &json!({})).unwrap();
    }

    #[test]
    fn the_faster_half_and_new_backends_get_the_requests_and_a_sixteenth_explores() {
        let strategy = strategy(&TABLE, &json!({})).unwrap();
        let picker = world(&[9, 2, 0, 7, 5]).picker(&strategy).unwrap();
        let mut requests = Requests::seeded(61);
        let picks = counts(5, (0..16_000).map(|_| requests.ask().pick_backend(&picker).unwrap()));
        // Of the four measured ones 1 and 4 are the faster half. 1,000 requests go to any of the five.
        for (index, share) in [(0, 200), (1, 5_200), (2, 5_200), (3, 200), (4, 5_200)] {
            let off = picks[index].abs_diff(share);
            assert!(off < 60 + share / 20, "backend {index}: {picks:?}");
        }
    }

    #[test]
    fn a_tick_asks_for_a_picker_that_follows_the_latencies_and_the_metrics_say_so() {
        let strategy = strategy(&TABLE, &json!({})).unwrap();
        let world = world(&[1, 2]);
        let mut requests = Requests::seeded(62);
        let mut busiest = || {
            let picker = world.picker(&strategy).unwrap();
            let picks = counts(2, (0..200).map(|_| requests.ask().pick_backend(&picker).unwrap()));
            usize::from(picks[1] > picks[0])
        };
        assert_eq!(busiest(), 0);
        world.list().specs()[0].stats.ewma_latency_ns.store(3, Relaxed);
        assert!(strategy.tick(1).unwrap());
        assert_eq!(busiest(), 1);
        let text = String::from_utf8(strategy.metrics().unwrap().unwrap()).unwrap();
        let values: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((&values[0]["value"], &values[1]["value"]), (&json!(1.0), &json!(2.0)));
    }
}
