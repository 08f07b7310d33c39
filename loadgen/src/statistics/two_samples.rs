//! A test whether two rows of counts have the same law.
//!
//! Pearson's test of homogeneity: Agresti, "Categorical Data Analysis", 2nd edition, section 3.2. Cells with an
//! expected count below five are merged (Cochran 1954), because the chi-square law approximates them poorly.

use statrs::distribution::{ChiSquared, ContinuousCDF};

const EXPECTED_MIN: f64 = 5.0;

/// The probability of shares at least as different as these in two samples of one law. `None` with too few counts or
/// rows of different length. Cells that are 0 in both rows do not count.
pub fn same_shares_p(first: &[u64], second: &[u64]) -> Option<f64> {
    let sum = |row: &[u64]| row.iter().map(|count| *count as f64).sum::<f64>();
    let (all_first, all_second) = (sum(first), sum(second));
    let all = all_first + all_second;
    if first.len() != second.len() || all_first == 0.0 || all_second == 0.0 {
        return None;
    }
    let smaller = all_first.min(all_second);
    let mut columns: Vec<(f64, f64)> = Vec::new();
    let mut rare = (0.0, 0.0);
    for (&one, &two) in first.iter().zip(second) {
        let column = (one as f64, two as f64);
        if (column.0 + column.1) * smaller / all >= EXPECTED_MIN {
            columns.push(column);
        } else {
            rare = (rare.0 + column.0, rare.1 + column.1);
        }
    }
    if (rare.0 + rare.1) * smaller / all >= EXPECTED_MIN {
        columns.push(rare);
    }
    // both have all counts in one cell
    if columns.len() < 2 {
        let is_same = rare == (0.0, 0.0) && columns.len() == 1;
        return is_same.then_some(1.0);
    }
    let part = |(one, two): &(f64, f64)| {
        let expected = |row: f64| (one + two) * row / all;
        (one - expected(all_first)).powi(2) / expected(all_first)
            + (two - expected(all_second)).powi(2) / expected(all_second)
    };
    let statistic: f64 = columns.iter().map(part).sum();
    let law = ChiSquared::new((columns.len() - 1) as f64).ok()?;
    Some(law.sf(statistic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statistic_is_that_of_the_textbook() {
        // heart attacks under a placebo and under aspirin, Agresti table 2.1 (189 of 11,034 and 104 of 11,037): X² =
        // 25.01
        let p = same_shares_p(&[189, 10_845], &[104, 10_933]).expect("many");
        assert!((5.0e-7..6.5e-7).contains(&p), "{p}");
        assert_eq!(same_shares_p(&[10, 20, 30], &[10, 20, 30]), Some(1.0));
    }

    /// Draws of one law are rejected as often as the level says. A law with 20 % more on one backend is rejected nearly
    /// always.
    #[test]
    fn its_errors_are_as_rare_as_its_level() {
        let mut random = fastrand::Rng::with_seed(4);
        let mut draw = |shares: [f64; 3], number: usize| {
            let mut counts = [0_u64; 3];
            for _ in 0..number {
                let at = random.f64();
                counts[if at < shares[0] {
                    0
                } else if at < shares[0] + shares[1] {
                    1
                } else {
                    2
                }] += 1;
            }
            counts
        };
        let (one, other) = ([0.5, 0.3, 0.2], [0.6, 0.24, 0.16]);
        let (mut alarms, mut found) = (0, 0);
        for _ in 0..2_000 {
            let first = draw(one, 2_000);
            alarms += usize::from(same_shares_p(&first, &draw(one, 1_000)).expect("many") < 0.05);
            found += usize::from(same_shares_p(&first, &draw(other, 2_000)).expect("many") < 0.01);
        }
        assert!((70..=135).contains(&alarms), "{alarms} of 2000 at 5 % (seed 4)");
        assert!(found > 1_980, "{found} of 2000 (seed 4)");
    }

    #[test]
    fn few_counts_give_no_p() {
        assert_eq!(same_shares_p(&[3, 0], &[0, 3]), None);
        assert_eq!(same_shares_p(&[], &[]), None);
        assert_eq!(same_shares_p(&[5, 5], &[5]), None);
        assert_eq!(same_shares_p(&[500], &[400]), Some(1.0), "one backend has all of them in both");
    }
}
