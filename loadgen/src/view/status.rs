//! The content of the view at one moment, as plain data that does not change while it is drawn.

use std::time::Duration;

/// The content of a picture. Empty fields are not shown.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    pub title: String,
    pub elapsed: Duration,
    pub left: Option<Left>,
    /// The part of the run, for example `block 3` or `arm 1 of 2, N = 4`.
    pub place: String,
    /// The strategy in charge.
    pub strategy: String,
    /// The phase, for example `calibrating`, `warm-up` or `measuring`.
    pub phase: String,
    pub progress: Option<Progress>,
    pub flow: Option<Flow>,
    /// Responses per second, one value for each half second; the last is the current one.
    pub rates: Vec<u64>,
    pub backends: Vec<BackendRow>,
    pub precision: Option<Precision>,
    pub next: Option<Next>,
    /// The last events with their times since the start; the newest at the end.
    pub notes: Vec<(Duration, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Left {
    pub time: Duration,
    /// It may end earlier.
    pub is_at_most: bool,
}

/// The progress of the phase.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Progress {
    Time { done: Duration, all: Duration },
    Requests { done: u64, all: u64 },
}

/// The flow of the load: values of the last second, and totals.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Flow {
    /// The requested rate, per second; `None` in a closed loop.
    pub asked: Option<f64>,
    /// Responses per second.
    pub achieved: f64,
    /// Whether the rate is below the requested one by more than chance explains.
    pub is_behind: bool,
    /// In milliseconds, of good responses; `None` without one.
    pub p50_ms: Option<f64>,
    pub p90_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    pub outstanding: u64,
    /// Total responses by the first digit of their status.
    pub classes: [u64; 5],
    /// Total requests without a response, and total requests that were never sent.
    pub errors: u64,
    pub unsent: u64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct BackendRow {
    pub id: String,
    /// Good responses per second.
    pub rate: f64,
    /// Good responses since the begin of this load.
    pub answers: u64,
    /// The balancer's count.
    pub in_flight: Option<u32>,
    /// Whether the balancer gives it no requests.
    pub is_out: bool,
}

/// The precision of a comparison so far.
#[derive(Clone, Debug, PartialEq)]
pub struct Precision {
    /// The measure of the intervals, for example `p99 latency over round_robin`.
    pub measure: String,
    /// The target width to either side, relative.
    pub target: f64,
    /// The fewest blocks for an interval.
    pub blocks_needed: usize,
    /// The blocks that the budget allows.
    pub blocks_possible: usize,
    pub arms: Vec<Arm>,
}

/// One arm against the baseline. It has the width of the interval but not the ratio, because a user might stop early
/// after seeing the ratio.
#[derive(Clone, Debug, PartialEq)]
pub struct Arm {
    pub label: String,
    /// The relative half-width of its interval; `None` before there are enough blocks.
    pub half_width: Option<f64>,
    /// Its expected value at the end of the budget.
    pub expected: Option<f64>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Next {
    pub after: Duration,
    pub what: String,
}

// === impl Precision ===

impl Precision {
    /// The precision that the budget allows, in one line.
    pub fn in_words(&self) -> String {
        let blocks = format!("about {} blocks within the budget", self.blocks_possible);
        if self.is_out_of_reach() {
            return format!("{blocks}: too few for a verdict, which needs {}", self.blocks_needed);
        }
        let worst = |read: fn(&Arm) -> Option<f64>| {
            self.arms.iter().map(read).collect::<Option<Vec<f64>>>()?.into_iter().reduce(f64::max)
        };
        match (worst(|arm| arm.half_width), worst(|arm| arm.expected)) {
            (Some(now), Some(then)) => format!(
                "the widest interval of {} is ±{:.1} % now; {blocks}, and with these probably ±{:.1} %",
                self.measure,
                now * 100.0,
                then * 100.0
            ),
            _ => format!("{blocks}; intervals start at {} blocks", self.blocks_needed),
        }
    }

    /// Whether the budget ends before there is a sound interval.
    pub fn is_out_of_reach(&self) -> bool {
        self.blocks_possible < self.blocks_needed
    }
}

// === impl Progress ===

impl Progress {
    /// The done part, from 0 to 1.
    pub fn share(&self) -> f64 {
        let share = match *self {
            Self::Time { done, all } => done.as_secs_f64() / all.as_secs_f64(),
            Self::Requests { done, all } => done as f64 / all as f64,
        };
        if share.is_finite() { share.clamp(0.0, 1.0) } else { 1.0 }
    }
}

// === impl Flow ===

impl Flow {
    /// Requests without a good response.
    pub fn bad(&self) -> u64 {
        self.classes[3] + self.classes[4] + self.errors + self.unsent
    }
}
