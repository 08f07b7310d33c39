//! Central queue: a request goes only to an idle backend. If all are busy, it waits in the pool's queue.
//!
//! Idea: with a queue at each backend, a request may wait behind a slow one while another backend is idle. With one
//! queue for all, the first request that waits gets the first backend that is free. This is the queue M/G/n, the best
//! for backends that serve one request at a time, such as a model on one graphics card.
//!
//! Why it exists: as an example of [`Pick::Wait`]. `central_queue.c` is the same in C, with the same picks.
//!
//! Invariants: a backend is idle if it has fewer than `most` requests in flight. The search begins at a random
//! backend, so an idle pool is drawn evenly. The count is read and not reserved, so workers that pick at the same time
//! may exceed `most`. Where it must never be exceeded, set `limits.requests_in_flight_per_backend` to the same number.

use lb_strategy::{Backends, Error, Host, Pick, Request, Strategy};
use serde::Deserialize;

pub struct CentralQueue {
    most: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// The most requests in flight of each backend.
    most: u32,
}

lb_strategy::export!(CentralQueue);

// === impl CentralQueue ===

impl Strategy for CentralQueue {
    const NAME: &'static str = "central_queue";
    const EXPECTATION: &'static str = r#"{"balance":"by_load"}"#;
    type Config = Options;
    type Picker = ();

    fn new(options: Options, _: Host) -> Result<Self, Error> {
        match options.most {
            0 => Err("most must be at least 1".into()),
            most => Ok(Self { most }),
        }
    }

    fn picker(&self, _: &Backends<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn pick(&self, _: &(), backends: &Backends<'_>, request: &Request<'_>) -> Pick {
        let n = backends.candidate_count(request);
        if n == 0 {
            return Pick::NoBackend;
        }
        let first = ((request.random() >> 32) * n as u64) >> 32;
        let candidates = (0..n).filter_map(|step| backends.candidate(request, (first as usize + step) % n));
        let mut idle = candidates.filter(|(_, backend)| backend.in_flight() < self.most);
        idle.next().map_or(Pick::Wait, |(index, _)| Pick::Backend(index))
    }
}

// === impl Options ===

impl Default for Options {
    fn default() -> Self {
        Self { most: 1 }
    }
}

#[cfg(test)]
mod tests {
    use lb_strategy::abi::LbStrategyTable;
    use lb_strategy_conformance::{Decision, Requests, World, properties, strategy};
    use serde_json::json;

    use super::*;

    static TABLE: LbStrategyTable = lb_strategy::ffi::hooks::table::<CentralQueue>("0", "test");

    #[test]
    fn has_the_properties_of_every_strategy() {
        properties::check_all(&TABLE, &json!({})).unwrap();
    }

    #[test]
    fn a_request_gets_an_idle_backend_or_waits() {
        for most in [1, 3] {
            let instance = strategy(&TABLE, &json!({ "most": most })).unwrap();
            let world = World::of(3).up(&[true, true, false]);
            let picker = world.picker(&instance).unwrap();
            let mut requests = Requests::seeded(61);
            world.set_load(0, most);
            world.set_load(1, most - 1);
            assert!((0..1000).all(|_| requests.ask().pick_backend(&picker) == Ok(1)), "the only idle one");
            assert_eq!(requests.ask().tried(&[1]).pick(&picker), Decision::Wait, "a retry, for the other one");
            world.set_load(1, most);
            assert_eq!(requests.ask().pick(&picker), Decision::Wait, "although the one that is down is idle");
            assert_eq!(requests.ask().tried(&[0, 1]).pick(&picker), Decision::NoBackend, "none is left");
        }
    }

    #[test]
    fn most_is_at_least_one() {
        assert!(strategy(&TABLE, &json!({ "most": 0 })).is_err());
        assert!(strategy(&TABLE, &json!({ "least": 1 })).is_err());
    }
}
