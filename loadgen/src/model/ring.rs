//! The ring of a strategy, as the strategy described it to lb during the run.
//!
//! Why it is stored: only the strategy knows its ring, and a report is made from the folder alone. Invariant, tested by
//! [`Ring::check`]: indexes lie inside the list of backends, ends ascend from 0 to 1, shares sum to 1.

use serde::{Deserialize, Serialize};

/// The ring of one arm over a pool of `n` backends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ring {
    /// The arm's label.
    pub arm: String,
    pub n: u32,
    /// Ids, in the order of the pool.
    pub backends: Vec<String>,
    /// The exact share of all keys that each backend gets.
    pub shares: Vec<f64>,
    /// Clockwise. Empty if the ring has too many points to describe.
    pub arcs: Vec<RingArc>,
}

/// An arc, stored as `[end, backend, share]`. It begins at the end of the arc before it; the first begins at the end of
/// the last.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "(f64, usize, f64)", into = "(f64, usize, f64)")]
pub struct RingArc {
    /// The position of the arc's point, as a part of the circle.
    pub end: f64,
    /// Index of the backend that owns the point.
    pub backend: usize,
    /// Share of all keys whose position is in this arc.
    pub share: f64,
}

/// The allowed error of a sum of shares. Each may be rounded to ten digits.
const ROUNDING: f64 = 1e-5;

// === impl Ring ===

impl Ring {
    /// Checks the invariant. The error names the wrong value.
    pub fn check(&self) -> Result<(), String> {
        let Self { backends, shares, arcs, .. } = self;
        if shares.len() != backends.len() || backends.len() != self.n as usize {
            return Err(format!("{} shares of {} backends, N = {}", shares.len(), backends.len(), self.n));
        }
        let mut begin = 0.0;
        for arc in arcs {
            if arc.backend >= backends.len() {
                return Err(format!("an arc belongs to backend {}, and there are {}", arc.backend, backends.len()));
            }
            if !(begin..=1.0).contains(&arc.end) {
                return Err(format!("an arc ends at {}, after one that ends at {begin}", arc.end));
            }
            begin = arc.end;
        }
        let of_arcs: Vec<f64> = arcs.iter().map(|arc| arc.share).collect();
        for shares in [shares, &of_arcs].into_iter().filter(|shares| !shares.is_empty()) {
            let sum: f64 = shares.iter().sum();
            let is_share = |share: &f64| (0.0..=1.0).contains(share);
            if !shares.iter().all(is_share) || (sum - 1.0).abs() > ROUNDING {
                return Err(format!("its shares sum to {sum}"));
            }
        }
        Ok(())
    }

    /// The beginning and the length of an arc, as parts of the circle. An arc across the end of the circle has `begin +
    /// length > 1`.
    pub fn span(&self, arc: usize) -> (f64, f64) {
        let end = self.arcs[arc].end;
        match arc.checked_sub(1) {
            Some(before) => (self.arcs[before].end, end - self.arcs[before].end),
            None => {
                let begin = self.arcs[self.arcs.len() - 1].end;
                (begin, 1.0 - begin + end)
            }
        }
    }

    /// The arc with the largest share of the keys; `None` without arcs.
    pub fn fullest(&self) -> Option<usize> {
        (0..self.arcs.len()).max_by(|one, two| self.arcs[*one].share.total_cmp(&self.arcs[*two].share))
    }
}

// === impl RingArc ===

impl From<(f64, usize, f64)> for RingArc {
    fn from((end, backend, share): (f64, usize, f64)) -> Self {
        Self { end, backend, share }
    }
}

impl From<RingArc> for (f64, usize, f64) {
    fn from(RingArc { end, backend, share }: RingArc) -> Self {
        (end, backend, share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(shares: &[f64], arcs: &[(f64, usize, f64)]) -> Ring {
        let arcs = arcs.iter().copied().map(RingArc::from).collect();
        Ring { arm: "ring".into(), n: 2, backends: vec!["a".into(), "b".into()], shares: shares.into(), arcs }
    }

    #[test]
    fn a_ring_that_contradicts_itself_is_refused() {
        assert_eq!(ring(&[0.75, 0.25], &[(0.25, 0, 0.75), (0.5, 1, 0.25)]).check(), Ok(()));
        assert_eq!(ring(&[0.75, 0.25], &[]).check(), Ok(()));
        for (wrong, words) in [
            (ring(&[1.0], &[]), "1 shares of 2 backends, N = 2"),
            (ring(&[0.5, 0.4], &[]), "its shares sum to 0.9"),
            (ring(&[1.5, -0.5], &[]), "its shares sum to 1"),
            (ring(&[f64::NAN, 0.5], &[]), "its shares sum to NaN"),
            (ring(&[0.5, 0.5], &[(0.25, 2, 1.0)]), "an arc belongs to backend 2, and there are 2"),
            (ring(&[0.5, 0.5], &[(0.25, 0, 0.5), (0.2, 1, 0.5)]), "an arc ends at 0.2, after one that ends at 0.25"),
            (ring(&[0.5, 0.5], &[(1.25, 0, 1.0)]), "an arc ends at 1.25, after one that ends at 0"),
        ] {
            assert_eq!(wrong.check(), Err(words.to_owned()));
        }
    }

    #[test]
    fn the_first_arc_spans_the_end_of_the_circle() {
        let ring = ring(&[0.75, 0.25], &[(0.25, 0, 0.75), (0.5, 1, 0.25)]);
        assert_eq!([ring.span(0), ring.span(1)], [(0.5, 0.75), (0.25, 0.25)]);
        assert_eq!(ring.fullest(), Some(0));
    }
}
