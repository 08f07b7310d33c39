//! The facts that the live view shows. Cheap to clone; all clones share them.
//!
//! Invariant: the lock is held only for an assignment or a snapshot, by conducting threads and the drawing thread.
//! Sending threads never take it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::status::{BackendRow, Flow, Left, Next, Precision, Progress, Status};
use crate::lab::natural;
use crate::load::{Arrivals, Handle, Live, Plan, Snapshot, Stop};

#[derive(Clone, Debug)]
pub struct Board {
    facts: Arc<Mutex<Facts>>,
}

/// The facts; [`Board::tell`] changes them.
#[derive(Debug)]
pub struct Facts {
    pub title: String,
    pub place: String,
    pub strategy: String,
    /// The phase without a load, or in a load without its own phases (a calibration).
    pub phase: String,
    /// The end of the phase; the flag is true if it may end earlier.
    pub end: Option<(Instant, bool)>,
    pub next: Option<(Instant, String)>,
    pub pool: Vec<Member>,
    pub precision: Option<Precision>,
    origin: Instant,
    /// The current load, or the last one.
    underway: Option<Underway>,
    is_over: bool,
    /// The last flow and backends of a running load. After its end, its own values of the last second are outdated.
    seen: (Flow, Vec<BackendRow>),
    /// The counts of loads that have ended.
    before: Live,
    rates: VecDeque<u64>,
    notes: VecDeque<(Duration, String)>,
}

/// A running load.
#[derive(Clone, Debug)]
pub struct Underway {
    handle: Handle,
    began: Instant,
    arrivals: Arrivals,
    warm_up: Duration,
    stop: Stop,
    /// The names of its warm-up and of the part after it.
    names: (&'static str, &'static str),
}

/// The state of a backend, from the balancer.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    pub id: String,
    /// `None` if the balancer is not polled.
    pub in_flight: Option<u32>,
    pub is_eligible: bool,
}

/// The length of the curve of rates, in half seconds.
const RATES: usize = 120;
const NOTES: usize = 3;

// === impl Board ===

impl Board {
    /// `origin`: the zero of elapsed time.
    pub fn new(title: impl Into<String>, origin: Instant) -> Self {
        let facts = Facts {
            title: title.into(),
            place: String::new(),
            strategy: String::new(),
            phase: String::new(),
            end: None,
            next: None,
            pool: Vec::new(),
            precision: None,
            origin,
            underway: None,
            is_over: true,
            seen: (Flow::default(), Vec::new()),
            before: Live::default(),
            rates: VecDeque::new(),
            notes: VecDeque::new(),
        };
        Self { facts: Arc::new(Mutex::new(facts)) }
    }

    pub fn tell(&self, change: impl FnOnce(&mut Facts)) {
        change(&mut self.facts.lock());
    }

    /// The current status.
    pub fn status(&self) -> Status {
        self.facts.lock().status(Instant::now())
    }

    /// The current status, if a load runs.
    pub(super) fn running_status(&self) -> Option<Status> {
        let mut facts = self.facts.lock();
        (!facts.is_over).then(|| facts.status(Instant::now()))
    }

    pub(super) fn origin(&self) -> Instant {
        self.facts.lock().origin
    }

    /// Records the current rate. Called every half second.
    pub(super) fn sample_rate(&self) {
        let mut facts = self.facts.lock();
        let underway = facts.underway.as_ref().filter(|_| !facts.is_over);
        let rate = underway.map_or(0.0, |underway| rate(&underway.handle.snapshot()));
        if facts.rates.len() == RATES {
            facts.rates.pop_front();
        }
        facts.rates.push_back(rate.round() as u64);
    }
}

// === impl Facts ===

impl Facts {
    /// Marks the begin of a load.
    pub fn begin(&mut self, underway: Underway) {
        (self.underway, self.is_over) = (Some(underway), false);
        self.seen = (Flow::default(), Vec::new());
    }

    /// Marks the end of the load. `counts`: its responses count for the run.
    pub fn end_load(&mut self, counts: bool) {
        if let Some(underway) = self.underway.as_ref().filter(|_| counts && !self.is_over) {
            self.before = add(&self.before, &underway.handle.snapshot().total);
        }
        (self.next, self.is_over) = (None, true);
    }

    /// Adds an event with the current time.
    pub fn note(&mut self, text: impl Into<String>) {
        if self.notes.len() == NOTES {
            self.notes.pop_front();
        }
        self.notes.push_back((self.origin.elapsed(), text.into()));
    }

    fn status(&mut self, now: Instant) -> Status {
        let snapshot = self.underway.as_ref().map(|underway| underway.handle.snapshot());
        let both = self.underway.as_ref().zip(snapshot.as_ref());
        let running = both.filter(|_| !self.is_over);
        let (phase, progress) = running.map_or((None, None), |(underway, snapshot)| underway.phase(now, snapshot));
        let flow = both.map(|(underway, snapshot)| self.flow(underway, snapshot, now));
        let backends = self.backends(snapshot.as_ref());
        if let (Some(flow), false) = (&flow, self.is_over) {
            self.seen = (flow.clone(), backends.clone());
        }
        let left = self.end.map(|(end, is_at_most)| Left { time: end.saturating_duration_since(now), is_at_most });
        Status {
            title: self.title.clone(),
            elapsed: now.saturating_duration_since(self.origin),
            left,
            place: self.place.clone(),
            strategy: self.strategy.clone(),
            phase: phase.unwrap_or(&self.phase).to_owned(),
            progress,
            flow,
            rates: self.rates.iter().copied().collect(),
            backends,
            precision: self.precision.clone(),
            next: self
                .next
                .as_ref()
                .map(|(at, what)| Next { after: at.saturating_duration_since(now), what: what.clone() }),
            notes: self.notes.iter().cloned().collect(),
        }
    }

