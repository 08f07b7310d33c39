//! Weighted rendezvous hashing: each backend has a score for each key, and the lowest score wins.
//!
//! With `u` drawn evenly from (0, 1) by a hash of key and backend, the score is `-ln(u) / weight`. That is an
//! exponential variable with the rate `weight`, so a backend has the lowest one with the probability weight / sum of
//! weights. A score depends on no other backend. So if a backend leaves, only its keys move; if one comes, keys move
//! only to it. Sources: Thaler and Ravishankar, "A Name-Based Mapping Scheme for Rendezvous", 1996 (without weights);
//! Schindelhauer and Schomaker, "Weighted Distributed Hash Tables", SPAA 2005 (the logarithm).
//!
//! The logarithm is the one of the crate libm. The machine's own one may differ in the last digit, and two machines
//! would then disagree about a few keys.

use lb_strategy::{Backends, Request};

use crate::mix::{mix, unit};

/// The score of the backend `id` for a key; the lowest wins. `weight` is above 0.
#[inline]
pub fn score(hash: u64, id: u64, weight: u32) -> f64 {
    -libm::log(unit(mix(hash, id))) / f64::from(weight)
}

/// The candidate with the lowest score for `hash`; of equal ones the one with the lower id. It looks at every
/// candidate. A candidate's weight is the configured one, so that no key moves in a slow start.
pub fn elect(hash: u64, backends: &Backends<'_>, request: &Request<'_>) -> Option<usize> {
    let scored = backends
        .candidates(request)
        .map(|(index, backend)| (score(hash, backend.id(), backend.weight().max(1)), backend.id(), index));
    let best = scored.min_by(|one, two| one.0.total_cmp(&two.0).then(one.1.cmp(&two.1)));
    best.map(|(_, _, index)| index)
}

#[cfg(test)]
mod tests {
    use lb_strategy_conformance::statistics::{chi_square_p, counts};

    use super::*;

    #[test]
    fn shares_follow_the_weights() {
        let weights = [1, 2, 3, 4, 200];
        let mut random = fastrand::Rng::with_seed(5);
        let ids: Vec<u64> = weights.iter().map(|_| random.u64(..)).collect();
        let won = counts(
            weights.len(),
            (0..20_000).map(|_| {
                let hash = random.u64(..);
                let scores = ids.iter().zip(weights).map(|(id, weight)| score(hash, *id, weight));
                let best = scores.enumerate().min_by(|one, two| one.1.total_cmp(&two.1));
                best.expect("backends").0
            }),
        );
        let p = chi_square_p(&won, &weights.map(f64::from));
        assert!(p > 0.001, "{won:?}: p {p}");
    }

    #[test]
    fn equal_weights_rank_as_the_hashes_do() {
        let mut random = fastrand::Rng::with_seed(6);
        for _ in 0..1000 {
            let (hash, one, two) = (random.u64(..), random.u64(..), random.u64(..));
            assert_eq!(score(hash, one, 3) < score(hash, two, 3), mix(hash, one) > mix(hash, two));
        }
    }
}
