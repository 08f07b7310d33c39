//! Measures of evenness: peak over mean, coefficient of variation, Jain's index, and a test of counts against shares.
//!
//! All take one number for each server: requests, mean requests in flight, or utilisation. If servers differ in
//! capacity, divide first ([`per_capacity`]). The result is `None` without load.

use statrs::distribution::{ChiSquared, ContinuousCDF};

/// Pearson's chi-square law is a good approximation if each class has at least this expected count.
const EXPECTED_MIN: f64 = 5.0;

/// Each load divided by the server's capacity; a server of capacity 0 is left out.
pub fn per_capacity(loads: &[f64], capacities: &[f64]) -> Vec<f64> {
    loads
        .iter()
        .zip(capacities)
        .filter(|(_, capacity)| **capacity > 0.0)
        .map(|(load, capacity)| load / capacity)
        .collect()
}

/// The highest load over the mean: 1 is even, n means that one server has all.
pub fn max_over_mean(loads: &[f64]) -> Option<f64> {
    Some(loads.iter().copied().fold(0.0, f64::max) / mean(loads)?)
}

/// Standard deviation over the mean: 0 is even. These servers are the whole population, not a sample.
pub fn coefficient_of_variation(loads: &[f64]) -> Option<f64> {
    let mean = mean(loads)?;
    let variance = loads.iter().map(|load| (load - mean).powi(2)).sum::<f64>() / loads.len() as f64;
    Some(variance.sqrt() / mean)
}

/// (Σx)² / (n Σx²): 1 is even, 1/n means that one server has all (Jain, Chiu, Hawe 1984).
pub fn jain(loads: &[f64]) -> Option<f64> {
    mean(loads)?;
    Some(loads.iter().sum::<f64>().powi(2) / (loads.len() as f64 * loads.iter().map(|load| load * load).sum::<f64>()))
}

/// The probability of counts at least as far from these shares, if requests are drawn by them (Pearson). Shares need
/// not sum to 1. `None` for fewer than two servers with a share, or too few requests.
pub fn chi_square_p(counts: &[u64], shares: &[f64]) -> Option<f64> {
    let (total, sum) = (counts.iter().sum::<u64>() as f64, shares.iter().sum::<f64>());
    let classes: Vec<(f64, f64)> =
        counts.iter().zip(shares).map(|(&count, share)| (count as f64, total * share / sum)).collect();
    if classes.iter().any(|&(count, expected)| expected == 0.0 && count > 0.0) {
        return Some(0.0);
    }
    let classes: Vec<_> = classes.into_iter().filter(|class| class.1 > 0.0).collect();
    if classes.len() < 2 || classes.iter().any(|class| class.1 < EXPECTED_MIN) {
        return None;
    }
    let statistic: f64 = classes.iter().map(|(count, expected)| (count - expected).powi(2) / expected).sum();
    Some(ChiSquared::new((classes.len() - 1) as f64).ok()?.sf(statistic))
}

fn mean(loads: &[f64]) -> Option<f64> {
    let sum: f64 = loads.iter().sum();
    (sum > 0.0).then(|| sum / loads.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: Option<f64>, expected: f64, within: f64) {
        assert!(found.is_some_and(|found| (found - expected).abs() < within), "{found:?}, not {expected}");
    }

    #[test]
    fn measures_have_their_published_values() {
        // The course's ring at N = 3: max/mean 2.53, Jain 0.459.
        let course = [84.37, 4.69, 10.94];
        close(max_over_mean(&course), 2.53, 0.005);
        close(jain(&course), 0.459, 0.0005);
        close(jain(&[0.0, 0.0, 7.0]), 1.0 / 3.0, 1e-12);
        close(coefficient_of_variation(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]), 0.4, 1e-12);
        for even in [max_over_mean(&[5.0; 4]), jain(&[5.0; 4])] {
            close(even, 1.0, 1e-12);
        }
        assert_eq!((max_over_mean(&[0.0; 3]), jain(&[]), coefficient_of_variation(&[0.0])), (None, None, None));
    }

    #[test]
    fn weighted_evenness_is_evenness_by_capacity() {
        let by_capacity = per_capacity(&[10.0, 20.0, 40.0, 3.0], &[1.0, 2.0, 4.0, 0.0]);
        assert_eq!(by_capacity, [10.0; 3]);
        close(jain(&by_capacity), 1.0, 1e-12);
    }

    #[test]
    fn jain_and_the_coefficient_of_variation_agree() {
        let mut random = fastrand::Rng::with_seed(4);
        for _ in 0..100 {
            let loads: Vec<f64> = (0..random.usize(1..9)).map(|_| random.f64() + 0.01).collect();
            let scaled: Vec<f64> = loads.iter().map(|load| load * 1e4).collect();
            let cv = coefficient_of_variation(&loads).unwrap();
            close(jain(&loads), 1.0 / (1.0 + cv * cv), 1e-9);
            close(jain(&scaled), jain(&loads).unwrap(), 1e-9);
        }
    }

    #[test]
    fn chi_square_gives_the_p_of_published_counts() {
        // The counts of a course report against the exact shares of its functions; p was computed with another program.
        close(chi_square_p(&[8258, 1073, 669], &[82.03, 10.94, 7.03]), 0.30, 0.01);
        close(chi_square_p(&[8445, 425, 1130], &[84.37, 4.69, 10.94]), 0.07, 0.005);
        assert_eq!(chi_square_p(&[5, 1], &[1.0, 0.0]), Some(0.0), "a server with share 0 got a request");
        assert_eq!(chi_square_p(&[5, 0], &[1.0, 0.0]), None);
        assert_eq!(chi_square_p(&[4, 4], &[1.0, 1.0]), None, "too few requests");
    }
}
