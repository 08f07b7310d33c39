//! How long requests took: one pair of histograms per cell, stored as HdrHistogram logs (V2, deflated, base64), which the tools of
//! HdrHistogram read as well.
//!
//! Invariant: a percentile is only said when enough samples lie beyond it ([`samples_needed`]).

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, IntervalLogWriterBuilder, LogEntry, Tag};
use hdrhistogram::serialization::{Deserializer, V2DeflateSerializer};
use thiserror::Error;

/// Which cell: the key of everything that is stored beside it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CellKey {
    pub arm: String,
    pub n: u32,
    pub block: u32,
}

/// The answered requests of one cell, in nanoseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Latencies {
    /// From the intended time of sending: what a user waited.
    pub latency: Histogram<u64>,
    /// From the actual time of sending: what the balancer and its backends took.
    pub service: Histogram<u64>,
}

#[derive(Debug, Error)]
pub enum HistogramError {
    #[error("line {line}: {reason}")]
    Line { line: usize, reason: String },
    #[error("a histogram could not be written: {0}")]
    Write(String),
}

/// Significant digits: each value is right to 0.1 %.
const DIGITS: u8 = 3;

/// Fewest samples with which a percentile means something: ten of them lie beyond it.
pub fn samples_needed(quantile: f64) -> u64 {
    // rounded, because 1 − 0.999 is not 0.001 in binary
    (10.0 / (1.0 - quantile).max(1e-9)).round() as u64
}

/// The value below which `quantile` (0..1) of the samples lie; `None` if there are too few of them to say.
pub fn percentile_ns(histogram: &Histogram<u64>, quantile: f64) -> Option<u64> {
    (histogram.len() >= samples_needed(quantile)).then(|| histogram.value_at_quantile(quantile))
}

/// The text of one `.hdr` file: all blocks of one arm at one N. `starts` are `at_ms` and duration of each.
pub(super) fn write_log(cells: &[(u32, Duration, Duration, &Latencies)]) -> Result<Vec<u8>, HistogramError> {
    let failed = |error: &dyn std::fmt::Display| HistogramError::Write(error.to_string());
    let (mut bytes, mut serializer) = (Vec::new(), V2DeflateSerializer::new());
    let mut builder = IntervalLogWriterBuilder::new();
    builder.add_comment("nanoseconds; tag = kind-block; times count from the start of the run");
    // The writer's own scale for the column that people read: milliseconds.
    builder.with_max_value_divisor(1e6);
    let mut log = builder.begin_log_with(&mut bytes, &mut serializer).map_err(|error| failed(&error))?;
    for (block, start, duration, latencies) in cells {
        for (kind, histogram) in [("latency", &latencies.latency), ("service", &latencies.service)] {
            let name = format!("{kind}-{block}");
            let tag = Tag::new(&name).ok_or_else(|| failed(&"bad tag"))?;
            log.write_histogram(histogram, *start, *duration, Some(tag)).map_err(|error| failed(&error))?;
        }
    }
    Ok(bytes)
}

/// The histograms of a `.hdr` file by block.
pub(super) fn read_log(bytes: &[u8]) -> Result<BTreeMap<u32, Latencies>, HistogramError> {
    let mut found: BTreeMap<u32, Latencies> = BTreeMap::new();
    let mut deserializer = Deserializer::new();
    for (number, entry) in IntervalLogIterator::new(bytes).enumerate() {
        let wrong = |reason: String| HistogramError::Line { line: number + 1, reason };
        let LogEntry::Interval(interval) = entry.map_err(|error| wrong(format!("{error:?}")))? else { continue };
        let tag = interval.tag().map(|tag| tag.as_str()).unwrap_or_default();
        let (kind, block) = tag
            .split_once('-')
            .and_then(|(kind, block)| Some((kind, block.parse::<u32>().ok()?)))
            .ok_or_else(|| wrong(format!("the tag {tag:?} is not kind-block")))?;
        let bytes = STANDARD.decode(interval.encoded_histogram()).map_err(|error| wrong(error.to_string()))?;
        let histogram = deserializer.deserialize(&mut bytes.as_slice()).map_err(|error| wrong(error.to_string()))?;
        let latencies = found.entry(block).or_default();
        match kind {
            "latency" => latencies.latency = histogram,
            "service" => latencies.service = histogram,
            _ => return Err(wrong(format!("the kind {kind:?} is neither latency nor service"))),
        }
    }
    Ok(found)
}

// === impl Latencies ===

impl Latencies {
    /// Nothing recorded yet.
    pub fn new() -> Self {
        let empty = || Histogram::new(DIGITS).expect("3 digits are possible");
        Self { latency: empty(), service: empty() }
    }

    /// One answered request.
    pub fn record(&mut self, latency_ns: u64, service_ns: u64) {
        // Both grow as needed, so the only failure there is, a value out of range, cannot happen.
        let _ = self.latency.record(latency_ns.max(1));
        let _ = self.service.record(service_ns.max(1));
    }

    /// All that `other` has recorded as well.
    pub fn add(&mut self, other: &Self) {
        let _ = self.latency.add(&other.latency);
        let _ = self.service.add(&other.service);
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_needs_ten_samples_beyond_it() {
        assert_eq!([0.5, 0.75, 0.9, 0.99, 0.999, 0.9999].map(samples_needed), [20, 40, 100, 1_000, 10_000, 100_000]);
        let mut latencies = Latencies::new();
        (1..=999).for_each(|value| latencies.record(value * 1_000, value));
        assert_eq!(percentile_ns(&latencies.latency, 0.99), None);
        latencies.record(1_000_000, 1_000);
        let p99 = percentile_ns(&latencies.latency, 0.99).expect("1,000 samples are enough");
        assert!((989_000..=991_500).contains(&p99), "{p99}");
    }

    #[test]
    fn a_log_comes_back_as_it_was() {
        let mut latencies = Latencies::new();
        (0..5_000).for_each(|value| latencies.record(value * value + 7, value * 3 + 1));
        let (start, length) = (Duration::from_millis(1_500), Duration::from_secs(2));
        let bytes =
            write_log(&[(1, start, length, &latencies), (7, start, length, &Latencies::new())]).expect("written");
        let back = read_log(&bytes).expect("read");
        assert_eq!(back[&1], latencies);
        assert!(back[&7].latency.is_empty());
    }

    #[test]
    fn what_is_no_log_is_refused_with_its_line() {
        let error = read_log(b"Tag=latency-1,0.0,1.0,1.0,!!!\n").expect_err("no base64");
        assert!(error.to_string().starts_with("line 1: "), "{error}");
        let error = read_log(b"Tag=nonsense,0.0,1.0,1.0,AAAA\n").expect_err("no kind");
        assert!(error.to_string().contains("kind-block"), "{error}");
    }
}
