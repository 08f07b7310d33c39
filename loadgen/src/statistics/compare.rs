//! Arms against a baseline: ratios within blocks, their intervals, and a verdict for each.
//!
//! A verdict follows from the interval alone. *Equivalent*: it lies within the zone in which a difference does not
//! matter. *Better* or *worse*: it excludes 1, so the direction is certain. Also, the estimate lies beyond the zone, so
//! the difference probably matters. *Undecided*: anything else, with the number of further blocks that would probably
//! decide it. The zone is symmetric as a ratio: 1/1.05 to 1.05.
//!
//! With several comparisons, a difference by chance is more likely. Holm's procedure (1979) keeps the chance of any
//! false better or worse at 1 − confidence. Of m comparisons, the one with the smallest p must pass (1 − confidence)/m,
//! the next (1 − confidence)/(m − 1), and so on. The first that does not pass, and the rest, stay at the level reached.
//! Each interval has the level that its comparison had to pass. So p, interval and verdict never contradict each other.
//! The intervals are not simultaneous. Each by itself holds its true ratio with at least the confidence, all of them at
//! once with less.
//!
//! The family is every arm at every measure with a verdict, as a rule p50, p90 and p99, chosen before the run. So the
//! chance of any false better or worse in the whole table of verdicts is at most 1 − confidence. Percentiles of one run
//! are correlated; Holm's procedure stays valid and only loses power. Other measures of arms are described, not judged
//! ([`describe`]).

use super::interval::{Interval, Sample};
use crate::model::{Ratio, Verdict};

/// Advice for more further blocks than this is not given.
const FURTHER_MAX: f64 = 1000.0;

/// Log ratios are clamped to this: e to a higher power overflows, and infinity could not be stored.
const LOG_MAX: f64 = 700.0;

/// The compared measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measure<'a> {
    /// `latency_p99`
    pub name: &'a str,
    pub more_is_better: bool,
}

/// The numbers of one arm and measure, one for each block in order. `None` where the block has no value.
#[derive(Clone, Copy, Debug)]
pub struct ArmBlocks<'a> {
    pub arm: &'a str,
    pub numbers: &'a [Option<f64>],
}

/// One measure of all arms.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    pub measure: Measure<'a>,
    pub baseline: &'a [Option<f64>],
    pub arms: &'a [ArmBlocks<'a>],
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Half-width of the zone in which a difference does not matter, relative.
    pub equivalence: f64,
    /// At least the probability that no arm equal to the baseline is called better or worse. Each interval by itself
    /// has at least this coverage.
    pub confidence: f64,
}

/// An arm's measure with enough blocks for a ratio to the baseline.
struct Row<'a> {
    measure: Measure<'a>,
    arm: &'a str,
    blocks: usize,
    sample: Sample,
}

/// Like [`compare_family`] with a single measure: the correction covers its arms alone.
pub fn compare(
    measure: Measure<'_>,
    baseline: &[Option<f64>],
    arms: &[ArmBlocks<'_>],
    settings: Settings,
) -> Vec<Ratio> {
    compare_family(&[Question { measure, baseline, arms }], settings)
}

/// Each arm divided by the baseline, measure by measure in their order. The verdicts are corrected for all of them
/// together. Blocks with a number that is missing or not positive are left out and counted. An arm with fewer than two
/// blocks left has no row, but counts in the correction.
pub fn compare_family(family: &[Question<'_>], settings: Settings) -> Vec<Ratio> {
    let rows: Vec<Row<'_>> = family.iter().flat_map(rows).collect();
    let mut ps: Vec<f64> = rows.iter().map(|row| row.sample.p(0.0)).collect();
    // a missing value does not relax the correction of the others
    ps.resize(family.iter().map(|question| question.arms.len()).sum(), 1.0);
    let zone = settings.equivalence.ln_1p();
    let judged = |(row, (level, p)): (&Row<'_>, (f64, f64))| {
        let interval = row.sample.interval(1.0 - level);
        let verdict = judge(&interval, zone, row.measure.more_is_better);
        let further_blocks = (verdict == Verdict::Undecided).then(|| further_blocks(&interval, zone, level)).flatten();
        Ratio { p: Some(p), verdict, further_blocks, ..row.ratio(&interval) }
    };
    rows.iter().zip(holm(&ps, 1.0 - settings.confidence)).map(judged).collect()
}

/// Each arm divided by the baseline, without a verdict: each interval has the confidence by itself, and there is no p.
pub fn describe(question: &Question<'_>, settings: Settings) -> Vec<Ratio> {
    rows(question).map(|row| row.ratio(&row.sample.interval(settings.confidence))).collect()
}

fn rows<'a>(question: &Question<'a>) -> impl Iterator<Item = Row<'a>> {
    let Question { measure, baseline, arms } = *question;
    arms.iter().filter_map(move |arm| {
        let sample = Sample::new(log_ratios(arm.numbers, baseline))?;
        Some(Row { measure, arm: arm.arm, blocks: baseline.len(), sample })
    })
}

