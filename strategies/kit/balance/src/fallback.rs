//! The host's own pick, if a strategy fails or makes no pick.
//!
//! Why built in: if a plugin fails, the request proceeds. Invariant: returns an eligible, untried backend if there is
//! one, as the caller defines them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use serde::{Deserialize, Serialize};

use crate::Backend;

/// The host's own pick when a strategy fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fallback {
    LeastConnections,
    RoundRobin,
}

/// The index of the picked backend, one of those that `may_serve`; `None` if there is none. `random` spreads ties, and
/// `cursor` is the next turn of `RoundRobin`.
pub fn pick(
    fallback: Fallback,
    backends: &[Arc<Backend>],
    may_serve: impl Fn(usize) -> bool,
    random: u64,
    cursor: &AtomicUsize,
) -> Option<usize> {
    let n = backends.len();
    if n == 0 {
        return None;
    }
    match fallback {
        Fallback::RoundRobin => {
            let start = cursor.fetch_add(1, Relaxed);
            (0..n).map(|step| start.wrapping_add(step) % n).find(|index| may_serve(*index))
        }
        // A random start spreads ties over all backends with the minimum.
        Fallback::LeastConnections => {
            let start = (random % n as u64) as usize;
            let candidates = (0..n).map(|step| (start + step) % n).filter(|index| may_serve(*index));
            candidates.min_by_key(|index| backends[*index].in_flight())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Eligibility;

    fn pool(loads: &[(bool, u32)]) -> Vec<Arc<Backend>> {
        loads
            .iter()
            .enumerate()
            .map(|(index, (healthy, load))| {
                let eligibility = Eligibility::of(*healthy, false, 1);
                let socket = "127.0.0.1:1".parse().unwrap();
                let backend = Backend::new(&format!("b{index}"), "127.0.0.1:1", socket, Arc::default(), eligibility);
                (0..*load).for_each(|_| backend.attempt_begins());
                backend
            })
            .collect()
    }

    #[test]
    fn least_connections_takes_a_minimum_of_the_usable_and_spreads_ties() {
        let backends = pool(&[(true, 2), (false, 0), (true, 1), (true, 1)]);
        let mut seen = [0; 4];
        for random in 0..400 {
            let index = pick(
                Fallback::LeastConnections,
                &backends,
                |i| backends[i].is_eligible(),
                random,
                &AtomicUsize::new(0),
            )
            .unwrap();
            seen[index] += 1;
        }
        assert_eq!((seen[0], seen[1]), (0, 0));
        assert!(seen[2] >= 100 && seen[3] >= 100, "{seen:?}");
    }

    #[test]
    fn round_robin_takes_turns_among_the_usable() {
        let backends = pool(&[(true, 9), (true, 0), (false, 0)]);
        let cursor = AtomicUsize::new(0);
        let may_serve = |index: usize| backends[index].is_eligible();
        let picks: Vec<_> =
            (0..5).map(|_| pick(Fallback::RoundRobin, &backends, may_serve, 0, &cursor).unwrap()).collect();
        assert_eq!(picks, [0, 1, 0, 0, 1], "b2 is down, its turn goes to the next");
    }

    #[test]
    fn without_a_usable_backend_there_is_no_pick() {
        for fallback in [Fallback::LeastConnections, Fallback::RoundRobin] {
            assert_eq!(pick(fallback, &[], |_| true, 7, &AtomicUsize::new(0)), None);
            assert_eq!(pick(fallback, &pool(&[(true, 0), (false, 0)]), |_| false, 7, &AtomicUsize::new(0)), None);
        }
    }
}
