//! The schedule of one sending thread: its next request and its time, its end and its cuts.
//!
//! Invariants: thread t of T takes the requests with number i mod T = t, so threads need no communication. A cut takes
//! effect from the first request that is scheduled at or after its moment.

use std::collections::VecDeque;

use super::alarm::AHEAD;
use super::arrivals::{Arrivals, Schedule};
use super::clock::nanos;
use super::plan::{Plan, Stop};

/// A scheduled request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Due {
    pub(super) index: u64,
    pub(super) seed: u64,
    pub(super) intended_ns: u64,
    /// The time when the sending thread took it. The difference to the scheduled time is the generator's lateness, see
    /// [`super::pacing`].
    pub(super) begun_ns: u64,
}

/// A cut as the threads see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct CutAt {
    pub(super) at_ns: u64,
    /// Restart the sequence of requests and the schedule from this seed.
    pub(super) seed: Option<u64>,
    /// Another law of arrival, from this cut on.
    pub(super) arrivals: Option<Arrivals>,
}

/// The requests of one thread.
#[derive(Debug)]
pub(super) struct Source {
    arrivals: Arrivals,
    /// `None` in a closed loop.
    schedule: Option<Schedule>,
    /// The zero of the schedule's times.
    base_ns: u64,
    /// The number of the schedule's next request, among those of all threads.
    next_index: u64,
    /// This thread's next requests, [`AHEAD`] of them; none in a closed loop.
    ahead: VecDeque<Due>,
    /// The request that was taken last; `None` in a closed loop.
    last: Option<Due>,
    seed: u64,
    thread: u64,
    threads: u64,
    /// Requests scheduled before this are the warm-up, and do not count towards the quota.
    measured_from_ns: u64,
    /// The number of measured requests left to this thread.
    quota: Option<u64>,
    end_ns: u64,
    cuts: VecDeque<CutAt>,
}

// === impl Source ===

impl Source {
    /// For a schedule that begins at `base_ns`.
    pub(super) fn new(plan: &Plan, thread: usize, base_ns: u64) -> Self {
        let (thread, threads) = (thread as u64, plan.threads as u64);
        let measured_from_ns = base_ns.saturating_add(nanos(plan.warm_up));
        let (quota, end_ns) = match plan.stop {
            Stop::AfterRequests(count) => (Some(count / threads + u64::from(thread < count % threads)), u64::MAX),
            Stop::AfterTime(time) => (None, measured_from_ns.saturating_add(nanos(time))),
            Stop::WhenTold => (None, u64::MAX),
        };
        let mut source = Self {
            arrivals: plan.arrivals,
            schedule: None,
            base_ns,
            next_index: 0,
            ahead: VecDeque::with_capacity(AHEAD),
            last: None,
            seed: plan.seed,
            thread,
            threads,
            measured_from_ns,
            quota,
            end_ns,
            cuts: VecDeque::new(),
        };
        source.begin_schedule();
        source.look_ahead();
        source
    }

    /// The scheduled time of this thread's next request; in a closed loop `now_ns`. `None`: there are no more.
    pub(super) fn peek(&self, now_ns: u64) -> Option<u64> {
        let due_ns = if self.arrivals.is_closed() { now_ns } else { self.ahead.front()?.intended_ns };
        let is_measured = due_ns >= self.measured_from_ns;
        (due_ns < self.end_ns && !(is_measured && self.quota == Some(0))).then_some(due_ns)
    }

    /// Takes the request whose time [`Self::peek`] returns.
    pub(super) fn pop(&mut self, now_ns: u64) -> Option<Due> {
        if self.arrivals.is_closed() {
            while self.cuts.front().is_some_and(|cut| cut.at_ns <= now_ns) {
                self.take_cut();
            }
        }
        let due_ns = self.peek(now_ns)?;
        if due_ns >= self.measured_from_ns {
            self.quota = self.quota.map(|left| left - 1);
        }
        if self.arrivals.is_closed() {
            let index = self.next_index;
            self.next_index += self.threads;
            return Some(Due { index, seed: self.seed, intended_ns: now_ns, begun_ns: now_ns });
        }
        self.last = self.ahead.pop_front();
        self.look_ahead();
        self.last
    }

    /// The time of one more request after the last, at the average gap so far. So n requests take n gaps, not n - 1.
    pub(super) fn after_last(&self) -> Option<u64> {
        let last = self.last.filter(|last| last.index > 0)?;
        Some(last.intended_ns + last.intended_ns.saturating_sub(self.base_ns) / last.index)
    }

