//! The capacity of a target: the highest rate at which it keeps a goal, found by search.
//!
//! First a closed loop saturates the target; its rate is the upper limit of the search. From four fifths of it, rates rise by the factor
//! 1.2 until one is too high, or fall until one is not. Then the gap is bisected. A rate counts as too high only if it misses the goal
//! twice, because one pause of the machine must not halve the result.
//!
//! Why: loads as parts of the capacity (0.5, 0.7, 0.9) mean the same on every machine; absolute rates do not. [`Search`] is pure, so it is
//! tested on models of servers.

use std::time::{Duration, Instant};

use thiserror::Error;

use super::arrivals::Arrivals;
use super::engine::{Handle, StartError, start};
use super::outcome::{Outcome, Segment};
use super::plan::{OUTSTANDING, Plan, Stop};

/// The goal of a target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Goal {
    /// The 99th percentile of latency (from the scheduled send time) must not be above this.
    pub p99: Duration,
    /// The share of requests without a good response must not be above this.
    pub failures: f64,
}

/// The result.
#[derive(Clone, Debug)]
pub struct Calibration {
    /// The highest rate that kept the goal, in requests per second.
    pub capacity_rps: f64,
    /// The rate of the closed loop.
    pub saturated_rps: f64,
    /// Whether a rate was too high. Otherwise the search ran out of time, and the capacity may be higher.
    pub is_bracketed: bool,
    pub steps: Vec<Step>,
}

/// One tried rate.
#[derive(Clone, Debug)]
pub struct Step {
    pub asked_rps: f64,
    pub achieved_rps: f64,
    pub p99: Duration,
    pub failure_share: f64,
    pub verdict: Verdict,
    /// As in [`Outcome::doubts`]: what speaks against these numbers.
    pub doubts: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    Kept,
    /// Too much, and why, in words.
    Missed(String),
}

#[derive(Debug, Error)]
pub enum CalibrationError {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("the calibration was stopped")]
    Aborted,
    #[error("no good response from the target in a closed loop: {0}")]
    NoAnswer(String),
    #[error("no rate was low enough for the goal; the lowest rate was {lowest_rps:.1} requests/s: {why}")]
    NothingKept { lowest_rps: f64, why: String },
    #[error("a budget of {0:?} is too short to calibrate: allow at least 3 s")]
    Budget(Duration),
}

/// The search itself: which rate to try next, from what the rates so far have shown.
#[derive(Clone, Debug)]
pub struct Search {
    next: f64,
    /// The highest that was kept, the lowest that was not.
    low: Option<f64>,
    high: Option<f64>,
    /// This rate was missed once, and is tried again.
    doubted: bool,
    limit: f64,
}

const LADDER: f64 = 1.2;
/// Where the ladder begins, as a part of what a closed loop achieves: few pools keep less, so few steps are spent below.
const FIRST: f64 = 0.8;
/// Rates that are this close are the same.
const PRECISION: f64 = 1.03;
/// The lowest rate of the search.
const LOWEST_RPS: f64 = 0.5;
const SATURATING_CONNECTIONS: usize = 64;
const BUDGET_MIN: Duration = Duration::from_secs(3);
/// The closed loop takes this part of the budget, each step that one.
const SATURATING_SHARE: f64 = 0.15;
const STEP_SHARE: f64 = 0.08;
/// The responses that a 99th percentile needs.
const SAMPLES: f64 = 1000.0;

// === impl Goal ===

impl Default for Goal {
    /// p99 within 1 s, at most 0.1 % failures. What falls behind its rate shows in the latencies, which count from the scheduled send
    /// times.
    fn default() -> Self {
        Self { p99: Duration::from_secs(1), failures: 0.001 }
    }
}

impl Goal {
    /// Lateness of the generator is in the latencies, so it needs no rule of its own here.
    fn judge(&self, segment: &Segment) -> Verdict {
        let p99 = Duration::from_nanos(segment.latency.value_at_quantile(0.99));
        let missed = |why: String| Verdict::Missed(why);
        if segment.failure_share() > self.failures {
            return missed(format!("{:.2} % of the requests got no good response", segment.failure_share() * 100.0));
        }
        if p99 > self.p99 {
            return missed(format!("p99 {p99:.1?} is above {:.1?}", self.p99));
        }
        Verdict::Kept
    }
}

