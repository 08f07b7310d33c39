//! The stop rule of an experiment: its intervals are narrow, or its time is up. It never depends on the position of the
//! intervals.
//!
//! A run could test for a "significant" difference after every block and stop when there is one. It would nearly always
//! find one, because each look is another chance. The width of an interval does not depend on its position. So a run
//! that stops on width alone is unbiased (see the acceptance test). Therefore there are two steps: [`precision`]
//! computes one width, and [`Looks::look`] gets only that width. It is the width at the strictest step of the
//! correction for the whole family of verdicts. If it is narrow enough, every comparison's interval is.
//!
//! One bias is left: an interval that is narrow by chance covers less. There are two measures against it. The first
//! look waits for enough blocks, and looks come only at the end of complete squares of orders. One more square follows
//! the first narrow one.
//!
//! Source: Chow and Robbins, "On the asymptotic theory of fixed-width sequential confidence intervals", 1965; the few
//! additional observations are Simons' (1968).

use super::compare::{ArmBlocks, Settings, log_ratios};
use super::interval::{Interval, Sample};

/// The limits of the stop rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StopRule {
    /// Stop if every arm's interval extends at most this far to either side, relative.
    pub half_width: f64,
    /// No square begins that would end after this.
    pub budget_ms: u64,
}

/// The looks of a run at the width of its intervals.
#[derive(Clone, Debug)]
pub struct Looks {
    rule: StopRule,
    was_narrow: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    GoOn,
    Precise,
    Budget,
}

/// The current width of an arm's interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Width {
    /// The longer side, relative.
    pub half: f64,
    /// The number of blocks that it was computed from.
    pub blocks: usize,
}

/// The widest half of the arms' intervals, relative. `None` while an arm has fewer than twice the blocks of a sound
/// interval. With so few blocks a narrow interval is chance, and stopping on chance costs coverage.
pub fn precision(widths: &[Option<Width>], family: usize, settings: Settings) -> Option<f64> {
    let needed = 2 * fewest_blocks(family, settings.confidence);
    let width = |width: &Option<Width>| width.filter(|width| width.blocks >= needed).map(|width| width.half);
    widths.iter().map(width).collect::<Option<Vec<f64>>>()?.into_iter().reduce(f64::max)
}

/// The width of each arm's interval, in their order, at the strictest step of the correction for `family` comparisons.
/// `None` while it is not sound.
pub fn half_widths(
    baseline: &[Option<f64>],
    arms: &[ArmBlocks<'_>],
    family: usize,
    settings: Settings,
) -> Vec<Option<Width>> {
    let confidence = strictest(family, settings.confidence);
    let width = |arm: &ArmBlocks<'_>| {
        let interval = Sample::new(log_ratios(arm.numbers, baseline))?.interval(confidence);
        interval.is_sound.then(|| Width { half: interval.half_width().exp_m1(), blocks: interval.n })
    };
    arms.iter().map(width).collect()
}

/// The fewest blocks with which every interval is sound, at every level of the correction for `family` comparisons. A
/// family is the arms beside the baseline times the measures.
pub fn fewest_blocks(family: usize, confidence: f64) -> usize {
    // the confidence of a stored file may be any number
    Interval::blocks_needed(strictest(family, confidence)).min(usize::MAX / 2)
}

fn strictest(family: usize, confidence: f64) -> f64 {
    1.0 - (1.0 - confidence) / family.max(1) as f64
}

// === impl Width ===

impl Width {
    /// The expected width with this many blocks: it falls with the root of their number.
    pub fn expected(&self, blocks: usize) -> f64 {
        let shrinking = (self.blocks as f64 / blocks.max(self.blocks) as f64).sqrt();
        (self.half.ln_1p() * shrinking).exp_m1()
    }
}

// === impl Looks ===

impl Looks {
    pub fn new(rule: StopRule) -> Self {
        Self { rule, was_narrow: false }
    }

    /// The look after a square of orders ([`Orders::period`](super::Orders::period) blocks). `elapsed_ms` is the time
    /// since the start, `square_ms` the duration of the next square.
    pub fn look(&mut self, precision: Option<f64>, elapsed_ms: u64, square_ms: u64) -> Stop {
        if self.was_narrow {
            return Stop::Precise;
        }
        self.was_narrow = precision.is_some_and(|precision| precision <= self.rule.half_width);
        if elapsed_ms + square_ms > self.rule.budget_ms { Stop::Budget } else { Stop::GoOn }
    }
}

// === impl StopRule ===

