//! The counts of one sending thread: by segment, and for the current 100 ms.
//!
//! Invariants: a sample belongs to the segment of its scheduled send time, however late its response comes. Counting
//! allocates only for a new status, a new backend or a longer time.

use std::collections::BTreeMap;

use hdrhistogram::{Counter, Histogram};

use super::batches::Batches;
use super::collector::Collector;
use super::outcome::{BackendTally, ErrorKind, Segment};
use super::timeouts::Phase;
use super::windows::Windows;

/// The counts of one thread.
pub(super) struct Recorder {
    /// In the order of their beginnings. The first is the warm-up, if there is one.
    segments: Vec<Open>,
    /// Those of the segment that began last.
    batches: Batches,
    names: Names,
    windows: Windows,
    first_errors: BTreeMap<ErrorKind, String>,
    is_closed_loop: bool,
}

/// A segment while it is counted.
struct Open {
    counts: Segment,
    /// There are few of them; a linear search is quicker than a map.
    statuses: Vec<(u16, u64)>,
    /// By the number of the backend.
    backends: Vec<BackendTally>,
}

/// The backends seen, numbered in the order of their first response.
#[derive(Debug, Default)]
pub(super) struct Names {
    names: Vec<Box<[u8]>>,
    last: usize,
}

/// A response and its time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answered {
    pub(super) intended_ns: u64,
    pub(super) begun_ns: u64,
    pub(super) sent_ns: u64,
    pub(super) done_ns: u64,
    pub(super) status: u16,
    pub(super) backend: Option<u16>,
    pub(super) bytes: u64,
}

/// More backends than this are counted as one, so that a header with a new value each time does not use up the memory.
const NAMES_MAX: usize = 1024;
const OTHERS: &[u8] = b"(others)";

/// The result of a recorder.
pub(super) struct Recorded {
    pub(super) segments: Vec<Segment>,
    pub(super) batches: Batches,
    pub(super) first_errors: BTreeMap<ErrorKind, String>,
}

/// Longer times are recorded as this, which bounds the size of a histogram.
const LONGEST_NS: u64 = 24 * 3600 * 1_000_000_000;

pub(super) fn note<T: Counter>(latencies: &mut Histogram<T>, ns: u64) {
    // This fails only for a histogram that may not grow.
    let _ = latencies.record(ns.min(LONGEST_NS));
}

// === impl Recorder ===

impl Recorder {
    /// The first segment begins at `from_ns`; requests scheduled before belong to it too.
    pub(super) fn new(from_ns: u64, is_closed_loop: bool) -> Self {
        Self {
            segments: vec![Open::new(from_ns)],
            batches: Batches::new(from_ns),
            names: Names::default(),
            windows: Windows::new(),
            first_errors: BTreeMap::new(),
            is_closed_loop,
        }
    }

    /// Requests scheduled from `from_ns` on belong to a new segment.
    pub(super) fn begin_segment(&mut self, from_ns: u64) {
        self.segments.push(Open::new(from_ns));
        self.batches.begin(from_ns);
    }

    pub(super) fn names(&mut self) -> &mut Names {
        &mut self.names
    }

    /// A request is taken from the schedule now.
    pub(super) fn due(&mut self, intended_ns: u64, now_ns: u64) {
        let is_closed_loop = self.is_closed_loop;
        let segment = &mut self.segment(intended_ns).counts;
        segment.due += 1;
        if !is_closed_loop {
            note(&mut segment.lag, now_ns.saturating_sub(intended_ns));
        }
        self.windows.due(intended_ns);
    }

    pub(super) fn sent(&mut self, intended_ns: u64, is_repetition: bool) {
        let segment = &mut self.segment(intended_ns).counts;
        if is_repetition {
            segment.resent += 1;
        } else {
            segment.sent += 1;
            self.windows.sent(intended_ns);
        }
    }

    pub(super) fn unsent(&mut self, intended_ns: u64) {
        self.segment(intended_ns).counts.unsent += 1;
        self.windows.unsent(intended_ns);
    }

    pub(super) fn unfinished(&mut self, intended_ns: u64, was_sent: bool) {
        let counts = &mut self.segment(intended_ns).counts;
        counts.unfinished += 1;
        counts.uncertain += u64::from(was_sent);
        self.windows.unfinished(intended_ns);
    }

    pub(super) fn error(
        &mut self,
        intended_ns: u64,
        kind: ErrorKind,
        was_sent: bool,
        now_ns: u64,
        message: impl FnOnce() -> String,
    ) {
        let counts = &mut self.segment(intended_ns).counts;
        counts.errors.count(kind);
        // a malformed response shows that the request arrived
        counts.uncertain += u64::from(was_sent && kind != ErrorKind::BadAnswer);
        self.windows.error(intended_ns, now_ns);
        self.first_errors.entry(kind).or_insert_with(message);
    }

