//! What goes wrong with a backend, and when. The kinds are those of the live experiments, and some more.

use serde::{Deserialize, Serialize};

use crate::time::Time;

/// A fault of one backend for a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    /// From the end of the warm-up.
    pub at: Time,
    /// Default: until the end.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<Time>,
    /// The number of the backend, from 1. Not used by `hot_key`.
    #[serde(default)]
    pub backend: u32,
    #[serde(flatten)]
    pub kind: FaultKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum FaultKind {
    /// It works slower by this factor.
    Slow { factor: f64 },
    /// Each request takes this much longer.
    Delay { extra: Time },
    /// It stands still, as a process that is stopped by a signal. Afterwards it continues.
    Stall,
    /// It accepts requests and never responds to them; those that it has continue.
    Hang,
    /// It refuses connections; requests that it has continue.
    Refuse,
    /// Its process ends. Its requests are reset, and it refuses connections until it is there again.
    Kill,
    /// This share of its requests gets an error at once: a sinkhole.
    Errors {
        rate: f64,
        #[serde(default = "internal_server_error")]
        status: u16,
        /// Whether health checks fail, too.
        #[serde(default)]
        checks: bool,
    },
    /// This share of its connections is reset when the request arrives.
    Reset { rate: f64 },
    /// It leaves the pool. After `for` it joins again.
    Remove,
    /// This share of all requests has the same key.
    HotKey { share: f64 },
}

const fn internal_server_error() -> u16 {
    500
}

// === impl Fault ===

impl Fault {
    /// Until the end of the simulation.
    pub fn new(at: Time, backend: u32, kind: FaultKind) -> Self {
        Self { at, lasts: None, backend, kind }
    }

    #[must_use]
    pub fn lasting(self, lasts: Time) -> Self {
        Self { lasts: Some(lasts), ..self }
    }
}

// === impl FaultKind ===

impl FaultKind {
    /// Whether it affects one backend, not the pool.
    pub const fn affects_one(self) -> bool {
        !matches!(self, Self::HotKey { .. })
    }
}
