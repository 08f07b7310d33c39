//! The events to come, in order of time.
//!
//! Events of the same time come in the order in which they were planned, so a run can be repeated. Time-outs have lanes
//! of their own: with one length for all, they are planned in the order of their times. So most time-outs, which never
//! happen, cost no place in the heap.
//!
//! Invariant: times never decrease. Handles of requests and attempts carry their number, so that an event of one that
//! ended is not taken for one that got its place.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// The place of a request or an attempt, and its number, which is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handle {
    pub(crate) key: u32,
    pub(crate) number: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The next request of the source arrives.
    Arrival,
    /// A client of a closed loop sends its next request.
    Client,
    /// An attempt reaches its backend.
    Reaches(Handle),
    /// A worker of the backend has finished the attempt.
    Served(Handle),
    /// The end of an attempt reaches its balancer.
    Returns(Handle),
    /// The limit of one attempt.
    AttemptIsLate(Handle),
    /// The client gives up.
    ClientGivesUp(Handle),
    /// The pause before a retry is over.
    Retry(Handle),
    /// The wait of a request in the queue is over its limit.
    WaitIsOver(Handle),
    /// A change of the pool or of a backend, by its number in the plan.
    Change(u32),
    Tick {
        balancer: u32,
    },
    /// A health check begins.
    Check {
        balancer: u32,
        server: u32,
    },
    /// Its outcome is known.
    Checked {
        balancer: u32,
        server: u32,
        sign: CheckSign,
    },
    /// The measured time begins.
    Begin,
    /// It is over.
    End,
    /// Waiting requests are asked again.
    Wake {
        balancer: u32,
    },
    /// A poll of a load report.
    Poll {
        balancer: u32,
        server: u32,
    },
    /// A periodic probe of a server is due.
    Round {
        balancer: u32,
        server: u32,
    },
    /// A probe reaches its server.
    ProbeReaches(u32),
    /// The end of a probe reaches its balancer.
    ProbeReturns(u32),
    /// Outlier detection or slow start is due.
    Look {
        balancer: u32,
    },
    Sample,
}

/// The outcome of a health check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CheckSign {
    Good,
    Bad,
    Silent,
    Absent,
}

/// Time-outs of one length.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lane {
    Client,
    Attempt,
    Wait,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    at_ns: u64,
    sequence: u64,
    event: Event,
}

#[derive(Debug, Default)]
pub(crate) struct Calendar {
    heap: BinaryHeap<Reverse<Entry>>,
    lanes: [VecDeque<Entry>; 3],
    /// The next entry of all lanes.
    first_of_lanes: Option<(u64, u64, usize)>,
    sequence: u64,
}

// === impl Entry ===

impl Entry {
    fn key(&self) -> (u64, u64) {
        (self.at_ns, self.sequence)
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

// === impl Calendar ===

impl Calendar {
    #[inline]
    pub(crate) fn plan(&mut self, at_ns: u64, event: Event) {
        let sequence = self.next_sequence();
        self.heap.push(Reverse(Entry { at_ns, sequence, event }));
    }

    /// Plans a time-out. `is_over` tells whether an earlier one of this lane is about something that has ended.
    pub(crate) fn plan_in(&mut self, lane: Lane, at_ns: u64, event: Event, is_over: impl Fn(Event) -> bool) {
        let entries = &mut self.lanes[lane as usize];
        if entries.back().is_some_and(|last| last.at_ns > at_ns) {
            return self.plan(at_ns, event);
        }
        let mut is_first_new = entries.is_empty();
        while entries.front().is_some_and(|first| is_over(first.event)) {
            entries.pop_front();
            is_first_new = true;
        }
        let sequence = self.next_sequence();
        self.lanes[lane as usize].push_back(Entry { at_ns, sequence, event });
        if is_first_new {
            self.find_first_of_lanes();
        }
    }

    /// The time of the next event.
    #[cfg(test)]
    fn next_ns(&self) -> Option<u64> {
        let heap = self.heap.peek().map(|Reverse(entry)| entry.at_ns);
        heap.into_iter().chain(self.first_of_lanes.map(|(at_ns, ..)| at_ns)).min()
    }

    /// Takes the next event out.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<(u64, Event)> {
        let heap = self.heap.peek().map(|Reverse(entry)| entry.key());
        if let Some((at_ns, sequence, lane)) = self.first_of_lanes
            && heap.is_none_or(|key| (at_ns, sequence) < key)
        {
            let entry = self.lanes[lane].pop_front();
            self.find_first_of_lanes();
            return entry.map(|entry| (entry.at_ns, entry.event));
        }
        self.heap.pop().map(|Reverse(entry)| (entry.at_ns, entry.event))
    }

    fn find_first_of_lanes(&mut self) {
        let firsts = self.lanes.iter().enumerate().filter_map(|(lane, entries)| {
            let (at_ns, sequence) = entries.front()?.key();
            Some((at_ns, sequence, lane))
        });
        self.first_of_lanes = firsts.min();
    }

    #[inline]
    fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tick(balancer: u32) -> Event {
        Event::Tick { balancer }
    }

    #[test]
    fn events_come_in_order_of_time_and_then_of_their_planning() {
        let mut calendar = Calendar::default();
        let never = |_: Event| false;
        calendar.plan(20, tick(1));
        calendar.plan_in(Lane::Client, 20, tick(2), never);
        calendar.plan(10, tick(3));
        calendar.plan_in(Lane::Attempt, 15, tick(4), never);
        calendar.plan_in(Lane::Client, 5, tick(5), never);
        calendar.plan(20, tick(6));
        assert_eq!(calendar.next_ns(), Some(5), "also if a time-out is shorter than the one before it");
        let order: Vec<_> = std::iter::from_fn(|| calendar.next()).collect();
        assert_eq!(order, [(5, tick(5)), (10, tick(3)), (15, tick(4)), (20, tick(1)), (20, tick(2)), (20, tick(6))]);
    }

    #[test]
    fn timeouts_of_ended_things_are_dropped_when_a_new_one_comes() {
        let mut calendar = Calendar::default();
        for at_ns in 0..1_000 {
            calendar.plan_in(Lane::Client, at_ns, tick(at_ns as u32), |event| event != tick(at_ns as u32));
        }
        assert_eq!(calendar.lanes[0].len(), 1);
        assert_eq!(calendar.next(), Some((999, tick(999))));
        assert_eq!(calendar.next(), None);
    }
}