    /// A request timed out. The caller also calls [`Self::error`].
    pub(super) fn timed_out(&mut self, intended_ns: u64, phase: Phase) {
        self.segment(intended_ns).counts.timeouts.count(phase);
    }

    pub(super) fn answered(&mut self, answer: &Answered) {
        let latency = answer.done_ns.saturating_sub(answer.intended_ns);
        // A closed loop has no scheduled times: its service times are its latencies, which `finish` copies.
        let service = (!self.is_closed_loop).then(|| answer.done_ns.saturating_sub(answer.sent_ns));
        let (is_failed, is_closed_loop) = (answer.status >= 400, self.is_closed_loop);
        let number = self.number(answer.intended_ns);
        if !is_failed && number + 1 == self.segments.len() {
            self.batches.note(answer.intended_ns, latency, service);
        }
        let segment = &mut self.segments[number];
        segment.count_status(answer.status);
        if let Some(backend) = answer.backend {
            segment.count_backend(backend, is_failed, answer.done_ns);
        }
        let counts = &mut segment.counts;
        counts.answered += 1;
        counts.bytes += answer.bytes;
        if is_closed_loop {
            counts.to_ns = counts.to_ns.max(answer.done_ns);
        }
        if is_failed {
            note(&mut counts.failed, latency);
        } else {
            note(&mut counts.latency, latency);
            if let Some(service) = service {
                note(&mut counts.service, service);
                note(&mut counts.prompt, answer.done_ns.saturating_sub(answer.begun_ns));
            }
        }
        self.windows.answered(answer.intended_ns, latency, answer.status, answer.backend);
    }

    /// Reports the counts since the last report to the collector. `outstanding` requests have not ended at `now_ns`.
    pub(super) fn report(&mut self, thread: usize, now_ns: u64, outstanding: u64, collector: &Collector) {
        self.windows.report(thread, now_ns, outstanding, &self.names.names, collector);
    }

    /// All counts. `ended_ns`: when sending ended.
    pub(super) fn finish(self, ended_ns: u64) -> Recorded {
        let froms: Vec<u64> = self.segments.iter().map(|open| open.counts.from_ns).collect();
        let names = self.names;
        let finish = |(number, open): (usize, Open)| {
            // rates are over the segment's own length, even if the last responses came after it; only a closed loop,
            // which has no schedule, ends with its last response
            let end = froms.get(number + 1).copied();
            open.finish(end.unwrap_or(ended_ns), self.is_closed_loop, end.is_none(), &names)
        };
        Recorded {
            segments: self.segments.into_iter().enumerate().map(finish).collect(),
            batches: self.batches,
            first_errors: self.first_errors,
        }
    }

    fn segment(&mut self, intended_ns: u64) -> &mut Open {
        let number = self.number(intended_ns);
        &mut self.segments[number]
    }

    fn number(&self, intended_ns: u64) -> usize {
        // Nearly always the last segment.
        self.segments.iter().rposition(|open| open.counts.from_ns <= intended_ns).unwrap_or(0)
    }
}

// === impl Open ===

impl Open {
    fn new(from_ns: u64) -> Self {
        Self { counts: Segment::new(from_ns), statuses: Vec::new(), backends: Vec::new() }
    }

    fn count_status(&mut self, status: u16) {
        match self.statuses.iter_mut().find(|(known, _)| *known == status) {
            Some((_, count)) => *count += 1,
            None => self.statuses.push((status, 1)),
        }
    }

    fn count_backend(&mut self, backend: u16, is_failed: bool, done_ns: u64) {
        let backend = usize::from(backend);
        if self.backends.len() <= backend {
            self.backends.resize(backend + 1, BackendTally::default());
        }
        let tally = &mut self.backends[backend];
        if tally.answered == 0 {
            tally.first_ns = done_ns;
        }
        tally.answered += 1;
        tally.failed += u64::from(is_failed);
        tally.last_ns = tally.last_ns.max(done_ns);
    }

    fn finish(self, end_ns: u64, is_closed_loop: bool, is_last: bool, names: &Names) -> Segment {
        let Self { mut counts, statuses, backends } = self;
        if is_closed_loop {
            counts.service = counts.latency.clone();
        }
        counts.to_ns = if is_closed_loop && is_last { counts.to_ns.max(end_ns) } else { end_ns.max(counts.from_ns) };
        counts.statuses = statuses.into_iter().collect();
        let answered = backends.into_iter().enumerate().filter(|(_, tally)| tally.answered > 0);
        counts.backends = answered.map(|(number, tally)| (names.text(number), tally)).collect();
        counts
    }
}

// === impl Names ===