    /// The times of this thread's next requests, as far as they are known. A cut or the end may still come before them.
    pub(super) fn ahead(&self) -> impl Iterator<Item = u64> + Clone {
        self.ahead.iter().map(|due| due.intended_ns)
    }

    /// Takes a cut. Cuts come in order, before their moments. A late cut takes effect at the next request that is
    /// taken.
    pub(super) fn cut(&mut self, cut: CutAt) {
        if cut.seed.is_none() && cut.arrivals.is_none() {
            return; // a new segment of the same sequence
        }
        self.cuts.push_back(cut);
        if self.ahead.back().is_some_and(|last| last.intended_ns >= cut.at_ns) {
            // They were prepared before this cut was known, and their sequence has ended.
            self.ahead.retain(|due| due.intended_ns < cut.at_ns);
            self.take_cut();
            self.look_ahead();
        }
    }

    /// No request is scheduled at or after this moment.
    pub(super) fn end_at(&mut self, end_ns: u64) {
        self.end_ns = self.end_ns.min(end_ns);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.arrivals.is_closed()
    }

    pub(super) fn end_ns(&self) -> u64 {
        self.end_ns
    }

    fn take_cut(&mut self) {
        let Some(cut) = self.cuts.pop_front() else { return };
        self.seed = cut.seed.unwrap_or(self.seed);
        self.arrivals = cut.arrivals.unwrap_or(self.arrivals);
        self.base_ns = cut.at_ns;
        self.begin_schedule();
    }

    fn begin_schedule(&mut self) {
        self.schedule = Schedule::new(&self.arrivals, self.seed);
        self.next_index = if self.arrivals.is_closed() { self.thread } else { 0 };
    }

