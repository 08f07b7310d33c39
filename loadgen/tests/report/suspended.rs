//! If an operator or a failed server changed the pool, the report says why counts are not compared with a declaration.

use loadgen::model::{Event, EventKind, Run};
use loadgen::report::text;

use crate::synthetic::{a1_round_robin, a3};

const NOT_HELD: &str = "Not all counts were compared with the strategy's declaration: ";

/// A1 with counts that were not judged, and these events.
fn unjudged(events: &[(u64, EventKind, &str)]) -> Run {
    let mut run = a1_round_robin();
    for backend in &mut run.results.cells[0].backends {
        backend.expected = None;
    }
    let event = |&(at_ms, kind, text): &(u64, EventKind, &str)| {
        let backend = Some("Server 2".to_owned());
        Event { at_ms, until_ms: None, kind, backend, text: text.to_owned() }
    };
    run.results.events = events.iter().map(event).collect();
    run
}

fn told(run: &Run) -> String {
    text(run).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_change_by_an_operator_is_named_with_its_time() {
    let drained = (1_300, EventKind::Operator, "an operator drained Server 2");
    let words = format!("{NOT_HELD}an operator drained Server 2 at 1.3 s of the run.");
    assert!(told(&unjudged(&[drained])).contains(&words), "{}", text(&unjudged(&[drained])));
    let failed = (900, EventKind::Detected, "Server 2 gets no more requests");
    assert!(
        told(&unjudged(&[failed, drained])).contains(&words),
        "the operator's change is the reason, not the failure before it"
    );
}

#[test]
fn a_failed_server_is_named_as_the_reason() {
    let run = unjudged(&[(900, EventKind::Detected, "Server 2 gets no more requests")]);
    assert!(told(&run).contains(&format!("{NOT_HELD}Server 2 was out of rotation from 0.9 s of the run on.")));
}

#[test]
fn no_reason_is_given_if_counts_were_judged_or_the_plan_has_faults() {
    assert!(!told(&a1_round_robin()).contains(NOT_HELD));
    assert!(!told(&unjudged(&[])).contains(NOT_HELD));
    let late = (3_600_000, EventKind::Operator, "an operator drained Server 2");
    assert!(!told(&unjudged(&[late])).contains(NOT_HELD), "the change came after the measurement");
    assert!(!told(&a3()).contains(NOT_HELD));
}
