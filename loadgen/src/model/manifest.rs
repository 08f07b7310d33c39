//! `run.json`: the plan of a run, the programs, the machine, and the checks of the run.
//!
//! Invariant: this file and the same binaries are enough to repeat the run. Two such files are enough to decide whether
//! their runs may be compared.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::safeguards::Safeguards;

/// The version of the files of a run. A reader refuses other versions. A new field needs no new version if old files
/// still parse.
pub const SCHEMA: u32 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub schema: u32,
    pub scenario: Scenario,
    /// The experiment file's own heading; "" for the standard heading of the scenario.
    #[serde(default)]
    pub title: String,
    /// The words of the command line, the program's name first.
    pub command: Vec<String>,
    pub loadgen: Program,
    /// The version of lb, from `lb --version` or its metrics; `None` for another target.
    pub lb: Option<Program>,
    /// The start of the run: RFC 3339, UTC.
    pub started: String,
    pub duration_ms: u64,
    /// The budget of time.
    pub budget_ms: u64,
    /// In the order of the plan; the first is the baseline of a comparison.
    pub arms: Vec<Arm>,
    pub load: Load,
    pub backends: BackendsDescription,
    /// By name: the seed `run`, and in an experiment `requests` (arrivals, keys, costs) and `order`, which are drawn
    /// from it.
    pub seeds: BTreeMap<String, u64>,
    pub host: Host,
    pub completeness: Completeness,
    /// The findings of the run's own checks.
    pub marks: Vec<Mark>,
}

/// The course's scenarios, and an experiment file of the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Scenario {
    /// 10,000 requests on 3 backends: the number for each backend.
    A1,
    /// The same for N = 1..6: whether throughput grows.
    A2,
    /// One of three backends is killed: the time until lb detects it.
    A3,
    /// B with other hash functions.
    A4,
    /// Arms against each other: which is better.
    B,
    /// An experiment file that is none of these.
    Own,
}

/// A program of the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    pub version: String,
    /// The Git commit; `unknown` if the build did not know it.
    pub commit: String,
}

/// One of the compared arms: a strategy with its options, not just a name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Arm {
    /// Unique in the run; the name in reports.
    pub label: String,
    /// The name in lb.toml; "" in runs of `loadgen run`, because the strategy of its server is unknown.
    pub strategy: String,
    /// The digest of the library's file, hexadecimal.
    pub strategy_sha256: String,
    /// The options of the strategy in the plan; `{}` for none.
    pub options: serde_json::Value,
    /// The cost of its requests, relative to the other arms: 1, unless the plan sets a difference on purpose.
    #[serde(default = "no_handicap")]
    pub cost_factor: f64,
    /// The digest of the whole configuration of lb, hexadecimal.
    pub config_sha256: String,
    /// The strategy's declaration of its shares, as in the contract, for example `{"balance":"exact"}`; "" for none.
    #[serde(default)]
    pub expectation: String,
    /// The safeguards of lb while this arm was in charge, as lb reported them; `None` if it did not, and in older runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub safeguards: Option<Safeguards>,
}

/// How requests were sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "loop", rename_all = "snake_case")]
pub enum Load {
    /// Each connection sends its next request after the last response.
    Closed {
        connections: u32,
        /// For each cell; 0: the number that fits into the time of `loadgen run -z`.
        requests: u64,
    },
    /// Requests are sent by a schedule, independent of the responses.
    Open {
        arrivals: Arrivals,
        rate_rps: f64,
        /// The capacity of the backends, by calibration; `None` if the plan has a rate.
        capacity_rps: Option<f64>,
        /// The most requests in flight; requests beyond are counted as unsent.
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

/// The properties of the machine that affect the numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Host {
    pub name: String,
    pub cpu: String,
    pub cores: u32,
    pub kernel: String,
    /// One-minute load average before the run.
    pub load_before: f64,
    /// One-minute load average after the run.
    pub load_after: Option<f64>,
    /// Share of the processor's time that the hypervisor gave to other machines, 0..1.
    pub steal: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Completeness {
    Complete,
    /// Ended early, for example `interrupted after 3 of 12 blocks`.
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
    /// The conclusions that this failed check makes void; used only with [`Severity::Invalid`]. In older runs without
    /// this key, all conclusions are void.
    #[serde(default = "Conclusion::all")]
    pub voids: Vec<Conclusion>,
}

/// A question that a run can answer. Each conclusion has its own validity: a failed check makes some void and leaves
/// the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Conclusion {
    /// Latency and service time, and verdicts on them.
    Latency,
    /// Good responses per second.
    Throughput,
    /// Requests of each backend.
    Shares,
    /// The times of faults, of their detection and of the recovery, and the requests that failed in that time.
    Recovery,
    /// Requests that were sent, failed or were not sent.
    Counts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The check passed.
    Passed,
    /// The reader should know it. Conclusions stay valid.
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

    /// The reader should know it. Every conclusion stays valid.
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
    /// The conclusions that depend on the generator's clock. They are void if the generator was late or the machine
    /// changed.
    pub const OF_TIME: [Self; 2] = [Self::Latency, Self::Throughput];

    /// All conclusions, for a run that is invalid as a whole.
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

    /// Whether every conclusion is valid.
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
