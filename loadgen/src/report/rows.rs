//! `results.csv`: every number of a report. There is one row for each backend in a block, for each block, and for all
//! blocks of an arm at one N.
//!
//! Invariant: tables of a report are written from these rows alone, so report and file cannot differ. Values are
//! rounded here, once: times to the microsecond, ratios to six digits.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{Band, Cell, CellKey, Latencies, Run, percentile_ns};
use crate::statistics::{coefficient_of_variation, jain, max_over_mean};

/// The kind of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One backend in one block.
    Backend,
    /// One block.
    Block,
    /// All blocks of an arm at one N.
    Summary,
}

/// One line of `results.csv`. A number that was not measured, or has too few samples, is an empty field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub kind: Kind,
    pub scenario: String,
    pub arm: String,
    pub strategy: String,
    pub n: u32,
    /// `None` in summary rows.
    pub block: Option<u32>,
    /// Only in backend rows.
    pub backend: Option<String>,
    pub requests: u64,
    pub errors: u64,
    pub retries: Option<u64>,
    pub unsent: Option<u64>,
    pub duration_s: f64,
    pub asked_rps: Option<f64>,
    /// Good responses per second.
    pub rps: f64,
    /// Good and failed responses, and other errors, per second.
    pub ended_rps: f64,
    pub latency_p50_ms: Option<f64>,
    pub latency_p90_ms: Option<f64>,
    pub latency_p99_ms: Option<f64>,
    pub latency_p999_ms: Option<f64>,
    pub service_p50_ms: Option<f64>,
    pub service_p90_ms: Option<f64>,
    pub service_p99_ms: Option<f64>,
    pub service_p999_ms: Option<f64>,
    /// The number of samples of these percentiles.
    pub samples: Option<u64>,
    pub expected_requests: Option<f64>,
    pub expected_low: Option<f64>,
    pub expected_high: Option<f64>,
    pub max_over_mean: Option<f64>,
    pub cv: Option<f64>,
    pub jain: Option<f64>,
    pub jain_in_flight: Option<f64>,
    pub chi_square_p: Option<f64>,
    pub seed: Option<u64>,
    pub commit: String,
    pub strategy_sha256: String,
    pub config_sha256: String,
}

/// All rows of a run: cells in their order, each with its backends, then the summaries.
pub fn rows(run: &Run) -> Vec<Row> {
    let mut rows = Vec::new();
    for cell in &run.results.cells {
        rows.push(block_row(run, cell));
        rows.extend(backend_rows(run, cell));
    }
    rows.extend(groups(run).into_iter().map(|cells| summary_row(run, &cells)));
    rows
}

/// The cells of each arm and N: arms in their order, N ascending.
pub(crate) fn groups(run: &Run) -> Vec<Vec<&Cell>> {
    let mut groups: BTreeMap<(usize, u32), Vec<&Cell>> = BTreeMap::new();
    for cell in &run.results.cells {
        let arm = run.manifest.arms.iter().position(|arm| arm.label == cell.arm).unwrap_or(usize::MAX);
        groups.entry((arm, cell.n)).or_default().push(cell);
    }
    groups.into_values().collect()
}

/// The latencies of these cells together, except for those of dropped blocks. A single cell is always included.
pub(crate) fn merged(run: &Run, cells: &[&Cell]) -> Latencies {
    let mut all = Latencies::new();
    let is_dropped = |cell: &Cell| run.results.comparison.as_ref().is_some_and(|it| it.is_dropped(cell.block));
    let counted = cells.iter().filter(|cell| cells.len() == 1 || !is_dropped(cell));
    counted.filter_map(|cell| run.latencies.get(&cell.key())).for_each(|latencies| all.add(latencies));
    all
}

/// Requests of each backend over all these cells, in the order of their first appearance.
pub(crate) fn totals(cells: &[&Cell]) -> Vec<(String, u64, Option<Band>)> {
    let mut totals: Vec<(String, u64, Option<Band>)> = Vec::new();
    for backend in cells.iter().flat_map(|cell| &cell.backends) {
        match totals.iter_mut().find(|total| total.0 == backend.id) {
            Some(total) => total.1 += backend.requests,
            None => totals.push((backend.id.clone(), backend.requests, backend.expected)),
        }
    }
    totals
}

pub fn to_csv(rows: &[Row]) -> Result<Vec<u8>, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    rows.iter().try_for_each(|row| writer.serialize(row))?;
    writer.into_inner().map_err(|error| csv::Error::from(error.into_error()))
}

pub fn from_csv(bytes: &[u8]) -> Result<Vec<Row>, csv::Error> {
    csv::Reader::from_reader(bytes).deserialize().collect()
}

fn rounded(value: f64, digits: i32) -> f64 {
    let power = 10_f64.powi(digits);
    (value * power).round() / power
}

/// Per second; 0 without a duration.
fn rate(count: u64, duration_s: f64) -> f64 {
    if duration_s > 0.0 { rounded(count as f64 / duration_s, 3) } else { 0.0 }
}

