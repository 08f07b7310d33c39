//! The answer of a single load, as `loadgen run --out` stores it: good responses per second, latency and failures.

use crate::model::Run;
use crate::report::format;
use crate::report::rows::{Kind, Row};

pub(super) fn sentences(run: &Run, rows: &[Row]) -> Vec<String> {
    let mut sentences = Vec::new();
    for row in rows.iter().filter(|row| row.kind == Kind::Summary) {
        let target = &run.manifest.backends.target;
        let good = format::count(row.requests.saturating_sub(row.errors));
        sentences.push(format!("{target} gave {good} good responses, {} per second.", format::significant(row.rps)));
        let percentiles = [("p50", row.latency_p50_ms), ("p90", row.latency_p90_ms), ("p99", row.latency_p99_ms)];
        let known =
            percentiles.iter().filter_map(|(name, ms)| Some(format!("{name} {}", format::milliseconds((*ms)?))));
        let known: Vec<String> = known.collect();
        if !known.is_empty() {
            sentences.push(format!("Latency: {}.", format::list(&known)));
        }
    }
    sentences
}
