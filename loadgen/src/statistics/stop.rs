//! When an experiment has enough blocks: when its intervals are narrow, or when its time is up. Never because of what they say.
//!
//! Who looks after every block whether a difference is "significant" and stops when it is, will find one nearly always: chance gets a new
//! try at each look. The width of an interval knows nothing of where it lies, so a run that stops on width alone stays honest (the
//! acceptance test holds that). Hence the two steps: [`precision`] makes one width of all that was measured, and [`Looks::look`] sees that
//! width and nothing else.
//!
//! What is left is that a narrow interval is a little likelier where chance made it so, and such ones cover less. Against that: no look before
//! there are enough blocks, a look only at the end of a whole square of orders, and one square more once it was narrow.
//!
//! Source: Chow and Robbins, "On the asymptotic theory of fixed-width sequential confidence intervals", 1965; the few observations more
//! are Simons' (1968).

use super::compare::{ArmBlocks, Settings, log_ratios};
use super::interval::{Interval, Sample};

/// What to stop on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StopRule {
    /// Enough when every arm's interval is at most so wide to either side, relative.
    pub half_width: f64,
    /// Nothing begins that would end after this.
    pub budget_ms: u64,
}

/// A run's looks at its width.
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

/// The widest half of the arms' intervals, relative, at the confidence that the strictest step of the correction asks for; `None` while
/// an arm has fewer than twice the blocks that a sound interval takes: of so few, a narrow one is luck, and to stop on luck costs coverage.
pub fn precision(baseline: &[Option<f64>], arms: &[ArmBlocks<'_>], settings: Settings) -> Option<f64> {
    widest(&half_widths(baseline, arms, settings))
}

/// The same of each arm, in their order.
pub fn half_widths(baseline: &[Option<f64>], arms: &[ArmBlocks<'_>], settings: Settings) -> Vec<Option<f64>> {
    let (confidence, needed) = (strictest(arms.len(), settings.confidence), blocks_needed(arms.len(), settings));
    let width = |arm: &ArmBlocks<'_>| {
        let interval = Sample::new(log_ratios(arm.numbers, baseline))?.interval(confidence);
        (interval.n >= needed).then(|| interval.half_width().exp_m1())
    };
    arms.iter().map(width).collect()
}

/// Blocks before which there is no width to stop on, for so many arms beside the baseline.
pub fn blocks_needed(arms: usize, settings: Settings) -> usize {
    2 * fewest_blocks(arms, settings.confidence)
}

/// The fewest blocks of which every arm's interval is sound, at whatever level the correction for their number holds it to.
pub fn fewest_blocks(arms: usize, confidence: f64) -> usize {
    // confidence of a stored file may be anything
    Interval::blocks_needed(strictest(arms, confidence)).min(usize::MAX / 2)
}

fn strictest(arms: usize, confidence: f64) -> f64 {
    1.0 - (1.0 - confidence) / arms.max(1) as f64
}

/// Of all arms' half-widths; `None` if there is none, or one that cannot be said yet.
pub fn widest(half_widths: &[Option<f64>]) -> Option<f64> {
    half_widths.iter().copied().collect::<Option<Vec<f64>>>()?.into_iter().reduce(f64::max)
}

// === impl Looks ===

impl Looks {
    pub fn new(rule: StopRule) -> Self {
        Self { rule, was_narrow: false }
    }

    /// After each square of orders ([`Orders::period`](super::Orders::period) blocks), `elapsed_ms` after the start, where the next square
    /// takes `square_ms`.
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
    /// Why, as the report says it; `None` as long as it goes on.
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
    fn precision_is_that_of_the_widest_arm_and_knows_no_place() {
        let mut random = fastrand::Rng::with_seed(8);
        let mut numbers = |centre: f64, spread: f64| -> Vec<Option<f64>> {
            (0..16).map(|_| Some(centre * (spread * (random.f64() - 0.5)).exp())).collect()
        };
        let settings = Settings { equivalence: 0.05, confidence: 0.95 };
        let baseline = vec![Some(1.0); 16];
        let (narrow, wide) = (numbers(1.0, 0.1), numbers(1.0, 0.4));
        let of = |numbers: &[&[Option<f64>]]| {
            let arms: Vec<_> = numbers.iter().map(|numbers| ArmBlocks { arm: "a", numbers }).collect();
            precision(&baseline, &arms, settings)
        };
        let (both, alone) = (of(&[&narrow, &wide]).unwrap(), of(&[&wide]).unwrap());
        assert!(both >= alone && alone > of(&[&narrow]).unwrap(), "{both} {alone}");
        let far: Vec<_> = wide.iter().map(|number| number.map(|number| number * 7.0)).collect();
        assert!((of(&[&far]).unwrap() / alone - 1.0).abs() < 1e-9, "how large the difference is changes nothing");
        assert_eq!(of(&[&narrow[..11]]), None, "twice six are needed for one arm");
        assert_eq!(of(&[]), None);
    }
}
