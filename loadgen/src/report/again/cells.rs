//! Runs without blocks, such as a1, a2 and a3: each number was measured once in each run.
//!
//! Counts follow a law if the strategy declares one. An exact law is kept or not. For random draws, a test of two
//! samples decides whether both have one law. The variation of times from run to run is unknown, so only a factor
//! beyond [`FAR`] is a difference. The same holds for counts without a law: counts that depend on load, or of a pool
//! with a fault.

use crate::model::{Cell, Conclusion, Event, EventKind, Run, percentile_ns};
use crate::report::format;
use crate::report::rows::{groups, merged, totals};
use crate::statistics::same_shares_p;

use super::{AGREES, CANNOT_TELL, DIFFERS, void};

/// Two numbers with a larger ratio differ. The machine alone does not explain it.
const FAR: f64 = 2.0;
/// A smaller probability is a contradiction. It is divided by the number of groups, because each of them could have it
/// by chance.
const P_MIN: f64 = 0.01;
const ONE_RUN_EACH: &str = "one run of each says no more";

/// One arm at one size, in both runs.
struct Pair<'a> {
    old: &'a Run,
    new: &'a Run,
    before: Vec<&'a Cell>,
    after: Vec<&'a Cell>,
}

/// Requests by backend.
type Counts = Vec<(String, u64)>;

pub(super) fn lines(old: &Run, new: &Run) -> Vec<String> {
    let after = groups(new);
    let befores = groups(old);
    let number = befores.len().max(1) as f64;
    let mut lines = Vec::new();
    for before in befores {
        let (arm, n) = (&before[0].arm, before[0].n);
        let what = format!("{arm}, N = {n}");
        let Some(after) = after.iter().find(|cells| (&cells[0].arm, cells[0].n) == (arm, n)) else {
            lines.push(format!("{what}: not measured this time: {CANNOT_TELL}"));
            continue;
        };
        let pair = Pair { old, new, before, after: after.clone() };
        for said in [Some(pair.counts(P_MIN / number)), Some(pair.failures()), pair.throughput(), pair.latency()] {
            lines.extend(said.map(|said| format!("{what}, {said}")));
        }
    }
    lines.extend(recoveries(old, new));
    lines
}

// === impl Pair ===

impl Pair<'_> {
    fn counts(&self, p_min: f64) -> String {
        let counts = |cells: &[&Cell]| totals(cells).into_iter().map(|total| (total.0, total.1)).collect::<Counts>();
        let (then, now) = (counts(&self.before), counts(&self.after));
        let in_words =
            |counts: &Counts| counts.iter().map(|(_, count)| format::count(*count)).collect::<Vec<_>>().join(" / ");
        let judgement = match void(self.old, self.new, Conclusion::Shares) {
            Some(why) => format!("{why}: {CANNOT_TELL}"),
            None => self.judged_counts(&then, &now, p_min),
        };
        format!("counts: {} then, {} now, {judgement}", in_words(&then), in_words(&now))
    }

    fn judged_counts(&self, then: &Counts, now: &Counts, p_min: f64) -> String {
        if !then.iter().map(|count| &count.0).eq(now.iter().map(|count| &count.0)) {
            return format!("from other backends: {DIFFERS}");
        }
        let [then, now] = [then, now].map(|counts| counts.iter().map(|count| count.1).collect::<Vec<u64>>());
        let p = |cells: &[&Cell]| cells.iter().map(|cell| cell.chi_square_p).collect::<Option<Vec<f64>>>();
        match (p(&self.before), p(&self.after)) {
            (Some(before), Some(after)) if self.is_exact() => {
                let is_kept = |ps: &[f64]| ps.iter().all(|p| *p == 1.0);
                match (is_kept(&before), is_kept(&after)) {
                    (true, true) => format!("both exactly as declared: {AGREES}"),
                    (false, false) => format!("neither as declared: {CANNOT_TELL}"),
                    (true, false) => format!("as declared then and not now: {DIFFERS}"),
                    (false, true) => format!("as declared now and not then: {DIFFERS}"),
                }
            }
            (Some(_), Some(_)) => match same_shares_p(&then, &now) {
                Some(p) => {
                    let judgement = if p < p_min { DIFFERS } else { AGREES };
                    format!("with a chance of {} if both have the same law: {judgement}", format::p_value(p))
                }
                None => format!("too few to test: {CANNOT_TELL}"),
            },
            _ => {
                let share = |counts: &[u64], at: usize| counts[at] as f64 / counts.iter().sum::<u64>().max(1) as f64;
                match (0..then.len()).any(|at| is_far(share(&then, at), share(&now, at))) {
                    true => format!("a share changed beyond {FAR} times: {DIFFERS}"),
                    false => format!("how they vary is not declared: {CANNOT_TELL}"),
                }
            }
        }
    }

    /// Whether the strategy declares exact counts.
    fn is_exact(&self) -> bool {
        let declared = self.before.first().and_then(|cell| self.old.manifest.arm(&cell.arm));
        let declared = declared.map(|arm| serde_json::from_str::<serde_json::Value>(&arm.expectation));
        declared.is_some_and(|declared| declared.is_ok_and(|declared| declared["balance"] == "exact"))
    }

    /// Failed requests come in groups. A test that treats them as independent would find too many differences.
    fn failures(&self) -> String {
        let sum = |cells: &[&Cell]| {
            cells
                .iter()
                .fold((0, 0), |sum, cell| (sum.0 + cell.errors + cell.unsent, sum.1 + cell.requests + cell.unsent))
        };
        let ((bad, all), (bad_now, all_now)) = (sum(&self.before), sum(&self.after));
        let share = |bad: u64, all: u64| bad as f64 / all.max(1) as f64;
        let (then, now) = (share(bad, all), share(bad_now, all_now));
        let p = same_shares_p(&[bad, all.saturating_sub(bad)], &[bad_now, all_now.saturating_sub(bad_now)]);
        let judgement = match (void(self.old, self.new, Conclusion::Counts), bad, bad_now) {
            (Some(why), _, _) => format!(", {why}: {CANNOT_TELL}"),
            (None, 0, 0) => format!(": {AGREES}"),
            _ if is_far(then, now) && p.is_some_and(|p| p < P_MIN) => {
                format!(", beyond {FAR} times: {DIFFERS}")
            }
            _ if bad > 0 && bad_now > 0 && !is_far(then, now) => format!(", within {FAR} times: {AGREES}"),
            _ => format!(", {ONE_RUN_EACH}: {CANNOT_TELL}"),
        };
        let in_words = |bad: u64, all: u64| format!("{} of {}", format::count(bad), format::count(all));
        format!("failed: {} then, {} now{judgement}", in_words(bad, all), in_words(bad_now, all_now))
    }

    /// `None` for an open loop: its throughput is the rate of the plan.
    fn throughput(&self) -> Option<String> {
        if self.before.iter().any(|cell| cell.asked_rps.is_some()) {
            return None;
        }
        let mean = |cells: &[&Cell]| cells.iter().map(|cell| cell.rps()).sum::<f64>() / cells.len() as f64;
        let (then, now) = (mean(&self.before), mean(&self.after));
        let numbers = format!("good responses/s: {then:.0} then, {now:.0} now");
        Some(format!("{numbers}, {}", self.judged_times(then, now, Conclusion::Throughput)))
    }

    fn latency(&self) -> Option<String> {
        let percentile =
            |run: &Run, cells: &[&Cell]| Some(percentile_ns(&merged(run, cells).latency, 0.99)? as f64 / 1e6);
        let (then, now) = (percentile(self.old, &self.before)?, percentile(self.new, &self.after)?);
        let numbers = format!("p99 latency: {} then, {} now", format::milliseconds(then), format::milliseconds(now));
        Some(format!("{numbers}, {}", self.judged_times(then, now, Conclusion::Latency)))
    }

    fn judged_times(&self, then: f64, now: f64, conclusion: Conclusion) -> String {
        match void(self.old, self.new, conclusion) {
            Some(why) => format!("{why}: {CANNOT_TELL}"),
            None if is_far(then, now) => format!("beyond {FAR} times: {DIFFERS}"),
            None => format!("{ONE_RUN_EACH}: {CANNOT_TELL}"),
        }
    }
}