// === impl Search ===

impl Search {
    /// `first`: where to begin; `limit`: above this nothing is tried.
    pub fn new(first: f64, limit: f64) -> Self {
        Self { next: first.min(limit), low: None, high: None, doubted: false, limit }
    }

    /// The rate to try next; `None` when it is found, or when there is nothing to find.
    pub fn next(&self) -> Option<f64> {
        let is_found = match (self.low, self.high) {
            (Some(low), Some(high)) => high / low <= PRECISION,
            (Some(low), None) => low >= self.limit,
            (None, _) => false,
        };
        (!is_found && self.next >= LOWEST_RPS).then_some(self.next)
    }

    /// Notes the result of the rate of [`Self::next`].
    pub fn tell(&mut self, was_kept: bool) {
        if was_kept {
            self.low = Some(self.next);
        } else if self.doubted {
            self.high = Some(self.next);
        } else {
            self.doubted = true;
            return;
        }
        self.doubted = false;
        self.next = match (self.low, self.high) {
            (Some(low), Some(high)) => (low * high).sqrt(),
            (Some(low), None) => (low * LADDER).min(self.limit),
            // Going down in larger steps: overload is slow to try.
            (None, Some(high)) => high / (LADDER * LADDER),
            (None, None) => self.next,
        };
    }

    /// The highest rate that was kept.
    pub fn found(&self) -> Option<f64> {
        self.low
    }

    /// Whether it is known from above too: a rate was found that is too much, or the limit was kept.
    pub fn is_bracketed(&self) -> bool {
        self.high.is_some() || self.low.is_some_and(|low| low >= self.limit)
    }
}

/// Finds the capacity of a plan's target within about `budget`, or twice that time if no rate is low enough until then. The plan's
/// arrivals and stop are not used. `watch` sees the handle of each step, and the rate that it asks for (`None`: the closed loop);
/// aborting by it ends the calibration.
pub fn calibrate(
    plan: &Plan,
    goal: &Goal,
    budget: Duration,
    mut watch: impl FnMut(&Handle, Option<f64>),
) -> Result<Calibration, CalibrationError> {
    if budget < BUDGET_MIN {
        return Err(CalibrationError::Budget(budget));
    }
    let end = Instant::now() + budget;
    let mut run = |arrivals: Arrivals, outstanding: usize, time: Duration, rps: Option<f64>| {
        let mut plan = Plan { arrivals, outstanding, stop: Stop::AfterTime(time), ..plan.clone() };
        plan.warm_up = time / 5;
        // a longer request has missed the goal anyway
        plan.timeout = plan.timeout.min(2 * goal.p99 + time);
        let running = start(plan)?;
        watch(&running.handle(), rps);
        let outcome = running.wait();
        if outcome.aborted { Err(CalibrationError::Aborted) } else { Ok(outcome) }
    };

    let closed = Arrivals::Closed { connections: SATURATING_CONNECTIONS };
    let outcome = run(closed, OUTSTANDING, budget.mul_f64(SATURATING_SHARE), None)?;
    let saturated = outcome.total();
    if saturated.ok() == 0 {
        return Err(CalibrationError::NoAnswer(first_error(&outcome)));
    }
    let saturated_rps = saturated.ok() as f64 / saturated.seconds();

    // A short step at more than that would seem to be kept: its queue has no time to grow.
    let mut search = Search::new(saturated_rps * FIRST, saturated_rps);
    let mut steps: Vec<Step> = Vec::new();
    while let Some(asked_rps) = search.next() {
        let wanted = budget.mul_f64(STEP_SHARE).max(Duration::from_secs_f64((SAMPLES / asked_rps).min(10.0)));
        // a search that has nothing yet may take as long again: without a rate there is no response at all
        let end = if search.found().is_some() { end } else { end + budget };
        let left = end.saturating_duration_since(Instant::now());
        if !steps.is_empty() && wanted > left {
            break;
        }
        // one step there must be; a slow target's would take longer than the budget
        let step_time = wanted.min(left.max(budget.mul_f64(STEP_SHARE)));
        // By Little's law more than this in flight means that the goal is missed.
        let outstanding = ((2.0 * asked_rps * goal.p99.as_secs_f64()) as usize).clamp(64, OUTSTANDING);
        let outcome = run(Arrivals::Poisson { rps: asked_rps }, outstanding, step_time, Some(asked_rps))?;
        let total = outcome.total();
        let verdict = goal.judge(&total);
        search.tell(verdict == Verdict::Kept);
        steps.push(Step {
            asked_rps,
            achieved_rps: total.good_rps(),
            p99: Duration::from_nanos(total.latency.value_at_quantile(0.99)),
            failure_share: total.failure_share(),
            verdict,
            doubts: outcome.doubts.iter().map(ToString::to_string).collect(),
        });
    }
    match search.found() {
        Some(capacity_rps) => {
            Ok(Calibration { capacity_rps, saturated_rps, is_bracketed: search.is_bracketed(), steps })
        }
        None => Err(nothing_kept(&steps)),
    }
}

