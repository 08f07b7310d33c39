//! The statistics that tests of balance need: counts, spread, peak to mean, chi-square and Kolmogorov-Smirnov.

use std::f64::consts::PI;

use statrs::distribution::{ChiSquared, ContinuousCDF};

/// The number of times that each of `0..n` occurs.
pub fn counts(n: usize, picks: impl IntoIterator<Item = usize>) -> Vec<u64> {
    let mut counts = vec![0; n];
    picks.into_iter().for_each(|pick| counts[pick] += 1);
    counts
}

/// The largest count minus the smallest; 0 without counts.
pub fn spread(counts: &[u64]) -> u64 {
    counts.iter().max().unwrap_or(&0) - counts.iter().min().unwrap_or(&0)
}

/// The largest share divided by the mean share.
pub fn peak_to_mean(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    shares.iter().copied().fold(0.0, f64::max) * shares.len() as f64 / sum
}

/// The probability of counts that are at least as uneven as these, if the law has these weights (Pearson's chi-square).
pub fn chi_square_p(observed: &[u64], weights: &[f64]) -> f64 {
    let total: u64 = observed.iter().sum();
    let sum: f64 = weights.iter().sum();
    let statistic: f64 = observed
        .iter()
        .zip(weights)
        .map(|(&count, weight)| {
            let expected = total as f64 * weight / sum;
            (count as f64 - expected).powi(2) / expected
        })
        .sum();
    1.0 - ChiSquared::new((observed.len() - 1) as f64).expect("two or more classes").cdf(statistic)
}

/// The probability of counts that differ at least as much as these two, if both have the same law (Pearson's
/// chi-square). 1 if both name only one class.
pub fn same_law_p(one: &[u64], other: &[u64]) -> f64 {
    let totals = [one, other].map(|counts| counts.iter().sum::<u64>() as f64);
    let classes: Vec<[f64; 2]> =
        one.iter().zip(other).filter(|(a, b)| **a + **b > 0).map(|(&a, &b)| [a as f64, b as f64]).collect();
    let statistic: f64 = classes
        .iter()
        .flat_map(|class| {
            let share = (class[0] + class[1]) / (totals[0] + totals[1]);
            [0, 1].map(|side| (class[side] - share * totals[side]).powi(2) / (share * totals[side]))
        })
        .sum();
    match ChiSquared::new(classes.len().saturating_sub(1) as f64) {
        Ok(law) => 1.0 - law.cdf(statistic),
        Err(_) => 1.0,
    }
}

/// The probability of independent samples that are at least as far from the law `cdf` as these (Kolmogorov-Smirnov).
///
/// The value is asymptotic, with Stephens' correction for the sample size. It is good for about 10 samples or more.
pub fn kolmogorov_smirnov_p(samples: &[f64], cdf: impl Fn(f64) -> f64) -> f64 {
    let mut samples = samples.to_vec();
    samples.sort_by(f64::total_cmp);
    let n = samples.len() as f64;
    let distance = samples
        .iter()
        .enumerate()
        .map(|(i, &sample)| (cdf(sample) - i as f64 / n).max((i + 1) as f64 / n - cdf(sample)))
        .fold(0.0, f64::max);
    kolmogorov_tail((n.sqrt() + 0.12 + 0.11 / n.sqrt()) * distance)
}

/// 1 − K(x) for Kolmogorov's law K. Below and above 1 it uses the series that converges faster there.
fn kolmogorov_tail(x: f64) -> f64 {
    if x < 0.2 {
        return 1.0;
    }
    if x < 1.0 {
        let below: f64 = (1..=5).map(|k| (-(f64::from(2 * k - 1) * PI / x).powi(2) / 8.0).exp()).sum();
        return 1.0 - (2.0 * PI).sqrt() / x * below;
    }
    let alternating = |k: i32| if k % 2 == 1 { 1.0 } else { -1.0 } * (-2.0 * f64::from(k * k) * x * x).exp();
    2.0 * (1..=5).map(alternating).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_one_law_are_told_from_counts_of_two() {
        assert!(same_law_p(&[800, 200, 0], &[790, 210, 0]) > 0.3);
        assert!(same_law_p(&[800, 200], &[700, 300]) < 1e-5);
        assert!(same_law_p(&[80, 20], &[800, 200]) > 0.999, "totals may differ");
        assert!(same_law_p(&[10, 0], &[0, 10]) < 1e-4);
        assert_eq!([same_law_p(&[10, 0], &[20, 0]), same_law_p(&[], &[])], [1.0, 1.0]);
    }

    #[test]
    fn kolmogorovs_law_has_its_published_quantiles() {
        // Critical values of the limit law: 1.22385 (10 %), 1.35810 (5 %), 1.62762 (1 %); median 0.82757.
        for (x, tail) in [(1.22385, 0.10), (1.35810, 0.05), (1.62762, 0.01), (0.82757, 0.5)] {
            assert!((kolmogorov_tail(x) - tail).abs() < 1e-4, "at {x}: {}", kolmogorov_tail(x));
        }
    }

    #[test]
    fn both_series_agree_where_they_meet() {
        assert!((kolmogorov_tail(0.999_999) - kolmogorov_tail(1.000_001)).abs() < 1e-5);
    }

    #[test]
    fn chi_square_has_its_published_quantile() {
        // 3.841 is the 5 % point with one degree of freedom: (50 ± d)² with 2 d² / 50 = 3.841.
        let p = chi_square_p(&[598, 402], &[1.0, 1.0]);
        assert!(p < 1e-8, "{p}");
        let p = chi_square_p(&[5310, 4690], &[1.0, 1.0]);
        assert!(p < 1e-8, "{p}");
        let p = chi_square_p(&[5098, 4902], &[1.0, 1.0]); // 98² / 5000 × 2 = 3.8416
        assert!((p - 0.05).abs() < 1e-4, "{p}");
    }

    #[test]
    fn uniform_samples_pass_and_shifted_ones_fail() {
        let even: Vec<f64> = (0..300).map(|i| (f64::from(i) + 0.5) / 300.0).collect();
        let shifted: Vec<f64> = even.iter().map(|x| x * 0.85).collect();
        assert!(kolmogorov_smirnov_p(&even, |x| x) > 0.99);
        assert!(kolmogorov_smirnov_p(&shifted, |x| x) < 0.01);
    }

    #[test]
    fn spread_and_peak_have_known_values() {
        assert_eq!(counts(3, [0, 2, 2]), [1, 0, 2]);
        assert_eq!(spread(&[1, 0, 2]), 2);
        assert_eq!(spread(&[]), 0);
        assert!((peak_to_mean(&[1.0, 3.0]) - 1.5).abs() < 1e-12);
    }
}