impl Names {
    /// The number of this backend; a new backend gets the next number.
    pub(super) fn number(&mut self, name: &[u8]) -> u16 {
        // responses of one backend often come in a row
        if self.names.get(self.last).is_some_and(|known| **known == *name) {
            return self.last as u16;
        }
        let known = self.names.iter().position(|known| **known == *name);
        self.last = known.unwrap_or_else(|| {
            if self.names.len() < NAMES_MAX {
                let is_last = self.names.len() + 1 == NAMES_MAX;
                self.names.push(if is_last { OTHERS.into() } else { name.into() });
            }
            self.names.len() - 1
        });
        self.last as u16
    }

    pub(super) fn text(&self, number: usize) -> String {
        self.names.get(number).map(|name| String::from_utf8_lossy(name).into_owned()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(intended_ns: u64, done_ns: u64, status: u16, backend: Option<u16>) -> Answered {
        Answered {
            intended_ns,
            begun_ns: intended_ns,
            sent_ns: intended_ns + 10_000,
            done_ns,
            status,
            backend,
            bytes: 100,
        }
    }

    #[test]
    fn a_sample_belongs_to_the_segment_of_its_intended_time() {
        let mut recorder = Recorder::new(0, false);
        recorder.begin_segment(1_000_000);
        // The second request was scheduled in the first segment, and its response comes long after its end.
        for (intended, done) in [(0, 500_000), (999_999, 90_000_000), (1_000_000, 1_100_000)] {
            recorder.due(intended, intended + 5_000);
            recorder.sent(intended, false);
            recorder.answered(&answer(intended, done, 200, None));
        }
        let segments = recorder.finish(2_000_000).segments;
        let counts: Vec<_> = segments.iter().map(|segment| (segment.due, segment.sent, segment.answered)).collect();
        assert_eq!(counts, [(2, 2, 2), (1, 1, 1)]);
        assert_eq!((segments[0].from_ns, segments[0].to_ns), (0, 1_000_000), "not stretched by a late answer");
        assert!(segments[0].latency.max() >= 89_000_000);
    }

    #[test]
    fn an_open_loop_ends_with_its_schedule_and_a_closed_one_with_its_last_response() {
        let ends = |is_closed_loop: bool| {
            let mut recorder = Recorder::new(0, is_closed_loop);
            recorder.answered(&answer(0, 90_000_000, 200, None));
            recorder.finish(2_000_000).segments[0].to_ns
        };
        assert_eq!([ends(false), ends(true)], [2_000_000, 90_000_000]);
    }

    #[test]
    fn only_sent_requests_may_have_arrived() {
        let mut recorder = Recorder::new(0, false);
        let kinds = [ErrorKind::Connect, ErrorKind::Timeout, ErrorKind::Reset, ErrorKind::BadAnswer];
        for (kind, was_sent) in kinds.into_iter().zip([false, false, true, true]) {
            recorder.error(0, kind, was_sent, 0, String::new);
        }
        recorder.unfinished(0, true);
        recorder.unfinished(0, false);
        let segment = recorder.finish(1).segments.remove(0);
        assert_eq!((segment.errors.total(), segment.unfinished, segment.uncertain), (4, 2, 2));
    }

    #[test]
    fn errors_are_not_counted_as_quick_responses() {
        let mut recorder = Recorder::new(0, false);
        recorder.answered(&answer(0, 50_000_000, 200, Some(0)));
        recorder.answered(&answer(0, 10_000, 503, Some(1)));
        let segment = recorder.finish(1).segments.remove(0);
        assert_eq!((segment.latency.len(), segment.service.len(), segment.failed.len()), (1, 1, 1));
        assert!(segment.latency.min() > 49_000_000);
        assert_eq!((segment.ok(), segment.failed_answers()), (1, 1));
    }

    #[test]
    fn batches_hold_the_good_responses_of_the_last_segment_by_both_clocks() {
        for is_closed_loop in [false, true] {
            let mut recorder = Recorder::new(0, is_closed_loop);
            recorder.begin_segment(1_000_000);
            for (intended, status) in [(0, 200), (1_000_000, 200), (1_500_000, 503), (2_000_000, 200)] {
                recorder.answered(&answer(intended, intended + 700_000, status, None));
            }
            let recorded = recorder.finish(3_000_000);
            let sums = recorded.batches.stretches().iter().fold((0, 0), |(latency, service), stretch| {
                (latency + stretch.latency.sum_ns, service + stretch.service.sum_ns)
            });
            assert_eq!(sums, (1_400_000, if is_closed_loop { 0 } else { 1_380_000 }));
            let segment = &recorded.segments[1];
            assert_eq!(segment.service.len(), 2);
            assert_eq!(segment.service == segment.latency, is_closed_loop);
        }
    }

    #[test]
    fn too_many_backends_are_counted_as_others() {
        let mut names = Names::default();
        for number in 0..5_000_u32 {
            names.number(&number.to_be_bytes());
        }
        assert_eq!(names.names.len(), NAMES_MAX);
        assert_eq!(names.text(NAMES_MAX - 1), "(others)");
        assert_eq!(names.number(&7_u32.to_be_bytes()), 7);
    }
}