/// The log ratios of the blocks in which both have a number.
pub(super) fn log_ratios(arm: &[Option<f64>], baseline: &[Option<f64>]) -> Vec<f64> {
    let logs = arm.iter().zip(baseline).filter_map(|(&arm, &baseline)| Some((arm?.ln(), baseline?.ln())));
    logs.map(|(arm, baseline)| arm - baseline).filter(|ratio| ratio.is_finite()).collect()
}

/// For each p, the level that it must pass, and p after correction.
fn holm(ps: &[f64], alpha: f64) -> Vec<(f64, f64)> {
    let mut order: Vec<usize> = (0..ps.len()).collect();
    order.sort_by(|&a, &b| ps[a].total_cmp(&ps[b]));
    let mut held = vec![(alpha, 1.0); ps.len()];
    let (mut level, mut passes, mut corrected) = (alpha, true, 0.0_f64);
    for (rank, &at) in order.iter().enumerate() {
        let left = (ps.len() - rank) as f64;
        if passes {
            level = alpha / left;
            passes = ps[at] <= level;
        }
        corrected = corrected.max((ps[at] * left).min(1.0));
        held[at] = (level, corrected);
    }
    held
}

/// The verdict of an interval of log ratios.
fn judge(interval: &Interval, zone: f64, more_is_better: bool) -> Verdict {
    if !interval.is_sound {
        return Verdict::Undecided;
    }
    if interval.low > -zone && interval.high < zone {
        return Verdict::Equivalent;
    }
    let is_certain = interval.low > 0.0 || interval.high < 0.0;
    if !is_certain || interval.estimate.abs() <= zone {
        return Verdict::Undecided;
    }
    if (interval.estimate > 0.0) == more_is_better { Verdict::Better } else { Verdict::Worse }
}

/// The number of further blocks that would decide it, if the estimate stays and the width falls with the root of the
/// number of blocks.
fn further_blocks(interval: &Interval, zone: f64, level: f64) -> Option<u32> {
    let needed = Interval::blocks_needed(1.0 - level).saturating_sub(interval.n);
    let estimate = interval.estimate.abs();
    // Either the near end must pass 1, or the far end must come into the zone.
    let near = if interval.estimate > 0.0 { estimate - interval.low } else { interval.high - interval.estimate };
    let far = interval.half_width();
    let shrinking = if estimate > zone { near / estimate } else { far / (zone - estimate) };
    let more = interval.n as f64 * (shrinking * shrinking - 1.0);
    let further = (needed as f64).max(more.ceil()).max(1.0);
    (further <= FURTHER_MAX).then_some(further as u32)
}

// === impl Row ===

impl Row<'_> {
    /// Without a verdict.
    fn ratio(&self, interval: &Interval) -> Ratio {
        let Interval { estimate, low, high, n, is_sound } = interval.map(|log| log.clamp(-LOG_MAX, LOG_MAX).exp());
        Ratio {
            arm: self.arm.to_owned(),
            measure: self.measure.name.to_owned(),
            more_is_better: self.measure.more_is_better,
            ratio: estimate,
            low,
            high,
            left_out: (self.blocks - n) as u32,
            is_sound,
            p: None,
            verdict: Verdict::Undecided,
            further_blocks: None,
        }
    }
}

// === impl Settings ===

