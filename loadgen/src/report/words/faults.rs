//! What a fault did: when it was noticed, when all was well again, and what users had of it meanwhile.

use crate::model::{Event, EventKind, Run, Scenario, Window};
use crate::report::document::{Block, Entry, Table};
use crate::report::format;

/// What happened from a kill until all backends answered again.
struct Outage<'a> {
    kill: &'a Event,
    detected: Option<&'a Event>,
    recovered: Option<&'a Event>,
}

/// Latencies of this time before and after a kill are held against each other.
const COMPARED_MS: u64 = 2_000;

fn outages(run: &Run) -> Vec<Outage<'_>> {
    let events = &run.results.events;
    let of = |kill: &'_ Event, kind| {
        let same = move |event: &&Event| event.backend.is_none() || event.backend == kill.backend;
        events.iter().filter(|event| event.at_ms >= kill.at_ms && event.kind == kind).find(same)
    };
    events
        .iter()
        .filter(|event| event.kind == EventKind::Kill)
        .map(|kill| Outage { kill, detected: of(kill, EventKind::Detected), recovered: of(kill, EventKind::Recovered) })
        .collect()
}

pub(super) fn sentences(run: &Run) -> Vec<String> {
    let mut sentences = Vec::new();
    for outage in outages(run) {
        let who = outage.kill.backend.as_deref().unwrap_or("a backend");
        let from = outage.kill.at_ms;
        let after = |event: Option<&Event>| event.map(|event| format::milliseconds((event.at_ms - from) as f64));
        let windows = windows(run, from, outage.recovered.map(|event| event.at_ms));
        let errors: u64 = windows.iter().map(|window| window.errors).sum();
        let sent: u64 = windows.iter().map(|window| window.answered).sum();
        let notice = match errors {
            0 => "no request failed".to_owned(),
            _ => format!("{} of the {} requests until then failed", format::count(errors), format::count(sent)),
        };
        sentences.push(match after(outage.recovered) {
            Some(recovered) => {
                format!("{who} was killed, and {recovered} later it was back and got requests again; {notice}.")
            }
            None => format!("{who} was killed, and did not come back before the run ended; {notice}."),
        });
        if let Some(detected) = after(outage.detected) {
            sentences.push(format!("The balancer took it out of rotation {detected} after the kill."));
        }
        // as many windows on both sides: the worst of many is worse than the worst of few
        let before = self::windows(run, from.saturating_sub(COMPARED_MS), Some(from.saturating_sub(1)));
        let after = self::windows(run, from, Some(from + COMPARED_MS));
        if let (Some(before), Some(after)) = (typical_p99(&before), typical_p99(&after)) {
            sentences.push(format!(
                "Latency: in the {} s before the kill, the slowest requests of a window took {}; in the {0} s after it, {} (medians over \
                 windows).",
                COMPARED_MS / 1000,
                format::milliseconds(before),
                format::milliseconds(after)
            ));
        }
    }
    if sentences.is_empty() {
        sentences.push("No backend was killed in the part that was measured.".into());
    }
    let retries: Option<u64> = run.results.cells.iter().map(|cell| cell.retries).sum();
    if let Some(retries) = retries.filter(|&retries| retries > 0) {
        sentences.push(format!(
            "{} had to be tried on a second backend: their users waited for both tries, and got a good answer.",
            format::plural(retries, "request")
        ));
    }
    sentences
}

/// The median over windows of their p99, in milliseconds.
fn typical_p99(windows: &[&Window]) -> Option<f64> {
    let mut all: Vec<u64> = windows.iter().filter_map(|window| window.p99_ns).collect();
    all.sort_unstable();
    all.get(all.len() / 2).map(|ns| *ns as f64 / 1e6)
}

/// Windows that overlap the time from `from` to `to`.
fn windows(run: &Run, from: u64, to: Option<u64>) -> Vec<&Window> {
    let of = |series: &'_ crate::model::Series| series.window_ms;
    run.series
        .iter()
        .flat_map(|series| series.windows.iter().map(move |window| (window, of(series))))
        .filter(|(window, width)| window.at_ms + width > from && to.is_none_or(|to| window.at_ms <= to))
        .map(|(window, _)| window)
        .collect()
}

/// What was done to the run, in order; nothing where only strategies were swapped for a comparison.
pub(super) fn story(run: &Run) -> Vec<Block> {
    let is_plan = |event: &Event| match event.kind {
        EventKind::Swap => true,
        // that N grows is what A2 is
        EventKind::Add | EventKind::Remove => run.manifest.scenario == Scenario::A2,
        _ => false,
    };
    let told: Vec<&Event> = run.results.events.iter().filter(|event| !is_plan(event)).collect();
    if told.is_empty() {
        return Vec::new();
    }
    let mut table = Table::new("What happened when, from the start of the run.", &["#time", "event", "backend"]);
    for event in told {
        table.row(vec![
            Entry::new(format!("{} s", format::decimals(event.at_ms as f64 / 1e3, 3))),
            Entry::new(&event.text),
            Entry::new(event.backend.as_deref().unwrap_or("–")),
        ]);
    }
    vec![Block::Table(table.without_empty_columns())]
}
