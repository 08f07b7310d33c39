//! Consistent hashing: a ring with virtual nodes. The same key goes to the same backend while that backend may serve.
//!
//! Idea: every backend owns many points on a circle of 2^64 positions. A key goes to the first point at or after its
//! hash. If a backend is removed, only its keys move, to the next points. Source: Karger et al., "Consistent Hashing
//! and Random Trees", STOC 1997. 160 points per backend are the default, as in Ketama (last.fm, 2007).
//!
//! Points are the same on every machine, so two instances of lb agree. A backend has virtual_nodes × weight points.
//! Point `j` is the 8 bytes at 8·(j mod 4), big-endian, of a SHA-256. Its input is the name, a byte 0x00, and j div 4
//! as u32, big-endian. Points at equal positions are in order of name.
//!
//! Balance: with N backends of K points each, a backend's share is distributed as Beta(K, K(N-1)). The busiest of 100
//! backends has 1.21 times the mean at K = 160, and 1.08 times at K = 1000.
//!
//! Cost: each point needs 16 to 20 bytes, and less than 0.1 µs to build. A pick is a table read and one or two steps,
//! for any size of the ring.
//!
//! Invariants: the ring contains all members with weight, eligible or not. So an outage moves only the keys of the
//! unhealthy backends, to the next backend clockwise, and later they return. The order of the list has no effect. The
//! ring is kept while members do not change.

use std::sync::{Arc, Mutex, PoisonError};

use lb_strategy::{Backends, Error, Host, Pick, RING_ARCS_MAX, Request, Strategy};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};

/// The limit of points of a backend of weight 1.
const VIRTUAL_NODES_MAX: u32 = 4096;
/// The limit of points of a ring. So many need 17 MB, and about a tenth of a second to build.
const POINTS_MAX: u64 = 1 << 20;

pub struct ConsistentHash {
    virtual_nodes: u32,
    /// The last ring, for the next picker. Only the builder thread takes this lock; a pick never does.
    last: Mutex<Option<Arc<Ring>>>,
}

/// `[strategy.config.consistent_hash]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Points on the ring for each unit of a backend's weight.
    #[serde(default = "default_virtual_nodes")]
    virtual_nodes: u32,
}

/// The view of one list: the ring. Pickers share it while only health changes.
pub struct View(Arc<Ring>);

/// The circle.
struct Ring {
    members_epoch: u64,
    /// Positions of the points, ascending.
    points: Box<[u64]>,
    /// The owner of each point: an index into every list of this members epoch.
    owners: Box<[u32]>,
    /// For each value of a hash's leading bits, the first point with these bits or higher ones.
    starts: Box<[u32]>,
    /// The right shift of a hash that leaves only the leading bits.
    shift: u32,
}

lb_strategy::export!(ConsistentHash);

fn default_virtual_nodes() -> u32 {
    160
}

// === impl ConsistentHash ===

impl Strategy for ConsistentHash {
    const NAME: &'static str = "consistent_hash";
    const WANTS_HASH: bool = true;
    const EXPLAINS: bool = true;
    const EXPECTATION: &'static str = r#"{"balance":"ring:160","weights":true,"consistent":true}"#;
    type Config = Options;
    type Picker = View;

    fn new(options: Options, _: Host) -> Result<Self, Error> {
        let virtual_nodes = options.virtual_nodes;
        if !(1..=VIRTUAL_NODES_MAX).contains(&virtual_nodes) {
            return Err(format!("virtual_nodes is {virtual_nodes}: it may be 1 to {VIRTUAL_NODES_MAX}").into());
        }
        Ok(Self { virtual_nodes, last: Mutex::new(None) })
    }

    fn picker(&self, backends: &Backends<'_>) -> Result<View, Error> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let ring = match &*last {
            Some(ring) if ring.members_epoch == backends.members_epoch() => ring.clone(),
            _ => Arc::new(Ring::of(backends, self.virtual_nodes)?),
        };
        *last = Some(ring.clone());
        Ok(View(ring))
    }

    fn pick(&self, view: &View, backends: &Backends<'_>, request: &Request<'_>) -> Pick {
        let Some(hash) = request.hash() else { return Pick::Fallback };
        view.walk(hash, backends, request).map_or(Pick::NoBackend, |(_, owner)| Pick::Backend(owner))
    }

    fn explain(&self, view: &View, backends: &Backends<'_>, request: &Request<'_>) -> String {
        let Some(hash) = request.hash() else {
            return json!({ "pick": "fallback", "reason": "the request has no key", "ring": view.0.arcs() })
                .to_string();
        };
        let ring = &view.0;
        let name = |owner: usize| backends.get(owner).map_or("", |backend| backend.name());
        let (first, found) = (ring.at_or_after(hash), view.walk(hash, backends, request));
        let mut walked_over: Vec<&str> = Vec::new();
        for step in 0..found.map_or(0, |(steps, _)| steps) {
            let passed = name(ring.owner(first + step));
            if !walked_over.contains(&passed) {
                walked_over.push(passed);
            }
        }
        json!({
            "position": format!("{hash:016x}"),
            "point": found.map(|(steps, _)| format!("{:016x}", ring.points[(first + steps) % ring.points.len()])),
            "backend": found.map(|(_, owner)| name(owner)),
            "walked_over": walked_over,
            "points": ring.points.len(),
        })
        .to_string()
    }
}

