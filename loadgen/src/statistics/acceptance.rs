//! Tests of the claims about comparisons, each with 2,000 synthetic comparisons (`synthetic` makes the data).
//!
//! Shares are counted, printed and compared with limits. The seeds are 0 to 1,999, so every run gives the same shares.

use super::again::agree;
use super::compare::{ArmBlocks, Measure, Question, Settings, compare, compare_family};
use super::drift::{LIMIT, drift, is_invalid};
use super::interval::typical;
use super::stop::{Looks, Stop, StopRule, half_widths, precision};
use super::synthetic::World;
use crate::model::{Ratio, Verdict};

const COMPARISONS: u64 = 2_000;
const SETTINGS: Settings = Settings { equivalence: 0.05, confidence: 0.95 };
const LATENCY: Measure<'_> = Measure { name: "latency_p99", more_is_better: false };

/// Compares every arm with the first.
fn ratios(measured: &[Vec<Option<f64>>]) -> Vec<Ratio> {
    let arms: Vec<_> = measured[1..].iter().map(|numbers| ArmBlocks { arm: "arm", numbers }).collect();
    compare(LATENCY, &measured[0], &arms, SETTINGS)
}

/// The share of 2,000 comparisons for which `holds` is true.
fn share(holds: impl Fn(u64) -> bool) -> f64 {
    (0..COMPARISONS).filter(|seed| holds(*seed)).count() as f64 / COMPARISONS as f64
}

fn assert_share(what: &str, found: f64, least: f64, most: f64) {
    println!("{what}: {:.2} % of {COMPARISONS} (seeds 0 to {})", found * 100.0, COMPARISONS - 1);
    assert!((least..=most).contains(&found), "{what}: {found}, not {least} to {most} (seeds 0 to {})", COMPARISONS - 1);
}

fn is_called_different(ratio: &Ratio) -> bool {
    matches!(ratio.verdict, Verdict::Better | Verdict::Worse)
}

#[test]
fn intervals_cover_the_truth_in_95_of_100_comparisons() {
    for (truth, blocks) in [(1.0, 8), (1.0, 16), (1.15, 12), (0.7, 30)] {
        let world = World { blocks, ..World::USUAL };
        let covered = share(|seed| {
            let ratio = &ratios(&world.run(&[1.0, truth], seed))[0];
            (ratio.low..=ratio.high).contains(&truth)
        });
        assert_share(&format!("coverage of {truth}, {blocks} blocks"), covered, 0.93, 0.97);
    }
}

#[test]
fn an_arm_against_itself_is_called_different_in_at_most_5_of_100() {
    let of = |verdict: fn(&Ratio) -> bool| share(|seed| verdict(&ratios(&World::USUAL.run(&[1.0, 1.0], seed))[0]));
    assert_share("A/A better or worse", of(is_called_different), 0.0, 0.05);
    let calm = World { noise: 0.02, mood: 0.05, visitors: 0.0, own_mood: 0.0, ..World::USUAL };
    let equivalent = share(|seed| ratios(&calm.run(&[1.0, 1.0], seed))[0].verdict == Verdict::Equivalent);
    assert_share("A/A equivalent on a calm machine", equivalent, 0.95, 1.0);
}

/// The first interval alone would contain only about six of seven repeated estimates.
#[test]
fn a_repetition_of_the_same_agrees_in_at_least_95_of_100() {
    let of = |seed: u64| ratios(&World::USUAL.run(&[1.0, 1.15], seed)).remove(0);
    let again = |seed: u64| of(seed + COMPARISONS);
    assert_share("replays that agree", share(|seed| agree(&of(seed), &again(seed))), 0.95, 0.99);
    let inside = |seed| (of(seed).low..=of(seed).high).contains(&again(seed).ratio);
    assert_share("replays inside the old interval", share(inside), 0.75, 0.92);
}