fn nothing_kept(steps: &[Step]) -> CalibrationError {
    let lowest = steps.iter().min_by(|a, b| a.asked_rps.total_cmp(&b.asked_rps));
    let why = match lowest.map(|step| &step.verdict) {
        Some(Verdict::Missed(why)) => why.clone(),
        _ => "nothing was tried".to_owned(),
    };
    CalibrationError::NothingKept { lowest_rps: lowest.map_or(0.0, |step| step.asked_rps), why }
}

fn first_error(outcome: &Outcome) -> String {
    let total = outcome.total();
    match (outcome.first_errors.values().next(), total.statuses.keys().next()) {
        (Some(message), _) => message.clone(),
        (None, Some(status)) => format!("status {status}"),
        (None, None) => "no response in time".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets the search loose on a model; returns what it found and after how many tries.
    fn search(first: f64, limit: f64, mut keeps: impl FnMut(f64) -> bool) -> (Option<f64>, usize) {
        let mut search = Search::new(first, limit);
        let mut tries = 0;
        while let Some(rate) = search.next() {
            assert!(rate <= limit, "{rate} is above the limit");
            search.tell(keeps(rate));
            tries += 1;
            assert!(tries < 100, "it does not end");
        }
        (search.found(), tries)
    }

    #[test]
    fn a_sharp_capacity_is_found_to_three_per_cent_from_anywhere() {
        for capacity in [100.0, 1_000.0, 123_456.0] {
            for first in [0.01, 0.5, 1.0, 3.0] {
                let (found, tries) = search(capacity * first, 1e6, |rate| rate <= capacity);
                let found = found.unwrap();
                assert!(found <= capacity && found >= capacity / PRECISION, "{found} for {capacity}");
                assert!(tries <= 40, "{tries} tries for {capacity} from {first} of it");
            }
        }
    }

    #[test]
    fn the_p99_of_an_mm1_queue_is_met_where_theory_says() {
        // Sojourn times of M/M/1 are exponential with rate (service rate - arrival rate): p99 = ln 100 / that.
        let (service_rate, goal_s) = (1000.0, 0.050);
        let theory = service_rate - 100_f64.ln() / goal_s;
        let (found, _) =
            search(500.0, 1200.0, |rate| rate < service_rate && 100_f64.ln() / (service_rate - rate) <= goal_s);
        let found = found.unwrap();
        assert!(found <= theory && found >= theory / PRECISION, "{found}, theory {theory}");
    }

    #[test]
    fn one_pause_does_not_change_the_capacity() {
        let mut tries = 0;
        let hiccups = |rate: f64| {
            tries += 1;
            rate <= 1000.0 && tries % 5 != 2
        };
        let (found, _) = search(500.0, 2000.0, hiccups);
        assert!(found.unwrap() >= 1000.0 / PRECISION, "{found:?}");
    }

    #[test]
    fn the_limit_is_a_result_and_no_rate_is_none() {
        assert_eq!(search(500.0, 1200.0, |_| true).0, Some(1200.0));
        let (found, tries) = search(500.0, 1200.0, |_| false);
        assert_eq!(found, None);
        assert!(tries <= 40, "{tries}");
    }
}
