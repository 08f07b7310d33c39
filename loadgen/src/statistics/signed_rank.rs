//! The middle of a few numbers: the Hodges-Lehmann estimate with the interval and the p of Wilcoxon's signed-rank test.
//!
//! Why not Student's: the numbers are log ratios of two arms in one block. One outlier (another process ran during a
//! segment) can move a mean and its standard error by any amount. Here it is one rank among others. The order of arms
//! in a block is random. So each difference from the true one is as likely up as down, whatever the state of the
//! machine. The test needs only that symmetry. The law of the ranks is counted exactly, so it holds for 6 blocks as for
//! 200.
//!
//! Source: Hodges and Lehmann, "Estimates of location based on rank tests", 1963, with Tukey's Walsh averages. These
//! are the averages of each pair of numbers, each number paired also with itself. The test's statistic for a middle of
//! x is the number of Walsh averages above x.

/// For more numbers than this, the law of the statistic is approximated as normal.
const EXACT_MAX: usize = 200;

/// The Walsh averages of numbers.
#[derive(Clone, Debug)]
pub(crate) struct SignedRank {
    n: usize,
    /// The averages of all pairs, ascending: n (n + 1) / 2.
    averages: Vec<f64>,
}

/// The probability that at most a given number of averages lies on one side.
#[derive(Clone, Debug)]
struct Law(Vec<f64>);

/// The fewest numbers that give an interval of this level. With fewer, even all numbers on one side are not rare
/// enough.
pub(crate) fn fewest(level: f64) -> usize {
    (1.0 - (1.0 - level).log2()).ceil().max(2.0) as usize
}

// === impl SignedRank ===

impl SignedRank {
    /// `None` without numbers. All must be finite.
    pub(crate) fn new(numbers: &[f64]) -> Option<Self> {
        let n = numbers.len();
        let mut averages: Vec<f64> =
            (0..n).flat_map(|i| (i..n).map(move |j| (i, j))).map(|(i, j)| (numbers[i] + numbers[j]) / 2.0).collect();
        averages.sort_unstable_by(f64::total_cmp);
        (n > 0).then_some(Self { n, averages })
    }

    /// The median of the averages.
    pub(crate) fn estimate(&self) -> f64 {
        let length = self.averages.len();
        (self.averages[(length - 1) / 2] + self.averages[length / 2]) / 2.0
    }

    /// The narrowest interval between these averages that covers the middle with at least this probability; `None` for
    /// too few numbers.
    pub(crate) fn interval(&self, level: f64) -> Option<(f64, f64)> {
        let outside = self.law().outside((1.0 - level) / 2.0)?;
        Some((self.averages[outside], self.averages[self.averages.len() - 1 - outside]))
    }

    /// The probability of numbers at least as one-sided about `middle` as these, if it is their true middle. An average
    /// equal to `middle` counts on both sides. So p is below 1 − level exactly when `middle` lies outside the interval
    /// of that level.
    pub(crate) fn p(&self, middle: f64) -> f64 {
        let up_to = self.averages.partition_point(|average| *average <= middle);
        let from = self.averages.len() - self.averages.partition_point(|average| *average < middle);
        (2.0 * self.law().at_most(up_to.min(from))).min(1.0)
    }

    fn law(&self) -> Law {
        Law::new(self.n)
    }
}

// === impl Law ===

impl Law {
    /// The law of the sum of the ranks 1 to n, each included with probability 1/2.
    fn new(n: usize) -> Self {
        let sums = n * (n + 1) / 2;
        if n > EXACT_MAX {
            return Self(normal(n));
        }
        let mut chances = vec![0.0; sums + 1];
        chances[0] = 1.0;
        for rank in 1..=n {
            for sum in (0..=rank * (rank + 1) / 2).rev() {
                let with = if sum >= rank { chances[sum - rank] } else { 0.0 };
                chances[sum] = (chances[sum] + with) / 2.0;
            }
        }
        let mut sum = 0.0;
        chances.iter_mut().for_each(|chance| {
            sum += *chance;
            *chance = sum;
        });
        Self(chances)
    }

    fn at_most(&self, count: usize) -> f64 {
        self.0[count.min(self.0.len() - 1)]
    }

    /// The number of averages that may be left out on one side, so that at most `tail` is lost.
    fn outside(&self, tail: f64) -> Option<usize> {
        // a tail equal to the limit counts, despite rounding of the last bit
        self.0.iter().take_while(|chance| **chance <= tail * (1.0 + 1e-12)).count().checked_sub(1)
    }
}

/// The law for many ranks: normal, with a correction for continuity.
fn normal(n: usize) -> Vec<f64> {
    let size = n as f64;
    let (mean, variance) = (size * (size + 1.0) / 4.0, size * (size + 1.0) * (2.0 * size + 1.0) / 24.0);
    let tail = |sum: usize| statrs::function::erf::erfc((mean - sum as f64 - 0.5) / (2.0 * variance).sqrt()) / 2.0;
    (0..=n * (n + 1) / 2).map(tail).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_law_of_many_ranks_goes_on_where_counting_ends() {
        let (counted, normal) = (Law::new(EXACT_MAX).0, normal(EXACT_MAX));
        let farthest = counted.iter().zip(&normal).map(|(exact, near)| (exact - near).abs()).fold(0.0, f64::max);
        assert!(farthest < 0.0005, "{farthest}");
        assert!(SignedRank::new(&[1.0; EXACT_MAX + 1]).expect("numbers").p(0.0) < 1e-9);
    }

    #[test]
    fn the_law_has_its_published_quantiles() {
        // Wilcoxon's table: largest sums whose two-sided chance is at most 5 %, and 1 %, for n = 8, 10, 16 and 25.
        for (n, five, one) in [(8, 3, 0), (10, 8, 3), (16, 29, 19), (25, 89, 68)] {
            let law = Law::new(n);
            assert_eq!((law.outside(0.025), law.outside(0.005)), (Some(five), Some(one)), "n = {n}");
        }
        assert_eq!(Law::new(5).outside(0.025), None);
    }
}
