//! What a person sees while a run goes on: a line now and then, on stderr.

use std::time::{Duration, Instant};

use crate::load::Snapshot;

/// Says how it goes.
#[derive(Debug)]
pub(super) struct Progress {
    is_quiet: bool,
    origin: Instant,
    last: Option<(Instant, u64)>,
}

const EVERY: Duration = Duration::from_secs(1);

// === impl Progress ===

impl Progress {
    pub(super) fn new(is_quiet: bool, origin: Instant) -> Self {
        Self { is_quiet, origin, last: None }
    }

    /// One thing that happened.
    pub(super) fn say(&self, text: &str) {
        if !self.is_quiet {
            eprintln!("{:7.1} s  {text}", self.origin.elapsed().as_secs_f64());
        }
    }

    /// Another load begins.
    pub(super) fn begin(&mut self) {
        self.last = None;
    }

    /// At most once a second. `asked`: requests per second, in an open loop; `what`: the arm and what comes next.
    pub(super) fn look(&mut self, snapshot: &Snapshot, asked: Option<f64>, what: &str) {
        let now = Instant::now();
        let (since, before) = *self.last.get_or_insert((now, 0));
        let passed = now.duration_since(since);
        if passed < EVERY || self.is_quiet {
            return;
        }
        let total = &snapshot.total;
        let ended = total.ok + total.failed + total.errors;
        let rate = (ended - before) as f64 / passed.as_secs_f64();
        self.last = Some((now, ended));
        let ms = |quantile: f64| match snapshot.latency.is_empty() {
            true => "–".to_owned(),
            false => format!("{:.1} ms", snapshot.latency.value_at_quantile(quantile) as f64 / 1e6),
        };
        let asked = asked.map(|asked| format!(" of {asked:.0}")).unwrap_or_default();
        let bad = match total.failed + total.errors + total.unsent {
            0 => String::new(),
            bad => format!(", {bad} not answered well"),
        };
        let mut counts: Vec<(&str, u64)> =
            snapshot.backends.iter().map(String::as_str).zip(snapshot.backend_counts.iter().copied()).collect();
        counts.sort_by_key(|(id, _)| crate::lab::natural(id));
        let counts: Vec<String> = counts.iter().map(|(id, count)| format!("{id}: {count}")).collect();
        let text =
            format!("{what}  {rate:.0}{asked}/s, p50 {}, p99 {}{bad}  [{}]", ms(0.5), ms(0.99), counts.join(", "));
        self.say(&text);
    }
}
