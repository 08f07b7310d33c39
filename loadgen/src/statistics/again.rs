//! Whether a comparison that was repeated came out the same.
//!
//! An interval says where the truth lies, not where the next estimate will: that one has chance of its own, and lies outside the 95 %
//! interval of the first in about one of seven repetitions of the same. The difference of two independent estimates is as uncertain as
//! both together, so on the scale of logarithms it is held against the root of the sum of squares of both half-widths.

use crate::model::Ratio;

/// Whether two estimates of one ratio differ by no more than both intervals explain.
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
        // 3, 4, 5
        assert!(agree(&ratio(0.0, 0.03), &ratio(0.0499, 0.04)) && agree(&ratio(0.0499, 0.04), &ratio(0.0, 0.03)));
        assert!(!agree(&ratio(0.0, 0.03), &ratio(0.0501, 0.04)) && !agree(&ratio(0.0501, 0.04), &ratio(0.0, 0.03)));
        assert!(agree(&ratio(0.3, 0.0), &ratio(0.3, 0.0)), "the same without any width");
    }
}