    fn flow(&self, underway: &Underway, snapshot: &Snapshot, now: Instant) -> Flow {
        let ms = |quantile| {
            (!snapshot.latency.is_empty()).then(|| snapshot.latency.value_at_quantile(quantile) as f64 / 1e6)
        };
        if self.is_over {
            let Live { classes, errors, unsent, .. } = self.before;
            return Flow { outstanding: 0, classes, errors, unsent, ..self.seen.0.clone() };
        }
        let total = add(&self.before, &snapshot.total);
        let (asked, achieved) = (underway.asked(now), rate(snapshot));
        Flow {
            asked,
            achieved,
            is_behind: snapshot.recent_s >= 1.0 && asked.is_some_and(|asked| is_behind(achieved, asked)),
            p50_ms: ms(0.5),
            p90_ms: ms(0.9),
            p99_ms: ms(0.99),
            outstanding: snapshot.total.outstanding,
            classes: total.classes,
            errors: total.errors,
            unsent: total.unsent,
        }
    }

    /// The pool in its order, then other backends that responded.
    fn backends(&self, snapshot: Option<&Snapshot>) -> Vec<BackendRow> {
        let member = |member: &Member| BackendRow {
            id: member.id.clone(),
            in_flight: member.in_flight,
            is_out: !member.is_eligible,
            ..BackendRow::default()
        };
        let mut backends: Vec<BackendRow> = self.pool.iter().map(member).collect();
        let Some(snapshot) = snapshot else { return backends };
        for (at, id) in snapshot.backends.iter().enumerate() {
            let place = backends.iter().position(|backend| backend.id == *id).unwrap_or_else(|| {
                // a backend that has left the pool gets no requests
                let is_out = !self.pool.is_empty();
                backends.push(BackendRow { id: id.clone(), is_out, ..BackendRow::default() });
                backends.len() - 1
            });
            backends[place].answers = snapshot.backend_counts[at];
            let recent = snapshot.backend_recent[at] as f64 / snapshot.recent_s.max(SHORTEST_S);
            let seen = self.seen.1.iter().find(|seen| self.is_over && seen.id == *id);
            backends[place].rate = seen.map_or(recent, |seen| seen.rate);
        }
        if self.pool.is_empty() {
            backends.sort_by_cached_key(|backend| natural(&backend.id));
        }
        backends
    }
}

fn add(before: &Live, total: &Live) -> Live {
    let mut sum = *before;
    sum.errors += total.errors;
    sum.unsent += total.unsent;
    sum.classes.iter_mut().zip(total.classes).for_each(|(mine, other)| *mine += other);
    sum
}

/// Whether the difference is more than chance explains with random arrivals.
fn is_behind(achieved: f64, asked: f64) -> bool {
    achieved < 0.95 * asked - 3.0 * asked.sqrt()
}

/// A rate is over at least this time, although the last second is shorter at the beginning.
const SHORTEST_S: f64 = 0.1;

/// Responses per second.
pub(super) fn rate(snapshot: &Snapshot) -> f64 {
    (snapshot.recent.ok + snapshot.recent.failed) as f64 / snapshot.recent_s.max(SHORTEST_S)
}

// === impl Underway ===

impl Underway {
    /// `names`: those of its warm-up and of the part after it.
    pub fn new(handle: Handle, plan: &Plan, names: (&'static str, &'static str)) -> Self {
        let now = Instant::now();
        let began = now.checked_sub(Duration::from_nanos(handle.ns_at(now))).unwrap_or(now);
        Self { handle, began, arrivals: plan.arrivals, warm_up: plan.warm_up, stop: plan.stop, names }
    }

    fn asked(&self, now: Instant) -> Option<f64> {
        match self.arrivals {
            Arrivals::Ramp { from, to, over } => {
                let share = (now.saturating_duration_since(self.began).as_secs_f64() / over.as_secs_f64()).min(1.0);
                Some(from + (to - from) * share)
            }
            other => other.rps(),
        }
    }

    fn phase(&self, now: Instant, snapshot: &Snapshot) -> (Option<&'static str>, Option<Progress>) {
        let since = now.saturating_duration_since(self.began);
        if since < self.warm_up {
            return (Some(self.names.0), Some(Progress::Time { done: since, all: self.warm_up }));
        }
        let since = since - self.warm_up;
        match self.stop {
            Stop::AfterTime(all) if since < all => (Some(self.names.1), Some(Progress::Time { done: since, all })),
            Stop::AfterTime(_) => (Some("waiting for the last responses"), None),
            // the number of responses in the warm-up is unknown while the load runs
            Stop::AfterRequests(_) if !self.warm_up.is_zero() => (Some(self.names.1), None),
            Stop::AfterRequests(all) => {
                let Live { ok, failed, errors, unsent, .. } = snapshot.total;
                let done = (ok + failed + errors + unsent).min(all);
                (Some(self.names.1), Some(Progress::Requests { done, all }))
            }
            Stop::WhenTold => (Some(self.names.1), None),
        }
    }
}
