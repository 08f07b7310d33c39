//! Why counts were not compared with the strategy's declaration, although it has one.

use crate::model::EventKind::{Detected, Errors, HotKey, Kill, Operator, Slow, Stall};
use crate::model::{Cell, Event, Run};
use crate::report::format;
use crate::statistics::Law;

/// An event at the end of a load is recorded at most this much later.
const LOOK_MS: u64 = 1_000;

/// A sentence if the pool changed in one of these cells of an arm, neither by the plan nor by loadgen.
pub(super) fn sentence(run: &Run, cells: &[&Cell]) -> Option<String> {
    let arm = run.manifest.arm(&cells.first()?.arm)?;
    let events = || run.results.events.iter();
    // with faults in the plan there are no expected counts
    let is_planned = events().any(|event| matches!(event.kind, Kill | Slow | Stall | Errors | HotKey));
    let is_judged = |cell: &&Cell| cell.backends.iter().any(|backend| backend.expected.is_some());
    let last = cells.iter().filter(|cell| !is_judged(cell)).max_by_key(|cell| cell.at_ms)?;
    let even = vec![1.0; last.n as usize];
    let law = Law::of(&arm.expectation, &arm.options, &vec![1; last.n as usize], Some(&even)).ok().flatten();
    if is_planned || law.is_none() {
        return None;
    }
    let end_ms = last.at_ms + last.duration_ns / 1_000_000;
    let until_then = || events().filter(|event| event.at_ms <= end_ms + LOOK_MS);
    // a change by an operator holds from then on; a failed backend only for some time
    let cause = until_then().find(|event| event.kind == Operator);
    let cause = cause.or_else(|| until_then().rfind(|event| event.kind == Detected))?;
    Some(format!("Not all counts were compared with the strategy's declaration: {}.", words(cause)))
}

fn words(cause: &Event) -> String {
    let at = format::decimals(cause.at_ms as f64 / 1e3, 1);
    match (cause.kind, &cause.backend) {
        (Detected, Some(backend)) => format!("{backend} was out of rotation from {at} s of the run on"),
        _ => format!("{} at {at} s of the run", cause.text),
    }
}
