//! `run.json`: what was asked, with what, where, and whether the answer may be believed.
//!
//! Invariant: whoever has this file and the same binaries can repeat the run; whoever has two of them can say whether they may be
//! compared.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The version of the files of a run. A reader refuses others; fields may be added without a new one if old files still read.
pub const SCHEMA: u32 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub schema: u32,
    pub scenario: Scenario,
    /// A heading of the experiment file's own; "" for the standard one of the scenario.
    #[serde(default)]
    pub title: String,
    /// The command line, word by word, the program's name first.
    pub command: Vec<String>,
    pub loadgen: Program,
    /// As `lb --version` or its metrics say; `None` for a target that is not ours.
    pub lb: Option<Program>,
    /// When the run began: RFC 3339, UTC.
    pub started: String,
    pub duration_ms: u64,
    /// What it was allowed to take.
    pub budget_ms: u64,
    /// In the order in which they were given; the first is the baseline of a comparison.
    pub arms: Vec<Arm>,
    pub load: Load,
    pub backends: Backends,
    /// By what they seed: `arrivals`, `keys`, `costs`, `order`; `run` is the one that the others were drawn from.
    pub seeds: BTreeMap<String, u64>,
    pub host: Host,
    pub completeness: Completeness,
    /// What the run's self-checks found; empty = nothing to say against it.
    pub marks: Vec<Mark>,
}

/// The course's scenarios, and experiment files of one's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Scenario {
    /// 10,000 requests on 3 backends: who got how many?
    A1,
    /// The same for N = 1..6: does it scale?
    A2,
    /// One of three is killed: who notices?
    A3,
    /// B over other hash functions.
    A4,
    /// Arms against each other: which is better?
    B,
    /// An experiment file that is none of these.
    Own,
}

/// What ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    pub version: String,
    /// Git commit, `unknown` if the build did not know it.
    pub commit: String,
}

/// One of the things compared: a strategy with its options, not just a name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Arm {
    /// Unique in the run, and what reports call it.
    pub label: String,
    /// As in lb.toml; "" for a server that `loadgen run` asked, of which no strategy is known.
    pub strategy: String,
    /// Of the library's file, hexadecimal.
    pub strategy_sha256: String,
    /// The strategy's options as it was given them; `{}` for none.
    pub options: serde_json::Value,
    /// What its requests cost their servers, relative to the other arms': 1, unless a difference was planted.
    #[serde(default = "no_handicap")]
    pub cost_factor: f64,
    /// Of the whole configuration that lb ran with, hexadecimal.
    pub config_sha256: String,
    /// What the strategy declares of its shares, as the contract spells it: `{"balance":"exact"}`; "" for nothing.
    #[serde(default)]
    pub expectation: String,
}

/// How requests were sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "loop", rename_all = "snake_case")]
pub enum Load {
    /// Each connection sends when its last answer is there.
    Closed {
        connections: u32,
        /// For each cell; 0: as many as were answered within the time that `loadgen run -z` gave.
        requests: u64,
    },
    /// Requests are sent when the schedule says so, whatever the answers do.
    Open {
        arrivals: Arrivals,
        rate_rps: f64,
        /// What calibration found that the backends can do; `None` if the rate was given.
        capacity_rps: Option<f64>,
        /// Requests that may wait for an answer at once; those beyond are counted as unsent.
        outstanding_max: u32,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arrivals {
    Poisson,
    Constant,
    Ramp,
}

/// What answered, and with which keys it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backends {
    /// In words, for the report: `mock-server, exponential service time of mean 10 ms, 4 requests at a time`.
    pub description: String,
    /// In words: `uniform 6-digit ids`.
    pub keys: String,
    /// Where everything was: the balancer's address.
    pub target: String,
}

/// The machine, as far as it bears on the numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Host {
    pub name: String,
    pub cpu: String,
    pub cores: u32,
    pub kernel: String,
    /// One-minute load average before the run.
    pub load_before: f64,
    /// The same after it.
    pub load_after: Option<f64>,
    /// Share of the CPU's time that the hypervisor gave to others, 0..1.
    pub steal: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Completeness {
    Complete,
    /// Ended before its plan did: `interrupted after 3 of 12 blocks`.
    Partial {
        reason: String,
    },
}

/// A finding of the run's checks of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub severity: Severity,
    /// A short name: `send_lag`, `own_cpu`, `accounting`, `drift`, `no_file_descriptors`.
    pub check: String,
    /// A sentence with its numbers: `p99 of the send lag was 4.1 ms, more than 10 % of the median latency`.
    pub reason: String,
    /// The conclusions that this check takes away; of meaning only for [`Severity::Invalid`]. Runs that were stored before this was
    /// told lose all of them.
    #[serde(default = "Conclusion::all")]
    pub voids: Vec<Conclusion>,
}

