//! `series.json`: the run over time, in windows of equal width, and the events.
//!
//! Invariant: a window belongs to the time in which its requests were *scheduled*, so a stall shows at the affected
//! requests. [`Ended`] has the requests that ended within it, so the effect of a fault never precedes the fault.

use serde::{Deserialize, Serialize};

/// One cell over time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Series {
    pub arm: String,
    pub n: u32,
    pub block: u32,
    /// Width of a window.
    pub window_ms: u64,
    /// The ids of the backends, in the order of `Window::backends`. A backend that joins later is appended.
    pub backends: Vec<String>,
    /// Without gaps, in order of time.
    pub windows: Vec<Window>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// The start of the window.
    pub at_ms: u64,
    /// Scheduled requests; `None` in a closed loop.
    pub asked: Option<u64>,
    /// Requests that were sent and ended.
    pub answered: u64,
    pub errors: u64,
    /// Of the latency of good responses; `None` for a window with too few of them.
    pub p50_ns: Option<u64>,
    pub p99_ns: Option<u64>,
    /// Good responses by backend.
    pub backends: Vec<u64>,
    /// `None` in older runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
}

/// The requests that ended within a window, whenever they were scheduled.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    pub answered: u64,
    pub errors: u64,
    /// Of the latency of good responses; `None` for a window with too few of them.
    pub p50_ns: Option<u64>,
    pub p99_ns: Option<u64>,
    /// Good responses by backend.
    pub backends: Vec<u64>,
}

/// An event: a change by the plan, by an operator, or by the balancer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub at_ms: u64,
    /// Its end; `None` for an event without duration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
    pub kind: EventKind,
    /// The affected backend; `None` for the whole pool.
    pub backend: Option<String>,
    /// In words: `Server 2 killed (SIGKILL)`.
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
    /// A backend stopped responding.
    Stall,
    /// A backend responded 500 at once.
    Errors,
    Add,
    Remove,
    /// One key got many of the requests.
    HotKey,
    /// An operator changed the pool, not the plan.
    Operator,
    /// A fault ended.
    Undone,
    /// The run ended before its plan.
    Interrupted,
}

// === impl Series ===

impl Series {
    /// The series by the end times of requests; `None` if these were not counted. The scheduled requests stay
    /// unchanged.
    pub fn by_end(&self) -> Option<Self> {
        let window = |window: &Window| {
            let Ended { answered, errors, p50_ns, p99_ns, backends } = window.ended.clone()?;
            Some(Window { answered, errors, p50_ns, p99_ns, backends, ..window.clone() })
        };
        let windows = self.windows.iter().map(window).collect::<Option<_>>()?;
        Some(Self { windows, ..self.clone() })
    }
}
