//! The keys of an experiment file. Values with rules beyond their type keep their place in the text, for errors.
//!
//! Whole numbers are `i64`, as in TOML, because a check gives a better error than a type. `words::KEYS` has the kind of
//! each key; a test checks that both lists agree.

use serde::Deserialize;
use toml::{Spanned, Table};

use super::World;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) scenario: Option<Spanned<String>>,
    pub(super) title: Option<String>,
    #[serde(default)]
    pub(super) world: World,
    pub(super) budget: Option<Spanned<String>>,
    pub(super) load: Spanned<Load>,
    #[serde(default)]
    pub(super) backends: BackendsTable,
    pub(super) blocks: Option<Blocks>,
    #[serde(default)]
    pub(super) lb: Table,
    #[serde(default)]
    pub(super) arms: Vec<Spanned<Arm>>,
    #[serde(default)]
    pub(super) faults: Vec<Spanned<Fault>>,
    pub(super) simulated: Option<Simulated>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Load {
    #[serde(rename = "loop")]
    pub(super) kind: Kind,
    pub(super) connections: Option<Spanned<i64>>,
    pub(super) requests: Option<Spanned<i64>>,
    pub(super) repeats: Option<Spanned<i64>>,
    pub(super) arrivals: Option<Spanned<Arrivals>>,
    pub(super) rate_rps: Option<Spanned<f64>>,
    pub(super) of_capacity: Option<Spanned<f64>>,
    pub(super) capacity_p99: Option<Spanned<String>>,
    pub(super) outstanding_max: Option<Spanned<i64>>,
    pub(super) warm_up: Option<Spanned<String>>,
    pub(super) duration: Option<Spanned<String>>,
    pub(super) path: Option<Spanned<String>>,
    pub(super) keys: Option<Spanned<String>>,
    pub(super) cost: Option<Spanned<String>>,
    pub(super) timeout: Option<Spanned<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Closed,
    Open,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Arrivals {
    Poisson,
    Constant,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BackendsTable {
    pub(super) n: Option<Spanned<Sizes>>,
    pub(super) service_time: Option<Spanned<String>>,
    pub(super) concurrency: Option<Spanned<i64>>,
    pub(super) queue: Option<Spanned<i64>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Sizes {
    One(i64),
    Many(Vec<i64>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Blocks {
    pub(super) segment: Option<Spanned<String>>,
    pub(super) wash_out: Option<Spanned<String>>,
    pub(super) half_width: Option<Spanned<f64>>,
    pub(super) equivalence: Option<Spanned<f64>>,
    pub(super) confidence: Option<Spanned<f64>>,
    pub(super) verdicts: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) primary: Option<Spanned<String>>,
}

/// The simulator reads the tables.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Simulated {
    pub(super) balancers: Option<Spanned<i64>>,
    pub(super) network: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) waves: Vec<Spanned<Table>>,
    #[serde(default)]
    pub(super) groups: Vec<Spanned<Table>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Arm {
    pub(super) label: Option<String>,
    pub(super) strategy: String,
    #[serde(default)]
    pub(super) options: Table,
    pub(super) cost_factor: Option<Spanned<f64>>,
    #[serde(default)]
    pub(super) lb: Table,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fault {
    pub(super) at: Spanned<String>,
    #[serde(rename = "for")]
    pub(super) lasts: Option<Spanned<String>>,
    pub(super) kind: FaultKind,
    pub(super) backend: Option<Spanned<i64>>,
    pub(super) factor: Option<Spanned<f64>>,
    pub(super) extra: Option<Spanned<String>>,
    pub(super) rate: Option<Spanned<f64>>,
    pub(super) share: Option<Spanned<f64>>,
    pub(super) n: Option<Spanned<i64>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FaultKind {
    Slow,
    Delay,
    Stall,
    Kill,
    Errors,
    Add,
    Remove,
    HotKey,
}