impl Default for Settings {
    /// ±5 %, 95 %.
    fn default() -> Self {
        Self { equivalence: 0.05, confidence: 0.95 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: Settings = Settings { equivalence: 0.05, confidence: 0.95 };
    const LATENCY: Measure<'_> = Measure { name: "latency_p99", more_is_better: false };

    #[test]
    fn however_far_apart_two_blocks_are_every_number_is_finite() {
        let (one, far) = ([Some(1.0), Some(1.0)], [Some(1e-300), Some(1e300)]);
        let ratio = &compare(LATENCY, &one, &[ArmBlocks { arm: "a", numbers: &far }], Settings::default())[0];
        assert!([ratio.ratio, ratio.low, ratio.high].iter().all(|number| number.is_finite()), "{ratio:?}");
        assert_eq!((ratio.verdict, ratio.further_blocks), (Verdict::Undecided, None));
    }

    #[test]
    fn too_few_blocks_are_not_sound() {
        for (blocks, is_sound) in [(2, false), (5, false), (6, true)] {
            let (baseline, arm) = arms(2.85, 0.05, blocks, 4);
            assert_eq!(one(&baseline, &arm, LATENCY).is_sound, is_sound, "{blocks} blocks");
        }
    }

    /// A baseline with its own noise, and an arm that is `ratio` times it with a noise of `spread`.
    fn arms(ratio: f64, spread: f64, blocks: usize, seed: u64) -> (Vec<Option<f64>>, Vec<Option<f64>>) {
        let mut random = fastrand::Rng::with_seed(seed);
        let baseline: Vec<Option<f64>> = (0..blocks).map(|_| Some(10.0 + random.f64())).collect();
        let mut noise = || (spread * (random.f64() + random.f64() - 1.0)).exp();
        let arm = baseline.iter().map(|number| number.map(|number| number * ratio * noise())).collect();
        (baseline, arm)
    }

    fn one(baseline: &[Option<f64>], arm: &[Option<f64>], measure: Measure<'_>) -> Ratio {
        compare(measure, baseline, &[ArmBlocks { arm: "a", numbers: arm }], SETTINGS).remove(0)
    }

    #[test]
    fn each_verdict_is_reached_and_its_sign_follows_the_measure() {
        let rate = Measure { name: "rps", more_is_better: true };
        for (ratio, spread, latency, of_rate) in [
            (1.2, 0.05, Verdict::Worse, Verdict::Better),
            (0.8, 0.05, Verdict::Better, Verdict::Worse),
            (1.0, 0.02, Verdict::Equivalent, Verdict::Equivalent),
            (1.0, 0.5, Verdict::Undecided, Verdict::Undecided),
        ] {
            let (baseline, arm) = arms(ratio, spread, 16, 2);
            assert_eq!(one(&baseline, &arm, LATENCY).verdict, latency, "{ratio} ± {spread}");
            assert_eq!(one(&baseline, &arm, rate).verdict, of_rate, "{ratio} ± {spread}");
        }
    }

    #[test]
    fn a_certain_but_small_difference_is_no_verdict_for_either_side() {
        let at = |low: f64, estimate: f64, high: f64| {
            judge(&Interval { estimate, low, high, n: 12, is_sound: true }, 0.05_f64.ln_1p(), false)
        };
        assert_eq!(at(0.01, 0.03, 0.04), Verdict::Equivalent);
        assert_eq!(at(0.01, 0.04, 0.07), Verdict::Undecided, "the direction is certain, the size may not matter");
        assert_eq!(at(0.01, 0.06, 0.11), Verdict::Worse);
        assert_eq!(at(-0.01, 0.06, 0.13), Verdict::Undecided);
        assert_eq!(at(-0.11, -0.06, -0.01), Verdict::Better);
        let unsound = Interval { estimate: 0.5, low: 0.4, high: 0.6, n: 3, is_sound: false };
        assert_eq!(judge(&unsound, 0.05, false), Verdict::Undecided);
    }

    #[test]
    fn a_scale_changes_nothing_and_a_swap_of_arms_inverts() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (baseline, arm) = arms(0.7 + 0.6 * random.f64(), random.f64(), random.usize(2..30), seed);
            let scale = 10_f64.powf(6.0 * random.f64() - 3.0);
            let scaled = |numbers: &[Option<f64>]| numbers.iter().map(|it| it.map(|it| it * scale)).collect::<Vec<_>>();
            let (plain, large) = (one(&baseline, &arm, LATENCY), one(&scaled(&baseline), &scaled(&arm), LATENCY));
            let close = |a: f64, b: f64| (a / b - 1.0).abs() < 1e-9;
            assert!(
                close(plain.ratio, large.ratio) && close(plain.low, large.low),
                "seed {seed}: {plain:?}, {large:?}"
            );
            assert_eq!((plain.verdict, plain.further_blocks), (large.verdict, large.further_blocks), "seed {seed}");
            let swapped = one(&arm, &baseline, LATENCY);
            let inverted = close(swapped.ratio, 1.0 / plain.ratio)
                && close(swapped.low, 1.0 / plain.high)
                && close(swapped.high, 1.0 / plain.low);
            assert!(inverted && close(swapped.p.unwrap(), plain.p.unwrap()), "seed {seed}: {plain:?}, {swapped:?}");
            let opposite = match plain.verdict {
                Verdict::Better => Verdict::Worse,
                Verdict::Worse => Verdict::Better,
                same => same,
            };
            assert_eq!(swapped.verdict, opposite, "seed {seed}");
        }
    }

