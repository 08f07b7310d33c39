//! Builds the registry's own objects from `names::Metric`s and values. This is the one place that converts a metric,
//! its labels and a number into a `MetricFamily`. `plugins` makes the families of plugins from `series`.
//!
//! Invariants: families have the name, type and help of their `Metric`; there are as many label values as label names.

use std::collections::{BTreeMap, HashMap};

use prometheus::core::Desc;
use prometheus::proto;

use super::cell::HistogramSum;
use super::names::Metric;

/// Series gathered so far, by family.
#[derive(Default)]
pub(super) struct Exposition(BTreeMap<&'static str, proto::MetricFamily>);

/// The descriptions that a registry wants of a collector.
pub(super) fn descriptions(metrics: &[&Metric]) -> Vec<Desc> {
    let owned = |labels: &[&str]| labels.iter().map(|label| (*label).to_owned()).collect();
    let describe = |metric: &&Metric| {
        Desc::new(metric.name.to_owned(), metric.help.to_owned(), owned(metric.labels), HashMap::new())
    };
    metrics.iter().map(describe).collect::<Result<_, _>>().expect("names, labels and help texts are valid")
}

// === impl Exposition ===

impl Exposition {
    /// One series of a counter or gauge.
    pub(super) fn number(&mut self, metric: &'static Metric, labels: &[&str], value: f64) {
        self.push(metric, series(metric.labels, labels, metric.kind, value));
    }

    /// One series of a histogram, in seconds.
    pub(super) fn histogram(&mut self, metric: &'static Metric, labels: &[&str], sum: &HistogramSum) {
        let bucket = |(bound_ns, up_to)| {
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(seconds(bound_ns));
            bucket.set_cumulative_count(up_to);
            bucket
        };
        let mut histogram = proto::Histogram::default();
        histogram.set_bucket(sum.cumulative().map(bucket).collect());
        histogram.set_sample_count(sum.count());
        histogram.set_sample_sum(seconds(sum.sum_ns()));
        let mut series = labelled(metric.labels, labels);
        series.set_histogram(histogram);
        self.push(metric, series);
    }

    pub(super) fn into_families(self) -> Vec<proto::MetricFamily> {
        self.0.into_values().collect()
    }

    fn push(&mut self, metric: &'static Metric, series: proto::Metric) {
        let family = self.0.entry(metric.name).or_insert_with(|| {
            let mut family = proto::MetricFamily::default();
            family.set_name(metric.name.to_owned());
            family.set_help(metric.help.to_owned());
            family.set_field_type(metric.kind);
            family
        });
        family.mut_metric().push(series);
    }
}

/// One series of a counter, else of a gauge.
pub(super) fn series(names: &[&str], values: &[&str], kind: proto::MetricType, value: f64) -> proto::Metric {
    let mut series = labelled(names, values);
    if kind == proto::MetricType::COUNTER {
        let mut counter = proto::Counter::default();
        counter.set_value(value);
        series.set_counter(counter);
    } else {
        let mut gauge = proto::Gauge::default();
        gauge.set_value(value);
        series.set_gauge(gauge);
    }
    series
}

fn labelled(names: &[&str], values: &[&str]) -> proto::Metric {
    debug_assert_eq!(names.len(), values.len(), "a value for each of {names:?}");
    let pair = |(name, value): (&&str, &&str)| {
        let mut pair = proto::LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    proto::Metric::from_label(names.iter().zip(values).map(pair).collect())
}

/// Nanoseconds as seconds. Divided, because 1e9 is exact and 1e-9 is not, so that every bound prints as it is written.
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}
