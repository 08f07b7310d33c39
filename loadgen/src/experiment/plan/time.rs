//! The times of a run: set-up, calibration, load, end. Their sum is the least budget of a plan, so that a shorter
//! budget is refused before the run.
//!
//! Invariant: the code that runs a plan (`calibration`, `timeline`, `blocks`) takes its times from here.

use std::time::Duration;

use super::{BlockPlan, LoadPlan, Plan, Rate};

/// The start of lb and its backends.
const SET_UP: Duration = Duration::from_secs(1);
/// The check of each arm by lb.
const TRIED: Duration = Duration::from_millis(150);
/// The end of the run and its report.
pub(in crate::experiment) const ENDING: Duration = Duration::from_secs(3);
/// Between two segments: the last responses, scrapes, the swap.
pub(super) const TURN: Duration = Duration::from_millis(100);
/// The part of the budget for calibration, and its least and largest time.
const CALIBRATION_SHARE: f64 = 0.15;
const CALIBRATION_MIN: Duration = Duration::from_secs(3);
const CALIBRATION_MAX: Duration = Duration::from_secs(20);
/// The least time of a load by the clock, also after its last fault.
const SHORTEST: Duration = Duration::from_secs(2);

/// The least budget of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Least {
    pub budget: Duration,
    /// The part of it for calibration.
    pub calibration: Duration,
    /// The load in words.
    what: String,
}

// === impl Plan ===

impl Plan {
    /// The time of calibration.
    pub fn calibration(&self) -> Duration {
        match self.load {
            LoadPlan::Open { rate: Rate::OfCapacity(_), .. } => calibration_of(self.budget),
            _ => Duration::ZERO,
        }
    }

    /// The shortest useful budget; `None` for a closed loop, which ends with its requests.
    pub fn least_budget(&self) -> Option<Least> {
        let LoadPlan::Open { rate, warm_up, duration, .. } = self.load else { return None };
        let arms = self.arms.len() as u32;
        let (load, what) = match &self.blocks {
            Some(blocks) => {
                let fewest = blocks.fewest(self.arms.len());
                let turn = blocks.turn();
                let all = turn.saturating_mul(arms).saturating_mul(u32::try_from(fewest).unwrap_or(u32::MAX));
                (all, format!("{fewest} blocks of {} at {}", of_arms(arms), seconds(turn)))
            }
            None => {
                let each = warm_up.saturating_add(duration.unwrap_or_else(|| self.shortest()));
                let all = each.saturating_add(TURN).saturating_mul(arms);
                (all, format!("{} of {} with its warm-up", of_arms(arms), seconds(each)))
            }
        };
        let fixed = self.fixed().saturating_add(load);
        let budget = match rate {
            Rate::Rps(_) => fixed,
            Rate::OfCapacity(_) => with_calibration(fixed),
        };
        // budgets are given in whole seconds
        let budget = Duration::from_secs(budget.as_secs() + u64::from(budget.subsec_nanos() > 0));
        Some(Least { budget, calibration: budget_of_calibration(rate, budget), what })
    }

    /// Why the budget is too short; the caller adds the flag or key.
    pub fn lacks_time(&self) -> Option<String> {
        let least = self.least_budget().filter(|least| least.budget > self.budget)?;
        Some(format!("{} is too short: {}", seconds(self.budget), least.in_words()))
    }

    /// The rest of the budget, for the load.
    pub(in crate::experiment) fn for_load(&self) -> Duration {
        self.budget.saturating_sub(self.fixed()).saturating_sub(self.calibration())
    }

    /// The least time of a load by the clock: until some time after its last fault.
    pub(in crate::experiment) fn shortest(&self) -> Duration {
        let of_faults = self.faults.iter().map(|fault| fault.until.unwrap_or(fault.at)).max();
        of_faults.unwrap_or_default().saturating_add(SHORTEST)
    }

    fn fixed(&self) -> Duration {
        SET_UP + TRIED * self.arms.len() as u32 + ENDING
    }
}

// === impl BlockPlan ===

impl BlockPlan {
    /// The time of one arm's turn in a block.
    pub(in crate::experiment) fn turn(&self) -> Duration {
        self.wash_out.saturating_add(self.segment).saturating_add(TURN)
    }
}

// === impl Least ===

impl Least {
    /// For example `the least is 41 s (calibration 6 s, 8 blocks of 3 arms at 1.1 s, starting and ending the rest)`.
    pub fn in_words(&self) -> String {
        let calibration = match self.calibration {
            Duration::ZERO => String::new(),
            time => format!("calibration {}, ", seconds(time)),
        };
        format!("the least is {} ({calibration}{}, starting and ending the rest)", seconds(self.budget), self.what)
    }
}

fn calibration_of(budget: Duration) -> Duration {
    budget.mul_f64(CALIBRATION_SHARE).min(CALIBRATION_MAX).max(CALIBRATION_MIN)
}

