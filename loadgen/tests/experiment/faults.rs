//! Faults that are carried out on real processes, and told with their times.

use loadgen::model::{EventKind, Run};

use crate::support::Lab;

fn at(run: &Run, kind: EventKind) -> u64 {
    let event = run.results.events.iter().find(|event| event.kind == kind);
    event.unwrap_or_else(|| panic!("no {kind:?} among {:?}", run.results.events)).at_ms
}

#[test]
fn a_killed_server_is_missed_replaced_and_accounted_for_as_a_lower_bound() {
    let lab = Lab::new();
    let ended = lab.run(
        "scenario = \"A3\"\n[load]\nloop = \"open\"\narrivals = \"constant\"\nrate_rps = 200\nwarm_up = \"200ms\"\n\
         duration = \"4s\"\n[[faults]]\nat = \"1s\"\nkind = \"kill\"\nbackend = 2",
    );
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
    let run = lab.stored();
    let cell = &run.results.cells[0];
    let start = cell.at_ms;
    let kill = at(&run, EventKind::Kill);
    assert!(kill >= start + 1_000, "killed at {kill} ms, the load began at {start} ms");
    assert!(at(&run, EventKind::Recovered) >= kill);
    let account = &run.results.accounting[0];
    assert_eq!(account.mismatch, None);
    let bounds: Vec<bool> = account.backends.iter().map(|backend| backend.is_lower_bound).collect();
    assert_eq!(bounds, [false, true, false]);
    assert_eq!(cell.backends.len(), 3);
    assert!(cell.backends[1].requests > 0 && cell.backends[0].expected.is_none(), "a pool with a fault has no band");
    lab.nothing_is_left_running();
}

#[test]
fn slow_failing_and_leaving_servers_are_as_the_file_says() {
    let lab = Lab::new();
    let ended = lab.run(
        "[load]\nloop = \"open\"\narrivals = \"constant\"\nrate_rps = 100\nwarm_up = \"100ms\"\nduration = \"3s\"\n\
         [[faults]]\nat = \"200ms\"\nfor = \"1s\"\nkind = \"errors\"\nrate = 1.0\nbackend = 1\n\
         [[faults]]\nat = \"400ms\"\nfor = \"1s\"\nkind = \"delay\"\nextra = \"20ms\"\nbackend = 2\n\
         [[faults]]\nat = \"1500ms\"\nkind = \"add\"\nn = 1\n\
         [[faults]]\nat = \"2s\"\nkind = \"remove\"\nbackend = 3",
    );
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
    let run = lab.stored();
    let cell = &run.results.cells[0];
    assert!(cell.errors > 0 && cell.error_kinds.keys().all(|kind| kind == "status 500"), "{:?}", cell.error_kinds);
    assert_eq!(cell.backends[0].errors, cell.errors, "only the first one failed");
    assert!(
        cell.backends.iter().any(|backend| backend.id == "Server 4" && backend.requests > 0),
        "{:?}",
        cell.backends
    );
    for kind in [EventKind::Errors, EventKind::Slow, EventKind::Add, EventKind::Remove] {
        at(&run, kind);
    }
    assert_eq!(run.results.events.iter().filter(|event| event.text.ends_with("is normal again")).count(), 2);
    assert_eq!(run.results.accounting[0].mismatch, None);
}
