//! `--quick`: the same experiment in about 45 s, for a first look.
//!
//! Blocks get shorter, and there are a few more than the verdicts need, because some may be dropped. Their segments are
//! too short for p99, so p50 and p90 are judged. A load by the clock is cut to half or to the available time. Its
//! faults come earlier by the same factor.

use std::time::Duration;

use super::time::TURN;
use super::verdict::squares;
use super::{BlockPlan, Fault, LoadPlan, Plan, Rate};
use crate::model::{GOOD_SHARE, samples_needed};

/// The default budget.
pub(super) const QUICK: Duration = Duration::from_secs(45);
/// The number of blocks over the number that the verdicts need. Some may be dropped on a busy machine.
const SPARE: (u64, u64) = (5, 4);
/// The shortest segment. In a shorter one, pauses of the machine would dominate.
const SEGMENT_MIN: Duration = Duration::from_millis(400);
/// The wash-out is at most the turn divided by this, but not below [`WASH_OUT_MIN`].
const WASH_OUT_PART: u32 = 5;
const WASH_OUT_MIN: Duration = Duration::from_millis(100);
/// A load by the clock is cut to this part of its time, or to less.
const PART: f64 = 0.5;
const JUDGED: [&str; 2] = ["latency_p50", "latency_p90"];

// === impl Plan ===

impl Plan {
    /// The plan cut short, to `budget` if it is given. A closed loop does not change: it ends with its requests, in
    /// seconds.
    #[must_use]
    pub fn quick(mut self, budget: Option<Duration>) -> Self {
        if matches!(self.load, LoadPlan::Closed { .. }) {
            return self;
        }
        let usual = self.budget;
        self.budget = budget.unwrap_or(QUICK.min(usual));
        self.is_quick = true;
        match self.blocks.take() {
            Some(blocks) => {
                let usual = blocks.segment;
                let blocks = self.blocks.insert(self.quick_blocks(blocks));
                let part = blocks.segment.as_secs_f64() / usual.as_secs_f64();
                cut_faults(&mut self.faults, part.min(1.0));
                // many arms take longer than the default budget
                let least = self.least_budget().map_or(self.budget, |least| least.budget);
                self.budget = budget.unwrap_or(self.budget.max(least));
            }
            None => self.cut(self.budget.as_secs_f64() / usual.as_secs_f64()),
        }
        self
    }

    /// How the plan was shortened, for reports.
    pub fn quick_in_words(&self) -> Option<String> {
        let what = match &self.blocks {
            Some(blocks) if blocks.primary == GOOD_SHARE => "blocks are short, and so are their faults",
            Some(_) => {
                "blocks are short, and verdicts are on p50 and p90 only: p99 needs more requests than a segment has"
            }
            None => "the load is shorter than in the plan's file, and its faults come as much earlier",
        };
        self.is_quick.then(|| format!("--quick: {what}"))
    }

    fn quick_blocks(&self, blocks: BlockPlan) -> BlockPlan {
        let arms = self.arms.len();
        let blocks = if blocks.primary == GOOD_SHARE {
            blocks
        } else {
            let verdicts = JUDGED.map(str::to_owned).to_vec();
            BlockPlan { verdicts, primary: JUDGED[1].to_owned(), asked: Vec::new(), ..blocks }
        };
        let number = squares((blocks.needed(arms) * SPARE.0).div_ceil(SPARE.1), arms);
        let turns = u32::try_from(number * arms as u64).unwrap_or(u32::MAX);
        let turn = (self.for_load() / turns).saturating_sub(TURN);
        let wash_out = blocks.wash_out.min(round(turn / WASH_OUT_PART).max(WASH_OUT_MIN));
        let enough = match self.load {
            LoadPlan::Open { rate: Rate::Rps(rps), .. } => {
                Duration::from_secs_f64(1.3 * samples_needed(0.9) as f64 / rps)
            }
            _ => Duration::ZERO,
        };
        let room = round(turn.saturating_sub(wash_out));
        let segment = room.max(round(enough)).max(SEGMENT_MIN).min(blocks.segment.max(SEGMENT_MIN));
        BlockPlan { segment, wash_out, ..blocks }
    }

    /// Shortens a load by the clock to the available time. `by_budget`: the ratio of the new budget to the old one.
    fn cut(&mut self, by_budget: f64) {
        let each = self.for_load() / self.arms.len() as u32;
        let LoadPlan::Open { warm_up, duration, .. } = &mut self.load else { return };
        let part = match *duration {
            Some(duration) => {
                let room = each.saturating_sub(TURN).saturating_sub(*warm_up);
                PART.min(room.as_secs_f64() / duration.as_secs_f64())
            }
            None => by_budget.min(1.0),
        };
        *duration = duration.map(|duration| cut(duration, part));
        cut_faults(&mut self.faults, part);
    }
}

