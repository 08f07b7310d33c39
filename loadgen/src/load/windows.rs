//! What one sending thread counts by stretches of 100 ms: for the time series by when requests were due, and for those who look on
//! by when they ended.
//!
//! Why twice: a series by the time of the answer shows a stall as a gap and then a heap; by the intended time it shows who suffered
//! it. But such a window is complete only when its last request has ended, and who looks on wants to see something now.
//!
//! Invariant: windows of the series are handed on in order, each when all that was due in it has ended.

use std::collections::VecDeque;

use super::collector::{Collector, Live, Look, Report, WINDOW_NS};
use super::outcome::{RoughLatencies, Window, new_rough};
use super::recorder::note;

pub(super) struct Windows {
    /// The number of the first open window.
    first: u64,
    open: VecDeque<OpenWindow>,
    /// Emptied ones, kept for their memory.
    spare: Vec<OpenWindow>,
    live: Live,
    live_latency: RoughLatencies,
    /// Good answers by number of the backend.
    live_backends: Vec<u32>,
}

struct OpenWindow {
    counts: Window,
    latency: RoughLatencies,
    /// Requests that have not ended.
    outstanding: u64,
}

/// Emptied windows that are kept.
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

    pub(super) fn error(&mut self, intended_ns: u64) {
        self.ended(intended_ns).errors += 1;
        self.live.errors += 1;
    }

    pub(super) fn answered(&mut self, intended_ns: u64, latency_ns: u64, status: u16, backend: Option<u16>) {
        self.live.count_status(status);
        if status >= 400 {
            self.ended(intended_ns).failed += 1;
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
        // first of all, so that nobody sees a window of the series with answers that the totals do not have yet
        self.live.outstanding = outstanding;
        let look = Look { live: &self.live, latency: &self.live_latency, backends: &self.live_backends, names };
        collector.look(thread, now, &look);
        self.live = Live::default();
        self.live_latency.reset();
        self.live_backends.fill(0);
        while self.first < now && self.open.front().is_none_or(|window| window.outstanding == 0) {
            if let Some(mut window) = self.open.pop_front() {
                let report = Report { window: &window.counts, latency: &window.latency, names };
                collector.report(thread, self.first, &report);
                if self.spare.len() < SPARE_MAX {
                    window.clear();
                    self.spare.push(window);
                }
            }
            self.first += 1;
        }
    }

    /// The window of a time. What belongs to one that was handed on already (a closed loop's, by a hair) counts to the first open.
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
        Self { counts: Window::default(), latency: new_rough(), outstanding: 0 }
    }

    fn clear(&mut self) {
        let mut backends = std::mem::take(&mut self.counts.backends);
        backends.clear();
        self.counts = Window { backends, ..Window::default() };
        self.latency.reset();
    }
}
