//! Local rendezvous hashing: a ring gives each key a few neighbours, and the one with the best score gets the key.
//!
//! Source: Guan, "Local Rendezvous Hashing: Bounded Loads and Minimal Churn via Cache-Local Candidates", 2025,
//! arXiv 2512.23434.
//!
//! Idea: each backend has V points on a ring. A key goes to the first point at or after its hash, and from there
//! clockwise until C different backends are found: its window. In the window rendezvous hashing decides, by the score
//! `-ln(u) / weight`. So a long arc is shared by C backends. A share varies as on a ring of V·C points, for the memory
//! of V points and the time of C hashes. For 5,000 backends, V = 256 and C = 8 the paper has a peak to mean of 1.095.
//! It has 1.279 on the plain ring.
//!
//! What it cannot do: if a backend leaves or comes, windows change. The next neighbour enters a window, or the last one
//! drops out of it. So about twice as many keys move as must. The paper promises minimal moves for outages only, and
//! this strategy declares no more: `"consistent":"outages"`.
//!
//! Weights: a pool of up to C backends follows them exactly. In a larger pool a heavy backend competes with the
//! backends of its windows only, and gets less. With equally many backends of weights 1 and 2, the heavy ones get 1.86
//! times as much. There `rendezvous`, `maglev` or a ring is better.
//!
//! Invariants: windows contain members with weight, eligible or not. A key goes to the best member of its window that
//! may serve. If there is none, the winner of a rendezvous among all candidates serves. The order of the list has no
//! effect.

use std::sync::Arc;

use lb_hashing::{Kept, Ring, elect, may_serve, mix, score};
use lb_strategy::{Backends, Error, Host, Pick, Request, Strategy};
use serde::Deserialize;
use serde_json::json;

const POINTS_MAX: u32 = 4096;
/// The limit of C. So many indexes fit into one cache line.
const CANDIDATES_MAX: usize = 16;

pub struct LocalRendezvous {
    options: Options,
    last: Kept<Neighbours>,
}

/// `[strategy.config.local_rendezvous]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Points of each backend on the ring.
    #[serde(default = "default_points")]
    points: u32,
    /// Backends in the window of a key.
    #[serde(default = "default_candidates")]
    candidates: usize,
}

/// The ring, and what a score needs of each backend.
pub struct Neighbours {
    ring: Ring,
    ids: Box<[u64]>,
    weights: Box<[u32]>,
    /// The indexes of the backends with weight.
    members: Box<[u32]>,
    /// The number of backends in a window.
    candidates: usize,
    has_equal_weights: bool,
}

/// The window of one key: indexes of different backends, clockwise.
struct Window {
    backends: [u32; CANDIDATES_MAX],
    length: usize,
}

lb_strategy::export!(LocalRendezvous);

fn default_points() -> u32 {
    256
}

fn default_candidates() -> usize {
    8
}

// === impl LocalRendezvous ===

impl Strategy for LocalRendezvous {
    const NAME: &'static str = "local_rendezvous";
    const WANTS_HASH: bool = true;
    const EXPLAINS: bool = true;
    const EXPECTATION: &'static str = r#"{"balance":"ring:2048","weights":true,"consistent":"outages"}"#;
    type Config = Options;
    type Picker = Arc<Neighbours>;

    fn new(options: Options, _: Host) -> Result<Self, Error> {
        let Options { points, candidates } = options;
        if !(1..=POINTS_MAX).contains(&points) {
            return Err(format!("points is {points}: it may be 1 to {POINTS_MAX}").into());
        }
        if !(1..=CANDIDATES_MAX).contains(&candidates) {
            return Err(format!("candidates is {candidates}: it may be 1 to {CANDIDATES_MAX}").into());
        }
        Ok(Self { options, last: Kept::default() })
    }

    fn picker(&self, backends: &Backends<'_>) -> Result<Arc<Neighbours>, Error> {
        self.last.get(backends, || Neighbours::of(backends, &self.options))
    }

    fn pick(&self, neighbours: &Arc<Neighbours>, backends: &Backends<'_>, request: &Request<'_>) -> Pick {
        let Some(hash) = request.hash() else { return Pick::Fallback };
        neighbours.choose(hash, backends, request).map_or(Pick::NoBackend, Pick::Backend)
    }