fn cut(time: Duration, part: f64) -> Duration {
    round(time.mul_f64(part)).max(Duration::from_millis(1))
}

fn cut_faults(faults: &mut [Fault], part: f64) {
    for fault in faults {
        fault.at = if fault.at.is_zero() { fault.at } else { cut(fault.at, part) };
        // a shorter fault would be undone before it takes effect
        fault.until = fault.until.map(|until| cut(until, part).max(fault.at + Duration::from_millis(1)));
    }
}

/// Rounds to milliseconds, so that the reported and stored times are exact.
fn round(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::verdict::Judged;
    use super::super::{Law, bounds};
    use super::*;
    use crate::model::Scenario;

    fn quick(scenario: Scenario) -> Plan {
        Plan::of(scenario).expect("shipped").quick(None)
    }

    /// The capacity is slightly below the best of a pool of 12 places with 10 ms each: about 1,100/s.
    #[test]
    fn shipped_plans_take_45_s_and_can_give_their_verdicts() {
        for scenario in [Scenario::A3, Scenario::A4, Scenario::B] {
            let plan = quick(scenario);
            assert_eq!((plan.budget, plan.is_quick), (QUICK, true), "{scenario}");
            assert_eq!((plan.lacks_time(), bounds::check(&plan)), (None, Ok(())), "{scenario}");
            let Some(blocks) = &plan.blocks else { continue };
            assert_eq!(blocks.verdicts, JUDGED);
            let fitting = plan.for_load().as_secs_f64() / (blocks.turn() * plan.arms.len() as u32).as_secs_f64();
            // 8 blocks are needed for 4 or 6 verdicts, a quarter may be dropped, and squares are complete
            assert!(fitting >= 12.0 && blocks.needed(plan.arms.len()) == 8, "{scenario}: {fitting} blocks");
            assert!(blocks.segment >= Duration::from_millis(450), "{scenario}: {blocks:?}");
            let LoadPlan::Open { rate: Rate::OfCapacity(part), law, .. } = plan.load else { panic!("{scenario}") };
            assert_eq!(blocks.judged(1_050.0 * part, law), Judged::All, "{scenario}: {blocks:?}");
        }
    }

    #[test]
    fn a_load_by_the_clock_is_cut_with_its_faults() {
        let plan = quick(Scenario::A3);
        let LoadPlan::Open { duration, .. } = plan.load else { panic!("open") };
        assert_eq!((duration, plan.faults[0].at), (Some(Duration::from_secs(15)), Duration::from_secs(5)));
        let faults = Plan::parse(include_str!("../../../../config/experiments/faults.toml"), Path::new("x.toml"));
        let faults = faults.expect("sound");
        let (before, after) = (faults.faults.clone(), faults.quick(None).faults);
        for (before, after) in before.iter().zip(&after) {
            assert_eq!((after.at * 2, after.until.map(|it| it * 2)), (before.at, before.until));
        }
    }

    #[test]
    fn closed_loops_do_not_change_and_many_arms_get_their_time() {
        for scenario in [Scenario::A1, Scenario::A2] {
            assert_eq!(quick(scenario), Plan::of(scenario).expect("shipped"));
        }
        let aa = Plan::parse(include_str!("../../../../config/experiments/aa.toml"), Path::new("x.toml"));
        let aa = aa.expect("sound").quick(None);
        assert!(aa.budget > QUICK && aa.lacks_time().is_none(), "{:?}", aa.budget);
        // a given budget that is too short is reported
        let aa = Plan::of(Scenario::B).expect("shipped").quick(Some(Duration::from_secs(9)));
        assert!(aa.budget == Duration::from_secs(9) && aa.lacks_time().is_some());
    }

    #[test]
    fn at_a_low_rate_segments_are_as_long_as_p90_needs() {
        let text = "budget = \"9m\"\n[load]\nloop = \"open\"\nrate_rps = 50\n[blocks]\nsegment = \"30s\"\n[[arms]]\nstrategy = \"a\"\n\
            [[arms]]\nstrategy = \"b\"";
        let plan = Plan::parse(text, Path::new("x.toml")).expect("sound").quick(None);
        let blocks = plan.blocks.as_ref().expect("blocks");
        assert_eq!(blocks.judged(50.0, Law::Poisson), Judged::All);
        assert!(plan.lacks_time().is_none());
    }
}
