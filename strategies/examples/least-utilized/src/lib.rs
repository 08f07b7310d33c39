//! Least utilized: picks a backend by the utilisation that backends report.
//!
//! Idea: a backend knows better than its balancer how busy it is, because other clients and other balancers use it too.
//! A draw is weighted by the free part of each backend. So all balancers do not send their requests to the same one
//! between two reports.
//!
//! It needs `[strategy.load_reports]` with `enabled = true`, and backends that report. If a report is missing or older
//! than 10 s, the backend with the fewest requests in flight is picked. Random bits decide between equal ones. So each
//! backend gets requests, and can report. `least_utilized.c` is the same in C, with the same picks.
//!
//! Invariants: only the request's random bits are drawn, so the same seed and the same reports give the same picks.
//! Effective weights count in the draw and not without reports.

use lb_strategy::{Backend, Backends, Error, Host, NoOptions, Pick, Request, Strategy};

pub struct LeastUtilized;

/// An older report says nothing about now.
const AGE_MAX_NS: u64 = 10_000_000_000;
/// A full backend keeps a twentieth of its share, so that a later report can show that it has room again.
const FULL: f64 = 0.95;

lb_strategy::export!(LeastUtilized);

/// The free part of a backend by its report; `None` without a new report.
fn free_part(backend: Backend<'_>, request: &Request<'_>) -> Option<f64> {
    let report = backend.report().filter(|report| report.age_ns(request) <= AGE_MAX_NS)?;
    Some(1.0 - report.utilization.min(FULL))
}

/// The fewest requests in flight. Of equal ones, the first behind a random place.
fn least_busy(backends: &Backends<'_>, request: &Request<'_>) -> Pick {
    let n = backends.candidate_count(request) as u64;
    let first = ((request.random() >> 32) * n) >> 32;
    let order = |place: usize| (place as u64 + n - first) % n;
    let candidates = backends.candidates(request).enumerate();
    let least = candidates.min_by_key(|(place, (_, backend))| (backend.in_flight(), order(*place)));
    least.map_or(Pick::NoBackend, |(_, (index, _))| Pick::Backend(index))
}

// === impl LeastUtilized ===

impl Strategy for LeastUtilized {
    const NAME: &'static str = "least_utilized";
    const EXPECTATION: &'static str = r#"{"balance":"by_load"}"#;
    const EXPLAINS: bool = true;
    type Config = NoOptions;
    type Picker = ();

    fn new(_: NoOptions, _: Host) -> Result<Self, Error> {
        Ok(Self)
    }

    fn picker(&self, _: &Backends<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn pick(&self, _: &(), backends: &Backends<'_>, request: &Request<'_>) -> Pick {
        let share = |backend: Backend<'_>| Some(free_part(backend, request)? * f64::from(backend.effective_weight()));
        let candidates = || backends.candidates(request);
        let Some(sum) = candidates().map(|(_, backend)| share(backend)).sum::<Option<f64>>() else {
            return least_busy(backends, request);
        };
        // A draw from 53 random bits.
        let mut drawn = (request.random() >> 11) as f64 / (1_u64 << 53) as f64 * sum;
        // A report may change between the two walks; then the last candidate may get the rest.
        let mut last = Pick::NoBackend;
        for (index, backend) in candidates() {
            last = Pick::Backend(index);
            drawn -= share(backend).unwrap_or_default();
            if drawn < 0.0 {
                break;
            }
        }
        last
    }

    /// The report of each backend.
    fn explain(&self, _: &(), backends: &Backends<'_>, request: &Request<'_>) -> String {
        let entry = |backend: Backend<'_>| match backend.report() {
            None => format!(r#"{{"backend":"{}"}}"#, backend.name()),
            Some(report) => format!(
                r#"{{"backend":"{}","age_ms":{},"utilization":{:?},"qps":{:?},"eps":{:?},"metrics":{:?}}}"#,
                backend.name(),
                report.age_ns(request) / 1_000_000,
                report.utilization,
                report.qps,
                report.eps,
                report.metrics,
            ),
        };
        format!(r#"{{"reports":[{}]}}"#, backends.iter().map(entry).collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use lb_strategy::abi::LbStrategyTable;
    use lb_strategy_conformance::{Requests, World, properties, strategy};
    use serde_json::json;

    use super::*;

    static TABLE: LbStrategyTable = lb_strategy::ffi::hooks::table::<LeastUtilized>("0", "test");

    /// How many of 10,000 picks each backend gets.
    fn counts(world: &World) -> Vec<usize> {
        let picker = world.picker(&strategy(&TABLE, &json!({})).unwrap()).unwrap();
        let mut requests = Requests::seeded(51);
        let mut counts = vec![0; world.len()];
        (0..10_000).for_each(|_| counts[requests.ask().pick_backend(&picker).unwrap()] += 1);
        counts
    }

    #[test]
    fn has_the_properties_of_every_strategy() {
        properties::check_all(&TABLE, &json!({})).unwrap();
    }

    #[test]
    fn without_reports_of_all_backends_the_fewest_requests_in_flight_decide() {
        let world = World::of(2);
        world.set_load(0, 1);
        world.set_report(0, Some(0.0));
        assert_eq!(counts(&world), [0, 10_000]);
        world.set_load(1, 1);
        assert!(counts(&world).iter().all(|count| count.abs_diff(5000) < 200), "{:?}", counts(&world));
    }

    #[test]
    fn requests_are_shared_by_the_free_parts() {
        let world = World::of(3);
        for (index, utilization) in [0.25, 0.75, 3.0].into_iter().enumerate() {
            world.set_report(index, Some(utilization));
            world.set_load(index, 9 - index as u32);
        }
        // 0.75, 0.25 and 0.05 of 1.05.
        let counts = counts(&world);
        for (count, expected) in counts.iter().zip([7143, 2381, 476]) {
            assert!(count.abs_diff(expected) < 150, "{counts:?}");
        }
    }
}
