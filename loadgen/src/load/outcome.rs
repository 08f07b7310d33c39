//! The result of a load: plain data, complete when the load has ended.

use std::collections::BTreeMap;

use hdrhistogram::{Counter, Histogram};
use serde::{Deserialize, Serialize};

use super::batches::Batches;
use super::timeouts::Timeouts;
use super::validity::{Doubt, Punctuality};

/// Times in nanoseconds, to three digits.
pub type Latencies = Histogram<u64>;
/// Times in nanoseconds, to two digits: for drawings, not for conclusions. Takes at most 16 KiB.
pub type RoughLatencies = Histogram<u32>;

/// The result of a load.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Requests that were scheduled before the end of the warm-up, if there was one.
    pub warm_up: Option<Segment>,
    /// At least one; one more for each [`super::Cut`].
    pub segments: Vec<Segment>,
    /// The good responses of the last segment by stretches of time.
    pub batches: Batches,
    /// One per 100 ms, from the start of the run (warm-up included), without gaps, by scheduled send time.
    pub windows: Vec<Window>,
    /// The names of the backends that `Window::backends` counts, in its order.
    pub backends: Vec<String>,
    /// The processor time of each sending thread, in seconds.
    pub cpu_s: Vec<f64>,
    /// From the start to the end of the last thread, in seconds.
    pub wall_s: f64,
    /// Stopped by [`super::Handle::abort`]: the result is partial.
    pub aborted: bool,
    /// Whether requests were sent and responses read on time.
    pub punctuality: Punctuality,
    /// Reasons why the numbers describe the load generator rather than the server. Empty: no doubt.
    pub doubts: Vec<Doubt>,
    /// The first message of each kind of error.
    pub first_errors: BTreeMap<ErrorKind, String>,
}

/// All scheduled requests in one stretch of time. due = answered + errors + unsent + unfinished.
#[derive(Clone, Debug)]
pub struct Segment {
    /// The stretch of time, in nanoseconds from the start of the run. In a closed loop the last segment ends with its
    /// last response.
    pub from_ns: u64,
    pub to_ns: u64,
    /// From the scheduled send time to the last byte, for responses with a status below 400.
    pub latency: Latencies,
    /// From the actual send to the last byte, for the same responses. In a closed loop it equals `latency`.
    pub service: Latencies,
    /// `latency` without the generator's own lateness: from the moment when the generator took the request to the last
    /// byte. Empty in a closed loop.
    pub prompt: Latencies,
    /// Latencies of responses with a status of 400 or above. Errors are often quicker than good responses, so they are
    /// counted apart.
    pub failed: Latencies,
    /// The generator's own lateness: from the scheduled send time to the moment when it took the request. Empty in a
    /// closed loop.
    pub lag: Latencies,
    pub due: u64,
    /// Written to a connection, at least in part.
    pub sent: u64,
    pub answered: u64,
    /// By status.
    pub statuses: BTreeMap<u16, u64>,
    pub errors: Errors,
    /// The phases of the errors of kind [`ErrorKind::Timeout`].
    pub timeouts: Timeouts,
    /// Never sent: the bound of outstanding requests was reached, or no connection became free before the timeout.
    pub unsent: u64,
    /// In flight, or waiting for a connection, when the run was aborted.
    pub unfinished: u64,
    /// Sent, and ended without a complete response, so it is unknown whether it arrived.
    pub uncertain: u64,
    /// Sent a second time (see `Plan::resend_closed`).
    pub resent: u64,
    /// Bytes of responses, heads included.
    pub bytes: u64,
    /// By the value of the backend header; responses without the header are left out.
    pub backends: BTreeMap<String, BackendTally>,
}

/// The responses of one backend.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct BackendTally {
    pub answered: u64,
    /// The part with a status of 400 or above.
    pub failed: u64,
    /// The times of its first and its last response, in nanoseconds from the start of the run.
    pub first_ns: u64,
    pub last_ns: u64,
}

/// The requests that were scheduled within 100 ms, whenever they ended, so that a stall shows at the affected requests.
/// `ended` has the requests that ended within these 100 ms.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Window {
    /// From the start of the run.
    pub start_ms: u64,
    /// Scheduled requests; in a closed loop, sent ones.
    pub due: u64,
    pub sent: u64,
    /// Responses with a status below 400.
    pub ok: u64,
    /// Responses with a status of 400 or above.
    pub failed: u64,
    /// Requests that got no response.
    pub errors: u64,
    pub unsent: u64,
    /// From the latencies of `ok`, to two digits; `None` if there are none.
    pub p50_ns: Option<u64>,
    pub p99_ns: Option<u64>,
    pub max_ns: Option<u64>,
    /// Good responses by backend, in the order of `Outcome::backends`. Backends at the end without a response may be
    /// missing.
    pub backends: Vec<u32>,
    /// The requests that ended within these 100 ms, whenever they were scheduled. Here a fault shows at its time.
    #[serde(default)]
    pub ended: Ended,
}

/// Requests by the time at which they ended.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Ended {
    /// Responses with a status below 400.
    pub ok: u64,
    /// Responses with another status, and requests without a response.
    pub errors: u64,
    /// From the latencies of `ok`, as in [`Window`].
    pub p50_ns: Option<u64>,
    pub p99_ns: Option<u64>,
    /// Good responses by backend, as in [`Window`].
    pub backends: Vec<u32>,
}

/// Why a request got no response.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// No connection, for example refused or unreachable.
    Connect,
    /// The connection was closed before any byte of the response.
    Closed,
    /// The connection was reset.
    Reset,
    /// No complete response within the timeout.
    Timeout,
    /// The connection was closed within the response.
    Truncated,
    /// The response is not valid HTTP/1.1.
    BadAnswer,
    /// This machine has no more descriptors or ports. The run is then doubtful.
    Local,
}