// === impl View ===

impl View {
    /// Goes clockwise from `hash` to the first point whose owner may serve. Returns the number of passed points and the
    /// owner.
    #[inline]
    fn walk(&self, hash: u64, backends: &Backends<'_>, request: &Request<'_>) -> Option<(usize, usize)> {
        let may_serve =
            |owner: usize| backends.get(owner).is_some_and(|backend| backend.is_eligible()) && !request.is_tried(owner);
        let first = self.0.at_or_after(hash);
        let owner = self.0.owner_or_none(first)?;
        if may_serve(owner) {
            return Some((0, owner));
        }
        // Rare: some backends may not serve. If none may, a walk around the ring would find nothing.
        backends.candidates(request).next()?;
        (1..self.0.points.len()).map(|step| (step, self.0.owner(first + step))).find(|&(_, owner)| may_serve(owner))
    }
}

// === impl Ring ===

impl Ring {
    fn of(backends: &Backends<'_>, virtual_nodes: u32) -> Result<Self, Error> {
        let weights: u64 = backends.iter().map(|backend| u64::from(backend.weight())).sum();
        let wanted = weights * u64::from(virtual_nodes);
        if wanted > POINTS_MAX {
            return Err(format!(
                "its ring would have {wanted} points (virtual_nodes {virtual_nodes} × weights {weights}) and {POINTS_MAX} is the limit: \
                 set virtual_nodes to {} or less, or lower the weights",
                POINTS_MAX / weights
            )
            .into());
        }
        let members: Vec<_> = backends.iter().map(|backend| (backend.name(), backend.weight())).collect();
        Ok(Self::new(&place(&members, virtual_nodes), backends.members_epoch()))
    }

    fn new(sorted: &[(u64, u32)], members_epoch: u64) -> Self {
        // The table has one to two entries for each point, so that the scan from an entry is one or two steps.
        let bits = sorted.len().max(2).next_power_of_two().trailing_zeros();
        let shift = 64 - bits;
        let mut starts = Vec::with_capacity(1 << bits);
        let mut at = 0;
        for leading in 0..1_u64 << bits {
            while at < sorted.len() && sorted[at].0 >> shift < leading {
                at += 1;
            }
            starts.push(at as u32);
        }
        Self {
            members_epoch,
            points: sorted.iter().map(|point| point.0).collect(),
            owners: sorted.iter().map(|point| point.1).collect(),
            starts: starts.into_boxed_slice(),
            shift,
        }
    }

    /// The index of the first point at or after `hash`. After the last point it is `points.len()`, which means point 0.
    #[inline]
    fn at_or_after(&self, hash: u64) -> usize {
        let mut at = self.starts[(hash >> self.shift) as usize] as usize;
        while at < self.points.len() && self.points[at] < hash {
            at += 1;
        }
        at
    }

    /// The owner of point `at`, which may count beyond the last point. The ring must not be empty.
    #[inline]
    fn owner(&self, at: usize) -> usize {
        let length = self.owners.len();
        self.owners[if at < length { at } else { at % length }] as usize
    }

    #[inline]
    fn owner_or_none(&self, at: usize) -> Option<usize> {
        (!self.owners.is_empty()).then(|| self.owner(at))
    }

    /// The arcs for a picture: the end of each, as a part of the circle, and its owner. There is one for each point. If
    /// these are more than [`RING_ARCS_MAX`], there are that many equal arcs, each with the owner of its middle.
    fn arcs(&self) -> Vec<(f64, usize)> {
        // Ten digits are finer than any picture.
        let part = |position: f64| (position * 1e10).round() / 1e10;
        if self.points.len() <= RING_ARCS_MAX {
            let ends = self.points.iter().map(|&point| part(point as f64 / 2_f64.powi(64)));
            return ends.zip(self.owners.iter().map(|&owner| owner as usize)).collect();
        }
        let length = u64::MAX / RING_ARCS_MAX as u64;
        let middles = (0..RING_ARCS_MAX as u64).map(|arc| arc * length + length / 2);
        let ends = (1..=RING_ARCS_MAX).map(|arc| part(arc as f64 / RING_ARCS_MAX as f64));
        ends.zip(middles.map(|middle| self.owner(self.at_or_after(middle)))).collect()
    }
}

/// Position and owner of all points of these members (name, weight), in ascending order. Equal positions are in order
/// of name.
fn place(members: &[(&str, u32)], virtual_nodes: u32) -> Vec<(u64, u32)> {
    let mut points = Vec::new();
    for (owner, &(name, weight)) in members.iter().enumerate() {
        points.extend(points_of(name).take((virtual_nodes * weight) as usize).map(|point| (point, owner as u32)));
    }
    let name = |owner: u32| members[owner as usize].0;
    points.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| name(a.1).cmp(name(b.1))));
    points
}

/// The points of the backend called `name`, in order of `j`.
fn points_of(name: &str) -> impl Iterator<Item = u64> {
    let seed = Sha256::new().chain_update(name).chain_update([0]);
    (0_u32..).flat_map(move |block| {
        let digest: [u8; 32] = seed.clone().chain_update(block.to_be_bytes()).finalize().into();
        std::array::from_fn::<u64, 4, _>(|part| u64::from_be_bytes(std::array::from_fn(|byte| digest[8 * part + byte])))
    })
}

#[cfg(test)]
mod tests;
