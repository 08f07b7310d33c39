//! When an experiment has enough blocks: when its intervals are narrow, or when its time is up. Never because of what they say.
//!
//! Who looks after every block whether a difference is "significant" and stops when it is, will find one nearly always: chance gets a new
//! try at each look. The width of an interval knows nothing of where it lies, so a run that stops on width alone stays honest (the
//! acceptance test holds that). Hence the two steps: [`precision`] makes one width of all that was measured, and [`StopRule::after`] sees
//! that width and nothing else.
//!
//! Source: Chow and Robbins, "On the asymptotic theory of fixed-width sequential confidence intervals", 1965.

use super::compare::{ArmBlocks, Settings, log_ratios};
use super::interval::Sample;

/// What to stop on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StopRule {
    /// Enough when every arm's interval is at most so wide to either side, relative.
    pub half_width: f64,
    /// No block begins that would end after this.
    pub budget_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    GoOn,
    Precise,
    Budget,
}

/// The widest half of the arms' intervals, relative, at the confidence that the strictest step of the correction asks for; `None` while
/// an arm has too few blocks for an interval.
pub fn precision(baseline: &[Option<f64>], arms: &[ArmBlocks<'_>], settings: Settings) -> Option<f64> {
    let confidence = 1.0 - (1.0 - settings.confidence) / arms.len().max(1) as f64;
    let widths = arms.iter().map(|arm| {
        let interval = Sample::new(log_ratios(arm.numbers, baseline))?.interval(confidence);
        interval.is_sound.then(|| interval.half_width().exp_m1())
    });
    widths.collect::<Option<Vec<f64>>>()?.into_iter().reduce(f64::max)
}

// === impl StopRule ===

impl StopRule {
    /// After a block, `elapsed_ms` after the start, where the next one takes `block_ms`.
    pub fn after(&self, precision: Option<f64>, elapsed_ms: u64, block_ms: u64) -> Stop {
        if precision.is_some_and(|precision| precision <= self.half_width) {
            Stop::Precise
        } else if elapsed_ms + block_ms > self.budget_ms {
            Stop::Budget
        } else {
            Stop::GoOn
        }
    }

    /// Why, as the report says it; `None` as long as it goes on.
    pub fn why(&self, stop: Stop) -> Option<String> {
        match stop {
            Stop::GoOn => None,
            Stop::Precise => {
                let percent = (self.half_width * 1000.0).round() / 10.0;
                Some(format!("every interval is at most {percent} % wide to either side"))
            }
            Stop::Budget => Some(format!("the budget of {} s was used up", self.budget_ms / 1000)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: StopRule = StopRule { half_width: 0.025, budget_ms: 60_000 };

    #[test]
    fn it_stops_on_width_or_time() {
        assert_eq!(RULE.after(None, 10_000, 5_000), Stop::GoOn);
        assert_eq!(RULE.after(Some(0.03), 55_000, 5_000), Stop::GoOn);
        assert_eq!(RULE.after(Some(0.03), 55_001, 5_000), Stop::Budget);
        assert_eq!(RULE.after(Some(0.025), 55_001, 5_000), Stop::Precise);
        assert_eq!(RULE.why(Stop::Precise).unwrap(), "every interval is at most 2.5 % wide to either side");
        assert_eq!(RULE.why(Stop::Budget).unwrap(), "the budget of 60 s was used up");
        assert_eq!(RULE.why(Stop::GoOn), None);
    }

    #[test]
    fn precision_is_that_of_the_widest_arm_and_knows_no_place() {
        let mut random = fastrand::Rng::with_seed(8);
        let mut numbers = |centre: f64, spread: f64| -> Vec<Option<f64>> {
            (0..12).map(|_| Some(centre * (spread * (random.f64() - 0.5)).exp())).collect()
        };
        let settings = Settings { equivalence: 0.05, confidence: 0.95 };
        let baseline = vec![Some(1.0); 12];
        let (narrow, wide) = (numbers(1.0, 0.1), numbers(1.0, 0.4));
        let of = |numbers: &[&[Option<f64>]]| {
            let arms: Vec<_> = numbers.iter().map(|numbers| ArmBlocks { arm: "a", numbers }).collect();
            precision(&baseline, &arms, settings)
        };
        let (both, alone) = (of(&[&narrow, &wide]).unwrap(), of(&[&wide]).unwrap());
        assert!(both >= alone && alone > of(&[&narrow]).unwrap(), "{both} {alone}");
        let far: Vec<_> = wide.iter().map(|number| number.map(|number| number * 7.0)).collect();
        assert!((of(&[&far]).unwrap() / alone - 1.0).abs() < 1e-9, "how large the difference is changes nothing");
        assert_eq!(of(&[&narrow, &wide[..5]]), None);
        assert_eq!(of(&[]), None);
    }
}
