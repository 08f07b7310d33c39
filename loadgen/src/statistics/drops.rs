//! Blocks with a late generator, and whether dropping them biases the result.
//!
//! A block with a late segment is dropped in all arms, because arms are compared within blocks. Lateness may be
//! independent of the arm, such as a burst of another program. Then the other blocks are an unbiased sample. But an arm
//! that overloads the machine delays the generator, mostly in its worst segments. Then dropping removes the blocks that
//! count against that arm (informative censoring; Kalbfleisch and Prentice, "The Statistical Analysis of Failure Time
//! Data", section 6.2).
//!
//! There are two signs of it; each makes the verdicts on latency void:
//! - One arm has more than half of the late segments, and more than chance explains. If lateness is independent of the
//!   arm, an arm's number of late segments is binomial with probability 1 over the number of arms. The arm with the
//!   most late segments is tested. Because it was chosen for that, its one-sided p must be below 5 % over the number of
//!   arms (Bonferroni). It is the mid-p (Lancaster, "Significance tests in discrete distributions", 1961). With few
//!   segments the plain p is far below its level. It would find such an arm in 69 instead of 81 of 100 runs of three
//!   arms and 24 blocks.
//! - More than a quarter of the blocks would be dropped. Below that, a median over blocks moves little. No test of few
//!   late segments can exclude that they belong to one arm.

use statrs::distribution::{Binomial, Discrete, DiscreteCDF};

/// One arm's turn in one block, in which the generator was late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LateSegment<'a> {
    pub block: u32,
    pub arm: &'a str,
}

/// The effect of late segments on the verdicts on latency.
#[derive(Clone, Debug, PartialEq)]
pub enum Drops {
    /// No segment was late.
    None,
    /// The blocks are dropped; verdicts stay valid.
    Harmless,
    /// One arm has most of the late segments: no verdict.
    OneArm { arm: String, p: f64 },
    /// Too many blocks are left out: no verdict.
    TooMany,
}

/// The p of one arm's number of late segments, times the number of arms, must be below this.
const LEVEL: f64 = 0.05;
/// At most this share of the blocks may be dropped.
const BLOCKS_SHARE: f64 = 0.25;

