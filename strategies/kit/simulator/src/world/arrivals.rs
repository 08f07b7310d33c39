//! When requests arrive, and with which keys.

use serde::{Deserialize, Serialize};

use crate::law::Law;
use crate::time::Time;

/// The law of arrival. Rates are requests per second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case", tag = "kind")]
pub enum Arrivals {
    /// Memoryless: independent exponential gaps, as from many independent clients.
    Poisson { rps: f64 },
    /// Equal gaps.
    Constant { rps: f64 },
    /// Poisson arrivals whose rate changes linearly over this time and then stays.
    Ramp { from: f64, to: f64, over: Time },
    /// Poisson arrivals at two rates in turn: in each period `high` for this share of it, then `low`.
    Bursts { low: f64, high: f64, period: Time, share: f64 },
    /// At these times, from the start of the warm-up, in order.
    Trace { times: Vec<Time> },
    /// Each client sends its next request when its last one has ended, after a pause.
    Closed {
        clients: u32,
        #[serde(default)]
        think: Law,
    },
}

/// The keys of requests, for strategies that hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case", tag = "kind")]
pub enum Keys {
    /// Requests have no key.
    None,
    /// The key of each request is new.
    Sequential,
    /// One of this many keys, each equally likely.
    Uniform { keys: u32 },
    /// The share of the key of rank r is proportional to 1/r^exponent.
    Zipf { keys: u32, exponent: f64 },
    /// Six digits, each of 900,000 keys equally likely, as in the course.
    #[default]
    Course,
}

// === impl Arrivals ===

impl Default for Arrivals {
    fn default() -> Self {
        Self::Poisson { rps: 100.0 }
    }
}

impl Arrivals {
    /// `None` for a closed loop and for a trace.
    pub fn highest_rps(&self) -> Option<f64> {
        match *self {
            Self::Poisson { rps } | Self::Constant { rps } => Some(rps),
            Self::Ramp { from, to, .. } => Some(from.max(to)),
            Self::Bursts { low, high, .. } => Some(low.max(high)),
            Self::Trace { .. } | Self::Closed { .. } => None,
        }
    }
}