#[test]
fn a_planted_15_percent_is_found_in_95_of_100() {
    let slower = share(|seed| ratios(&World::USUAL.run(&[1.0, 1.15], seed))[0].verdict == Verdict::Worse);
    assert_share("15 % slower is worse", slower, 0.95, 1.0);
    let faster = share(|seed| ratios(&World::USUAL.run(&[1.15, 1.0], seed))[0].verdict == Verdict::Better);
    assert_share("15 % faster is better", faster, 0.95, 1.0);
}

#[test]
fn of_five_equal_arms_one_is_called_different_in_at_most_5_of_100() {
    let any = share(|seed| ratios(&World::USUAL.run(&[1.0; 6], seed)).iter().any(is_called_different));
    assert_share("any of five A/A arms", any, 0.0, 0.05);
    // One arm is different, four are not: it is found, and the four are not called different.
    let truth = [1.0, 1.0, 1.2, 1.0, 1.0, 1.0];
    let found = share(|seed| ratios(&World::USUAL.run(&truth, seed))[1].verdict == Verdict::Worse);
    assert_share("20 % slower among five", found, 0.93, 1.0);
    let wrong = share(|seed| {
        let ratios = ratios(&World::USUAL.run(&truth, seed));
        ratios.iter().enumerate().any(|(arm, ratio)| arm != 1 && is_called_different(ratio))
    });
    assert_share("any of the other four", wrong, 0.0, 0.05);
}

/// The values of each arm at p50, p90 and p99. The levels of `World` are common to all three. Each percentile has its
/// own noise, more for higher ones. `shift`: by which factor the truth of each percentile differs from the arm's level.
fn percentiles(truth: &[f64], shift: impl Fn(usize, usize) -> f64, seed: u64) -> [Vec<Vec<Option<f64>>>; 3] {
    let levels = World { noise: 0.04, blocks: 12, ..World::USUAL }.run(truth, seed);
    let mut random = fastrand::Rng::with_seed(!seed);
    let mut noise = |spread: f64| {
        // a sum of uniform numbers is near enough to normal
        (spread * ((0..12).map(|_| random.f64()).sum::<f64>() - 6.0)).exp()
    };
    [0, 1, 2].map(|at| {
        let own = [0.01, 0.03, 0.06][at];
        let arm = |(arm, numbers): (usize, &Vec<Option<f64>>)| {
            numbers.iter().map(|number| number.map(|number| number * shift(at, arm) * noise(own))).collect()
        };
        levels.iter().enumerate().map(arm).collect()
    })
}

/// Compares all percentiles of all arms with the first arm.
fn table(measured: &[Vec<Vec<Option<f64>>>; 3]) -> Vec<Ratio> {
    let names = ["latency_p50", "latency_p90", "latency_p99"];
    let arms = |at: usize| {
        let others = measured[at][1..].iter();
        others.map(|numbers| ArmBlocks { arm: "arm", numbers }).collect::<Vec<_>>()
    };
    let arms = [arms(0), arms(1), arms(2)];
    let question = |at: usize| Question {
        measure: Measure { name: names[at], more_is_better: false },
        baseline: &measured[at][0],
        arms: &arms[at],
    };
    compare_family(&[question(0), question(1), question(2)], SETTINGS)
}

/// The size of experiment `b`: two arms beside the baseline, three correlated percentiles, twelve blocks.
#[test]
fn of_all_percentiles_of_all_arms_one_is_called_different_in_at_most_5_of_100() {
    let any = share(|seed| table(&percentiles(&[1.0; 3], |_, _| 1.0, seed)).iter().any(is_called_different));
    assert_share("any of two A/A arms at three percentiles", any, 0.0, 0.05);
    // One arm is 35 % quicker at p50 and p90, and equal at p99. It is found there, and no other comparison is called
    // different.
    let shift = |at: usize, arm: usize| if arm == 1 && at < 2 { 0.65 } else { 1.0 };
    let of = |seed| table(&percentiles(&[1.0; 3], shift, seed));
    let is_true = |at: usize| at == 0 || at == 2;
    let found = share(|seed| of(seed).iter().enumerate().any(|(at, it)| is_true(at) && it.verdict == Verdict::Better));
    assert_share("35 % quicker at p50 or p90 is better there", found, 0.95, 1.0);
    let wrong = share(|seed| of(seed).iter().enumerate().any(|(at, it)| !is_true(at) && is_called_different(it)));
    assert_share("any of the other four comparisons", wrong, 0.0, 0.05);
    let covered = share(|seed| {
        let truth = |at: usize| if is_true(at) { 0.65 } else { 1.0 };
        of(seed).iter().enumerate().all(|(at, it)| (it.low..=it.high).contains(&truth(at)))
    });
    println!("all six intervals hold the truth: {:.2} %", covered * 100.0);
}