/// For each kill: the time until the balancer detected it, and the time until the backend got requests again.
fn recoveries(old: &Run, new: &Run) -> Vec<String> {
    let kills = |run: &'_ Run| -> Vec<usize> {
        let events = run.results.events.iter().enumerate();
        events.filter(|(_, event)| event.kind == EventKind::Kill).map(|(at, _)| at).collect()
    };
    let took = |run: &Run, kill: usize, kind: EventKind| {
        let (events, kill) = (&run.results.events[kill..], &run.results.events[kill]);
        let same = |event: &&Event| event.kind == kind && event.backend == kill.backend;
        events.iter().find(same).map(|event| event.at_ms.saturating_sub(kill.at_ms) as f64)
    };
    let (before, after) = (kills(old), kills(new));
    let mut lines = Vec::new();
    for (at, &then) in before.iter().enumerate() {
        let id = old.results.events[then].backend.as_deref().unwrap_or("a backend");
        for (kind, what) in [(EventKind::Detected, "out of rotation"), (EventKind::Recovered, "back")] {
            let (then, now) = (took(old, then, kind), after.get(at).and_then(|&now| took(new, now, kind)));
            let said = match (void(old, new, Conclusion::Recovery), then, now) {
                (Some(why), _, _) => format!("{why}: {CANNOT_TELL}"),
                (None, Some(then), Some(now)) => {
                    let numbers =
                        format!("after {} then, {} now", format::milliseconds(then), format::milliseconds(now));
                    // lb checks a few times a second, so times within this factor count as equal
                    match is_far(then.max(1.0), now.max(1.0)) {
                        true => format!("{numbers}, beyond {FAR} times: {DIFFERS}"),
                        false => format!("{numbers}, within {FAR} times: {AGREES}"),
                    }
                }
                (None, None, None) => format!("in neither run: {AGREES}"),
                (None, Some(then), None) => format!("after {} then, never now: {DIFFERS}", format::milliseconds(then)),
                (None, None, Some(now)) => format!("never then, after {} now: {DIFFERS}", format::milliseconds(now)),
            };
            lines.push(format!("{id} killed, {what} {said}"));
        }
    }
    lines
}

fn is_far(one: f64, two: f64) -> bool {
    one.max(two) > FAR * one.min(two)
}
