//! Latencies: one pair of histograms per cell, stored as HdrHistogram logs (V2, deflated, base64). The tools of
//! HdrHistogram read them too.
//!
//! Invariants: a percentile has a value only if enough samples lie beyond it ([`samples_needed`]). [`Times`] always
//! grows, so a sum never loses a sample.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::time::Duration;

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use thiserror::Error;

use super::stored_histogram;

/// The name of a cell: the key of the data stored for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CellKey {
    pub arm: String,
    pub n: u32,
    pub block: u32,
}

/// A histogram of times in nanoseconds. A histogram of `hdrhistogram` that was read from a file does not grow. This
/// type always grows, and its own methods, which cannot fail, are the only way to change it.
#[derive(Clone, Debug, PartialEq)]
pub struct Times(Histogram<u64>);

/// The good responses of one cell.
#[derive(Clone, Debug, PartialEq)]
pub struct Latencies {
    /// From the scheduled send time: the wait of a user.
    pub latency: Times,
    /// From the actual send: the time in the balancer and its backends.
    pub service: Times,
}

#[derive(Debug, Error)]
pub enum HistogramError {
    #[error("line {line}: {reason}")]
    Line { line: usize, reason: String },
    #[error("it is empty, and must hold the histograms of {0}")]
    Empty(String),
    #[error("a histogram could not be written: {0}")]
    Write(String),
}

/// Significant digits: each value is exact to 0.1 %.
pub(super) const DIGITS: u8 = 3;
/// The longest time that is recorded, 104 days. It bounds the size of a histogram.
pub(super) const LONGEST_NS: u64 = 1 << 53;

/// The fewest samples for a percentile, so that ten of them lie beyond it.
pub fn samples_needed(quantile: f64) -> u64 {
    // rounded, because 1 − 0.999 is not 0.001 in binary
    (10.0 / (1.0 - quantile).max(1e-9)).round() as u64
}

/// The value below which `quantile` (0..1) of the samples lie; `None` if there are too few samples.
pub fn percentile_ns(histogram: &Histogram<u64>, quantile: f64) -> Option<u64> {
    (histogram.len() >= samples_needed(quantile)).then(|| histogram.value_at_quantile(quantile))
}

/// The text of one `.hdr` file: all blocks of one arm at one N. A cell is its block, start, duration and latencies.
pub(super) fn write_log(cells: &[(u32, Duration, Duration, &Latencies)]) -> Result<Vec<u8>, HistogramError> {
    let failed = |error: &dyn std::fmt::Display| HistogramError::Write(error.to_string());
    let (mut bytes, mut serializer) = (Vec::new(), V2DeflateSerializer::new());
    let mut builder = IntervalLogWriterBuilder::new();
    builder.add_comment("nanoseconds; tag = kind-block; times count from the start of the run");
    // The scale of the log's column for readers: milliseconds.
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
    let mut found: BTreeMap<u32, (Option<Times>, Option<Times>)> = BTreeMap::new();
    let mut last = 0;
    for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let wrong = |reason: String| HistogramError::Line { line: number + 1, reason };
        let line = std::str::from_utf8(line).map_err(|error| wrong(error.to_string()))?;
        // comments, and the titles of the columns
        if line.is_empty() || line.starts_with(['#', '"']) {
            continue;
        }
        let entry = stored_histogram::entry(line).map_err(wrong)?;
        let pair = found.entry(entry.block).or_default();
        let place = if entry.is_service { &mut pair.1 } else { &mut pair.0 };
        if place.replace(entry.times).is_some() {
            return Err(wrong(format!("a second histogram of block {}", entry.block)));
        }
        last = number + 1;
    }
    let whole = |(block, pair): (u32, (Option<Times>, Option<Times>))| match pair {
        (Some(latency), Some(service)) => Ok((block, Latencies { latency, service })),
        _ => {
            let reason = format!("of block {block} there is a latency or a service histogram, and not both");
            Err(HistogramError::Line { line: last, reason })
        }
    };
    found.into_iter().map(whole).collect()
}