    #[test]
    fn blocks_that_miss_one_side_are_left_out() {
        let (mut baseline, mut arm) = arms(1.2, 0.05, 10, 3);
        let whole = one(&baseline[2..], &arm[2..], LATENCY);
        (baseline[0], arm[1]) = (None, Some(0.0));
        assert_eq!(one(&baseline, &arm, LATENCY), Ratio { left_out: 2, ..whole });
        let nothing = [None, Some(1.0), None];
        assert!(compare(LATENCY, &nothing, &[ArmBlocks { arm: "a", numbers: &nothing }], SETTINGS).is_empty());
    }

    #[test]
    fn holm_holds_each_to_its_level() {
        // By hand: 0.05/4 passes, 0.05/3 passes, 0.05/2 does not, so none after it.
        let held = holm(&[0.04, 0.001, 0.012, 0.03], 0.05);
        let expected = [(0.025, 0.06), (0.0125, 0.004), (0.05 / 3.0, 0.036), (0.025, 0.06)];
        for (held, expected) in held.into_iter().zip(expected) {
            assert!(
                (held.0 - expected.0).abs() < 1e-12 && (held.1 - expected.1).abs() < 1e-12,
                "{held:?} {expected:?}"
            );
        }
    }

    #[test]
    fn the_correction_covers_all_measures_and_those_without_a_value_too() {
        let (baseline, arm) = arms(1.2, 0.05, 12, 6);
        let missing = vec![None; 12];
        let (one, none) = ([ArmBlocks { arm: "a", numbers: &arm }], [ArmBlocks { arm: "a", numbers: &missing }]);
        let question =
            |name, arms| Question { measure: Measure { name, more_is_better: false }, baseline: &baseline, arms };
        let alone = compare_family(&[question("latency_p50", &one)], SETTINGS).remove(0);
        let names = ["latency_p50", "latency_p90", "latency_p99"];
        let of_three = compare_family(&names.map(|name| question(name, &one[..])), SETTINGS);
        assert_eq!(of_three.iter().map(|ratio| ratio.measure.as_str()).collect::<Vec<_>>(), names);
        let close = |a: f64, b: f64| (a / b - 1.0).abs() < 1e-9;
        assert!(close(of_three[0].p.unwrap(), 3.0 * alone.p.unwrap()), "{:?}", of_three[0]);
        assert!(of_three[0].low < alone.low && of_three[0].verdict == Verdict::Worse, "{:?}", of_three[0]);
        let unsaid = compare_family(&[question(names[0], &one), question(names[1], &none)], SETTINGS);
        assert!(unsaid.len() == 1 && close(unsaid[0].p.unwrap(), 2.0 * alone.p.unwrap()), "{unsaid:?}");
        let described = describe(&question("service_p99", &one), SETTINGS).remove(0);
        assert_eq!((described.p, described.verdict, described.further_blocks), (None, Verdict::Undecided, None));
        assert!(close(described.low, alone.low) && close(described.high, alone.high), "at the confidence by itself");
    }

    #[test]
    fn corrected_p_interval_and_verdict_agree() {
        for seed in 0..300 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (baseline, _) = arms(1.0, 0.1, 14, seed);
            let numbers: Vec<_> = (0..4).map(|_| arms(0.9 + 0.2 * random.f64(), 0.3, 14, random.u64(..)).1).collect();
            let labelled: Vec<_> = numbers.iter().map(|numbers| ArmBlocks { arm: "a", numbers }).collect();
            for ratio in compare(LATENCY, &baseline, &labelled, SETTINGS) {
                let excludes_one = ratio.low > 1.0 || ratio.high < 1.0;
                assert_eq!(ratio.p.unwrap() <= 0.05, excludes_one, "seed {seed}: {ratio:?}");
                assert!(
                    ratio.further_blocks.is_none() || ratio.verdict == Verdict::Undecided,
                    "seed {seed}: {ratio:?}"
                );
            }
        }
    }

    #[test]
    fn further_blocks_follow_from_the_width() {
        let further = |estimate: f64, half: f64, n: usize| {
            let interval = Interval { estimate, low: estimate - half, high: estimate + half, n, is_sound: true };
            further_blocks(&interval, 0.05, 0.05)
        };
        assert_eq!(further(0.1, 0.2, 10), Some(30), "twice the allowed width: four times the blocks");
        assert_eq!(further(0.0, 0.1, 10), Some(30));
        assert_eq!(further(0.049999, 0.1, 10), None, "on the border of the zone no number decides");
        assert_eq!(further(0.2, 0.1, 3), Some(3), "six are the fewest");
    }
}