/// A row with the fields that all rows of this cell's arm share.
fn bare(run: &Run, kind: Kind, key: &CellKey) -> Row {
    let manifest = &run.manifest;
    let arm = manifest.arm(&key.arm);
    let of_arm = |read: fn(&crate::model::Arm) -> &String| arm.map(read).cloned().unwrap_or_default();
    Row {
        kind,
        scenario: manifest.scenario.to_string(),
        arm: key.arm.clone(),
        strategy: of_arm(|arm| &arm.strategy),
        n: key.n,
        block: (kind != Kind::Summary).then_some(key.block),
        backend: None,
        requests: 0,
        errors: 0,
        retries: None,
        unsent: None,
        duration_s: 0.0,
        asked_rps: None,
        rps: 0.0,
        ended_rps: 0.0,
        latency_p50_ms: None,
        latency_p90_ms: None,
        latency_p99_ms: None,
        latency_p999_ms: None,
        service_p50_ms: None,
        service_p90_ms: None,
        service_p99_ms: None,
        service_p999_ms: None,
        samples: None,
        expected_requests: None,
        expected_low: None,
        expected_high: None,
        max_over_mean: None,
        cv: None,
        jain: None,
        jain_in_flight: None,
        chi_square_p: None,
        seed: manifest.seeds.get("run").copied(),
        commit: manifest.lb.as_ref().unwrap_or(&manifest.loadgen).commit.clone(),
        strategy_sha256: of_arm(|arm| &arm.strategy_sha256),
        config_sha256: of_arm(|arm| &arm.config_sha256),
    }
}

fn block_row(run: &Run, cell: &Cell) -> Row {
    Row { block: Some(cell.block), ..over(run, Kind::Block, &[cell]) }
}

fn summary_row(run: &Run, cells: &[&Cell]) -> Row {
    over(run, Kind::Summary, cells)
}

/// A row for these cells of one arm and N together.
fn over(run: &Run, kind: Kind, cells: &[&Cell]) -> Row {
    let duration_s = cells.iter().map(|cell| cell.duration_ns).sum::<u64>() as f64 / 1e9;
    let requests = cells.iter().map(|cell| cell.requests).sum::<u64>();
    let good = cells.iter().map(|cell| cell.good()).sum::<u64>();
    let latencies = merged(run, cells);
    let at = |histogram, quantile| percentile_ns(histogram, quantile).map(|ns| rounded(ns as f64 / 1e6, 3));
    let loads: Vec<f64> = totals(cells).iter().map(|total| total.1 as f64).collect();
    let mean_of = |read: fn(&Cell) -> Option<f64>| {
        let values: Option<Vec<f64>> = cells.iter().map(|cell| read(cell)).collect();
        values.filter(|values| !values.is_empty()).map(|values| values.iter().sum::<f64>() / values.len() as f64)
    };
    Row {
        requests,
        errors: cells.iter().map(|cell| cell.errors).sum(),
        retries: cells.iter().map(|cell| cell.retries).sum(),
        unsent: Some(cells.iter().map(|cell| cell.unsent).sum()),
        duration_s: rounded(duration_s, 6),
        asked_rps: mean_of(|cell| cell.asked_rps).map(|value| rounded(value, 3)),
        rps: rate(good, duration_s),
        ended_rps: rate(requests, duration_s),
        latency_p50_ms: at(&latencies.latency, 0.5),
        latency_p90_ms: at(&latencies.latency, 0.9),
        latency_p99_ms: at(&latencies.latency, 0.99),
        latency_p999_ms: at(&latencies.latency, 0.999),
        service_p50_ms: at(&latencies.service, 0.5),
        service_p90_ms: at(&latencies.service, 0.9),
        service_p99_ms: at(&latencies.service, 0.99),
        service_p999_ms: at(&latencies.service, 0.999),
        samples: Some(latencies.latency.len()),
        max_over_mean: max_over_mean(&loads).map(|value| rounded(value, 6)),
        cv: coefficient_of_variation(&loads).map(|value| rounded(value, 6)),
        jain: jain(&loads).map(|value| rounded(value, 6)),
        jain_in_flight: mean_of(|cell| cell.jain_in_flight).map(|value| rounded(value, 6)),
        // Probabilities of several blocks cannot simply be averaged.
        chi_square_p: if let [cell] = cells { cell.chi_square_p } else { None },
        ..bare(run, kind, &cells[0].key())
    }
}

fn backend_rows(run: &Run, cell: &Cell) -> Vec<Row> {
    let duration_s = cell.duration_ns as f64 / 1e9;
    let row = |backend: &crate::model::BackendCount| Row {
        backend: Some(backend.id.clone()),
        requests: backend.requests,
        errors: backend.errors,
        duration_s: rounded(duration_s, 6),
        rps: rate(backend.requests.saturating_sub(backend.errors), duration_s),
        ended_rps: rate(backend.requests, duration_s),
        expected_requests: backend.expected.map(|band| rounded(band.expected, 3)),
        expected_low: backend.expected.map(|band| rounded(band.low, 3)),
        expected_high: backend.expected.map(|band| rounded(band.high, 3)),
        ..bare(run, Kind::Backend, &cell.key())
    };
    cell.backends.iter().map(row).collect()
}
