//! `results.json`: the counts, cell by cell, and the conclusions from them.
//!
//! Invariant: a cell is the smallest piece that was measured on its own: one arm, one number of backends, one block.
//! Sums over cells are not stored; readers compute them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::comparison::Comparison;
use super::histogram::CellKey;
use super::ring::Ring;
use super::series::Event;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// In the order of their measurement.
    pub cells: Vec<Cell>,
    /// In order of time.
    #[serde(default)]
    pub events: Vec<Event>,
    /// One for each stretch over which the counts of client, balancer and backends were compared.
    #[serde(default)]
    pub accounting: Vec<Accounting>,
    /// Keys that moved when N changed.
    #[serde(default)]
    pub disruptions: Vec<Disruption>,
    /// One for each arm and N whose strategy described its ring. Runs of an older loadgen have none.
    #[serde(default)]
    pub rings: Vec<Ring>,
    /// `None` with a single arm.
    pub comparison: Option<Comparison>,
}

/// One arm at one N in one block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// The arm's label.
    pub arm: String,
    /// Backends in the pool.
    pub n: u32,
    /// The number of the block, from 1.
    pub block: u32,
    /// The start of the counted part, without warm-up and wash-out.
    pub at_ms: u64,
    pub duration_ns: u64,
    /// Requests that were sent in this cell and ended: good responses and errors.
    pub requests: u64,
    /// The part without a response with a status below 400.
    pub errors: u64,
    /// By kind: `status 503`, `connect`, `timeout`.
    #[serde(default)]
    pub error_kinds: BTreeMap<String, u64>,
    /// Attempts beyond the first, counted by the balancer.
    pub retries: Option<u64>,
    /// Scheduled requests that were not sent. 0 in a closed loop.
    pub unsent: u64,
    /// The scheduled request rate; `None` in a closed loop.
    pub asked_rps: Option<f64>,
    /// Jain's index of the mean requests in flight per backend.
    pub jain_in_flight: Option<f64>,
    /// The probability of counts at least as uneven as these if the declared expectation holds; `None` without a
    /// testable declaration.
    pub chi_square_p: Option<f64>,
    /// In the order of the pool.
    pub backends: Vec<BackendCount>,
}

/// The requests of one backend in one cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendCount {
    /// The id, for example `Server 1`.
    pub id: String,
    /// Responses with its `x-server-id`.
    pub requests: u64,
    pub errors: u64,
    /// The count that follows from the strategy's declaration; `None` if it declares no shares.
    pub expected: Option<Band>,
}

/// The range of a backend's number of requests in 95 of 100 runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Band {
    pub low: f64,
    pub expected: f64,
    pub high: f64,
}

/// Requests counted in three places over the same stretch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accounting {
    /// The stretch in words, for example `round_robin, N = 3, block 2` or `whole run`.
    pub stretch: String,
    /// Requests that the client sent and that ended.
    pub client: u64,
    /// Requests that the balancer counted.
    pub balancer: u64,
    /// Attempts that the balancer counted, retries included.
    pub attempts: u64,
    pub backends: Vec<BackendAccount>,
    /// The disagreement in words; `None` if all agree.
    pub mismatch: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendAccount {
    pub id: String,
    /// The balancer's count.
    pub attempts: u64,
    /// The backend's own count.
    pub served: u64,
    /// The backend died. `served` is from its last scrape, so it may have served more.
    #[serde(default)]
    pub is_lower_bound: bool,
}

/// How many keys changed their backend when the pool changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disruption {
    pub arm: String,
    pub from_n: u32,
    pub to_n: u32,
    /// Keys that were requested before and after.
    pub keys: u64,
    pub moved: u64,
}

// === impl Results ===

impl Results {
    pub fn cells_of<'a>(&'a self, arm: &'a str) -> impl Iterator<Item = &'a Cell> {
        self.cells.iter().filter(move |cell| cell.arm == arm)
    }

    /// The ring of this arm over these backends, if the run stored it.
    pub fn ring(&self, arm: &str, backends: &[String]) -> Option<&Ring> {
        self.rings.iter().find(|ring| ring.arm == arm && ring.backends == backends)
    }
}

// === impl Cell ===

impl Cell {
    pub fn key(&self) -> CellKey {
        CellKey { arm: self.arm.clone(), n: self.n, block: self.block }
    }

    /// Requests with a good response: all except errors.
    pub fn good(&self) -> u64 {
        self.requests.saturating_sub(self.errors)
    }

    /// Good responses per second; 0 for a cell without duration.
    pub fn rps(&self) -> f64 {
        if self.duration_ns == 0 { 0.0 } else { self.good() as f64 * 1e9 / self.duration_ns as f64 }
    }

    /// Requests of each backend, in the pool's order.
    pub fn counts(&self) -> Vec<u64> {
        self.backends.iter().map(|backend| backend.requests).collect()
    }

    /// Requests of each backend as floating-point numbers, for statistics.
    pub fn loads(&self) -> Vec<f64> {
        self.backends.iter().map(|backend| backend.requests as f64).collect()
    }
}

// === impl Disruption ===

impl Disruption {
    /// The share of keys that must move from N to M backends: |N − M| over the larger of both.
    pub fn ideal(&self) -> f64 {
        let larger = self.from_n.max(self.to_n);
        if larger == 0 { 0.0 } else { f64::from(self.from_n.abs_diff(self.to_n)) / f64::from(larger) }
    }

    pub fn share_moved(&self) -> f64 {
        if self.keys == 0 { 0.0 } else { self.moved as f64 / self.keys as f64 }
    }
}