    fn explain(&self, neighbours: &Arc<Neighbours>, backends: &Backends<'_>, request: &Request<'_>) -> String {
        let Some(hash) = request.hash() else {
            return json!({ "pick": "fallback", "reason": "the request has no key" }).to_string();
        };
        let name = |index: usize| backends.get(index).map_or("", |backend| backend.name());
        let window = neighbours.window(hash);
        json!({
            "position": format!("{hash:016x}"),
            "window": window.iter().map(|index| (name(index), neighbours.score(index, hash))).collect::<Vec<_>>(),
            "backend": neighbours.choose(hash, backends, request).map(name),
            "points": neighbours.ring.len(),
        })
        .to_string()
    }
}

// === impl Neighbours ===

impl Neighbours {
    fn of(backends: &Backends<'_>, options: &Options) -> Result<Self, Error> {
        let weights: Box<[u32]> = backends.iter().map(|backend| backend.weight()).collect();
        let members: Box<[u32]> =
            (0..).zip(weights.iter()).filter(|(_, weight)| **weight > 0).map(|(at, _)| at).collect();
        let mut of_members = members.iter().map(|index| weights[*index as usize]);
        let first = of_members.next();
        Ok(Self {
            ring: Ring::even(backends, options.points, "points")?,
            ids: backends.iter().map(|backend| backend.id()).collect(),
            has_equal_weights: of_members.all(|weight| Some(weight) == first),
            candidates: options.candidates.min(members.len()),
            members,
            weights,
        })
    }

    /// The next `candidates` different backends clockwise from `hash`.
    #[inline]
    fn window(&self, hash: u64) -> Window {
        let mut window = Window { backends: [0; CANDIDATES_MAX], length: 0 };
        if self.candidates == self.members.len() {
            window.backends[..self.candidates].copy_from_slice(&self.members);
            window.length = self.candidates;
            return window;
        }
        let mut at = self.ring.at_or_after(hash);
        // Each member has a point, so one round finds as many members as there are.
        while window.length < self.candidates {
            let Some(owner) = self.ring.owner(at) else { break };
            window.add(owner as u32);
            at += 1;
        }
        window
    }

    #[inline]
    fn choose(&self, hash: u64, backends: &Backends<'_>, request: &Request<'_>) -> Option<usize> {
        let window = self.window(hash);
        let best = self.best(hash, window.iter())?;
        if may_serve(backends, request, best) {
            return Some(best);
        }
        self.choose_other(hash, &window, backends, request)
    }

    #[cold]
    fn choose_other(
        &self,
        hash: u64,
        window: &Window,
        backends: &Backends<'_>,
        request: &Request<'_>,
    ) -> Option<usize> {
        let able = window.iter().filter(|index| may_serve(backends, request, *index));
        self.best(hash, able).or_else(|| elect(hash, backends, request))
    }

    /// The backend with the best score; of equal ones the one with the lower id.
    #[inline]
    fn best(&self, hash: u64, indexes: impl Iterator<Item = usize>) -> Option<usize> {
        if self.has_equal_weights {
            return indexes.max_by_key(|index| (mix(hash, self.ids[*index]), !self.ids[*index]));
        }
        let scored = indexes.map(|index| (self.score(index, hash), self.ids[index], index));
        scored.min_by(|one, two| one.0.total_cmp(&two.0).then(one.1.cmp(&two.1))).map(|best| best.2)
    }

    #[inline]
    fn score(&self, index: usize, hash: u64) -> f64 {
        score(hash, self.ids[index], self.weights[index])
    }
}

// === impl Window ===

impl Window {
    #[inline]
    fn add(&mut self, backend: u32) {
        if !self.backends[..self.length].contains(&backend) {
            self.backends[self.length] = backend;
            self.length += 1;
        }
    }

    #[inline]
    fn iter(&self) -> impl Iterator<Item = usize> {
        self.backends[..self.length].iter().map(|backend| *backend as usize)
    }
}

#[cfg(test)]
mod tests;