// === impl Times ===

impl Times {
    /// An empty histogram.
    pub fn new() -> Self {
        Histogram::new(DIGITS).expect("3 digits are possible").into()
    }

    pub fn record(&mut self, ns: u64) {
        self.0.record(ns.clamp(1, LONGEST_NS)).expect("a histogram that grows takes every time below its bound");
    }

    /// Adds the samples of `other`.
    pub fn add(&mut self, other: &Histogram<u64>) {
        self.0.add(other).expect("a histogram that grows takes any other");
    }
}

impl Default for Times {
    fn default() -> Self {
        Self::new()
    }
}

impl From<Histogram<u64>> for Times {
    fn from(mut histogram: Histogram<u64>) -> Self {
        histogram.auto(true);
        Self(histogram)
    }
}

/// Read access only: there is no `DerefMut`.
impl Deref for Times {
    type Target = Histogram<u64>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

// === impl Latencies ===

impl Latencies {
    /// An empty pair.
    pub fn new() -> Self {
        Self { latency: Times::new(), service: Times::new() }
    }

    /// Records one good response.
    pub fn record(&mut self, latency_ns: u64, service_ns: u64) {
        self.latency.record(latency_ns);
        self.service.record(service_ns);
    }

    /// Adds the samples of `other`.
    pub fn add(&mut self, other: &Self) {
        self.latency.add(&other.latency);
        self.service.add(&other.service);
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

    /// Histograms read from a file do not grow by themselves. Once, blocks with a longer tail than the first were left
    /// out of every sum.
    #[test]
    fn a_histogram_from_a_file_grows_for_longer_times() {
        let of = |ms: u64| {
            let mut latencies = Latencies::new();
            (1..=100).for_each(|part| latencies.record(ms * part * 10_000, ms * part * 10_000));
            latencies
        };
        let length = Duration::from_secs(1);
        let (quick, slow) = (of(1), of(10_000));
        let bytes = write_log(&[(1, length, length, &quick), (2, length, length, &slow)]).expect("written");
        let back = read_log(&bytes).expect("read");
        let mut sum = back[&1].clone();
        sum.add(&back[&2]);
        assert_eq!((sum.latency.len(), sum.service.len()), (200, 200));
        assert!(sum.latency.max() >= 10_000_000_000, "{}", sum.latency.max());
        let mut one = back[&1].clone();
        one.record(u64::MAX, 0);
        assert_eq!((one.latency.len(), one.service.len()), (101, 101));
    }

    #[test]
    fn a_text_that_is_not_a_log_is_refused_with_its_line() {
        let error = read_log(b"Tag=latency-1,0.0,1.0,1.0,!!!\n").expect_err("no base64");
        assert!(error.to_string().starts_with("line 1: "), "{error}");
        let error = read_log(b"Tag=nonsense,0.0,1.0,1.0,AAAA\n").expect_err("no kind");
        assert!(error.to_string().contains("kind-block"), "{error}");
        let error = read_log(b"0.0,1.0,1.0,AAAA\n").expect_err("no tag");
        assert!(error.to_string().contains("Tag="), "{error}");
    }

    #[test]
    fn a_block_has_one_histogram_of_each_kind() {
        let length = Duration::from_secs(1);
        let mut latencies = Latencies::new();
        latencies.record(5_000, 4_000);
        let bytes = write_log(&[(1, length, length, &latencies)]).expect("written");
        let text = String::from_utf8(bytes).expect("text");
        let entries: Vec<&str> = text.lines().filter(|line| line.starts_with("Tag=")).collect();
        let error = read_log(format!("{text}{}\n", entries[0]).as_bytes()).expect_err("twice").to_string();
        assert!(error.contains("second histogram of block 1"), "{error}");
        let error = read_log(entries[1].as_bytes()).expect_err("half").to_string();
        assert!(error.contains("not both"), "{error}");
    }
}