#[test]
fn stopping_on_width_keeps_the_intervals_honest() {
    let rule = StopRule { half_width: 0.06, budget_ms: 30_000 };
    let run = |seed: u64| {
        let measured = World { blocks: 30, ..World::USUAL }.run(&[1.0, 1.0], seed);
        let mut looks = Looks::new(rule);
        let is_over = |blocks: &usize| {
            let arms = [ArmBlocks { arm: "arm", numbers: &measured[1][..*blocks] }];
            let precision = precision(&half_widths(&measured[0][..*blocks], &arms, 1, SETTINGS), 1, SETTINGS);
            looks.look(precision, *blocks as u64 * 1000, 2000) != Stop::GoOn
        };
        let blocks = (2..=30).step_by(2).find(is_over).expect("the budget ends at 30 blocks");
        (blocks, ratios(&[measured[0][..blocks].to_vec(), measured[1][..blocks].to_vec()]).remove(0))
    };
    let runs: Vec<(usize, Ratio)> = (0..COMPARISONS).map(run).collect();
    assert_share("stopped before the budget", share(|seed| runs[seed as usize].0 < 30), 0.3, 0.9);
    let covers = |ratio: &Ratio| (ratio.low..=ratio.high).contains(&1.0);
    let covered = share(|seed| covers(&runs[seed as usize].1));
    assert_share("coverage after stopping on width", covered, 0.93, 0.97);
    let wrong = share(|seed| is_called_different(&runs[seed as usize].1));
    assert_share("A/A better or worse after stopping on width", wrong, 0.0, 0.05);
}

/// If the differences themselves are autocorrelated, stretching the interval restores coverage (without it: 91.3 %).
#[test]
fn lasting_differences_between_arms_cost_little_coverage() {
    let world = World { own_mood: 0.06, own_autocorrelation: 0.4, ..World::USUAL };
    let covered = share(|seed| {
        let ratio = &ratios(&world.run(&[1.0, 1.0], seed))[0];
        (ratio.low..=ratio.high).contains(&1.0)
    });
    assert_share("coverage with an autocorrelated level for each arm", covered, 0.93, 0.97);
}

#[test]
fn noise_is_no_drift_and_a_throttled_machine_is() {
    let invalid = |slower: f64| {
        share(|seed| {
            let mut baseline = World::USUAL.run(&[1.0, 1.0], seed).swap_remove(0);
            baseline.iter_mut().skip(12).for_each(|number| *number = number.map(|number| number * slower));
            is_invalid(&drift(&baseline, LIMIT).expect("24 blocks"))
        })
    };
    assert_share("invalid by noise alone", invalid(1.0), 0.0, 0.1);
    assert_share("invalid at half the speed from the middle on", invalid(2.0), 0.9, 1.0);
}

/// Slow changes of the machine do not cancel for a single arm, and 24 blocks are too few to estimate them. So they are
/// off here.
#[test]
fn the_interval_of_a_typical_value_covers_independent_blocks() {
    let world = World { mood: 0.0, own_mood: 0.0, visitors: 0.0, drift: 0.0, ..World::USUAL };
    let covered = share(|seed| {
        let numbers: Vec<f64> = world.run(&[1.0], seed).remove(0).into_iter().flatten().collect();
        let interval = typical(&numbers, 0.95).expect("24 blocks");
        (interval.low..=interval.high).contains(&20.0)
    });
    assert_share("coverage of a single arm's level", covered, 0.93, 0.97);
}
