//! The status of a shadow: how its picks compare with those of the strategy in charge.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

/// A shadow of a pool. Its counts begin when every worker has it.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ShadowStatus {
    pub id: String,
    pub strategy: String,
    pub version: String,
    /// Why lb switched it off. `None`: it picks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub off: Option<String>,
    /// Requests that it was asked for.
    pub picks: u64,
    /// Picks of the backend that got the request.
    pub same: u64,
    /// Picks of another backend.
    pub other: u64,
    /// Requests that it left to the host, mostly because they have no key.
    pub undecided: u64,
    /// Requests that it would let wait.
    pub waits: u64,
    /// Requests for which its list had no backend.
    pub none: u64,
    /// Panics, errors and picks that the host would not use.
    pub faults: u64,
    /// `same` as a part of `same` and `other`. `None` before the first of them.
    pub agreement: Option<f64>,
    /// The most picks of a backend by its weight, as a multiple of the mean. `None` before the first pick.
    pub imbalance: Option<f64>,
    /// The same for the backends that got these requests.
    pub imbalance_in_charge: Option<f64>,
    /// Picks by backend.
    pub backends: BTreeMap<String, u64>,
}
