//! The metrics that a pool lists: which values of a report go to `LoadReport::named`, and at which place.
//!
//! A name has the spelling of the text form: `mem_utilization`, `utilization.gpu`, `request_cost.tokens`,
//! `named_metrics.kv_cache_usage_perc`. A name without one of these prefixes is a named metric, so
//! `kv_cache_usage_perc` means the same as the last one. Invariant: at most four metrics, no two of one value.

use thiserror::Error;

use super::METRICS_MAX;
use super::draft::{Map, Scalar};

/// The metrics of one pool, in the order of its list. The default lists none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    list: Vec<Metric>,
}

/// One metric.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Metric {
    name: String,
    source: Source,
}

/// Where its value is in a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Scalar(Scalar),
    Entry(Map, String),
}

/// Why a list of metrics is refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BadMetric {
    #[error("{0} metrics are listed, and a pool may list at most {METRICS_MAX}: remove some")]
    TooMany(usize),
    #[error("{0:?} is no name of a metric: use 1 to {NAME_MAX} visible ASCII characters without comma, = and quotes")]
    Name(String),
    #[error("{0:?} and {1:?} name one value of the report: remove one")]
    Twice(String, String),
    #[error("{0:?} is always in a report's utilization, qps or eps: remove it")]
    Always(String),
}

/// The longest name of a metric.
const NAME_MAX: usize = 128;

// === impl Metrics ===

impl Metrics {
    /// A list of names, checked.
    pub fn new(names: &[impl AsRef<str>]) -> Result<Self, BadMetric> {
        if names.len() > METRICS_MAX {
            return Err(BadMetric::TooMany(names.len()));
        }
        let mut metrics = Self::default();
        for name in names {
            let name = name.as_ref();
            let source = source(name)?;
            if let Some(first) = metrics.list.iter().find(|metric| metric.source == source) {
                return Err(BadMetric::Twice(first.name.clone(), name.to_owned()));
            }
            metrics.list.push(Metric { name: name.to_owned(), source });
        }
        Ok(metrics)
    }

    /// The names as listed.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.list.iter().map(|metric| metric.name.as_str())
    }

    pub(super) fn sources(&self) -> impl Iterator<Item = &Source> {
        self.list.iter().map(|metric| &metric.source)
    }

    /// The place of the metric in this map with this key.
    pub(super) fn place(&self, map: Map, key: &[u8]) -> Option<usize> {
        let is_it = |source: &Source| matches!(source, Source::Entry(of, name) if *of == map && name.as_bytes() == key);
        self.sources().position(is_it)
    }
}

fn source(name: &str) -> Result<Source, BadMetric> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b",=\"'\\".contains(&byte);
    let bad = || BadMetric::Name(name.to_owned());
    if !(1..=NAME_MAX).contains(&name.len()) || !name.bytes().all(is_plain) {
        return Err(bad());
    }
    if let Some(scalar) = Scalar::of(name.as_bytes()) {
        return match scalar {
            Scalar::Memory | Scalar::Cpu => Ok(Source::Scalar(scalar)),
            Scalar::Application | Scalar::Rps | Scalar::RpsFractional | Scalar::Eps => {
                Err(BadMetric::Always(name.to_owned()))
            }
        };
    }
    let (map, key) = Map::split(name.as_bytes()).map_or((Map::Named, name), |(map, key)| {
        (map, &name[name.len() - key.len()..]) // A map's prefix is ASCII, so the key starts at a character.
    });
    if key.is_empty() { Err(bad()) } else { Ok(Source::Entry(map, key.to_owned())) }
}