fn budget_of_calibration(rate: Rate, budget: Duration) -> Duration {
    if matches!(rate, Rate::OfCapacity(_)) { calibration_of(budget) } else { Duration::ZERO }
}

/// The budget that leaves this time after calibration.
fn with_calibration(rest: Duration) -> Duration {
    let by_share = rest.div_f64(1.0 - CALIBRATION_SHARE);
    rest + calibration_of(by_share)
}

fn of_arms(arms: u32) -> String {
    if arms == 1 { "1 arm".to_owned() } else { format!("{arms} arms") }
}

pub(super) fn seconds(time: Duration) -> String {
    let tenths = (time.as_secs_f64() * 10.0).round() / 10.0;
    format!("{tenths} s")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::model::Scenario;

    fn plan(text: &str) -> Plan {
        Plan::parse(text, Path::new("x.toml")).expect(text)
    }

    const OPEN: &str = "[load]\nloop = \"open\"\n";

    #[test]
    fn shipped_plans_have_enough_time() {
        for scenario in [Scenario::A3, Scenario::A4, Scenario::B] {
            let plan = Plan::of(scenario).expect("shipped");
            assert_eq!(plan.lacks_time(), None, "{scenario}");
        }
        assert_eq!(Plan::of(Scenario::A1).expect("shipped").least_budget(), None);
    }

    #[test]
    fn the_least_is_the_sum_of_its_parts() {
        let arms = "[[arms]]\nstrategy = \"a\"\n[[arms]]\nstrategy = \"b\"\n[[arms]]\nstrategy = \"c\"";
        // 12 blocks of 3 arms at 1 + 0.4 + 0.1 s, and 1 + 3 × 0.15 + 3 s for start and end
        let blocks = "[blocks]\nsegment = \"1s\"\nwash_out = \"400ms\"\n";
        let by_rate = plan(&format!("{OPEN}rate_rps = 2000\n{blocks}{arms}")).least_budget().expect("open");
        assert_eq!((by_rate.budget, by_rate.calibration), (Duration::from_secs(59), Duration::ZERO));
        let wanted = "the least is 59 s (12 blocks of 3 arms at 1.5 s, starting and ending the rest)";
        assert_eq!(by_rate.in_words(), wanted);
        // 58.45 / 0.85
        let found_out = plan(&format!("{OPEN}of_capacity = 0.5\n{blocks}{arms}")).least_budget().expect("open");
        assert_eq!(found_out.budget, Duration::from_secs(69));
        assert!(found_out.calibration > Duration::from_secs(10), "{found_out:?}");
        // two arms of 2 + 9 + 0.1 s
        let clock =
            format!("{OPEN}rate_rps = 9\nduration = \"9s\"\n[[arms]]\nstrategy = \"a\"\n[[arms]]\nstrategy = \"b\"");
        assert_eq!(plan(&clock).least_budget().expect("open").budget, Duration::from_secs(27));
        // without a duration: until 2 s after the last fault
        let fault = "[[faults]]\nat = \"5s\"\nkind = \"stall\"\nfor = \"3s\"";
        let faults = plan(&format!("{OPEN}rate_rps = 9\nwarm_up = \"0s\"\n{fault}"));
        assert_eq!(faults.least_budget().expect("open").budget, Duration::from_secs(15));
    }

    #[test]
    fn the_least_is_enough_and_a_second_less_is_not() {
        for scenario in [Scenario::A3, Scenario::A4, Scenario::B] {
            let mut plan = Plan::of(scenario).expect("shipped");
            plan.budget = plan.least_budget().expect("open").budget;
            assert_eq!(plan.lacks_time(), None, "{scenario}");
            let load = plan.for_load();
            if let Some(blocks) = &plan.blocks {
                let needed = blocks.turn() * (blocks.fewest(plan.arms.len()) as usize * plan.arms.len()) as u32;
                assert!(load >= needed && load <= needed + Duration::from_secs(2), "{scenario}: {load:?}, {needed:?}");
            }
            plan.budget -= Duration::from_secs(1);
            let lacks = plan.lacks_time().expect("too short");
            assert!(lacks.contains("is too short: the least is "), "{lacks}");
        }
    }

    #[test]
    fn a_duration_without_a_budget_gets_the_time_that_it_needs() {
        let long = format!("{OPEN}rate_rps = 9\nduration = \"5m\"\n");
        assert_eq!((plan(&long).budget, plan(&long).lacks_time()), (Duration::from_secs(307), None));
        assert!(
            plan(&format!("budget = \"1m\"\n{long}")).lacks_time().is_some(),
            "both keys are in the file, so the error is reported"
        );
        assert_eq!(plan(&long.replace("5m", "5s")).budget, Duration::from_secs(60));
    }

    #[test]
    fn times_without_measure_do_not_overflow() {
        let huge =
            format!("{OPEN}rate_rps = 9000\n[blocks]\nsegment = \"1000h\"\nwash_out = \"1000h\"\nconfidence = 0.999");
        assert!(plan(&huge).lacks_time().is_some());
    }
}
