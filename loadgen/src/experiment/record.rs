//! From the counts of the load engine to the stored cells, latencies and time series.

#![deny(unused_must_use, clippy::let_underscore_must_use)]

use crate::load::{LEAD_NS, Outcome, Segment};
use crate::model::{BackendCount, Cell, CellKey, Ended, Latencies, Ring, Series, Window};
use crate::statistics::{Law, jain};

use super::conductor::Watch;
use super::stage::Stage;

/// The measurements, in their order.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) cells: Vec<Cell>,
    pub(super) rings: Vec<Ring>,
    pub(super) series: Vec<Series>,
    pub(super) latencies: std::collections::BTreeMap<CellKey, Latencies>,
}

/// The data of a cell beyond its counts.
pub(super) struct About<'a> {
    pub(super) key: CellKey,
    /// The pool, in its order.
    pub(super) pool: &'a [String],
    /// The law of its counts, if there is one.
    pub(super) law: Option<&'a Law>,
    pub(super) asked_rps: Option<f64>,
    pub(super) retries: Option<u64>,
    /// The load's start on the run's clock.
    pub(super) began_ms: u64,
}

const WINDOW_MS: u64 = 100;

/// A load on any server, as a cell. Its pool is unknown, so N is the number of backends that responded, at least one.
pub(crate) fn single(arm: &str, asked_rps: Option<f64>, outcome: &Outcome) -> (Cell, Series, Latencies) {
    let segment = outcome.total();
    let n = u32::try_from(segment.backends.len()).unwrap_or(u32::MAX).max(1);
    let key = CellKey { arm: arm.to_owned(), n, block: 1 };
    let about = About { key, pool: &[], law: None, asked_rps, retries: None, began_ms: 0 };
    let ids = ids(about.pool, &segment);
    let cell = cell(&about, &segment, &ids, &Watch::default());
    (cell, series(&about, &segment, outcome, ids), latencies(&segment))
}

// === impl Record ===

impl Record {
    /// Stores a segment of a load as a cell.
    pub(super) fn keep(&mut self, about: About<'_>, segment: &Segment, outcome: &Outcome, watch: &Watch) {
        let ids = ids(about.pool, segment);
        self.cells.push(cell(&about, segment, &ids, watch));
        self.series.push(series(&about, segment, outcome, ids));
        self.latencies.insert(about.key, latencies(segment));
    }

    /// The ring of this arm over this pool, while the arm is in charge. It is read once and kept.
    pub(super) fn ring(&mut self, stage: &Stage, arm: &str, pool: &[String]) -> Option<&Ring> {
        let is_wanted = |ring: &Ring| ring.arm == arm && ring.backends == pool;
        if !self.rings.iter().any(is_wanted) {
            match stage.balancer.admin.ring(arm, pool) {
                Ok(ring) => self.rings.extend(ring),
                Err(error) => stage.progress.say(&format!("the ring of {arm} cannot be read: {error}")),
            }
        }
        self.rings.iter().find(|ring| is_wanted(ring))
    }

    /// Removes the blocks after this one, which are not complete.
    pub(super) fn drop_blocks_after(&mut self, block: u32) {
        self.cells.retain(|cell| cell.block <= block);
        self.series.retain(|series| series.block <= block);
        self.latencies.retain(|key, _| key.block <= block);
    }
}

fn cell(about: &About<'_>, segment: &Segment, ids: &[String], watch: &Watch) -> Cell {
    let counts: Vec<u64> = ids.iter().map(|id| segment.backends.get(id).map_or(0, |tally| tally.answered)).collect();
    let law = about.law.filter(|_| ids.len() == about.pool.len() && !watch.is_disturbed());
    let bands = law.map(|law| law.bands(counts.iter().sum()));
    let backends = ids.iter().zip(&counts).enumerate().map(|(at, (id, &requests))| BackendCount {
        id: id.clone(),
        requests,
        errors: segment.backends.get(id).map_or(0, |tally| tally.failed),
        expected: bands.as_ref().and_then(|bands| bands.get(at).copied()),
    });
    let backends: Vec<BackendCount> = backends.collect();
    let (from_ms, to_ms) = (about.began_ms + segment.from_ns / 1_000_000, about.began_ms + segment.to_ns / 1_000_000);
    let in_flight = watch.mean_in_flight(from_ms, to_ms, ids);
    Cell {
        arm: about.key.arm.clone(),
        n: about.key.n,
        block: about.key.block,
        at_ms: from_ms,
        duration_ns: segment.to_ns - segment.from_ns,
        requests: segment.answered + segment.errors.total(),
        errors: segment.failed_answers() + segment.errors.total(),
        error_kinds: error_kinds(segment),
        retries: about.retries,
        unsent: segment.unsent,
        asked_rps: about.asked_rps,
        jain_in_flight: in_flight.and_then(|means| jain(&means)),
        chi_square_p: law.and_then(|law| law.p(&counts)),
        backends,
    }
}

/// The ids of the pool, then those of other backends that responded and have left the pool.
fn ids(pool: &[String], segment: &Segment) -> Vec<String> {
    let others = segment.backends.keys().filter(|id| !pool.contains(id));
    pool.iter().chain(others).cloned().collect()
}

fn error_kinds(segment: &Segment) -> std::collections::BTreeMap<String, u64> {
    let statuses = segment.statuses.range(400..).map(|(status, count)| (format!("status {status}"), *count));
    let errors = segment.errors.iter().map(|(kind, count)| (kind.name().to_owned(), count));
    statuses.chain(errors).collect()
}

fn latencies(segment: &Segment) -> Latencies {
    let mut all = Latencies::new();
    all.latency.add(&segment.latency);
    all.service.add(&segment.service);
    all
}

fn series(about: &About<'_>, segment: &Segment, outcome: &Outcome, ids: Vec<String>) -> Series {
    let (from_ms, to_ms) = (segment.from_ns / 1_000_000, segment.to_ns.div_ceil(1_000_000));
    // a schedule begins slightly after the start of its first window
    let lead_ms = LEAD_NS / 1_000_000;
    let is_within = |window: &&crate::load::Window| (from_ms..to_ms).contains(&(window.start_ms + lead_ms));
    let within = outcome.windows.iter().filter(is_within);
    let window = |window: &crate::load::Window| {
        let counts = |counts: &[u32]| {
            let of = |id: &String| {
                let at = outcome.backends.iter().position(|name| name == id);
                at.and_then(|at| counts.get(at)).map_or(0, |count| u64::from(*count))
            };
            ids.iter().map(of).collect()
        };
        let ended = &window.ended;
        Window {
            at_ms: about.began_ms + window.start_ms,
            asked: about.asked_rps.map(|_| window.due),
            answered: window.ok + window.failed + window.errors,
            errors: window.failed + window.errors,
            p50_ns: window.p50_ns,
            p99_ns: window.p99_ns,
            backends: counts(&window.backends),
            ended: Some(Ended {
                answered: ended.ok + ended.errors,
                errors: ended.errors,
                p50_ns: ended.p50_ns,
                p99_ns: ended.p99_ns,
                backends: counts(&ended.backends),
            }),
        }
    };
    let windows = within.map(window).collect();
    let CellKey { arm, n, block } = about.key.clone();
    Series { arm, n, block, window_ms: WINDOW_MS, backends: ids, windows }
}
