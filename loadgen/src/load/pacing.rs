//! Takes requests from a schedule at their times, and records how late it took them.
//!
//! It is separate from the worker so that it runs on any clock. The tests stop a generator in virtual time, like
//! SIGSTOP in real time.

use super::clock::Now;
use super::recorder::Recorder;
use super::source::{Due, Source};

/// Takes the next request of an open loop that is scheduled at or before `now`, the last reading of the clock. Its
/// lateness is recorded at once, and kept in the request until its response.
pub(super) fn take(source: &mut Source, recorder: &mut Recorder, clock: &impl Now, now: u64) -> Option<Due> {
    source.peek(now).filter(|due_ns| *due_ns <= now)?;
    let due = source.pop(now)?;
    // In a row of late requests each is later than the one before.
    let begun_ns = clock.now();
    recorder.due(due.intended_ns, begun_ns);
    Some(Due { begun_ns, ..due })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::VecDeque;
    use std::time::Duration;

    use super::*;
    use crate::load::arrivals::Arrivals;
    use crate::load::outcome::Segment;
    use crate::load::plan::{Plan, Stop, Target};
    use crate::load::recorder::Answered;
    use crate::load::validity::{Effort, Punctuality, punctuality};

    const MS: u64 = 1_000_000;

    /// A clock of a process that does not run for the first `stopped_ns` of each `period_ns`, except for the first
    /// period.
    struct Virtual {
        now_ns: Cell<u64>,
        period_ns: u64,
        stopped_ns: u64,
    }

    impl Virtual {
        /// Sleeps. The process may be stopped when it should wake.
        fn sleep_until(&self, at_ns: u64) {
            let at_ns = at_ns.max(self.now_ns.get());
            let within = at_ns % self.period_ns;
            let is_stopped = at_ns >= self.period_ns && within < self.stopped_ns;
            self.now_ns.set(if is_stopped { at_ns - within + self.stopped_ns } else { at_ns });
        }
    }

    impl Now for Virtual {
        /// Each call takes 1 µs.
        fn now(&self) -> u64 {
            self.now_ns.set(self.now_ns.get() + 1_000);
            self.now_ns.get()
        }
    }

    /// A worker's loop in virtual time, against a server that takes 1 ms for each request: sleep, send scheduled
    /// requests, read responses.
    fn simulated(rps: f64, requests: u64, clock: &Virtual) -> Segment {
        let target = Target { addresses: vec!["127.0.0.1:1".parse().expect("an address")], host: "here".to_owned() };
        let plan = Plan::new(target, Arrivals::Constant { rps }, Stop::AfterRequests(requests));
        let (mut source, mut recorder) = (Source::new(&plan, 0, 0), Recorder::new(0, false));
        let mut under_way: VecDeque<(Due, u64)> = VecDeque::new();
        loop {
            let answer_ns = under_way.front().map(|(_, done_ns)| *done_ns);
            let Some(next_ns) = [source.peek(0), answer_ns].into_iter().flatten().min() else { break };
            clock.sleep_until(next_ns);
            let now = clock.now();
            while let Some(due) = take(&mut source, &mut recorder, clock, now) {
                under_way.push_back((due, due.begun_ns + MS));
            }
            while let Some((due, _)) = under_way.front().copied().filter(|(_, done_ns)| *done_ns <= now) {
                under_way.pop_front();
                let Due { intended_ns, begun_ns, .. } = due;
                let done_ns = clock.now();
                let answered = Answered {
                    intended_ns,
                    begun_ns,
                    sent_ns: begun_ns,
                    done_ns,
                    status: 200,
                    backend: None,
                    bytes: 0,
                };
                recorder.answered(&answered);
            }
        }
        recorder.finish(clock.now()).segments.remove(0)
    }

    fn stopped(stopped_ns: u64) -> Virtual {
        Virtual { now_ns: Cell::new(0), period_ns: 1_250 * MS, stopped_ns }
    }

    fn judged(segment: &Segment) -> Punctuality {
        let effort = Effort { cpu_s: &[0.0], sending_s: 7.0, waited: Some(Duration::ZERO), requests: segment.due };
        punctuality(segment, &effort, false)
    }

    /// The former rule: only with 1,000 requests, and only p99 over the median.
    fn passed_before(segment: &Segment) -> bool {
        let allowed = 200_000.max((segment.service.value_at_quantile(0.5) as f64 * 0.10) as u64);
        !(segment.lag.len() >= 1_000 && segment.lag.value_at_quantile(0.99) > allowed)
    }

    #[test]
    fn a_generator_stopped_for_250_ms_of_each_1250_is_late_although_the_former_rule_passed_it() {
        let segment = simulated(100.0, 700, &stopped(250 * MS));
        assert_eq!((segment.due, segment.answered), (700, 700));
        assert!(segment.lag.max() > 240 * MS, "{}", segment.lag.max());
        assert!(passed_before(&segment), "the former rule passed it");
        assert!(judged(&segment).is_late(), "{:?}", judged(&segment));
    }

    #[test]
    fn a_stopped_generator_passes_at_no_rate_and_no_number_of_requests() {
        for rps in [3.0, 20.0, 100.0, 1_000.0] {
            for seconds in [2.0, 3.0, 7.0, 60.0] {
                let segment = simulated(rps, (rps * seconds) as u64, &stopped(250 * MS));
                assert_ne!(judged(&segment), Punctuality::OnTime, "{rps}/s for {seconds} s");
            }
        }
    }

    #[test]
    fn a_generator_that_is_never_stopped_is_on_time() {
        for rps in [100.0, 1_000.0] {
            let segment = simulated(rps, 700, &stopped(0));
            assert!(segment.lag.max() < MS, "{}", segment.lag.max());
            assert_eq!(judged(&segment), Punctuality::OnTime, "{rps}/s");
        }
    }
}
