//! `run.json`: the plan of a run, the programs, the machine, and the checks of the run.
//!
//! Invariant: this file and the same binaries are enough to repeat the run. Two such files are enough to decide whether their runs may be
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
    /// The start of the run: RFC 3339, UTC.
    pub started: String,
    pub duration_ms: u64,
    /// The budget of time.
    pub budget_ms: u64,
    /// In the order in which they were given; the first is the baseline of a comparison.
    pub arms: Vec<Arm>,
    pub load: Load,
    pub backends: BackendsDescription,
    /// By what they seed: `arrivals`, `keys`, `costs`, `order`; the others are drawn from `run`.
    pub seeds: BTreeMap<String, u64>,
    pub host: Host,
    pub completeness: Completeness,
    /// The findings of the run's own checks.
    pub marks: Vec<Mark>,
}

/// The course's scenarios, and an experiment file of the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Scenario {
    /// 10,000 requests on 3 backends: how many for each backend?
    A1,
    /// The same for N = 1..6: does throughput grow?
    A2,
    /// One of three backends is killed: how long until lb notices?
    A3,
    /// B over other hash functions.
    A4,
    /// Arms against each other: which is better?
    B,
    /// An experiment file that is none of these.
    Own,
}

/// A program of the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    pub version: String,
    /// Git commit, `unknown` if the build did not know it.
    pub commit: String,
}

/// One of the things compared: a strategy with its options, not just a name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Arm {
    /// Unique in the run; the name in reports.
    pub label: String,
    /// As in lb.toml; "" in runs of `loadgen run`, whose server has no known strategy.
    pub strategy: String,
    /// Of the library's file, hexadecimal.
    pub strategy_sha256: String,
    /// The strategy's options of the plan; `{}` for none.
    pub options: serde_json::Value,
    /// The cost of its requests, relative to the other arms: 1, unless the plan sets a difference on purpose.
    #[serde(default = "no_handicap")]
    pub cost_factor: f64,
    /// Of the whole configuration that lb ran with, hexadecimal.
    pub config_sha256: String,
    /// The strategy's declaration of its shares, as in the contract: `{"balance":"exact"}`; "" for nothing.
    #[serde(default)]
    pub expectation: String,
}

/// How requests were sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "loop", rename_all = "snake_case")]
pub enum Load {
    /// Each connection sends its next request when the last response is there.
    Closed {
        connections: u32,
        /// For each cell; 0: as many as fit into the time of `loadgen run -z`.
        requests: u64,
    },
    /// Requests are sent by a schedule, independent of the responses.
    Open {
        arrivals: Arrivals,
        rate_rps: f64,
        /// The capacity of the backends, by calibration; `None` if the plan has a rate.
        capacity_rps: Option<f64>,
        /// At most so many requests may be in flight; requests beyond are counted as unsent.
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

/// The backends, and the keys of the requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendsDescription {
    /// In words, for the report: `mock-server, exponential service time of mean 10 ms, 4 requests at a time`.
    pub description: String,
    /// In words: `uniform 6-digit ids`.
    pub keys: String,
    /// The balancer's address.
    pub target: String,
}

/// The machine, as far as the numbers depend on it.
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
    /// Ended early: `interrupted after 3 of 12 blocks`.
    Partial {
        reason: String,
    },
}

/// A finding of the run's own checks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub severity: Severity,
    /// A short name: `send_lag`, `own_cpu`, `accounting`, `drift`, `no_file_descriptors`.
    pub check: String,
    /// A sentence with its numbers: `p99 of the send lag was 4.1 ms, more than 10 % of the median latency`.
    pub reason: String,
    /// The conclusions that this failed check makes void; used only with [`Severity::Invalid`]. In older runs without this key, all
    /// conclusions are void.
    #[serde(default = "Conclusion::all")]
    pub voids: Vec<Conclusion>,
}

/// A question that a run can answer. Each conclusion has its own validity: a failed check makes some void and leaves the others.
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
    /// The check passed.
    Passed,
    /// The reader should know it.
    Warning,
    /// Some conclusions are void.
    Invalid,
}

fn no_handicap() -> f64 {
    1.0
}

// === impl Mark ===

impl Mark {
    /// The check passed.
    pub fn passed(check: &str, reason: impl Into<String>) -> Self {
        Self { severity: Severity::Passed, check: check.to_owned(), reason: reason.into(), voids: Vec::new() }
    }

    /// The reader should know it; every conclusion stays valid.
    pub fn warning(check: &str, reason: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::passed(check, reason) }
    }

    /// The check failed; these conclusions are void.
    pub fn invalid(check: &str, reason: impl Into<String>, voids: &[Conclusion]) -> Self {
        Self { severity: Severity::Invalid, voids: voids.to_vec(), ..Self::passed(check, reason) }
    }

    fn takes(&self, conclusion: Conclusion) -> bool {
        self.severity == Severity::Invalid && self.voids.contains(&conclusion)
    }
}

// === impl Conclusion ===

impl Conclusion {
    /// The conclusions that depend on the generator's clock: void if the generator was late or the machine changed.
    pub const OF_TIME: [Self; 2] = [Self::Latency, Self::Throughput];

    /// Void in a run that is invalid as a whole.
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

    /// Every conclusion is valid.
    pub fn is_valid(&self) -> bool {
        self.marks.iter().all(|mark| mark.severity != Severity::Invalid)
    }

    /// Whether this conclusion is valid.
    pub fn supports(&self, conclusion: Conclusion) -> bool {
        self.why_void(conclusion).is_none()
    }

    /// The first check that makes this conclusion void.
    pub fn why_void(&self, conclusion: Conclusion) -> Option<&Mark> {
        self.marks.iter().find(|mark| mark.takes(conclusion))
    }

    /// Whether the conclusion that answers the scenario's question is valid.
    pub fn answers(&self) -> bool {
        self.supports(self.scenario.main_conclusion())
    }

    /// Whether `loadgen run` made it: one load on any server, without a plan to replay.
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
