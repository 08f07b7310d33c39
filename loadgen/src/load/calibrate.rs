//! The capacity of a target: the highest rate at which it keeps a goal, found by search.
//!
//! First a closed loop saturates the target; its rate is the upper limit of the search. From four fifths of it, rates
//! rise by the factor 1.2 until one is too high, or fall until one is low enough. Then the gap is bisected. A rate
//! counts as too high only if it misses the goal twice, because one pause of the machine must not halve the result.
//!
//! Why: loads as parts of the capacity (0.5, 0.7, 0.9) mean the same on every machine; absolute rates do not.
//! [`Search`] is pure, so it is tested on models of servers.

use std::time::{Duration, Instant};

use thiserror::Error;

use super::arrivals::Arrivals;
use super::engine::{Handle, StartError, start};
use super::outcome::{Outcome, Segment};
use super::plan::{OUTSTANDING, Plan, Stop};

/// The goal of a target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Goal {
    /// The highest allowed 99th percentile of latency (from the scheduled send time).
    pub p99: Duration,
    /// The highest allowed share of requests without a good response.
    pub failures: f64,
}

/// The result.
#[derive(Clone, Debug)]
pub struct Calibration {
    /// The highest rate that kept the goal, in requests per second.
    pub capacity_rps: f64,
    /// The rate of the closed loop.
    pub saturated_rps: f64,
    /// Whether a rate was too high, or the limit was kept. Otherwise the search ran out of time, and the capacity may
    /// be higher.
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
    /// Reasons to doubt these numbers, as in [`Outcome::doubts`].
    pub doubts: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    Kept,
    /// The rate is too high; the reason in words.
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

/// The search itself: the next rate, from the results of the rates so far.
#[derive(Clone, Debug)]
pub struct Search {
    next: f64,
    /// The highest rate that kept the goal, and the lowest that missed it.
    low: Option<f64>,
    high: Option<f64>,
    /// This rate missed the goal once and is tried again.
    doubted: bool,
    limit: f64,
}

const LADDER: f64 = 1.2;
/// The first rate of the search, as a part of the closed loop's rate. Few pools keep less, so few steps are spent
/// below.
const FIRST: f64 = 0.8;
/// Rates within this factor count as equal.
const PRECISION: f64 = 1.03;
/// The lowest rate of the search.
const LOWEST_RPS: f64 = 0.5;
const SATURATING_CONNECTIONS: usize = 64;
const BUDGET_MIN: Duration = Duration::from_secs(3);
/// The shares of the budget for the closed loop and for each step.
const SATURATING_SHARE: f64 = 0.15;
const STEP_SHARE: f64 = 0.08;
/// The number of responses that a 99th percentile needs.
const SAMPLES: f64 = 1000.0;

// === impl Goal ===

impl Default for Goal {
    /// p99 within 1 s, at most 0.1 % failures. A target that falls behind its rate shows it in its latencies, which
    /// count from the scheduled send times.
    fn default() -> Self {
        Self { p99: Duration::from_secs(1), failures: 0.001 }
    }
}

impl Goal {
    /// The latencies include lateness of the generator, so it needs no rule of its own here.
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
    /// `first`: the first rate; `limit`: the highest rate that is tried.
    pub fn new(first: f64, limit: f64) -> Self {
        Self { next: first.min(limit), low: None, high: None, doubted: false, limit }
    }

    /// The rate to try next; `None` if the capacity is found, or if even the lowest rate was too high.
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
            // Falls in larger steps, because a step under overload takes long.
            (None, Some(high)) => high / (LADDER * LADDER),
            (None, None) => self.next,
        };
    }

    /// The highest rate that kept the goal.
    pub fn found(&self) -> Option<f64> {
        self.low
    }

    /// Whether the upper bound is known too: a rate was too high, or the limit was kept.
    pub fn is_bracketed(&self) -> bool {
        self.high.is_some() || self.low.is_some_and(|low| low >= self.limit)
    }
}

/// Finds the capacity of a plan's target within about `budget`, or twice that time if no rate is low enough until then.
/// The plan's arrivals and stop are not used. `watch` gets the handle of each step, and its rate (`None`: the closed
/// loop). An abort through that handle ends the calibration.
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
        // a request that takes longer has missed the goal anyway
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

    // A short step at a higher rate would seem to keep the goal: its queue has no time to grow.
    let mut search = Search::new(saturated_rps * FIRST, saturated_rps);
    let mut steps: Vec<Step> = Vec::new();
    while let Some(asked_rps) = search.next() {
        let wanted = budget.mul_f64(STEP_SHARE).max(Duration::from_secs_f64((SAMPLES / asked_rps).min(10.0)));
        // a search that has found nothing yet may take the same time again: without a rate there is no result
        let end = if search.found().is_some() { end } else { end + budget };
        let left = end.saturating_duration_since(Instant::now());
        if !steps.is_empty() && wanted > left {
            break;
        }
        // at least one step runs; on a slow target it would take longer than the budget
        let step_time = wanted.min(left.max(budget.mul_f64(STEP_SHARE)));
        // By Little's law, more requests in flight than this mean that the goal is missed.
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

    /// Runs the search on a model; returns its result and the number of tries.
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
    fn the_p99_of_an_mm1_queue_is_found_where_theory_says() {
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
    fn the_limit_may_be_the_result_and_no_kept_rate_gives_none() {
        assert_eq!(search(500.0, 1200.0, |_| true).0, Some(1200.0));
        let (found, tries) = search(500.0, 1200.0, |_| false);
        assert_eq!(found, None);
        assert!(tries <= 40, "{tries}");
    }
}
