//! The effect of a fault: the time until lb detected it, the time until recovery, and the failed and slow requests in
//! between.

use crate::model::{Conclusion, Event, EventKind, Run, Scenario, Series, Window};
use crate::report::clock;
use crate::report::document::{Block, Entry, Table};
use crate::report::format;

/// The time from a kill until all backends respond again.
struct Outage<'a> {
    kill: &'a Event,
    detected: Option<&'a Event>,
    recovered: Option<&'a Event>,
}

/// The latencies of this time before and after a kill are compared.
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
    let series = by_end(run);
    for outage in outages(run) {
        let id = outage.kill.backend.as_deref().unwrap_or("a backend");
        let from = outage.kill.at_ms;
        let after = |event: Option<&Event>| event.map(|event| format::milliseconds((event.at_ms - from) as f64));
        let windows = windows(&series, from, outage.recovered.map(|event| event.at_ms));
        let errors: u64 = windows.iter().map(|window| window.errors).sum();
        let sent: u64 = windows.iter().map(|window| window.answered).sum();
        let notice = match errors {
            0 => "no request failed".to_owned(),
            _ => format!("{} of the {} requests until then failed", format::count(errors), format::count(sent)),
        };
        let at = moment(run, from);
        sentences.push(match after(outage.recovered) {
            Some(recovered) => {
                format!("{id} was killed at {at}, and {recovered} later it was back and got requests again; {notice}.")
            }
            None => format!("{id} was killed at {at}, and did not come back before the run ended; {notice}."),
        });
        if let Some(detected) = after(outage.detected) {
            sentences.push(format!("The balancer took it out of rotation {detected} after the kill."));
        }
        // equal numbers of windows on both sides, because the maximum of more windows is higher
        let before = self::windows(&series, from.saturating_sub(COMPARED_MS), Some(from.saturating_sub(1)));
        let after = self::windows(&series, from, Some(from + COMPARED_MS));
        if !run.manifest.supports(Conclusion::Latency) {
            continue;
        }
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
            "{} were retried on another backend. Their clients waited for both attempts and got a good response.",
            format::plural(retries, "request")
        ));
    }
    sentences
}

/// The median of the windows' p99, in milliseconds.
fn typical_p99(windows: &[&Window]) -> Option<f64> {
    let mut all: Vec<u64> = windows.iter().filter_map(|window| window.p99_ns).collect();
    all.sort_unstable();
    all.get(all.len() / 2).map(|ns| *ns as f64 / 1e6)
}

/// The windows by the end times of requests, so that failures come after the kill. Older runs have windows by send time
/// only.
fn by_end(run: &Run) -> Vec<Series> {
    run.series.iter().map(|series| series.by_end().unwrap_or_else(|| series.clone())).collect()
}

/// A time on the clock of the plan.
fn moment(run: &Run, at_ms: u64) -> String {
    let zero_ms = clock::cell_at(run, at_ms).map_or(0, |cell| cell.at_ms);
    format!("{}\u{a0}s", format::decimals(clock::seconds(zero_ms, at_ms), 3))
}

/// Windows that overlap the time from `from` to `to`.
fn windows(series: &[Series], from: u64, to: Option<u64>) -> Vec<&Window> {
    let of = |series: &Series| series.window_ms;
    series
        .iter()
        .flat_map(|series| series.windows.iter().map(move |window| (window, of(series))))
        .filter(|(window, width)| window.at_ms + width > from && to.is_none_or(|to| window.at_ms <= to))
        .map(|(window, _)| window)
        .collect()
}

/// Whether each segment of a comparison has the same faults.
pub(crate) fn has_faults_in_blocks(run: &Run) -> bool {
    let is_fault = |event: &Event| {
        matches!(event.kind, EventKind::Slow | EventKind::Stall | EventKind::Errors | EventKind::HotKey)
    };
    run.results.comparison.is_some() && run.results.events.iter().any(is_fault)
}

/// The events of the run in order; empty if the only events are the swaps of a comparison.
pub(super) fn story(run: &Run) -> Vec<Block> {
    let is_plan = |event: &Event| match event.kind {
        EventKind::Swap => true,
        // in A2, N grows by the plan
        EventKind::Add | EventKind::Remove => run.manifest.scenario == Scenario::A2,
        _ => false,
    };
    let in_blocks = has_faults_in_blocks(run);
    let is_repeated = |event: &Event| {
        let is_of_all = matches!(event.kind, EventKind::Operator | EventKind::Interrupted | EventKind::Kill);
        in_blocks && !is_of_all && clock::cell_at(run, event.at_ms).is_some_and(|cell| cell.block > 1)
    };
    let is_told = |event: &&Event| !is_plan(event) && !is_repeated(event);
    let told: Vec<&Event> = run.results.events.iter().filter(is_told).collect();
    if told.is_empty() {
        return Vec::new();
    }
    let has_arms = run.manifest.arms.len() > 1;
    let caption = "The events of the run. Times count from the first measured request, as in a plan; negative times are in the warm-up.";
    let caption = match in_blocks {
        true => format!("{caption} Each segment has the same faults; the table has those of the first block."),
        false => caption.to_owned(),
    };
    let mut table = Table::new(caption, &["#time", "event", "backend", "arm"]);
    for event in told {
        let arm = clock::cell_at(run, event.at_ms).filter(|_| has_arms).map_or("–", |cell| cell.arm.as_str());
        table.row(vec![
            Entry::new(moment(run, event.at_ms)),
            Entry::new(&event.text),
            Entry::new(event.backend.as_deref().unwrap_or("–")),
            Entry::new(arm),
        ]);
    }
    vec![Block::Table(table.without_empty_columns())]
}