/// What a run is asked. Each conclusion has a validity of its own: a failed check takes some away and leaves the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Conclusion {
    /// Latency and service time, and verdicts on them.
    Latency,
    /// Good responses per second.
    Throughput,
    /// Requests of each backend.
    Shares,
    /// The times of faults, of their detection and of the recovery, and the requests that failed meanwhile.
    Recovery,
    /// Requests that were sent, failed or were not sent.
    Counts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Was looked at and is well.
    Passed,
    /// Should be known when reading.
    Warning,
    /// The numbers say nothing about the strategies.
    Invalid,
}

fn no_handicap() -> f64 {
    1.0
}

// === impl Mark ===

impl Mark {
    /// The check was made and is well.
    pub fn passed(check: &str, reason: impl Into<String>) -> Self {
        Self { severity: Severity::Passed, check: check.to_owned(), reason: reason.into(), voids: Vec::new() }
    }

    /// The reader must know it; every conclusion stands.
    pub fn warning(check: &str, reason: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::passed(check, reason) }
    }

    /// The check failed, and these conclusions fall with it.
    pub fn invalid(check: &str, reason: impl Into<String>, voids: &[Conclusion]) -> Self {
        Self { severity: Severity::Invalid, voids: voids.to_vec(), ..Self::passed(check, reason) }
    }

    fn takes(&self, conclusion: Conclusion) -> bool {
        self.severity == Severity::Invalid && self.voids.contains(&conclusion)
    }
}

// === impl Conclusion ===

impl Conclusion {
    /// Those that hang on the generator's clock: a generator that was late, or a machine that changed, takes these.
    pub const OF_TIME: [Self; 2] = [Self::Latency, Self::Throughput];

    /// A run of which nothing may be believed loses all of these.
    pub fn all() -> Vec<Self> {
        vec![Self::Latency, Self::Throughput, Self::Shares, Self::Recovery, Self::Counts]
    }
}

// === impl Scenario ===

impl Scenario {
    /// The conclusion that answers the scenario's question; a run without it ends with exit code 1.
    pub fn main_conclusion(self) -> Conclusion {
        match self {
            Self::A1 | Self::A2 | Self::A4 => Conclusion::Shares,
            Self::A3 => Conclusion::Recovery,
            Self::B | Self::Own => Conclusion::Latency,
        }
    }
}

// === impl Manifest ===

impl Manifest {
    pub fn arm(&self, label: &str) -> Option<&Arm> {
        self.arms.iter().find(|arm| arm.label == label)
    }

    /// Every conclusion stands.
    pub fn is_valid(&self) -> bool {
        self.marks.iter().all(|mark| mark.severity != Severity::Invalid)
    }

    /// Whether no check takes this conclusion away.
    pub fn supports(&self, conclusion: Conclusion) -> bool {
        self.why_void(conclusion).is_none()
    }

    /// The first check that takes this conclusion away.
    pub fn why_void(&self, conclusion: Conclusion) -> Option<&Mark> {
        self.marks.iter().find(|mark| mark.takes(conclusion))
    }

    /// Whether the scenario's main question has an answer that may be believed.
    pub fn answers(&self) -> bool {
        self.supports(self.scenario.main_conclusion())
    }

    /// Made by `loadgen run`: one load on a server that is not ours, and no experiment that could be replayed.
    pub fn is_single_load(&self) -> bool {
        matches!(self.arms.as_slice(), [arm] if arm.strategy.is_empty())
    }

    pub fn is_partial(&self) -> bool {
        matches!(self.completeness, Completeness::Partial { .. })
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, out)
    }
}
