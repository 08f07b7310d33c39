//! The counts of one sending thread by windows of 100 ms. The series has them by scheduled send time and by end time,
//! the view by end time.
//!
//! Why both: by end time, a stall is a gap and then a peak; by scheduled send time, the series shows the affected
//! requests. But a request that waits at a server fails when the server dies, and by its scheduled send time the error
//! would precede its cause. A window by scheduled send time is complete only when its last request has ended, which is
//! too late for the view.
//!
//! Invariant: windows of the series are reported in order, each when it is over and all requests scheduled in it have
//! ended.

use std::collections::VecDeque;

use super::collector::{Collector, Live, Look, Report, WINDOW_NS};
use super::outcome::{Ended, RoughLatencies, Window, new_rough};
use super::recorder::note;

pub(super) struct Windows {
    /// The number of the first open window.
    first: u64,
    open: VecDeque<OpenWindow>,
    /// Cleared windows, kept to reuse their memory.
    spare: Vec<OpenWindow>,
    live: Live,
    live_latency: RoughLatencies,
    /// Good responses by the number of the backend.
    live_backends: Vec<u32>,
}

struct OpenWindow {
    counts: Window,
    latency: RoughLatencies,
    /// The latencies of the requests that ended in it.
    ended_latency: RoughLatencies,
    /// Requests that have not ended.
    outstanding: u64,
}

/// The most cleared windows that are kept.
const SPARE_MAX: usize = 4;

// === impl Windows ===

impl Windows {
    pub(super) fn new() -> Self {
        Self {
            first: 0,
            open: VecDeque::new(),
            spare: Vec::new(),
            live: Live::default(),
            live_latency: new_rough(),
            live_backends: Vec::new(),
        }
    }

    pub(super) fn due(&mut self, intended_ns: u64) {
        let window = self.at(intended_ns);
        window.counts.due += 1;
        window.outstanding += 1;
    }

    pub(super) fn sent(&mut self, intended_ns: u64) {
        self.at(intended_ns).counts.sent += 1;
        self.live.sent += 1;
    }

    pub(super) fn unsent(&mut self, intended_ns: u64) {
        self.ended(intended_ns).unsent += 1;
        self.live.unsent += 1;
    }

    pub(super) fn unfinished(&mut self, intended_ns: u64) {
        self.ended(intended_ns);
    }

    pub(super) fn error(&mut self, intended_ns: u64, now_ns: u64) {
        self.ended(intended_ns).errors += 1;
        self.at(now_ns).counts.ended.errors += 1;
        self.live.errors += 1;
    }

    pub(super) fn answered(&mut self, intended_ns: u64, latency_ns: u64, status: u16, backend: Option<u16>) {
        self.live.count_status(status);
        if status >= 400 {
            self.ended(intended_ns).failed += 1;
            self.at(intended_ns + latency_ns).counts.ended.errors += 1;
            self.live.failed += 1;
            return;
        }
        let counts = self.ended(intended_ns);
        counts.ok += 1;
        if let Some(backend) = backend.map(usize::from) {
            count(&mut counts.backends, backend);
            count(&mut self.live_backends, backend);
        }
        note(&mut self.at(intended_ns).latency, latency_ns);
        let then = self.at(intended_ns + latency_ns);
        then.counts.ended.ok += 1;
        if let Some(backend) = backend.map(usize::from) {
            count(&mut then.counts.ended.backends, backend);
        }
        note(&mut then.ended_latency, latency_ns);
        self.live.ok += 1;
        note(&mut self.live_latency, latency_ns);
    }

    pub(super) fn report(
        &mut self,
        thread: usize,
        now_ns: u64,
        outstanding: u64,
        names: &[Box<[u8]>],
        collector: &Collector,
    ) {
        let now = now_ns / WINDOW_NS;
        // first, so that an observer never sees a window with responses that are missing in the totals
        self.live.outstanding = outstanding;
        let look = Look { live: &self.live, latency: &self.live_latency, backends: &self.live_backends, names };
        collector.look(thread, now, &look);
        self.live = Live::default();
        self.live_latency.reset();
        self.live_backends.fill(0);
        while self.first < now && self.open.front().is_none_or(|window| window.outstanding == 0) {
            if let Some(mut window) = self.open.pop_front() {
                let OpenWindow { counts, latency, ended_latency, .. } = &window;
                let report = Report { window: counts, latency, ended_latency, names };
                collector.report(thread, self.first, &report);
                if self.spare.len() < SPARE_MAX {
                    window.clear();
                    self.spare.push(window);
                }
            }
            self.first += 1;
        }
    }

    /// The window of a time. An event of an already reported window counts in the first open one. This happens only in
    /// a closed loop, by a very short time.
    fn at(&mut self, ns: u64) -> &mut OpenWindow {
        let number = (ns / WINDOW_NS).saturating_sub(self.first) as usize;
        while self.open.len() <= number {
            self.open.push_back(self.spare.pop().unwrap_or_else(OpenWindow::new));
        }
        &mut self.open[number]
    }

    fn ended(&mut self, ns: u64) -> &mut Window {
        let window = self.at(ns);
        window.outstanding = window.outstanding.saturating_sub(1);
        &mut window.counts
    }
}

fn count(counts: &mut Vec<u32>, backend: usize) {
    if counts.len() <= backend {
        counts.resize(backend + 1, 0);
    }
    counts[backend] += 1;
}

// === impl OpenWindow ===

impl OpenWindow {
    fn new() -> Self {
        Self { counts: Window::default(), latency: new_rough(), ended_latency: new_rough(), outstanding: 0 }
    }

    fn clear(&mut self) {
        let mut backends = std::mem::take(&mut self.counts.backends);
        let mut ended = std::mem::take(&mut self.counts.ended.backends);
        backends.clear();
        ended.clear();
        let ended = Ended { backends: ended, ..Ended::default() };
        self.counts = Window { backends, ended, ..Window::default() };
        self.latency.reset();
        self.ended_latency.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server dies at 880 ms. A request that was scheduled at 400 ms was still waiting there.
    #[test]
    fn an_error_counts_at_its_scheduled_time_and_at_its_end() {
        let (mut windows, collector) = (Windows::new(), Collector::new(1));
        for intended_ns in [410_000_000, 420_000_000, 430_000_000] {
            windows.due(intended_ns);
            windows.sent(intended_ns);
        }
        windows.answered(410_000_000, 60_000_000, 200, Some(0));
        windows.error(420_000_000, 880_000_000);
        windows.answered(430_000_000, 455_000_000, 502, None);
        windows.report(0, 1_000_000_000, 0, &[b"a"[..].into()], &collector);
        let told = collector.windows(0);
        let at = |ms: usize| &told[ms / 100];
        assert_eq!((at(400).ok, at(400).errors, at(400).failed, at(400).ended.errors), (1, 1, 1, 0));
        assert_eq!((at(800).ended.errors, at(800).ended.ok, at(800).errors), (2, 0, 0));
        assert_eq!((at(400).ended.ok, at(400).ended.backends.as_slice()), (1, &[1][..]));
        assert!(at(400).ended.p99_ns.is_some() && at(800).ended.p99_ns.is_none());
        let sums = |read: fn(&Window) -> u64| told.iter().map(read).sum::<u64>();
        assert_eq!((sums(|it| it.ended.ok), sums(|it| it.ended.errors)), (1, 2), "each once");
    }
}
