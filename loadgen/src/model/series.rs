//! `series.json`: what happened when. Windows of equal width, and the events between them.
//!
//! Invariant: a window belongs to the time in which its requests were *meant to be sent*, so a stall shows where it was suffered. What
//! ended within it is beside that, so a fault's effect never precedes the fault.

use serde::{Deserialize, Serialize};

/// One cell over time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Series {
    pub arm: String,
    pub n: u32,
    pub block: u32,
    /// Width of a window.
    pub window_ms: u64,
    /// The ids that `Window::backends` is in the order of. A backend that joins later is appended.
    pub backends: Vec<String>,
    /// Without gaps, in order of time.
    pub windows: Vec<Window>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Its start.
    pub at_ms: u64,
    /// Requests that the schedule asked for; `None` in a closed loop.
    pub asked: Option<u64>,
    /// Requests that were sent and ended.
    pub answered: u64,
    pub errors: u64,
    /// Of latency; `None` for a window too empty to say.
    pub p50_ns: Option<u64>,
    pub p99_ns: Option<u64>,
    /// Good answers by backend.
    pub backends: Vec<u64>,
    /// `None` in runs that were stored before this was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
}

/// What ended within a window, whenever it was due.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    pub answered: u64,
    pub errors: u64,
    /// Of the latency of good answers; `None` for a window too empty to say.
    pub p50_ns: Option<u64>,
    pub p99_ns: Option<u64>,
    /// Good answers by backend.
    pub backends: Vec<u64>,
}

/// Something that was done to the run, or that it did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub at_ms: u64,
    /// When it was over; `None` for what is done in a moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
    pub kind: EventKind,
    /// Whom it befell; `None` for the whole pool.
    pub backend: Option<String>,
    /// For a person: `Server 2 killed (SIGKILL)`.
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A backend's process was killed.
    Kill,
    /// The balancer took a backend that had failed out of rotation.
    Detected,
    /// All N backends get requests again.
    Recovered,
    /// Another strategy took over.
    Swap,
    /// A backend became slower.
    Slow,
    /// A backend stopped answering.
    Stall,
    /// A backend answered 500 at once.
    Errors,
    Add,
    Remove,
    /// One key got many of the requests.
    HotKey,
    /// The pool was changed, neither by the plan nor by the run: an operator did it.
    Operator,
    /// A fault that went on was over.
    Undone,
    /// The run ended before its plan.
    Interrupted,
}

// === impl Series ===

impl Series {
    /// The same with what each window counts by the time at which requests ended; `None` where that was not counted. What the schedule
    /// asked for stays.
    pub fn by_end(&self) -> Option<Self> {
        let window = |window: &Window| {
            let Ended { answered, errors, p50_ns, p99_ns, backends } = window.ended.clone()?;
            Some(Window { answered, errors, p50_ns, p99_ns, backends, ..window.clone() })
        };
        let windows = self.windows.iter().map(window).collect::<Option<_>>()?;
        Some(Self { windows, ..self.clone() })
    }
}
