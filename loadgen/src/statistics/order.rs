//! The order of arms in each block. It is random, so that no outside effect favours an arm. It is also balanced, so
//! that chance does not favour one either.
//!
//! Williams' squares (1949) take as many blocks as there are arms, twice as many for an odd number. Every arm runs in
//! every place equally often, and follows every other arm equally often. So neither the place in the block nor the arm
//! before has an effect on the result. The assignment of arms to the square, and the order of its rows, are drawn anew
//! for each square.

use fastrand::Rng;

/// An endless sequence of orders; the same seed gives the same sequence.
#[derive(Clone, Debug)]
pub struct Orders {
    random: Rng,
    arms: usize,
    /// The remaining rows of the current square.
    rows: Vec<Vec<usize>>,
}

// === impl Orders ===

impl Orders {
    pub fn seeded(seed: u64, arms: usize) -> Self {
        Self { random: Rng::with_seed(seed), arms, rows: Vec::new() }
    }

    /// The number of blocks after which places and predecessors are balanced.
    pub fn period(arms: usize) -> usize {
        if arms.is_multiple_of(2) { arms } else { 2 * arms }
    }

    fn square(&mut self) -> Vec<Vec<usize>> {
        let n = self.arms;
        // 0, 1, n-1, 2, n-2 …: neighbours differ by 1, 2, 3 … round the circle, each once.
        let zigzag = |place: usize| if place % 2 == 1 { place.div_ceil(2) } else { (n - place / 2) % n };
        let mut parts: Vec<usize> = (0..n).collect();
        self.random.shuffle(&mut parts);
        let row = |shift: usize| (0..n).map(|place| parts[(zigzag(place) + shift) % n]).collect::<Vec<usize>>();
        let mut rows: Vec<_> = (0..n).map(row).collect();
        if n % 2 == 1 {
            rows.extend((0..n).map(row).map(|row| row.into_iter().rev().collect()));
        }
        self.random.shuffle(&mut rows);
        rows
    }
}

impl Iterator for Orders {
    type Item = Vec<usize>;

    /// The indexes of the arms in the order in which they run in the next block.
    fn next(&mut self) -> Option<Vec<usize>> {
        if self.rows.is_empty() {
            self.rows = self.square();
        }
        self.rows.pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_arm_has_every_place_and_every_predecessor_equally_often() {
        for (arms, seed) in (1..=9).flat_map(|arms| (0..20).map(move |seed| (arms, seed))) {
            let mut orders = Orders::seeded(seed, arms);
            let period = Orders::period(arms);
            for _ in 0..3 {
                let square: Vec<_> = orders.by_ref().take(period).collect();
                let (mut places, mut pairs) = (vec![vec![0; arms]; arms], vec![vec![0; arms]; arms]);
                for order in &square {
                    order.iter().enumerate().for_each(|(place, &arm)| places[arm][place] += 1);
                    order.windows(2).for_each(|pair| pairs[pair[0]][pair[1]] += 1);
                }
                assert!(places.iter().flatten().all(|&times| times == period / arms), "{square:?} (seed {seed})");
                let times = period / arms;
                let is_fair = |(before, row): (usize, &Vec<usize>)| {
                    row.iter().enumerate().all(|(after, &found)| found == if before == after { 0 } else { times })
                };
                assert!(pairs.iter().enumerate().all(is_fair), "{square:?} (seed {seed})");
            }
        }
    }

    #[test]
    fn orders_are_drawn_and_repeatable() {
        let first = |seed| Orders::seeded(seed, 5).take(10).collect::<Vec<_>>();
        assert_eq!(first(3), first(3));
        assert_ne!(first(3), first(4));
        let begins_with_0 = (0..1000).filter(|seed| first(*seed)[0][0] == 0).count();
        assert!((150..250).contains(&begins_with_0), "{begins_with_0} of 1000, a fifth is fair (seeds 0 to 999)");
    }
}
