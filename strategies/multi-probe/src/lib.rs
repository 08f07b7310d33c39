//! Multi-probe consistent hashing: a ring with one point for each backend, and many probes for each key.
//!
//! Source: Appleton and O'Reilly, "Multi-probe consistent hashing", 2015, arXiv 1505.00062.
//!
//! Idea: with one point for each backend, the arcs of a ring are very uneven. Here a key has `k` positions, from `k`
//! hashes. Each leads to the next point clockwise. The key goes to the point with the smallest distance to one of its
//! positions. A long arc catches many probes, but most of them are far from its point, and lose.
//!
//! Balance: the busiest backend has at most about k/(k-1) times the mean; that is 1.05 with 21 probes, the default. A
//! ring needs some thousand points for each backend to be as good. Of `g`, the length of a backend's arc relative to
//! the mean, its share is k/(k-1) · (1 - e^(-(k-1)·g)). So backends with a very short arc have a small share. The
//! standard deviation of a share is that of a ring with 2k-1 points, 16 % with 21 probes.
//!
//! Cost: the memory of one point for each unit of weight, and `k` lookups for each pick.
//!
//! Invariants: the ring contains all members with weight, eligible or not. For each position the next point whose
//! backend may serve counts. So an outage moves the same keys as a removal: only those of that backend. The order of
//! the list has no effect.

use std::sync::Arc;

use lb_hashing::{Kept, Ring, elect, may_serve, mix};
use lb_strategy::{Backends, Error, Host, Pick, Request, Strategy};
use serde::Deserialize;
use serde_json::json;

const PROBES_MAX: u32 = 1000;
/// The steps of one probe over backends that may not serve. With so many of them down, a rendezvous is cheaper.
const STEPS_MAX: usize = 64;

pub struct MultiProbe {
    probes: u32,
    last: Kept<Ring>,
}

/// `[strategy.config.multi_probe]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Positions of a key on the ring.
    #[serde(default = "default_probes")]
    probes: u32,
}

/// The view of one list.
pub struct View {
    ring: Arc<Ring>,
    /// Whether each backend on the ring is eligible, so that a first attempt need not look.
    is_whole: bool,
}

/// A probe that found a backend.
#[derive(Clone, Copy)]
struct Hit {
    /// From the position to the point.
    distance: u64,
    backend: usize,
    probe: u32,
}

lb_strategy::export!(MultiProbe);

fn default_probes() -> u32 {
    21
}

// === impl MultiProbe ===

impl Strategy for MultiProbe {
    const NAME: &'static str = "multi_probe";
    const WANTS_HASH: bool = true;
    const EXPLAINS: bool = true;
    const EXPECTATION: &'static str = r#"{"balance":"ring:41","weights":true,"consistent":true}"#;
    type Config = Options;
    type Picker = View;

    fn new(options: Options, _: Host) -> Result<Self, Error> {
        let probes = options.probes;
        if !(1..=PROBES_MAX).contains(&probes) {
            return Err(format!("probes is {probes}: it may be 1 to {PROBES_MAX}").into());
        }
        Ok(Self { probes, last: Kept::default() })
    }

    fn picker(&self, backends: &Backends<'_>) -> Result<View, Error> {
        let ring = self.last.get(backends, || Ring::by_weight(backends, 1, "points"))?;
        let is_whole = backends.iter().all(|backend| backend.is_eligible() || backend.weight() == 0);
        Ok(View { ring, is_whole })
    }

    fn pick(&self, view: &View, backends: &Backends<'_>, request: &Request<'_>) -> Pick {
        let Some(hash) = request.hash() else { return Pick::Fallback };
        view.choose(hash, self.probes, backends, request).map_or(Pick::NoBackend, Pick::Backend)
    }

    fn explain(&self, view: &View, backends: &Backends<'_>, request: &Request<'_>) -> String {
        let Some(hash) = request.hash() else {
            return json!({ "pick": "fallback", "reason": "the request has no key" }).to_string();
        };
        let name = |index: usize| backends.get(index).map_or("", |backend| backend.name());
        let nearest = view.nearest(hash, self.probes, |index| may_serve(backends, request, index));
        json!({
            "position": nearest.map(|hit| format!("{:016x}", mix(hash, u64::from(hit.probe)))),
            "probe": nearest.map(|hit| hit.probe),
            "distance": nearest.map(|hit| hit.distance as f64 / 2_f64.powi(64)),
            "backend": view.choose(hash, self.probes, backends, request).map(name),
            "probes": self.probes,
            "points": view.ring.len(),
        })
        .to_string()
    }
}

// === impl View ===

impl View {
    #[inline]
    fn choose(&self, hash: u64, probes: u32, backends: &Backends<'_>, request: &Request<'_>) -> Option<usize> {
        if self.is_whole && request.tried().is_empty() {
            return self.nearest(hash, probes, |_| true).map(|hit| hit.backend);
        }
        if backends.candidate_count(request) == 0 {
            return None;
        }
        let nearest = self.nearest(hash, probes, |index| may_serve(backends, request, index));
        nearest.map(|hit| hit.backend).or_else(|| elect(hash, backends, request))
    }

    /// The hit with the smallest distance, of equal ones the first.
    #[inline]
    fn nearest(&self, hash: u64, probes: u32, may_serve: impl Fn(usize) -> bool) -> Option<Hit> {
        let mut nearest: Option<Hit> = None;
        for probe in 0..probes {
            let position = mix(hash, u64::from(probe));
            let hit = self.hit(position, probe, &may_serve);
            if let Some(hit) = hit
                && nearest.is_none_or(|nearest| hit.distance < nearest.distance)
            {
                nearest = Some(hit);
            }
        }
        nearest
    }

    /// The first point at or after `position` whose backend may serve.
    #[inline]
    fn hit(&self, position: u64, probe: u32, may_serve: impl Fn(usize) -> bool) -> Option<Hit> {
        let first = self.ring.at_or_after(position);
        for point in first..first + STEPS_MAX.min(self.ring.len()) {
            let backend = self.ring.owner(point)?;
            if may_serve(backend) {
                let distance = self.ring.position(point)?.wrapping_sub(position);
                return Some(Hit { distance, backend, probe });
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