/// Counts by kind of error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Errors([u64; ErrorKind::ALL.len()]);

/// Latencies up to this have a resolution of 128 ns, longer ones of three digits. An hour needs 26 steps of 1024
/// counters, 208 KiB.
const LOWEST_NS: u64 = 128;

/// An empty histogram of [`Latencies`]. It grows with the longest recorded time, up to about 200 KiB.
pub fn new_latencies() -> Latencies {
    growing(3)
}

pub(super) fn new_rough() -> RoughLatencies {
    growing(2)
}

fn growing<T: Counter>(digits: u8) -> Histogram<T> {
    let mut histogram =
        Histogram::new_with_bounds(LOWEST_NS, 2 * LOWEST_NS * 1024, digits).expect("these bounds are in order");
    histogram.auto(true);
    histogram
}

// === impl Outcome ===

impl Outcome {
    /// All measured segments as one.
    pub fn total(&self) -> Segment {
        let mut total = Segment::new(self.segments.first().map_or(0, |segment| segment.from_ns));
        for segment in &self.segments {
            total.add(segment);
        }
        total
    }
}

// === impl Segment ===

impl Segment {
    /// An empty segment.
    pub fn new(from_ns: u64) -> Self {
        Self {
            from_ns,
            to_ns: from_ns,
            latency: new_latencies(),
            service: new_latencies(),
            prompt: new_latencies(),
            failed: new_latencies(),
            lag: new_latencies(),
            due: 0,
            sent: 0,
            answered: 0,
            statuses: BTreeMap::new(),
            errors: Errors::default(),
            timeouts: Timeouts::default(),
            unsent: 0,
            unfinished: 0,
            uncertain: 0,
            resent: 0,
            bytes: 0,
            backends: BTreeMap::new(),
        }
    }

    /// Responses with a status below 400.
    pub fn ok(&self) -> u64 {
        self.answered - self.failed_answers()
    }

    /// Responses with a status of 400 or above.
    pub fn failed_answers(&self) -> u64 {
        self.statuses.range(400..).map(|(_, count)| count).sum()
    }

    /// The share of scheduled requests without a good response: no response, a status of 400 or above, or not sent.
    /// Requests in flight when a run was aborted are not counted.
    pub fn failure_share(&self) -> f64 {
        let known = self.due - self.unfinished;
        if known == 0 { 0.0 } else { (known - self.ok()) as f64 / known as f64 }
    }

    pub fn seconds(&self) -> f64 {
        (self.to_ns - self.from_ns) as f64 / 1e9
    }

    /// Responses per second, whatever their status.
    pub fn rps(&self) -> f64 {
        if self.seconds() > 0.0 { self.answered as f64 / self.seconds() } else { 0.0 }
    }

    /// Good responses per second.
    pub fn good_rps(&self) -> f64 {
        if self.seconds() > 0.0 { self.ok() as f64 / self.seconds() } else { 0.0 }
    }

    /// Adds another part of the same load.
    pub fn add(&mut self, other: &Segment) {
        let Self {
            from_ns, to_ns, latency, service, prompt, failed, lag, due, sent, answered, statuses, errors, ..
        } = self;
        *from_ns = (*from_ns).min(other.from_ns);
        *to_ns = (*to_ns).max(other.to_ns);
        for (mine, other) in [
            (latency, &other.latency),
            (service, &other.service),
            (prompt, &other.prompt),
            (failed, &other.failed),
            (lag, &other.lag),
        ] {
            mine.add(other).expect("a histogram that grows takes any other");
        }
        *due += other.due;
        *sent += other.sent;
        *answered += other.answered;
        for (status, count) in &other.statuses {
            *statuses.entry(*status).or_default() += count;
        }
        errors.0.iter_mut().zip(other.errors.0).for_each(|(mine, other)| *mine += other);
        self.timeouts.add(&other.timeouts);
        self.unsent += other.unsent;
        self.unfinished += other.unfinished;
        self.uncertain += other.uncertain;
        self.resent += other.resent;
        self.bytes += other.bytes;
        for (name, other) in &other.backends {
            self.backends.entry(name.clone()).or_default().add(other);
        }
    }
}

// === impl BackendTally ===

impl BackendTally {
    pub(super) fn add(&mut self, other: &Self) {
        if other.answered == 0 {
            return;
        }
        self.first_ns = if self.answered == 0 { other.first_ns } else { self.first_ns.min(other.first_ns) };
        self.last_ns = self.last_ns.max(other.last_ns);
        self.answered += other.answered;
        self.failed += other.failed;
    }
}

// === impl ErrorKind ===

impl ErrorKind {
    pub const ALL: [Self; 7] =
        [Self::Connect, Self::Closed, Self::Reset, Self::Timeout, Self::Truncated, Self::BadAnswer, Self::Local];

    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Closed => "closed",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Truncated => "truncated",
            Self::BadAnswer => "bad_answer",
            Self::Local => "local",
        }
    }
}

// === impl Errors ===

impl Errors {
    pub fn of(&self, kind: ErrorKind) -> u64 {
        self.0[kind as usize]
    }

    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The kinds that occurred.
    pub fn iter(&self) -> impl Iterator<Item = (ErrorKind, u64)> + '_ {
        ErrorKind::ALL.into_iter().map(|kind| (kind, self.of(kind))).filter(|(_, count)| *count > 0)
    }

    pub fn count(&mut self, kind: ErrorKind) {
        self.0[kind as usize] += 1;
    }
}
