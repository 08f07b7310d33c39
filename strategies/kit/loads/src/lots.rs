//! A weighted draw in constant time, and the best of a few draws.
//!
//! Idea: the alias method. Each member has a column of the same width. A column belongs to its member up to a mark, and
//! above it to one other member. So one random number selects a column, a second one a side of the mark. Source: A. J.
//! Walker, "An Efficient Method for Generating Discrete Random Variables", 1977. M. D. Vose found the linear
//! construction in 1991.
//!
//! Invariants: column `i` has member `i` below its mark, so the columns name every member. A draw of an untried request
//! reads one column. A retry walks over the members instead, because its tried backends are in the columns too.

use lb_strategy::{Backend, Backends, Request};

use crate::Draws;

/// Indexes of a list with their weights, to draw from. It is data of a picker.
pub struct Lots {
    /// Column `i` belongs to member `i` below its mark.
    members: Box<[u32]>,
    /// Member `i` is backend `i`, as in a pool where all are eligible. Then draws need not read `members`.
    is_whole: bool,
    /// Empty if all weights are equal. Then no column has a second member, and draws need not read so much memory.
    marks: Box<[Mark]>,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    /// The share of the column's own member, in parts of 2^32.
    at: u32,
    /// The member above it.
    other: u32,
}

// === impl Lots ===

impl Lots {
    /// The eligible backends of a list with their effective weights.
    pub fn of_eligible(backends: &Backends<'_>) -> Self {
        let weight = |index: u32| backends.get(index as usize).map_or(1, |backend| backend.effective_weight().max(1));
        Self::new(&backends.eligible().iter().map(|&index| (index, weight(index))).collect::<Vec<_>>())
    }

    /// Members with weights above 0.
    pub fn new(members: &[(u32, u32)]) -> Self {
        let sum: u64 = members.iter().map(|&(_, weight)| u64::from(weight)).sum();
        let width = sum.max(1);
        // In these units each column is `sum` wide, and a member has weight × n in all.
        let mut shares: Vec<u64> =
            members.iter().map(|&(_, weight)| u64::from(weight) * members.len() as u64).collect();
        let mut marks: Vec<Mark> = members.iter().map(|&(own, _)| Mark { at: u32::MAX, other: own }).collect();
        let (mut short, mut long): (Vec<usize>, Vec<usize>) = (0..members.len()).partition(|&at| shares[at] < width);
        while let (Some(poor), Some(&rich)) = (short.pop(), long.last()) {
            let at = ((u128::from(shares[poor]) << 32) / u128::from(width)) as u32;
            marks[poor] = Mark { at, other: members[rich].0 };
            shares[rich] -= width - shares[poor];
            if shares[rich] < width {
                long.pop();
                short.push(rich);
            }
        }
        let is_even = members.windows(2).all(|pair| pair[0].1 == pair[1].1);
        let marks = if is_even { Box::default() } else { marks.into() };
        let is_whole = (0..).zip(members).all(|(place, member)| place == member.0);
        Self { members: members.iter().map(|member| member.0).collect(), is_whole, marks }
    }

    /// The number of members, tried or not.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The index of a member by weight; `None` if all are tried.
    #[inline]
    pub fn draw(&self, backends: &Backends<'_>, request: &Request<'_>, draws: &mut Draws) -> Option<usize> {
        match self.members.len() {
            0 => None,
            _ if !request.tried().is_empty() => self.untried(backends, request, draws),
            _ => Some(self.column(draws)),
        }
    }

    /// The index with the least `score` of `choices` members that are drawn by weight. Of equal ones the first draw is
    /// taken, so equal scores leave the shares of the draw. The first two draws differ if there are two members.
    #[inline]
    pub fn best_of<'a, S: PartialOrd>(
        &self,
        choices: u32,
        backends: &Backends<'a>,
        request: &Request<'_>,
        draws: &mut Draws,
        score: impl Fn(Backend<'a>) -> S,
    ) -> Option<usize> {
        let n = self.members.len();
        if n < 2 || choices < 2 || !request.tried().is_empty() {
            return self.best_of_untried(choices, backends, request, draws, score);
        }
        let (first, second) = self.two(draws);
        let (one, other) = (score(backends.get(first)?), score(backends.get(second)?));
        let (mut best, mut lowest) = if other < one { (second, other) } else { (first, one) };
        for _ in 2..choices {
            let index = self.column(draws);
            let this = score(backends.get(index)?);
            if this < lowest {
                (best, lowest) = (index, this);
            }
        }
        Some(best)
    }

    /// The same for a retry, for a single draw, and for a single member.
    #[cold]
    fn best_of_untried<'a, S: PartialOrd>(
        &self,
        choices: u32,
        backends: &Backends<'a>,
        request: &Request<'_>,
        draws: &mut Draws,
        score: impl Fn(Backend<'a>) -> S,
    ) -> Option<usize> {
        let mut best = self.draw(backends, request, draws)?;
        let mut lowest = score(backends.get(best)?);
        for _ in 1..choices {
            let index = self.draw(backends, request, draws)?;
            let this = score(backends.get(index)?);
            if this < lowest {
                (best, lowest) = (index, this);
            }
        }
        Some(best)
    }

    /// The index of the member at `place`.
    #[inline]
    fn own(&self, place: usize) -> usize {
        if self.is_whole { place } else { self.members[place] as usize }
    }