impl StopRule {
    /// The reason, in the words of the report; `None` while the run goes on.
    pub fn why(&self, stop: Stop) -> Option<String> {
        match stop {
            Stop::GoOn => None,
            Stop::Precise => {
                let percent = (self.half_width * 1000.0).round() / 10.0;
                Some(format!("every interval is about {percent} % wide to either side, or less"))
            }
            Stop::Budget => {
                Some(format!("the budget of {} s left no room for another round of blocks", self.budget_ms / 1000))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: StopRule = StopRule { half_width: 0.025, budget_ms: 60_000 };

    #[test]
    fn it_stops_on_time_or_one_square_after_it_was_narrow() {
        let mut looks = Looks::new(RULE);
        assert_eq!(looks.look(None, 10_000, 5_000), Stop::GoOn);
        assert_eq!(looks.look(Some(0.03), 55_000, 5_000), Stop::GoOn);
        assert_eq!(looks.look(Some(0.03), 55_001, 5_000), Stop::Budget);
        assert_eq!(looks.look(Some(0.025), 20_000, 5_000), Stop::GoOn);
        assert_eq!(looks.look(Some(0.03), 25_000, 5_000), Stop::Precise, "whatever the last square says");
        assert_eq!(RULE.why(Stop::Precise).unwrap(), "every interval is about 2.5 % wide to either side, or less");
        assert_eq!(RULE.why(Stop::Budget).unwrap(), "the budget of 60 s left no room for another round of blocks");
        assert_eq!(RULE.why(Stop::GoOn), None);
    }

    #[test]
    fn precision_is_that_of_the_widest_arm_and_ignores_position() {
        let mut random = fastrand::Rng::with_seed(8);
        let mut numbers = |centre: f64, spread: f64| -> Vec<Option<f64>> {
            (0..16).map(|_| Some(centre * (spread * (random.f64() - 0.5)).exp())).collect()
        };
        let settings = Settings { equivalence: 0.05, confidence: 0.95 };
        let baseline = vec![Some(1.0); 16];
        let (narrow, wide) = (numbers(1.0, 0.1), numbers(1.0, 0.4));
        let of = |numbers: &[&[Option<f64>]]| {
            let arms: Vec<_> = numbers.iter().map(|numbers| ArmBlocks { arm: "a", numbers }).collect();
            precision(&half_widths(&baseline, &arms, arms.len(), settings), arms.len(), settings)
        };
        let (both, alone) = (of(&[&narrow, &wide]).unwrap(), of(&[&wide]).unwrap());
        assert!(both >= alone && alone > of(&[&narrow]).unwrap(), "{both} {alone}");
        let far: Vec<_> = wide.iter().map(|number| number.map(|number| number * 7.0)).collect();
        assert!((of(&[&far]).unwrap() / alone - 1.0).abs() < 1e-9, "the size of the difference changes nothing");
        assert_eq!(of(&[&narrow[..11]]), None, "twice six are needed for one arm");
        assert_eq!(of(&[]), None);
        let arms = [ArmBlocks { arm: "a", numbers: &narrow }];
        let half = |family| half_widths(&baseline, &arms, family, settings)[0].unwrap().half;
        assert!(half(6) > half(1), "the more comparisons, the wider");
    }

    #[test]
    fn more_comparisons_take_more_blocks_before_they_are_sound() {
        // b: two arms beside the baseline at three percentiles; a4: three
        let fewest = [1, 2, 3, 6, 9, 15].map(|family| fewest_blocks(family, 0.95));
        assert_eq!(fewest, [6, 7, 7, 8, 9, 10], "2 × 2^-n is to be at most 0.05 over the family");
        let (baseline, settings) = (vec![Some(1.0); 16], Settings::default());
        let numbers: Vec<_> = (0..16).map(|block| Some(1.0 + 0.01 * f64::from(block % 5))).collect();
        let widths = |blocks: usize| {
            let arms = [ArmBlocks { arm: "a", numbers: &numbers[..blocks] }];
            half_widths(&baseline[..blocks], &arms, 6, settings)
        };
        assert!(widths(7)[0].is_none() && widths(8)[0].is_some_and(|width| width.blocks == 8));
        assert!(precision(&widths(15), 6, settings).is_none() && precision(&widths(16), 6, settings).is_some());
    }

    #[test]
    fn four_times_the_blocks_halve_the_width() {
        let width = Width { half: 0.1, blocks: 4 };
        assert!((width.expected(16) - (0.1_f64.ln_1p() / 2.0).exp_m1()).abs() < 1e-12);
        assert_eq!(
            Width { half: 0.25, blocks: 9 }.expected(3).to_bits(),
            (0.25_f64.ln_1p()).exp_m1().to_bits(),
            "never more"
        );
    }
}
