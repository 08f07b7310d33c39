//! The one line that shows how far a run is. On a terminal only: elsewhere it would be noise in a log.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::load::{Plan, Snapshot, Stop};

pub(super) struct Progress {
    bar: ProgressBar,
    began: Instant,
    /// Its length stands for so much time, not for requests.
    time: Option<Duration>,
}

// === impl Progress ===

impl Progress {
    pub(super) fn new(plan: &Plan, is_quiet: bool) -> Self {
        let (length, time) = match plan.stop {
            Stop::AfterRequests(count) => (count, None),
            Stop::AfterTime(time) => ((plan.warm_up + time).as_millis() as u64, Some(plan.warm_up + time)),
            Stop::WhenTold => (0, None),
        };
        let target = if is_quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(length), target);
        if let Ok(style) = ProgressStyle::with_template("{bar:24} {percent:>3} %  {msg}") {
            bar.set_style(style);
        }
        Self { bar, began: Instant::now(), time }
    }

    pub(super) fn show(&self, now: &Snapshot) {
        let done = match self.time {
            Some(time) => self.began.elapsed().min(time).as_millis() as u64,
            None => now.total.ok + now.total.failed + now.total.errors + now.total.unsent,
        };
        self.bar.set_position(done);
        let ms = |quantile| now.latency.value_at_quantile(quantile) as f64 / 1e6;
        let rate = (now.recent.ok + now.recent.failed) as f64 / now.recent_s.max(0.1);
        let mut message = format!("{rate:.0} answers/s");
        if !now.latency.is_empty() {
            message += &format!("  p50 {:.2} ms  p99 {:.2} ms", ms(0.5), ms(0.99));
        }
        for (name, count) in [
            ("under way", now.total.outstanding),
            ("failed", now.total.failed + now.total.errors),
            ("unsent", now.total.unsent),
        ] {
            if count > 0 {
                message += &format!("  {count} {name}");
            }
        }
        self.bar.set_message(message);
    }

    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }
}
