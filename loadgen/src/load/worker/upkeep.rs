//! The periodic work of a sending thread (orders, windows, timeouts), and its end.

use super::{Ended, Finished, Worker};
use crate::load::clock::{Now, nanos};
use crate::load::collector::WINDOW_NS;
use crate::load::orders::StopOrder;
use crate::load::outcome::ErrorKind;

impl Worker {
    /// The periodic work: orders, windows, timeouts.
    pub(super) fn keep_time(&mut self, now: u64) {
        if let Some(cuts) = self.seat.orders.cuts_from(self.cuts_taken) {
            self.cuts_taken += cuts.len();
            for cut in cuts {
                self.recorder.begin_segment(cut.at_ns);
                self.source.cut(cut);
            }
        }
        match self.seat.orders.stop() {
            None => {}
            Some(StopOrder::Finish) => self.source.end_at(now),
            Some(StopOrder::Abort) => self.aborted = true,
        }
        if now >= (self.window + 1) * WINDOW_NS {
            self.end_window(now);
            self.window = now / WINDOW_NS;
        }
        if now >= self.next_tick_ns {
            self.next_tick_ns = now + self.tick_ns;
            self.time_out(now);
        }
    }

    fn end_window(&mut self, now: u64) {
        let outstanding = (self.under_way + self.waiting.len()) as u64;
        self.recorder.report(self.seat.thread, now, outstanding, &self.seat.collector);
    }

    fn time_out(&mut self, now: u64) {
        while self.resting.front().is_some_and(|until| *until <= now) {
            self.resting.pop_front();
            self.ready += 1;
        }
        let Some(latest) = now.checked_sub(nanos(self.seat.plan.timeout)) else { return };
        while self.waiting.front().is_some_and(|due| due.intended_ns <= latest) {
            if let Some(due) = self.waiting.pop_front() {
                self.recorder.unsent(due.intended_ns);
            }
        }
        if self.under_way == 0 {
            return;
        }
        for token in self.pool.find(|one| one.request.is_some_and(|request| request.taken_ns <= latest)) {
            let Some(connection) = self.pool.get(token) else { continue };
            let (phase, timeout) = (connection.phase(), self.seat.plan.timeout);
            if let Some(request) = &connection.request {
                self.recorder.timed_out(request.due.intended_ns, phase);
            }
            let message = format!("no response within {timeout:?}: {}", phase.in_words());
            self.fail(token, ErrorKind::Timeout, message, now);
        }
    }

    /// Returns its counts, once no request is in flight or the load is aborted.
    pub(super) fn finish(mut self) -> Finished {
        let now = self.seat.clock.now();
        for due in std::mem::take(&mut self.waiting) {
            self.recorder.unfinished(due.intended_ns, false);
        }
        for token in self.pool.find(|connection| connection.request.is_some()) {
            if let Some(request) = self.pool.get(token).and_then(|connection| connection.request.take()) {
                self.recorder.unfinished(request.due.intended_ns, request.sent_ns > 0);
            }
        }
        self.under_way = 0;
        // all scheduled requests have ended, so every window is complete, the current one too
        self.end_window(now + WINDOW_NS);
        self.seat.collector.end(self.seat.thread);
        let ended = self.sending_ended.unwrap_or_else(|| Ended::at(now));
        // rates are over the planned time, also if no request was scheduled at its end
        let sending_end_ns = match self.source.end_ns() {
            _ if self.aborted => now,
            u64::MAX => self.source.after_last().map_or(ended.at_ns, |end_ns| end_ns.max(ended.at_ns)),
            end_ns => end_ns,
        };
        Finished {
            recorded: self.recorder.finish(sending_end_ns),
            cpu_s: ended.cpu.as_secs_f64(),
            waited: ended.waited.zip(self.waited_before).map(|(waited, before)| waited.saturating_sub(before)),
            sending_s: ended.at_ns as f64 / 1e9,
            ended_ns: now,
            aborted: self.aborted,
        }
    }
}
