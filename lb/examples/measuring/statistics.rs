//! The few numbers that are made of many: quantiles, medians, and a ratio of medians with its interval.
//!
//! The interval is the percentile bootstrap's (Efron 1979). Both sides are drawn again with replacement, and the
//! interval holds the middle 95 % of the resulting ratios. It assumes no law of the latencies, only that windows are
//! alike.

use serde::Serialize;

const RESAMPLES: usize = 10_000;

#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Ratio {
    pub(crate) value: f64,
    pub(crate) from: f64,
    pub(crate) to: f64,
}

/// The smallest value that at least this part of all are not above; `values` ascend.
pub(crate) fn quantile(values: &[u64], part: f64) -> u64 {
    let rank = (part * values.len() as f64).ceil() as usize;
    values.get(rank.saturating_sub(1)).or(values.last()).copied().unwrap_or(0)
}

/// The middle one, or the mean of the middle two.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => values[length / 2],
        length => (values[length / 2 - 1] + values[length / 2]) / 2.0,
    }
}

/// The median of the ratios within pairs. Pairs of neighbours share what drifts, so this is sharper where much does.
pub(crate) fn median_of_ratios(pairs: &[(f64, f64)], random: &mut fastrand::Rng) -> Ratio {
    let of_pairs: Vec<f64> = pairs.iter().map(|(above, below)| above / below).collect();
    let again = |random: &mut fastrand::Rng| -> Vec<f64> {
        of_pairs.iter().map(|_| of_pairs[random.usize(..of_pairs.len())]).collect()
    };
    let mut medians: Vec<f64> = (0..RESAMPLES).map(|_| median(&again(random))).collect();
    medians.sort_unstable_by(f64::total_cmp);
    Ratio { value: median(&of_pairs), from: medians[RESAMPLES * 25 / 1000], to: medians[RESAMPLES * 975 / 1000 - 1] }
}

pub(crate) fn ratio_of_medians(above: &[f64], below: &[f64], random: &mut fastrand::Rng) -> Ratio {
    let mut ratios: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let mut again =
                |values: &[f64]| -> Vec<f64> { values.iter().map(|_| values[random.usize(..values.len())]).collect() };
            median(&again(above)) / median(&again(below))
        })
        .collect();
    ratios.sort_unstable_by(f64::total_cmp);
    Ratio {
        value: median(above) / median(below),
        from: ratios[RESAMPLES * 25 / 1000],
        to: ratios[RESAMPLES * 975 / 1000 - 1],
    }
}
