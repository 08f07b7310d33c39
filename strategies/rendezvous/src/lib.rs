//! Rendezvous hashing: each backend has a score for each key, and the key goes to the backend with the best one.
//!
//! Source: Thaler and Ravishankar, "A Name-Based Mapping Scheme for Rendezvous", University of Michigan, 1996. The
//! weights are from Schindelhauer and Schomaker, "Weighted Distributed Hash Tables", SPAA 2005, section 3.
//!
//! Idea: a hash of key and backend gives a number `u` between 0 and 1. The score is `-ln(u) / weight`, and the lowest
//! one wins. Each backend wins with the probability weight / sum of weights. With equal weights the highest `u` wins,
//! and no logarithm is needed.
//!
//! Why: it needs no table and no points, and its shares are those of independent draws. The keys of a backend that
//! leaves are spread over all others by weight, and no other key moves. Each pick looks at each eligible backend, so it
//! is for pools of up to some tens of backends.
//!
//! Invariants: a score depends on no other backend, on no order and on no health. So a backend that is down loses its
//! keys, gets them back later, and no other key moves. The order of the list has no effect.

use lb_hashing::{mix, score};
use lb_strategy::{Backends, Error, Host, NoOptions, Pick, Request, Strategy};
use serde_json::json;

pub struct Rendezvous;

/// The eligible backends of one list, in columns, so that a pick reads memory in order.
pub struct Candidates {
    ids: Box<[u64]>,
    weights: Box<[u32]>,
    /// Their indexes in the list.
    indexes: Box<[u32]>,
    has_equal_weights: bool,
}

lb_strategy::export!(Rendezvous);

// === impl Rendezvous ===

impl Strategy for Rendezvous {
    const NAME: &'static str = "rendezvous";
    const WANTS_HASH: bool = true;
    const EXPLAINS: bool = true;
    const EXPECTATION: &'static str = r#"{"balance":"multinomial","weights":true,"consistent":true}"#;
    type Config = NoOptions;
    type Picker = Candidates;

    fn new(_: NoOptions, _: Host) -> Result<Self, Error> {
        Ok(Self)
    }

    fn picker(&self, backends: &Backends<'_>) -> Result<Candidates, Error> {
        Ok(Candidates::of(backends))
    }

    fn pick(&self, candidates: &Candidates, _: &Backends<'_>, request: &Request<'_>) -> Pick {
        let Some(hash) = request.hash() else { return Pick::Fallback };
        candidates.best(hash, request).map_or(Pick::NoBackend, Pick::Backend)
    }

    fn explain(&self, candidates: &Candidates, backends: &Backends<'_>, request: &Request<'_>) -> String {
        let Some(hash) = request.hash() else {
            return json!({ "pick": "fallback", "reason": "the request has no key" }).to_string();
        };
        let name = |index: usize| backends.get(index).map_or("", |backend| backend.name());
        let mut scores: Vec<_> = candidates.untried(request).map(|at| (candidates.score(at, hash), at)).collect();
        scores.sort_by(|one, two| one.0.total_cmp(&two.0));
        let lowest = scores.iter().take(5).map(|&(score, at)| (name(candidates.indexes[at] as usize), score));
        json!({
            "backend": candidates.best(hash, request).map(name),
            "scores": lowest.collect::<Vec<_>>(),
            "candidates": scores.len(),
        })
        .to_string()
    }
}

// === impl Candidates ===

impl Candidates {
    fn of(backends: &Backends<'_>) -> Self {
        let mut eligible: Vec<(u64, u32, u32)> = Vec::new();
        for &index in backends.eligible() {
            if let Some(backend) = backends.get(index as usize) {
                eligible.push((backend.id(), backend.weight().max(1), index));
            }
        }
        // The first of equal scores wins, so their order must not depend on the order of the list.
        eligible.sort_unstable();
        Self {
            ids: eligible.iter().map(|one| one.0).collect(),
            weights: eligible.iter().map(|one| one.1).collect(),
            indexes: eligible.iter().map(|one| one.2).collect(),
            has_equal_weights: eligible.windows(2).all(|pair| pair[0].1 == pair[1].1),
        }
    }

    /// The index in the list of the backend with the best score for `hash`.
    #[inline]
    fn best(&self, hash: u64, request: &Request<'_>) -> Option<usize> {
        let best = match (request.tried().is_empty(), self.has_equal_weights) {
            (true, true) => highest(self.ids.iter().map(|id| mix(hash, *id)).enumerate()),
            (false, true) => highest(self.untried(request).map(|at| (at, mix(hash, self.ids[at])))),
            (true, false) => lowest((0..self.ids.len()).map(|at| (at, self.score(at, hash)))),
            (false, false) => lowest(self.untried(request).map(|at| (at, self.score(at, hash)))),
        };
        best.map(|at| self.indexes[at] as usize)
    }

    #[inline]
    fn score(&self, at: usize, hash: u64) -> f64 {
        score(hash, self.ids[at], self.weights[at])
    }

    fn untried(&self, request: &Request<'_>) -> impl Iterator<Item = usize> {
        (0..self.ids.len()).filter(move |at| !request.is_tried(self.indexes[*at] as usize))
    }
}

/// The place of the highest hash, the first of equal ones.
#[inline]
fn highest(mut hashes: impl Iterator<Item = (usize, u64)>) -> Option<usize> {
    let first = hashes.next()?;
    Some(hashes.fold(first, |best, next| if next.1 > best.1 { next } else { best }).0)
}

/// The place of the lowest score, the first of equal ones.
#[inline]
fn lowest(mut scores: impl Iterator<Item = (usize, f64)>) -> Option<usize> {
    let first = scores.next()?;
    Some(scores.fold(first, |best, next| if next.1 < best.1 { next } else { best }).0)
}

#[cfg(test)]
mod tests;