    /// The index that a random column gives.
    #[inline]
    fn column(&self, draws: &mut Draws) -> usize {
        let bits = draws.bits();
        let place = (((bits >> 32) * self.members.len() as u64) >> 32) as usize;
        let own = self.own(place);
        self.marks.get(place).map_or(own, |mark| if bits as u32 <= mark.at { own } else { mark.other as usize })
    }

    /// Two different indexes, of at least two members.
    #[inline]
    fn two(&self, draws: &mut Draws) -> (usize, usize) {
        let n = self.members.len() as u64;
        if self.marks.is_empty() {
            // No marks are needed, so 64 bits are enough for both. The second is one of the n − 1 others.
            let bits = draws.bits();
            let first = ((bits >> 32) * n) >> 32;
            let second = first + 1 + (((bits & 0xFFFF_FFFF) * (n - 1)) >> 32);
            let second = if second < n { second } else { second - n };
            return (self.own(first as usize), self.own(second as usize));
        }
        let first = self.column(draws);
        let drawn = (0..2).map(|_| self.column(draws)).find(|index| *index != first);
        // If `first` has nearly all of the weight: one of the others with equal probabilities.
        (
            first,
            drawn.unwrap_or_else(|| {
                let place = draws.below(n) as usize;
                let own = self.members[place] as usize;
                if own == first { self.members[(place + 1) % n as usize] as usize } else { own }
            }),
        )
    }

    /// A member by weight that was not tried, in one walk (reservoir sampling).
    #[cold]
    fn untried(&self, backends: &Backends<'_>, request: &Request<'_>, draws: &mut Draws) -> Option<usize> {
        let (mut taken, mut sum) = (None, 0);
        for index in self.members.iter().map(|index| *index as usize).filter(|index| !request.is_tried(*index)) {
            let weight = u64::from(backends.get(index)?.effective_weight().max(1));
            sum += weight;
            if draws.below(sum) < weight {
                taken = Some(index);
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use lb_strategy_conformance::statistics::{chi_square_p, counts};
    use lb_strategy_conformance::{Decision, Requests, World};

    use super::*;
    use crate::Load;
    use crate::world::{picker, probe};

    probe!(One, |backends, request| Lots::of_eligible(backends).draw(backends, request, &mut Draws::of(request)));
    probe!(Two, |backends, request| {
        Lots::of_eligible(backends).best_of(2, backends, request, &mut Draws::of(request), Load::of)
    });

    fn drawn<S: lb_strategy::Strategy>(world: &World, tried: &[u32], n: usize) -> Vec<u64> {
        let (picker, mut requests) = (picker::<S>(world), Requests::seeded(3));
        counts(world.len(), (0..n).map(|_| requests.ask().tried(tried).pick_backend(&picker).unwrap()))
    }

    #[test]
    fn shares_follow_any_weights() {
        for weights in [&[1][..], &[1, 1, 1], &[256, 1], &[1, 2, 3, 4], &[5, 256, 1, 17, 17, 90], &[256; 40]] {
            let drawn = drawn::<One>(&World::of(weights.len()).weights(weights), &[], 50_000);
            let expected: Vec<f64> = weights.iter().map(|&weight| f64::from(weight)).collect();
            let p = if weights.len() > 1 { chi_square_p(&drawn, &expected) } else { 1.0 };
            assert!(p > 0.001, "{drawn:?} for {weights:?}, p {p}");
        }
    }

    #[test]
    fn columns_hold_exactly_the_weights() {
        let members = [(3, 1000), (5, 2000), (7, 100), (8, 256_000)];
        let lots = Lots::new(&members);
        let mut shares = [0.0; 9];
        for (own, mark) in lots.members.iter().zip(&lots.marks) {
            let part = f64::from(mark.at) / 4_294_967_295.0;
            shares[*own as usize] += part / 4.0;
            shares[mark.other as usize] += (1.0 - part) / 4.0;
        }
        for (index, weight) in members {
            assert!((shares[index as usize] - f64::from(weight) / 259_100.0).abs() < 1e-8, "{shares:?}");
        }
    }

    #[test]
    fn a_retry_draws_the_untried_by_weight() {
        let world = World::of(4).weights(&[9, 1, 2, 1]);
        for drawn in [drawn::<One>(&world, &[0], 20_000), drawn::<Two>(&world, &[0], 20_000)] {
            let p = chi_square_p(&drawn[1..], &[1.0, 2.0, 1.0]);
            assert!(drawn[0] == 0 && p > 0.001, "{drawn:?}, p {p}");
        }
        let (picker, ask) = (picker::<Two>(&world), Requests::seeded(4).ask());
        assert_eq!(ask.clone().tried(&[0, 1, 3]).pick_backend(&picker), Ok(2));
        assert_eq!(ask.tried(&[0, 1, 2, 3]).pick(&picker), Decision::NoBackend);
    }

    #[test]
    fn of_two_members_both_are_seen() {
        for weights in [[1, 1], [256, 1]] {
            let world = World::of(2).weights(&weights);
            world.set_load(0, 1000);
            assert_eq!(drawn::<Two>(&world, &[], 1000), [0, 1000], "{weights:?}");
        }
    }

    #[test]
    fn equal_scores_leave_the_shares_of_the_draw() {
        let drawn = drawn::<Two>(&World::of(4).weights(&[1, 2, 3, 4]), &[], 50_000);
        let p = chi_square_p(&drawn, &[1.0, 2.0, 3.0, 4.0]);
        assert!(p > 0.001, "{drawn:?}, p {p}");
    }
}
