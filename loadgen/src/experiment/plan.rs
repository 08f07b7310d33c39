//! The plan of an experiment: `config/experiments/*.toml`.
//!
//! There are two forms, as with lb.toml: `file` is the content of the file, [`Plan`] the checked plan with all
//! defaults. `check` converts between them; its errors name file, line and key. The plans of a1, a2, a3, a4 and b are
//! the files of `config/experiments`, compiled in.

mod bounds;
mod check;
mod file;
mod place;
mod quick;
mod simulated;
mod time;
mod verdict;
mod words;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use bounds::{OF_CAPACITY, RATE_RPS};
pub use place::{line_of, line_of_arm, line_of_lb_key, line_of_strategy};
pub use simulated::{SimulatedPlan, World};
pub(super) use time::ENDING;
pub use time::Least;
pub use verdict::Judged;
pub use words::did_you_mean;

use crate::load::{Cost, Keys};
use crate::model::Scenario;

/// A checked plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub scenario: Scenario,
    #[serde(default)]
    pub world: World,
    /// The title of the report; "" for the scenario's own.
    pub title: String,
    /// The time for the whole run, calibration included.
    pub budget: Duration,
    pub load: LoadPlan,
    pub requests: RequestPlan,
    /// The sizes of the pool, one after the other.
    pub sizes: Vec<u32>,
    pub mocks: MockPlan,
    /// The first is the baseline.
    pub arms: Vec<ArmPlan>,
    /// Arms in blocks, with verdicts; `None`: one arm after the other.
    pub blocks: Option<BlockPlan>,
    /// In order of time.
    pub faults: Vec<Fault>,
    /// Keys of lb.toml that override those of loadgen.
    pub lb: toml::Table,
    /// The keys that only virtual time has. A live run refuses them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub simulated: Option<SimulatedPlan>,
    /// Whether `--quick` shortened it.
    #[serde(default)]
    pub is_quick: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum LoadPlan {
    Closed {
        connections: u32,
        /// For each arm and size, in each repeat.
        requests: u64,
        /// The number of measurements of each arm and size.
        #[serde(default = "once")]
        repeats: u32,
    },
    Open {
        law: Law,
        rate: Rate,
        outstanding: u32,
        warm_up: Duration,
        /// The time of each arm; `None`: the rest of the budget.
        duration: Option<Duration>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Law {
    Poisson,
    Constant,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Rate {
    Rps(f64),
    /// A part of the capacity.
    OfCapacity(f64),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RequestPlan {
    pub path: String,
    pub keys: Keys,
    pub cost: Cost,
    pub timeout: Duration,
    /// The highest p99 at which a rate is within the capacity.
    pub calm_p99: Duration,
}

/// Flags of the mock servers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MockPlan {
    pub service_time: String,
    pub concurrency: u32,
    pub queue: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArmPlan {
    pub label: String,
    pub strategy: String,
    pub options: toml::Table,
    /// The cost of its requests relative to the other arms: 1, or a difference on purpose.
    #[serde(default = "no_handicap")]
    pub cost_factor: f64,
    /// Sections of lb.toml for this arm alone: those of safeguards.
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    pub lb: toml::Table,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BlockPlan {
    /// The measured time of an arm in each block.
    pub segment: Duration,
    /// The time between the swap and the segment.
    pub wash_out: Duration,
    /// The run stops when every interval extends at most this far to either side, relative.
    pub half_width: f64,
    pub equivalence: f64,
    pub confidence: f64,
    /// The measure whose intervals decide when the run stops.
    pub primary: String,
    /// The measures with a verdict, corrected together.
    #[serde(default = "verdicts")]
    pub verdicts: Vec<String>,
    /// The verdicts that the file names. A plan that cannot judge them is refused; default verdicts that cannot be
    /// judged are left out.
    #[serde(default)]
    pub asked: Vec<String>,
}

/// A change of the pool during the load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    /// From the start of the load.
    pub at: Duration,
    /// The time of its end; `None`: it is not undone.
    pub until: Option<Duration>,
    pub kind: FaultKind,
    /// The number of the backend in the pool, from 1; ignored by faults of the whole pool.
    pub backend: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum FaultKind {
    /// Multiplies service times by `factor`.
    Slow {
        factor: f64,
    },
    /// The extra time of each request.
    Delay {
        extra: Duration,
    },
    Stall,
    /// SIGKILL; lb replaces the process.
    Kill,
    /// The share of requests with an immediate 500 response.
    Errors {
        rate: f64,
    },
    Add {
        n: u32,
    },
    Remove,
    /// The share of requests with the same key.
    HotKey {
        share: f64,
    },
}

#[derive(Debug, Error)]
pub enum PlanError {
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path} is not what loadgen writes: {reason}")]
    Stored { path: PathBuf, reason: String },
    #[error("{path}, line {line}: {key}{}{reason}", if key.is_empty() { "" } else { ": " })]
    Wrong { path: PathBuf, line: usize, key: String, reason: String },
}

const A1: &str = include_str!("../../../config/experiments/a1.toml");
const A2: &str = include_str!("../../../config/experiments/a2.toml");
const A3: &str = include_str!("../../../config/experiments/a3.toml");
const A4: &str = include_str!("../../../config/experiments/a4.toml");
#[cfg(test)]
const FAULTS: &str = include_str!("../../../config/experiments/faults.toml");
const B: &str = include_str!("../../../config/experiments/b.toml");

// === impl Plan ===

impl Plan {
    pub fn read(path: &Path) -> Result<Self, PlanError> {
        let text = std::fs::read_to_string(path).map_err(|source| PlanError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    /// The form in which a run stores it beside its results: the complete plan, with the changes of the command line.
    pub fn to_json(&self) -> String {
        // this could fail only for a map with keys that are not strings, and there is none
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// Reads the output of [`Self::to_json`], with the same bounds as an experiment file.
    pub fn read_stored(path: &Path) -> Result<Self, PlanError> {
        let text = std::fs::read_to_string(path).map_err(|source| PlanError::Read { path: path.to_owned(), source })?;
        let wrong = |reason: String| PlanError::Stored { path: path.to_owned(), reason };
        let mut plan: Self = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        bounds::check(&plan).map_err(wrong)?;
        // in plans from before this key, only the primary measure had a verdict
        if let Some(blocks) = plan.blocks.as_mut().filter(|blocks| !blocks.verdicts.contains(&blocks.primary)) {
            blocks.verdicts.push(blocks.primary.clone());
        }
        Ok(plan)
    }

    /// `path` is only for errors.
    pub fn parse(text: &str, path: &Path) -> Result<Self, PlanError> {
        check::plan(text, path)
    }

    /// Why its verdicts cannot be given at a fixed rate, and what would be enough. `None` if they can, or if the rate
    /// is unknown.
    pub fn lacks_requests(&self) -> Option<String> {
        let (Some(blocks), LoadPlan::Open { law, rate: Rate::Rps(rps), .. }) = (&self.blocks, &self.load) else {
            return None;
        };
        // the author of a file can change it, so default verdicts are required too
        let wanted = BlockPlan { asked: blocks.verdicts.clone(), ..blocks.clone() };
        match wanted.judged(*rps, *law) {
            Judged::Refused(why) => Some(why),
            _ => None,
        }
    }

    /// The subject in a few words.
    pub fn title_in_words(&self) -> String {
        let words = match self.scenario {
            Scenario::A1 => "A1: how requests are shared",
            Scenario::A2 => "A2: more and more backends",
            Scenario::A3 => "A3: a backend dies",
            Scenario::A4 => "A4: other hash functions",
            Scenario::B => "B: strategies compared",
            Scenario::Own => "An experiment",
        };
        if self.title.is_empty() { words.to_owned() } else { self.title.clone() }
    }

    /// The plan that is compiled in; `None` for an experiment of the user.
    pub fn of(scenario: Scenario) -> Option<Self> {
        let (text, name) = match scenario {
            Scenario::A1 => (A1, "a1"),
            Scenario::A2 => (A2, "a2"),
            Scenario::A3 => (A3, "a3"),
            Scenario::A4 => (A4, "a4"),
            Scenario::B => (B, "b"),
            Scenario::Own => return None,
        };
        let path = format!("config/experiments/{name}.toml");
        Some(Self::parse(text, Path::new(&path)).expect("a test checks that the shipped plans are sound"))
    }
}

/// The percentiles with a verdict, if a plan names none.
fn verdicts() -> Vec<String> {
    ["latency_p50", "latency_p90", "latency_p99"].map(str::to_owned).to_vec()
}

fn once() -> u32 {
    1
}

fn no_handicap() -> f64 {
    1.0
}

// === impl ArmPlan ===

impl ArmPlan {
    /// An arm without options.
    pub fn plain(label: &str, strategy: &str) -> Self {
        let (label, strategy) = (label.to_owned(), strategy.to_owned());
        Self { label, strategy, options: toml::Table::new(), cost_factor: 1.0, lb: toml::Table::new() }
    }
}

// === impl Fault ===

impl Fault {
    /// For events and progress, for example `Server 2 killed (SIGKILL)`.
    pub fn in_words(&self, backend: &str) -> String {
        match self.kind {
            FaultKind::Slow { factor } => format!("{backend} slower ×{factor}"),
            FaultKind::Delay { extra } => format!("{backend} slower by {extra:?}"),
            FaultKind::Stall => format!("{backend} stalled"),
            FaultKind::Kill => format!("{backend} killed (SIGKILL)"),
            FaultKind::Errors { rate } => format!("{backend} fails {:.0} % of its requests at once", rate * 100.0),
            FaultKind::Add { n: 1 } => "1 server added".to_owned(),
            FaultKind::Add { n } => format!("{n} servers added"),
            FaultKind::Remove => format!("{backend} removed"),
            FaultKind::HotKey { share } => format!("one key has {:.0} % of the requests", share * 100.0),
        }
    }
}

// === impl FaultKind ===

impl FaultKind {
    /// Whether it lasts until it is undone.
    pub fn goes_on(&self) -> bool {
        !matches!(self, Self::Kill | Self::Add { .. } | Self::Remove)
    }

    /// Whether it affects one backend, not the pool.
    pub fn affects_one(&self) -> bool {
        !matches!(self, Self::Add { .. } | Self::HotKey { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_plans_are_sound() {
        for scenario in [Scenario::A1, Scenario::A2, Scenario::A3, Scenario::A4, Scenario::B] {
            let plan = Plan::of(scenario).expect("there is one");
            assert_eq!(plan.scenario, scenario);
            assert_eq!(bounds::check(&plan), Ok(()), "{scenario}");
            assert_eq!(serde_json::from_str::<Plan>(&plan.to_json()).expect("read back"), plan);
            assert_eq!(plan.blocks.is_some(), matches!(scenario, Scenario::A4 | Scenario::B), "{scenario}");
        }
        let faults = Plan::parse(FAULTS, Path::new("faults.toml")).expect("sound").faults;
        let kinds: std::collections::HashSet<_> =
            faults.iter().map(|fault| std::mem::discriminant(&fault.kind)).collect();
        assert_eq!(kinds.len(), 8, "every kind is in faults.toml");
        assert_eq!(Plan::of(Scenario::A2).expect("there is one").sizes, [1, 2, 3, 4, 5, 6]);
    }
}