/// `blocks`: the number of blocks measured in all arms.
pub fn judge_drops(arms: &[&str], blocks: u32, late: &[LateSegment<'_>]) -> Drops {
    if late.is_empty() {
        return Drops::None;
    }
    let counts = late_of_arms(arms, late);
    let Some((arm, most)) = arms.iter().zip(counts).max_by_key(|(_, count)| *count) else { return Drops::None };
    let p = mid_p(most, late.len() as u64, arms.len());
    if 2 * most > late.len() as u64 && p < LEVEL / arms.len() as f64 {
        return Drops::OneArm { arm: (*arm).to_owned(), p };
    }
    if f64::from(dropped(late).len() as u32) > BLOCKS_SHARE * f64::from(blocks) {
        return Drops::TooMany;
    }
    Drops::Harmless
}

/// How many late segments each arm had, in the order of `arms`.
pub fn late_of_arms(arms: &[&str], late: &[LateSegment<'_>]) -> Vec<u64> {
    let of = |arm: &&str| late.iter().filter(|segment| segment.arm == *arm).count() as u64;
    arms.iter().map(of).collect()
}

/// The blocks that are left out, ascending.
pub fn dropped(late: &[LateSegment<'_>]) -> Vec<u32> {
    let mut blocks: Vec<u32> = late.iter().map(|segment| segment.block).collect();
    blocks.sort_unstable();
    blocks.dedup();
    blocks
}

/// The mid-p of one of `arms` arms having `most` of `all` late segments, if each segment belongs to any arm with equal
/// probability.
fn mid_p(most: u64, all: u64, arms: usize) -> f64 {
    let law = Binomial::new(1.0 / arms.max(1) as f64, all);
    law.map_or(1.0, |law| law.sf(most) + law.pmf(most) / 2.0)
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;
    use crate::model::Verdict;
    use crate::statistics::{ArmBlocks, Measure, Settings, compare};

    const ARMS: [&str; 3] = ["base", "other", "heavy"];
    const RUNS: u64 = 2_000;

    fn late(segments: &[(u32, &'static str)]) -> Vec<LateSegment<'static>> {
        segments.iter().map(|&(block, arm)| LateSegment { block, arm }).collect()
    }

    #[test]
    fn a_few_late_segments_are_harmless_and_most_of_one_arm_are_not() {
        assert_eq!(judge_drops(&ARMS, 36, &[]), Drops::None);
        assert_eq!(judge_drops(&ARMS, 12, &late(&[(1, "base"), (4, "other"), (9, "other")])), Drops::Harmless);
        let own = late(&[(1, "heavy"), (2, "heavy"), (3, "heavy"), (4, "heavy")]);
        let Drops::OneArm { arm, p } = judge_drops(&ARMS, 36, &own) else { panic!("4 of 4") };
        assert!(arm == "heavy" && (p - 0.5 / 81.0).abs() < 1e-12, "{arm} {p}");
        assert_eq!(judge_drops(&ARMS, 36, &own[..3]), Drops::Harmless, "half of 1 in 27 is above 5 % over 3 arms");
        assert_eq!(judge_drops(&ARMS[..1], 36, &own), Drops::Harmless, "one arm alone has all of them");
    }

    #[test]
    fn more_than_a_quarter_of_the_blocks_is_too_many() {
        let of = |blocks| judge_drops(&ARMS, blocks, &late(&[(1, "base"), (2, "other"), (2, "heavy"), (3, "heavy")]));
        assert_eq!((of(12), of(11)), (Drops::Harmless, Drops::TooMany));
    }

    /// Late segments, where each arm's segments are late with this probability.
    fn drawn(random: &mut Rng, blocks: u32, chances: [f64; 3]) -> Vec<LateSegment<'static>> {
        let turns = (1..=blocks).flat_map(|block| ARMS.into_iter().map(move |arm| LateSegment { block, arm }));
        turns
            .zip(chances.into_iter().cycle())
            .filter(|(_, chance)| random.f64() < *chance)
            .map(|(turn, _)| turn)
            .collect()
    }

    fn share(what: &str, holds: impl Fn(&mut Rng) -> bool) -> f64 {
        let count = (0..RUNS).filter(|seed| holds(&mut Rng::with_seed(*seed))).count();
        println!("{what}: {count} of {RUNS} (seeds 0 to {})", RUNS - 1);
        count as f64 / RUNS as f64
    }

    #[test]
    fn lateness_that_is_independent_of_the_arm_blames_an_arm_in_at_most_5_of_100_runs() {
        for chance in [0.01, 0.02, 0.05, 0.1, 0.3] {
            for blocks in [12, 24, 48] {
                let accused = share(&format!("an arm is blamed, {chance} each, {blocks} blocks"), |random| {
                    matches!(judge_drops(&ARMS, blocks, &drawn(random, blocks, [chance; 3])), Drops::OneArm { .. })
                });
                assert!(accused <= 0.05, "{accused} at {chance}, {blocks} blocks");
            }
        }
    }

    #[test]
    fn an_arm_that_overloads_the_machine_gets_no_verdict() {
        for (blocks, least) in [(12, 0.65), (24, 0.88), (48, 0.98)] {
            let found = share(&format!("no verdict, 0.3 against 0.05, {blocks} blocks"), |random| {
                let late = drawn(random, blocks, [0.05, 0.05, 0.3]);
                matches!(judge_drops(&ARMS, blocks, &late), Drops::OneArm { .. } | Drops::TooMany)
            });
            assert!(found >= least, "{found} with {blocks} blocks");
        }
    }

    /// Numbers of arms in blocks. The heavy arm delays its generator in the segments in which it is slowest; its true
    /// ratio is 1.12, worse. Returns the late segments, and the numbers of the base and the heavy arm without the
    /// dropped blocks.
    fn censored(random: &mut Rng, blocks: u32) -> (Vec<LateSegment<'static>>, [Vec<Option<f64>>; 2]) {
        let mut late = Vec::new();
        let mut numbers = [Vec::new(), Vec::new()];
        let mut noise = |spread: f64| {
            let radius = (-2.0 * (1.0 - random.f64()).ln()).sqrt();
            (radius * (std::f64::consts::TAU * random.f64()).cos() * spread, random.f64())
        };
        for block in 1..=blocks {
            let (base, by_chance) = noise(0.05);
            // three segments of ten are beyond 0.524 standard deviations
            let (heavy, _) = noise(0.15);
            let is_late = [by_chance < 0.05, noise(0.0).1 < 0.05, heavy > 0.524 * 0.15];
            let of_block = ARMS.into_iter().zip(is_late).filter(|(_, is_late)| *is_late);
            late.extend(of_block.map(|(arm, _)| LateSegment { block, arm }));
            numbers[0].push(Some(base.exp()));
            numbers[1].push(Some(1.12 * heavy.exp()));
        }
        let gone = dropped(&late);
        let is_left = |at: usize| !gone.contains(&(at as u32 + 1));
        let left = |numbers: &[Option<f64>]| {
            numbers.iter().enumerate().filter(|(at, _)| is_left(*at)).map(|(_, number)| *number).collect::<Vec<_>>()
        };
        (late, [left(&numbers[0]), left(&numbers[1])])
    }

    /// At the strictest level of experiment b's six comparisons. There an interval alone would miss the truth in less
    /// than 1 of 100 runs.
    #[test]
    fn dropping_alone_would_favour_an_arm_and_the_rule_prevents_it() {
        let truth = 1.12;
        let latency = Measure { name: "latency_p99", more_is_better: false };
        let settings = Settings { confidence: 1.0 - 0.05 / 6.0, ..Settings::default() };
        for (blocks, least_biased) in [(12, 0.03), (24, 0.2), (48, 0.55)] {
            let run = |random: &mut Rng| {
                let (late, [base, heavy]) = censored(random, blocks);
                let arms = [ArmBlocks { arm: "heavy", numbers: &heavy }];
                let ratio =
                    compare(latency, &base, &arms, settings).pop().expect("three quarters of the blocks are left");
                let misses = !(ratio.low..=ratio.high).contains(&truth);
                (matches!(judge_drops(&ARMS, blocks, &late), Drops::None | Drops::Harmless), misses, ratio.verdict)
            };
            let biased = share(&format!("the truth is missed, no rule, {blocks} blocks"), |random| run(random).1);
            assert!(biased > least_biased, "dropping the slowest segments moves the ratio: {biased}, {blocks} blocks");
            let wrong = share(&format!("missed by an answer that stands, {blocks} blocks"), |random| {
                let (stands, misses, _) = run(random);
                stands && misses
            });
            assert!(wrong <= 0.05, "{wrong}, {blocks} blocks");
            let flattered = share(&format!("called equivalent or better, {blocks} blocks"), |random| {
                let (stands, _, verdict) = run(random);
                stands && matches!(verdict, Verdict::Equivalent | Verdict::Better)
            });
            assert!(flattered <= 0.001, "{flattered}, {blocks} blocks");
        }
    }
}
