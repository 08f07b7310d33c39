//! From the results of a simulation to a cell of a live run.
//!
//! Invariant: the sums of a cell agree. Each request of the simulation is one request of the cell: a good response or
//! an error of a kind. A request without an end is an error, because its client got no response.

use std::collections::BTreeMap;

use lb_strategy_simulator::{BackendResults, Endings, Results};

use super::super::record::Record;
use crate::model::{BackendCount, Cell, CellKey, Latencies, Times};
use crate::statistics::jain;

/// Stores the results as a cell. `at_ms`: the start of its measured time, on the clock of the run.
pub(super) fn keep(record: &mut Record, key: CellKey, asked_rps: Option<f64>, at_ms: u64, results: &Results) {
    record.cells.push(cell(&key, asked_rps, at_ms, results));
    let times = Times::from(results.latency.histogram().clone());
    // A simulated client is never late, so both times are the same.
    record.latencies.insert(key, Latencies { latency: times.clone(), service: times });
}

fn cell(key: &CellKey, asked_rps: Option<f64>, at_ms: u64, results: &Results) -> Cell {
    let kinds = error_kinds(&results.endings);
    let errors = kinds.values().sum();
    let loads: Vec<f64> = results.backends.iter().map(|it| it.in_service_mean + it.queued_mean).collect();
    Cell {
        arm: key.arm.clone(),
        n: key.n,
        block: key.block,
        at_ms,
        duration_ns: results.measured.ns,
        requests: results.endings.good + errors,
        errors,
        error_kinds: kinds,
        retries: Some(results.retries),
        unsent: 0,
        asked_rps,
        jain_in_flight: jain(&loads),
        chi_square_p: None,
        backends: results.backends.iter().map(backend).collect(),
    }
}

/// The names of live runs, where they have one.
fn error_kinds(endings: &Endings) -> BTreeMap<String, u64> {
    let Endings { good: _, errors, timed_out, refused, reset, no_backend, busy, unfinished } = *endings;
    let named = [
        ("error status", errors),
        ("timeout", timed_out),
        ("connect", refused),
        ("reset", reset),
        ("no backend", no_backend),
        ("busy", busy),
        ("unfinished", unfinished),
    ];
    named.into_iter().filter(|(_, count)| *count > 0).map(|(name, count)| (name.to_owned(), count)).collect()
}

fn backend(results: &BackendResults) -> BackendCount {
    // the simulator's `b3` is the `Server 3` of a live run
    let id = results.name.strip_prefix('b').map_or_else(|| results.name.clone(), |number| format!("Server {number}"));
    BackendCount { id, requests: results.responses, errors: results.error_responses, expected: None }
}
