//! Whether the files of a run agree: a number in one file has the same value in the others.
//!
//! This protects older runs without digests, and detects faults of loadgen itself. Invariant: the first contradiction
//! is reported with its numbers; no file is repaired.

use std::collections::{BTreeMap, BTreeSet};

use super::histogram::{CellKey, Latencies};
use super::manifest::{Load, Manifest};
use super::results::{Cell, Results};
use super::series::Series;

pub(super) fn manifest(manifest: &Manifest) -> Result<(), String> {
    if let Some(label) = twice(manifest.arms.iter().map(|arm| arm.label.as_str())) {
        return Err(format!("it has the arm {label:?} twice"));
    }
    if let Some(arm) = manifest.arms.iter().find(|arm| !(arm.cost_factor.is_finite() && arm.cost_factor > 0.0)) {
        return Err(format!("the cost_factor of {:?} is {}", arm.label, arm.cost_factor));
    }
    let Load::Open { rate_rps, capacity_rps, .. } = manifest.load else { return Ok(()) };
    match [Some(rate_rps), capacity_rps].into_iter().flatten().find(|rate| !is_count(*rate)) {
        Some(rate) => Err(format!("{rate} is no request rate")),
        None => Ok(()),
    }
}

pub(super) fn results(results: &Results) -> Result<(), String> {
    if let Some(key) = twice(results.cells.iter().map(Cell::key)) {
        return Err(format!("it has {} twice", named(&key)));
    }
    let counts: [fn(&Cell) -> u64; 4] =
        [|cell| cell.requests, |cell| cell.unsent, |cell| cell.retries.unwrap_or(0), |cell| cell.duration_ns];
    if counts.iter().any(|count| results.cells.iter().map(count).try_fold(0, u64::checked_add).is_none()) {
        return Err("its counts are too large".to_owned());
    }
    results
        .cells
        .iter()
        .try_for_each(|cell| self::cell(cell).map_err(|why| format!("{}: {why}", named(&cell.key()))))?;
    for ring in &results.rings {
        ring.check().map_err(|why| format!("the ring of {:?}, N = {}: {why}", ring.arm, ring.n))?;
    }
    let Some(comparison) = &results.comparison else { return Ok(()) };
    for ratio in &comparison.ratios {
        if ![ratio.low, ratio.ratio, ratio.high].iter().all(|number| is_count(*number)) {
            return Err(format!("the ratio of {:?} in {} is {}", ratio.arm, ratio.measure, ratio.ratio));
        }
    }
    Ok(())
}

fn cell(cell: &Cell) -> Result<(), String> {
    if cell.errors > cell.requests {
        return Err(format!("{} errors of {} requests", cell.errors, cell.requests));
    }
    let answered = cell.backends.iter().fold(0, |sum: u64, backend| sum.saturating_add(backend.requests));
    if answered > cell.requests {
        return Err(format!("its backends have {answered} responses to {} requests", cell.requests));
    }
    if let Some(id) = twice(cell.backends.iter().map(|backend| backend.id.as_str())) {
        return Err(format!("the backend {id:?} is there twice"));
    }
    if let Some(backend) = cell.backends.iter().find(|backend| backend.errors > backend.requests) {
        return Err(format!("{} errors of {} requests of {:?}", backend.errors, backend.requests, backend.id));
    }
    let shares = [cell.jain_in_flight, cell.chi_square_p];
    if let Some(share) = shares.into_iter().flatten().find(|share| !(-1e-9..=1.0 + 1e-9).contains(share)) {
        return Err(format!("{share} is not from 0 to 1"));
    }
    match cell.asked_rps.filter(|rate| !is_count(*rate)) {
        Some(rate) => Err(format!("{rate} is no request rate")),
        None => Ok(()),
    }
}

pub(super) fn series(series: &[Series], results: &Results) -> Result<(), String> {
    let key = |series: &Series| CellKey { arm: series.arm.clone(), n: series.n, block: series.block };
    if let Some(key) = twice(series.iter().map(key)) {
        return Err(format!("it has {} twice", named(&key)));
    }
    let cells: BTreeSet<CellKey> = results.cells.iter().map(Cell::key).collect();
    for series in series {
        let name = || named(&key(series));
        if series.window_ms == 0 {
            return Err("a window_ms is 0".to_owned());
        }
        if !cells.contains(&key(series)) {
            return Err(format!("results.json does not have {}", name()));
        }
        if series.windows.iter().any(|window| window.backends.len() > series.backends.len()) {
            return Err(format!("{}: a window counts more than {} backends", name(), series.backends.len()));
        }
    }
    Ok(())
}

/// Whether the number of samples in the histograms equals the good responses of these cells.
pub(super) fn latencies(cells: &[&Cell], latencies: &BTreeMap<CellKey, Latencies>) -> Result<(), String> {
    for cell in cells {
        let (key, good) = (cell.key(), cell.good());
        let (latency, service) = latencies.get(&key).map_or((0, 0), |of| (of.latency.len(), of.service.len()));
        for (kind, samples) in [("latency", latency), ("service", service)] {
            if samples != good {
                return Err(format!(
                    "{}: the {kind} histogram has {samples} samples, and results.json counts {good} good responses",
                    named(&key)
                ));
            }
        }
    }
    Ok(())
}

fn named(key: &CellKey) -> String {
    format!("{}, N = {}, block {}", key.arm, key.n, key.block)
}

fn is_count(number: f64) -> bool {
    number.is_finite() && number >= 0.0
}

/// The first item that occurs twice.
fn twice<T: Ord + Clone>(items: impl Iterator<Item = T>) -> Option<T> {
    let mut seen = BTreeSet::new();
    items.into_iter().find(|item| !seen.insert(item.clone()))
}
