//! The cells of a condition: all cells of an arm at one size.
//!
//! Invariant: blocks in which the generator was late count, except for their times.

use std::collections::BTreeMap;

use crate::model::{Cell, Latencies, Run, Times, samples_needed};

pub(super) struct Group<'a> {
    pub(super) arm: &'a str,
    pub(super) n: u32,
    pub(super) cells: Vec<&'a Cell>,
    /// The cells whose latencies count.
    pub(super) in_time: Vec<&'a Cell>,
    /// The latencies of the cells in time.
    pub(super) latencies: Latencies,
}

/// The groups in the order of their first measurement.
pub(super) fn groups(run: &Run) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    let is_late = |cell: &Cell| run.results.comparison.as_ref().is_some_and(|all| all.is_dropped(cell.block));
    for cell in &run.results.cells {
        let at = groups.iter().position(|group| group.arm == cell.arm && group.n == cell.n).unwrap_or_else(|| {
            let latencies = Latencies::new();
            groups.push(Group { arm: &cell.arm, n: cell.n, cells: Vec::new(), in_time: Vec::new(), latencies });
            groups.len() - 1
        });
        let group = &mut groups[at];
        group.cells.push(cell);
        if is_late(cell) {
            continue;
        }
        group.in_time.push(cell);
        if let Some(latencies) = run.latencies.get(&cell.key()) {
            group.latencies.add(latencies);
        }
    }
    groups
}

/// The shortest recorded time that at least `rank` of the times do not exceed.
fn at_rank(times: &Times, rank: u64) -> u64 {
    let mut up_to = 0;
    let mut steps = times.iter_recorded().skip_while(|step| {
        up_to += step.count_at_value();
        up_to < rank
    });
    steps.next().map_or(times.max(), |step| step.value_iterated_to())
}

fn due(cells: &[&Cell]) -> u64 {
    cells.iter().map(|cell| cell.requests + cell.unsent).sum()
}

// === impl Group ===

impl Group<'_> {
    /// Scheduled requests, sent or not.
    pub(super) fn due(&self) -> u64 {
        due(&self.cells)
    }

    /// Scheduled requests of the cells whose latencies count.
    pub(super) fn due_in_time(&self) -> u64 {
        due(&self.in_time)
    }

    pub(super) fn errors(&self) -> u64 {
        self.cells.iter().map(|cell| cell.errors).sum()
    }

    /// The share of a count in all scheduled requests.
    pub(super) fn share(&self, of: fn(&Cell) -> u64) -> Result<f64, String> {
        match self.due() {
            // without requests there is no share of failures
            0 => Err("no request".to_owned()),
            due => Ok(self.cells.iter().map(|cell| of(cell)).sum::<u64>() as f64 / due as f64),
        }
    }

    pub(super) fn rps(&self) -> Result<f64, String> {
        let seconds = self.cells.iter().map(|cell| cell.duration_ns).sum::<u64>() as f64 / 1e9;
        if seconds == 0.0 {
            return Err("it took no time".to_owned());
        }
        Ok(self.cells.iter().map(|cell| cell.good()).sum::<u64>() as f64 / seconds)
    }

    pub(super) fn counts(&self) -> Vec<f64> {
        let mut counts = BTreeMap::new();
        for backend in self.cells.iter().flat_map(|cell| &cell.backends) {
            *counts.entry(&backend.id).or_insert(0.0) += backend.requests as f64;
        }
        counts.into_values().collect()
    }

    pub(super) fn percentile_ms(&self, quantile: f64, of_service: bool) -> Result<f64, String> {
        let (due, needed) = (self.due_in_time(), samples_needed(quantile));
        if due < needed {
            return Err(format!("{due} requests{}, and the metric needs {needed}", self.left_out()));
        }
        let good = if of_service { &self.latencies.service } else { &self.latencies.latency };
        let rank = (quantile * due as f64).ceil() as u64;
        Ok(if rank > good.len() { f64::INFINITY } else { at_rank(good, rank) as f64 / 1e6 })
    }

    pub(super) fn answered_within(&self, ms: f64) -> Result<f64, String> {
        let latency = &self.latencies.latency;
        let within = if latency.is_empty() { 0 } else { latency.count_between(0, (ms * 1e6) as u64) };
        match self.due_in_time() {
            0 => Err(format!("no request{}", self.left_out())),
            due => Ok(within as f64 / due as f64),
        }
    }

    fn left_out(&self) -> String {
        match self.cells.len() - self.in_time.len() {
            0 => String::new(),
            late => format!(" without the {late} blocks in which the generator was late"),
        }
    }
}
