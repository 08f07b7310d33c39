//! A sequence of turns by weight: earliest deadline first.
//!
//! Idea: a backend of weight `w` has its turns at the times 1/2w, 3/2w, 5/2w and so on. All turns in the order of their
//! times are the sequence, so the turns of a heavy backend are spread. Source: the EDF scheduler of Envoy and of gRPC's
//! `weighted_round_robin`, which hold the next deadline of each backend in a heap. Here the order is computed once for
//! each list, so a pick reads one entry.
//!
//! Invariants: in a complete sequence the counts are exactly in proportion to the whole numbers that the weights were
//! rounded to. Each member has a turn. Whole multiples of the least weight need no rounding, if the sequence does not
//! become too long.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use lb_strategy::Request;

/// With unequal weights, a backend has at least this many turns on average. A weight is off by at most half a turn.
const TURNS_EACH: f64 = 16.0;
/// The lightest backend has this many turns, so that rounding does not change its share much.
const TURNS_OF_LEAST: f64 = 4.0;
/// No backend has more turns than this, so that the sequence stays short.
const TURNS_MAX: f64 = 1_024.0;
/// A sequence with more than `TURNS_EACH` turns for each member is not longer than this. It is sorted in some ms.
const LENGTH_MAX: f64 = 65_536.0;

/// Indexes in the order of their turns. It is data of a picker.
pub struct Turns(Box<[u32]>);

/// The number of the next turn. It is on cache lines of its own, because all workers write it.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Counter(AtomicU64);

// === impl Turns ===

impl Turns {
    /// Members with weights above 0, in any unit.
    pub fn new(members: &[(u32, f64)]) -> Self {
        let counts = rounded(members);
        let turns = members.iter().zip(counts).flat_map(|(&(index, _), count)| {
            (0..count).map(move |turn| ((f64::from(turn) + 0.5) / f64::from(count), index))
        });
        let mut turns: Vec<(f64, u32)> = turns.collect();
        // Of equal times the earlier member is first, because the sort is stable.
        turns.sort_by(|one, other| one.0.total_cmp(&other.0));
        Self(turns.into_iter().map(|(_, index)| index).collect())
    }

    /// The backend whose turn `number` is. For a retry the next one that was not tried. `None` if there is none.
    #[inline]
    pub fn turn(&self, number: u64, request: &Request<'_>) -> Option<usize> {
        let n = self.0.len() as u64;
        if n == 0 {
            return None;
        }
        let first = (number % n) as usize;
        if request.tried().is_empty() {
            return Some(self.0[first] as usize);
        }
        let (before, from) = self.0.split_at(first);
        from.iter().chain(before).map(|index| *index as usize).find(|index| !request.is_tried(*index))
    }
}

/// The number of turns of each member: in proportion to the weights, and at least 1.
fn rounded(members: &[(u32, f64)]) -> Vec<u32> {
    let weights = || members.iter().map(|member| member.1);
    let (least, most) = (weights().fold(f64::INFINITY, f64::min), weights().fold(0.0, f64::max));
    let (sum, mean) = (weights().sum::<f64>(), weights().sum::<f64>() / members.len().max(1) as f64);
    // Below it the sequence would be too long.
    let unit_min = (most / TURNS_MAX).max(sum / LENGTH_MAX.max(members.len() as f64 * TURNS_EACH));
    let is_whole = least >= unit_min && weights().all(|weight| (weight / least).fract() == 0.0);
    let unit = if is_whole { least } else { (mean / TURNS_EACH).min(least / TURNS_OF_LEAST).max(unit_min) };
    members.iter().map(|member| (member.1 / unit).round().clamp(1.0, TURNS_MAX) as u32).collect()
}

// === impl Counter ===

impl Counter {
    /// The number for this request. A dry pick does not use it up. A retry gets a random one, because otherwise one
    /// dead backend would shift the turns of all others.
    #[inline]
    pub fn next(&self, request: &Request<'_>) -> u64 {
        if request.attempt() > 0 || !request.tried().is_empty() {
            request.random() >> 1
        } else if request.is_dry() {
            self.0.load(Relaxed)
        } else {
            self.0.fetch_add(1, Relaxed)
        }
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    pub fn set(&self, number: u64) {
        self.0.store(number, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(weights: &[f64]) -> Vec<u32> {
        let members: Vec<(u32, f64)> = (0..).zip(weights.iter().copied()).collect();
        Turns::new(&members).0.to_vec()
    }

    #[test]
    fn turns_are_spread_by_weight() {
        assert_eq!(turns(&[7.5, 7.5, 7.5]), [0, 1, 2]);
        assert_eq!(turns(&[5.0, 1.0, 1.0]), [0, 0, 0, 1, 2, 0, 0]);
        assert_eq!(turns(&[2000.0, 1000.0]), [0, 1, 0]);
        assert_eq!(turns(&[]), [0; 0]);
    }

    #[test]
    fn unequal_weights_are_rounded_to_a_few_per_cent_and_keep_every_member() {
        let weights = [0.9, 1.0, 1.37, 2.2, 1e-9];
        let found = turns(&weights);
        let (sum, total) = (weights.iter().sum::<f64>(), found.len() as f64);
        for (index, weight) in (0..).zip(weights) {
            let count = found.iter().filter(|turn| **turn == index).count() as f64;
            assert!(count >= 1.0 && (count / total - weight / sum).abs() < 0.02, "{index}: {count} of {total}");
        }
    }

    #[test]
    fn a_light_member_has_its_share_beside_heavy_ones() {
        let share = |weights: &[f64]| {
            let found = turns(weights);
            found.iter().filter(|index| **index == 0).count() as f64 / found.len() as f64
        };
        assert_eq!(share(&[1.0, 99.0]), 0.01);
        assert_eq!(share(&[1.0, 20.0]), 1.0 / 21.0);
        assert!((share(&[1.0, 20.4]) * 21.4 - 1.0).abs() < 0.01);
        let mut many = vec![1.0; 1000];
        many[500..].fill(99.0);
        assert_eq!(share(&many), 1.0 / 50_000.0);
    }

    #[test]
    fn no_sequence_is_longer_than_its_limit() {
        let weights: Vec<f64> = (0..1000).map(|number| 1.0 + f64::from(number) * 0.37).collect();
        assert!(turns(&weights).len() as f64 <= LENGTH_MAX + 1000.0);
    }

    #[test]
    fn one_very_heavy_member_does_not_make_the_sequence_long() {
        let mut weights = vec![1.0; 1000];
        weights[3] = 1e9;
        assert!(turns(&weights).len() <= 1000 + TURNS_MAX as usize);
    }
}
