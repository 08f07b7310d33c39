//! The circle of consistent hashing: 2^64 positions, and points on it that belong to backends.
//!
//! A hash leads to the first point at or after it, so each point owns the arc before it. Source: Karger et al.,
//! "Consistent Hashing and Random Trees", STOC 1997, section 4.
//!
//! Points are the same on every machine, so two instances of lb agree. Point `j` of a backend is the 8 bytes at
//! 8·(j mod 4), big-endian, of a SHA-256. Its input is the name, a byte 0x00, and j div 4 as u32, big-endian. Points at
//! equal positions are in order of name.
//!
//! Cost: each point needs 20 to 24 bytes, and less than 0.1 µs to build. A lookup is a table read and one or two steps,
//! for any number of points. One word has the owner of a point and most of its position. So a large ring needs few
//! reads of slow memory.

use lb_strategy::{Backend, Backends, Error, RING_ARCS_MAX};
use sha2::{Digest, Sha256};

/// The limit of points of a ring. So many need 21 MB, and about a tenth of a second to build.
const POINTS_MAX: u64 = 1 << 20;
/// The bits of a point's word that have its owner. The others have the leading bits of its position.
const OWNER_BITS: u32 = 20;

/// The points with their owners.
#[derive(Debug)]
pub struct Ring {
    /// For each point, in order of position: the leading bits of its position, and its owner. An owner is an index into
    /// every list of these members.
    points: Box<[u64]>,
    /// The whole positions. A lookup needs them only if the leading bits of a hash and of a point are equal.
    positions: Box<[u64]>,
    /// For each value of a hash's leading bits, the first point with these bits or higher ones.
    starts: Box<[u32]>,
    /// The right shift of a hash that leaves only the leading bits.
    shift: u32,
}

// === impl Ring ===

impl Ring {
    /// A ring on which a backend has `points` points for each unit of its weight. `option` is the name of the option
    /// with this number, for an error.
    pub fn by_weight(backends: &Backends<'_>, points: u32, option: &str) -> Result<Self, Error> {
        Self::of(backends, points, option, |backend| backend.weight())
    }

    /// A ring on which each backend with weight has `points` points.
    pub fn even(backends: &Backends<'_>, points: u32, option: &str) -> Result<Self, Error> {
        Self::of(backends, points, option, |backend| u32::from(backend.weight() > 0))
    }

    fn of(
        backends: &Backends<'_>,
        points: u32,
        option: &str,
        units: impl Fn(&Backend<'_>) -> u32,
    ) -> Result<Self, Error> {
        if backends.len() > 1 << OWNER_BITS {
            return Err(
                format!("a ring is for up to {} backends, and it has {}", 1 << OWNER_BITS, backends.len()).into()
            );
        }
        let members: Vec<_> = backends.iter().map(|backend| (backend.name(), units(&backend))).collect();
        let sum: u64 = members.iter().map(|&(_, units)| u64::from(units)).sum();
        let wanted = sum * u64::from(points);
        if wanted > POINTS_MAX {
            let fitting = POINTS_MAX / sum;
            let remedy = if fitting == 0 { String::new() } else { format!("set {option} to {fitting} or less, or ") };
            return Err(format!(
                "its ring would have {wanted} points ({option} {points} × weights {sum}) and {POINTS_MAX} is the limit: \
                 {remedy}lower the weights"
            )
            .into());
        }
        Ok(Self::new(&place(&members, points)))
    }

    /// The ring of these points (position, owner), which are in ascending order.
    fn new(sorted: &[(u64, u32)]) -> Self {
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
            points: sorted.iter().map(|point| point.0 >> OWNER_BITS << OWNER_BITS | u64::from(point.1)).collect(),
            positions: sorted.iter().map(|point| point.0).collect(),
            starts: starts.into_boxed_slice(),
            shift,
        }
    }

    /// The number of points.
    #[inline]
    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// Whether the ring has no point.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// The number of the first point at or after `hash`. After the last point it is `len()`, which means point 0.
    #[inline]
    pub fn at_or_after(&self, hash: u64) -> usize {
        let mut at = self.starts[(hash >> self.shift) as usize] as usize;
        let leading = hash >> OWNER_BITS;
        while at < self.points.len() && self.points[at] >> OWNER_BITS < leading {
            at += 1;
        }
        if at < self.points.len() && self.points[at] >> OWNER_BITS == leading {
            return self.exactly_at_or_after(at, hash);
        }
        at
    }

    /// The same from point `at` on, by whole positions.
    #[cold]
    fn exactly_at_or_after(&self, mut at: usize, hash: u64) -> usize {
        while at < self.positions.len() && self.positions[at] < hash {
            at += 1;
        }
        at
    }

    /// The position of point `at`, which may count beyond the last point. `None` if the ring is empty.
    #[inline]
    pub fn position(&self, at: usize) -> Option<u64> {
        self.positions.get(self.wrapped(at)).copied()
    }

    /// The owner of point `at`, which may count beyond the last point. `None` if the ring is empty.
    #[inline]
    pub fn owner(&self, at: usize) -> Option<usize> {
        self.points.get(self.wrapped(at)).map(|point| owner_in(*point))
    }

    #[inline]
    fn wrapped(&self, at: usize) -> usize {
        let length = self.points.len();
        if at < length { at } else { at.checked_rem(length).unwrap_or(0) }
    }

    /// The arcs for a picture: the end of each, as a part of the circle, and its owner. There is one for each point. If
    /// these are more than [`RING_ARCS_MAX`], there are that many equal arcs, each with the owner of its middle.
    pub fn arcs(&self) -> Vec<(f64, usize)> {
        // Ten digits are finer than any picture.
        let part = |position: f64| (position * 1e10).round() / 1e10;
        if self.points.len() <= RING_ARCS_MAX {
            let ends = self.positions.iter().map(|&position| part(position as f64 / 2_f64.powi(64)));
            return ends.zip(self.points.iter().map(|point| owner_in(*point))).collect();
        }
        let length = u64::MAX / RING_ARCS_MAX as u64;
        let middles = (0..RING_ARCS_MAX as u64).map(|arc| arc * length + length / 2);
        let ends = (1..=RING_ARCS_MAX).map(|arc| part(arc as f64 / RING_ARCS_MAX as f64));
        ends.zip(middles.filter_map(|middle| self.owner(self.at_or_after(middle)))).collect()
    }

    /// The exact length of the arc before each point, with the number of the point. The circle has 2^64.
    pub fn lengths(&self) -> impl Iterator<Item = (usize, u64)> {
        let last = self.points.len().wrapping_sub(1);
        (0..self.points.len()).map(move |at| {
            let before = if at == 0 { last } else { at - 1 };
            (at, self.positions[at].wrapping_sub(self.positions[before]))
        })
    }
}

/// The owner in the word of a point.
#[inline]
fn owner_in(point: u64) -> usize {
    (point & ((1 << OWNER_BITS) - 1)) as usize
}

/// Position and owner of all points of these members (name, units), in ascending order. Equal positions are in order of
/// name.
fn place(members: &[(&str, u32)], points: u32) -> Vec<(u64, u32)> {
    let mut placed = Vec::new();
    for (owner, &(name, units)) in members.iter().enumerate() {
        placed.extend(points_of(name).take((points * units) as usize).map(|point| (point, owner as u32)));
    }
    let name = |owner: u32| members[owner as usize].0;
    placed.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| name(a.1).cmp(name(b.1))));
    placed
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
