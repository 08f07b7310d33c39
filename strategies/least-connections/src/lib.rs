//! Least connections: the backend with the fewest requests in flight for its weight.
//!
//! Idea: a slow backend keeps its requests longer, so it has more in flight and gets fewer new ones; nothing has to be measured.
//! Source: the oldest load-aware rule of all (LVS "least-connection", 1998), here over all backends, which for a few dozen is cheaper than
//! sampling two and exact.
//!
//! Cost: one pass over the list, one relaxed load of a cache line per backend; no allocation, no lock.
//!
//! Invariants: among candidates the chosen one has the least in_flight / weight (compared crosswise, so without division or rounding).
//! Ties are drawn by the request's random bits, as weights say: taking the first of equals would send an idle pool's every request
//! to backend 0. The draw is reservoir sampling, because a second pass could read other loads than the first.
//!
//! Beware of a backend that fails fast: it has the fewest in flight and attracts everything. Passive health checks are the remedy.

use std::cmp::Ordering;

use lb_strategy::{Backends, Error, Host, NoOptions, Pick, Request, Strategy};

pub struct LeastConnections;

/// A backend that may be chosen, with its load as read once.
struct Candidate {
    index: usize,
    in_flight: u64,
    weight: u64,
}

/// A small generator for the few draws of one pick, seeded with the request's random bits.
struct Draws(u64);

lb_strategy::export!(LeastConnections);

// === impl LeastConnections ===

impl Strategy for LeastConnections {
    const NAME: &'static str = "least_connections";
    const EXPECTATION: &'static str = r#"{"balance":"by_load","weights":true}"#;
    type Config = NoOptions;
    type Picker = ();

    fn new(_: NoOptions, _: Host) -> Result<Self, Error> {
        Ok(Self)
    }

    fn picker(&self, _: &Backends<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn pick(&self, _: &(), backends: &Backends<'_>, request: &Request<'_>) -> Pick {
        let mut draws = Draws(request.random());
        let mut lightest: Option<Candidate> = None;
        let mut tied_weight = 0;
        for (index, backend) in backends.candidates(request) {
            let in_flight = u64::from(backend.in_flight());
            let weight = u64::from(backend.effective_weight().max(1));
            let this = Candidate { index, in_flight, weight };
            match lightest.as_ref().map_or(Ordering::Less, |best| this.compare_load(best)) {
                Ordering::Greater => {}
                Ordering::Equal => {
                    // It takes the place with probability weight / sum: in the end each of the tied has had its fair chance.
                    tied_weight += weight;
                    if draws.below(tied_weight) < weight {
                        lightest = Some(this);
                    }
                }
                Ordering::Less => {
                    tied_weight = weight;
                    lightest = Some(this);
                }
            }
        }
        lightest.map_or(Pick::NoBackend, |best| Pick::Backend(best.index))
    }
}

// === impl Candidate ===

impl Candidate {
    fn compare_load(&self, other: &Self) -> Ordering {
        (self.in_flight * other.weight).cmp(&(other.in_flight * self.weight))
    }
}

// === impl Draws ===

impl Draws {
    /// A number in `0..bound`, about equally likely. A linear congruential step (Knuth's MMIX constants) whose high bits count.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((u128::from(self.0) * u128::from(bound)) >> 64) as u64
    }
}