    /// Prepares this thread's next requests and skips those of other threads.
    fn look_ahead(&mut self) {
        while self.ahead.len() < AHEAD {
            let Some(schedule) = &mut self.schedule else { return };
            let Some(offset_ns) = schedule.next() else { return };
            let intended_ns = self.base_ns.saturating_add(offset_ns);
            if self.cuts.front().is_some_and(|cut| cut.at_ns <= intended_ns) {
                self.take_cut();
                continue;
            }
            let index = self.next_index;
            self.next_index += 1;
            if index % self.threads == self.thread {
                self.ahead.push_back(Due { index, seed: self.seed, intended_ns, begun_ns: intended_ns });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::load::Target;

    fn plan(arrivals: Arrivals, stop: Stop) -> Plan {
        let target = Target { addresses: vec!["127.0.0.1:1".parse().unwrap()], host: "here".to_owned() };
        Plan::new(target, arrivals, stop)
    }

    /// All requests that are scheduled before `until_ns`.
    fn drain(source: &mut Source, until_ns: u64) -> Vec<Due> {
        let mut due = Vec::new();
        while source.peek(until_ns).is_some_and(|ns| ns < until_ns) {
            due.extend(source.pop(until_ns));
        }
        due
    }

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn n_requests_take_n_gaps() {
        let mut source = Source::new(&plan(Arrivals::Constant { rps: 100.0 }, Stop::AfterRequests(5)), 0, SECOND);
        assert_eq!(source.after_last(), None);
        assert_eq!(drain(&mut source, u64::MAX).len(), 5);
        assert_eq!(source.after_last(), Some(SECOND + SECOND / 20), "five of 10 ms");
    }

    #[test]
    fn threads_share_the_schedule_without_gap_or_overlap() {
        let mut plan = plan(Arrivals::Poisson { rps: 1000.0 }, Stop::AfterTime(Duration::from_secs(1)));
        let alone = drain(&mut Source::new(&plan, 0, 0), u64::MAX);
        plan.threads = 3;
        let mut together: Vec<_> =
            (0..3).flat_map(|thread| drain(&mut Source::new(&plan, thread, 0), u64::MAX)).collect();
        together.sort_by_key(|due| due.index);
        assert_eq!(together, alone);
        assert!(alone.len() > 800 && alone.iter().enumerate().all(|(index, due)| due.index == index as u64));
    }

    #[test]
    fn the_quota_is_exact_for_any_number_of_threads_and_leaves_out_the_warm_up() {
        for threads in [1, 2, 3, 7] {
            let mut plan = plan(Arrivals::Constant { rps: 1000.0 }, Stop::AfterRequests(100));
            plan.threads = threads;
            plan.warm_up = Duration::from_millis(50);
            let all: Vec<_> =
                (0..threads).flat_map(|thread| drain(&mut Source::new(&plan, thread, 0), u64::MAX)).collect();
            let measured = all.iter().filter(|due| due.intended_ns >= 50_000_000).count();
            assert_eq!((all.len() - measured, measured), (50, 100), "{threads} threads");
        }
    }

    #[test]
    fn a_cut_begins_the_sequence_anew_at_its_moment() {
        let plan = plan(Arrivals::Poisson { rps: 1000.0 }, Stop::WhenTold);
        let mut source = Source::new(&plan, 0, 0);
        let before = drain(&mut source, SECOND / 2);
        // The cut comes early, and after the next request is prepared.
        for at_ns in [SECOND, SECOND + SECOND / 2 + 1] {
            source.cut(CutAt { at_ns, seed: Some(1), arrivals: None });
        }
        let all = [before, drain(&mut source, 2 * SECOND)].concat();
        let of = |from: u64, to: u64| -> Vec<(u64, u64)> {
            let inside = all.iter().filter(|due| (from..to).contains(&due.intended_ns));
            inside.map(|due| (due.index, due.intended_ns - from)).collect()
        };
        let (first, second) = (of(0, SECOND), of(SECOND, SECOND + SECOND / 2 + 1));
        assert_eq!(first[..second.len()], second[..], "the same seed gives the same schedule and numbers");
        let third = of(SECOND + SECOND / 2 + 1, 2 * SECOND);
        assert_eq!(first[..third.len()], third[..]);
        assert!(third.len() > 400);
    }

    #[test]
    fn a_cut_that_comes_late_holds_from_the_next_request_on() {
        let plan = plan(Arrivals::Constant { rps: 10.0 }, Stop::WhenTold);
        let mut source = Source::new(&plan, 0, 0);
        drain(&mut source, SECOND / 2); // the next, at 0.5 s, is prepared
        source.cut(CutAt { at_ns: SECOND / 2 - 1, seed: None, arrivals: Some(Arrivals::Constant { rps: 100.0 }) });
        let due = drain(&mut source, SECOND);
        assert_eq!((due[0].index, due[0].intended_ns, due.len()), (0, SECOND / 2 - 1, 51));
    }

    #[test]
    fn a_cut_between_requests_that_are_made_already_keeps_those_before_it() {
        let plan = plan(Arrivals::Constant { rps: 10.0 }, Stop::WhenTold);
        let mut source = Source::new(&plan, 0, 0);
        assert_eq!(source.ahead().count(), AHEAD, "at 0, 0.1, 0.2 and 0.3 s");
        let cut = CutAt { at_ns: SECOND / 4, seed: Some(9), arrivals: Some(Arrivals::Constant { rps: 100.0 }) };
        source.cut(cut);
        let due: Vec<_> = drain(&mut source, SECOND / 4 + 25_000_000);
        let (before, after) = due.split_at(3);
        assert_eq!(before.iter().map(|due| (due.index, due.seed)).collect::<Vec<_>>(), [(0, 1), (1, 1), (2, 1)]);
        let after: Vec<_> = after.iter().map(|due| (due.index, due.seed, due.intended_ns - cut.at_ns)).collect();
        assert_eq!(after, [(0, 9, 0), (1, 9, 10_000_000), (2, 9, 20_000_000)]);
    }

    #[test]
    fn a_closed_loop_sends_at_once_until_its_quota_or_end() {
        let mut source = Source::new(&plan(Arrivals::Closed { connections: 4 }, Stop::AfterRequests(3)), 0, 0);
        let due: Vec<_> = (10..20).map_while(|now| source.pop(now)).collect();
        assert_eq!(due.iter().map(|due| (due.index, due.intended_ns)).collect::<Vec<_>>(), [(0, 10), (1, 11), (2, 12)]);
        let mut source = Source::new(&plan(Arrivals::Closed { connections: 4 }, Stop::WhenTold), 0, 0);
        source.cut(CutAt { at_ns: 20, seed: Some(9), arrivals: None });
        source.end_at(30);
        let due: Vec<_> = [10, 19, 20, 29, 30].map(|now| source.pop(now).map(|due| (due.index, due.seed))).to_vec();
        assert_eq!(due, [Some((0, 1)), Some((1, 1)), Some((0, 9)), Some((1, 9)), None]);
    }
}
