//! The drift of the machine over a run: the change of the baseline over its blocks.
//!
//! A slow drift cancels within blocks, so a small drift does not harm a comparison. A large one shows that another
//! program ran or that the processor was throttled, and the measurement is invalid. The change is that of the Theil-Sen
//! line (Sen 1968): the median slope over all pairs of blocks. A few bad blocks barely move it. Control segments at
//! start and end are two numbers, and their line is their ratio.

use crate::model::Drift;

/// A relative change beyond this makes a run invalid. It is wide because interleaving cancels smaller changes. The
/// noise of a machine alone exceeds 0.3 in one run of four, and 0.5 in one of ten (see the acceptance test).
pub const LIMIT: f64 = 0.5;

/// The change over the blocks of the baseline; `None` for fewer than two.
pub fn drift(baseline: &[Option<f64>], limit: f64) -> Option<Drift> {
    let logs: Vec<(f64, f64)> = baseline
        .iter()
        .enumerate()
        .filter_map(|(block, number)| Some((block as f64, number.filter(|number| *number > 0.0)?.ln())))
        .collect();
    let pairs = (0..logs.len()).flat_map(|later| (0..later).map(move |earlier| (earlier, later)));
    let mut slopes: Vec<f64> =
        pairs.map(|(earlier, later)| (logs[later].1 - logs[earlier].1) / (logs[later].0 - logs[earlier].0)).collect();
    slopes.sort_unstable_by(f64::total_cmp);
    let slope = (slopes.get(slopes.len().checked_sub(1)? / 2)? + slopes[slopes.len() / 2]) / 2.0;
    let (first, last) = (logs.first()?.0, logs.last()?.0);
    Some(Drift { ratio: (slope * (last - first)).exp(), limit })
}

/// Whether so much drift makes the run invalid. The limit is symmetric as a ratio.
pub fn is_invalid(drift: &Drift) -> bool {
    drift.ratio.ln().abs() > drift.limit.ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(numbers: &[f64]) -> Drift {
        let numbers: Vec<_> = numbers.iter().map(|number| Some(*number)).collect();
        drift(&numbers, LIMIT).expect("two or more")
    }

    #[test]
    fn a_drift_is_found_through_outliers_and_gaps() {
        let mut rising: Vec<f64> = (0..11).map(|block| 2.0 * 1.05_f64.powi(block)).collect();
        assert!((of(&rising).ratio - 1.05_f64.powi(10)).abs() < 1e-9);
        rising[3] = 40.0;
        rising[9] = 0.1;
        assert!((of(&rising).ratio - 1.05_f64.powi(10)).abs() < 0.02, "{:?}", of(&rising));
        assert!(is_invalid(&of(&rising)));
        let gaps: Vec<_> = rising.iter().enumerate().map(|(block, it)| (block % 3 == 1).then_some(*it)).collect();
        assert!((drift(&gaps, LIMIT).unwrap().ratio - 1.05_f64.powi(9)).abs() < 1e-9);
    }

    #[test]
    fn two_control_segments_are_their_ratio_and_the_limit_is_even_handed() {
        assert!((of(&[10.0, 12.0]).ratio - 1.2).abs() < 1e-12);
        assert!(!is_invalid(&of(&[10.0, 14.9])) && !is_invalid(&of(&[14.9, 10.0])));
        assert!(is_invalid(&of(&[10.0, 15.1])) && is_invalid(&of(&[15.1, 10.0])));
        assert_eq!(drift(&[Some(1.0), None], LIMIT), None);
    }
}
