//! A report while it is read: the values that were found so far.
//!
//! The three forms name the same fields, so each reader only finds names and numbers. This type decides which are used.
//! Invariants: a value that is used is finite and not negative. If a value comes twice, the last one counts, as in
//! protobuf. Values that are not used are not checked.

use super::metrics::{Metrics, Source};
use super::{LoadReport, METRICS_MAX, Malformed};

/// A single number of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scalar {
    Cpu,
    Memory,
    /// Deprecated in the message: a whole number.
    Rps,
    RpsFractional,
    Eps,
    Application,
}

/// A map of the message, from names to numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Map {
    RequestCost,
    Utilization,
    Named,
}

/// The values found so far.
pub(super) struct Draft<'m> {
    metrics: &'m Metrics,
    scalars: [f64; SCALARS],
    named: [f64; METRICS_MAX],
    is_empty: bool,
}

const SCALARS: usize = 6;

// === impl Scalar ===

impl Scalar {
    /// By its name in the message, or its name in JSON.
    pub(super) fn of(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"cpu_utilization" | b"cpuUtilization" => Self::Cpu,
            b"mem_utilization" | b"memUtilization" => Self::Memory,
            b"rps" => Self::Rps,
            b"rps_fractional" | b"rpsFractional" => Self::RpsFractional,
            b"eps" => Self::Eps,
            b"application_utilization" | b"applicationUtilization" => Self::Application,
            _ => return None,
        })
    }
}

// === impl Map ===

impl Map {
    /// By its name in the message, or its name in JSON.
    pub(super) fn of(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"request_cost" | b"requestCost" => Self::RequestCost,
            b"utilization" => Self::Utilization,
            b"named_metrics" | b"namedMetrics" => Self::Named,
            _ => return None,
        })
    }

    /// The map and the key of `map.key`. The key may have dots.
    pub(super) fn split(name: &[u8]) -> Option<(Self, &[u8])> {
        let dot = name.iter().position(|byte| *byte == b'.')?;
        Some((Self::of(&name[..dot])?, &name[dot + 1..]))
    }
}

// === impl Draft ===

impl<'m> Draft<'m> {
    pub(super) fn new(metrics: &'m Metrics) -> Self {
        Self { metrics, scalars: [0.0; SCALARS], named: [0.0; METRICS_MAX], is_empty: true }
    }

    /// Whether no value was used.
    pub(super) fn is_empty(&self) -> bool {
        self.is_empty
    }

    pub(super) fn scalar(&mut self, scalar: Scalar, value: f64) -> Result<(), Malformed> {
        self.scalars[scalar as usize] = checked(value)?;
        self.is_empty = false;
        Ok(())
    }

    /// The place of a metric in the pool's list, if it is listed.
    pub(super) fn place(&self, map: Map, key: &[u8]) -> Option<usize> {
        self.metrics.place(map, key)
    }

    /// The value of the metric at a place that [`Draft::place`] returned.
    pub(super) fn named(&mut self, place: usize, value: f64) -> Result<(), Malformed> {
        self.named[place] = checked(value)?;
        self.is_empty = false;
        Ok(())
    }

    pub(super) fn finish(self) -> LoadReport {
        let Self { metrics, scalars, mut named, is_empty: _ } = self;
        for (place, source) in metrics.sources().enumerate() {
            if let Source::Scalar(scalar) = source {
                named[place] = scalars[*scalar as usize];
            }
        }
        let value = |scalar: Scalar| scalars[scalar as usize];
        let first_above_0 = |first: Scalar, second| if value(first) > 0.0 { value(first) } else { value(second) };
        LoadReport {
            utilization: first_above_0(Scalar::Application, Scalar::Cpu),
            qps: first_above_0(Scalar::RpsFractional, Scalar::Rps),
            eps: value(Scalar::Eps),
            named,
        }
    }
}

/// The value, with 0 for a negative 0.
fn checked(value: f64) -> Result<f64, Malformed> {
    if value.is_finite() && value >= 0.0 { Ok(value + 0.0) } else { Err(Malformed::Value) }
}
