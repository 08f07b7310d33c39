//! Whether a repeated comparison agrees with the first one.
//!
//! An interval is about the true ratio, not about the next estimate. The next estimate has its own chance error. It
//! lies outside the first 95 % interval in about one of seven exact repetitions. So the difference of the logarithms is
//! compared with the root of the sum of squares of both half-widths.

use crate::model::Ratio;

/// Whether two estimates of one ratio differ by no more than both intervals together allow.
pub fn agree(first: &Ratio, second: &Ratio) -> bool {
    let half_width = |ratio: &Ratio| (ratio.high.ln() - ratio.low.ln()) / 2.0;
    (first.ratio.ln() - second.ratio.ln()).abs() <= half_width(first).hypot(half_width(second))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Verdict;

    #[test]
    fn both_half_widths_count() {
        let ratio = |log: f64, half: f64| Ratio {
            arm: "a".into(),
            measure: "latency_p99".into(),
            more_is_better: false,
            ratio: log.exp(),
            low: (log - half).exp(),
            high: (log + half).exp(),
            left_out: 0,
            is_sound: true,
            p: None,
            verdict: Verdict::Undecided,
            further_blocks: None,
        };
        // 3, 4, 5: a right triangle
        assert!(agree(&ratio(0.0, 0.03), &ratio(0.0499, 0.04)) && agree(&ratio(0.0499, 0.04), &ratio(0.0, 0.03)));
        assert!(!agree(&ratio(0.0, 0.03), &ratio(0.0501, 0.04)) && !agree(&ratio(0.0501, 0.04), &ratio(0.0, 0.03)));
        assert!(agree(&ratio(0.3, 0.0), &ratio(0.3, 0.0)), "equal estimates without width");
    }
}
