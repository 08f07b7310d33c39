//! Success rates: which backends of a pool are far worse than the others.
//!
//! As in Envoy, the mean and σ are those of the rates of all backends with enough requests. They are not weighted by
//! requests, and σ is the one of the population. Two bad backends of five hide each other from this rule, because they
//! increase σ. The rules of failures in a row catch them if they fail often.

use super::Cause;

/// A backend is an outlier if its success rate is below the mean in both ways.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SuccessRateRule {
    /// Standard deviations below the mean.
    pub deviations: f64,
    /// Percentage points below the mean.
    pub points: f64,
    /// The smallest number of requests of a backend in an interval; with fewer it is not looked at.
    pub volume: u64,
    /// The smallest number of backends with that volume; with fewer there is no mean to compare with.
    pub backends: usize,
}

/// The requests of one backend in one interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    requests: u64,
    failures: u64,
}

// === impl Window ===

impl Window {
    /// Counters of several workers are not read at one moment, so `failures` may seem larger.
    pub(super) fn of(requests: u64, failures: u64) -> Self {
        Self { requests, failures: failures.min(requests) }
    }

    fn success_rate(self) -> f64 {
        (self.requests - self.failures) as f64 / self.requests as f64
    }
}

// === impl SuccessRateRule ===

impl Default for SuccessRateRule {
    fn default() -> Self {
        Self { deviations: 1.9, points: 10.0, volume: 100, backends: 5 }
    }
}

impl SuccessRateRule {
    /// The outliers among `windows`, the worst first, by the number that comes with each window.
    pub(super) fn outliers(&self, windows: &[(usize, Window)]) -> Vec<(usize, Cause)> {
        let volume = self.volume.max(1);
        let rates: Vec<(usize, f64)> = windows
            .iter()
            .filter(|(_, window)| window.requests >= volume)
            .map(|(index, window)| (*index, window.success_rate()))
            .collect();
        if rates.is_empty() || rates.len() < self.backends {
            return Vec::new();
        }
        let n = rates.len() as f64;
        let mean = rates.iter().map(|(_, rate)| rate).sum::<f64>() / n;
        let sigma = (rates.iter().map(|(_, rate)| (rate - mean).powi(2)).sum::<f64>() / n).sqrt();
        let is_outlier = |rate: f64| rate < mean - self.deviations * sigma && mean - rate >= self.points / 100.0;
        let mut found: Vec<_> = rates.into_iter().filter(|(_, rate)| is_outlier(*rate)).collect();
        found.sort_by(|a, b| a.1.total_cmp(&b.1));
        let thousandths = |rate: f64| (rate * 1000.0).round() as u16;
        let cause = |rate: f64| Cause::SuccessRate { own: thousandths(rate), mean: thousandths(mean) };
        found.into_iter().map(|(index, rate)| (index, cause(rate))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The outliers of windows with 1,000 requests each, by failures.
    fn found(rule: &SuccessRateRule, failures: &[u64]) -> Vec<usize> {
        let windows: Vec<_> = failures.iter().map(|failures| Window::of(1_000, *failures)).enumerate().collect();
        rule.outliers(&windows).into_iter().map(|(index, _)| index).collect()
    }

    #[test]
    fn an_outlier_is_below_the_mean_by_deviations_and_by_points() {
        const NONE: [usize; 0] = [];
        let rule = SuccessRateRule::default();
        // Envoy's example: rates of 50 % and four times 100 % have a mean of 90 %, σ 20 %, and a threshold of 52 %.
        assert_eq!(found(&rule, &[0, 500, 0, 0, 0]), [1]);
        assert_eq!(found(&rule, &[0, 0, 0, 0, 126]), [4]);
        assert_eq!(found(&rule, &[0, 0, 0, 0, 124]), NONE, "less than 10 points below the mean");
        assert_eq!(found(&SuccessRateRule { points: 0.0, ..rule }, &[0, 0, 0, 0, 1]), [4], "σ alone is noise");
        assert_eq!(found(&SuccessRateRule { deviations: 2.1, ..rule }, &[0, 0, 0, 0, 900]), NONE);
        assert_eq!(found(&rule, &[500, 500, 500, 500, 500]), NONE, "all are bad");
        assert_eq!(found(&rule, &[0, 0, 0, 700, 900]), NONE, "two of five hide each other");
        let mut of_thirty = [0; 30];
        (of_thirty[3], of_thirty[8]) = (600, 900);
        assert_eq!(found(&rule, &of_thirty), [8, 3], "the worst first");
    }

    #[test]
    fn a_rate_needs_volume_and_company() {
        let rule = SuccessRateRule::default();
        let windows = |requests: u64| -> Vec<_> {
            let failures = [90, 0, 0, 0, 0];
            failures.into_iter().map(|failures| Window::of(requests, failures)).enumerate().collect()
        };
        assert_eq!(rule.outliers(&windows(99)), []);
        let cause = Cause::SuccessRate { own: 100, mean: 820 };
        assert_eq!(rule.outliers(&windows(100)), [(0, cause)]);
        let lenient = SuccessRateRule { deviations: 1.0, ..rule };
        assert_eq!(lenient.outliers(&windows(100)).len(), 1);
        assert_eq!(lenient.outliers(&windows(100)[..4]), [], "four are too few to compare");
        assert_eq!(SuccessRateRule { volume: 0, backends: 0, ..rule }.outliers(&windows(0)), [], "no request, no rate");
    }
}
