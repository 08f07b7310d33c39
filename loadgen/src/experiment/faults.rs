//! Faults at their times: a plan's faults as a list of things to do, and doing them to real processes.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::plan::{Fault, FaultKind};
use super::run::ExperimentError;
use super::stage::Stage;
use crate::lab::{BackendState, Ledger, Mock};
use crate::model::EventKind;

/// One thing to do: a fault, or the end of one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Step {
    /// From the start of the measured load.
    pub(super) at: Duration,
    /// Place in the plan's list.
    fault: usize,
    is_end: bool,
}

/// Beginnings and ends, in order of time.
pub(super) fn script(faults: &[Fault]) -> Vec<Step> {
    let begin = |(fault, it): (usize, &Fault)| Step { at: it.at, fault, is_end: false };
    let end = |(fault, it): (usize, &Fault)| Some(Step { at: it.until?, fault, is_end: true });
    let mut steps: Vec<Step> = faults.iter().enumerate().map(begin).collect();
    steps.extend(faults.iter().enumerate().filter_map(end));
    steps.sort_by_key(|step| step.at);
    steps
}

/// What a step is, for a person.
pub(super) fn in_words(faults: &[Fault], step: Step, pool: &[String]) -> String {
    let fault = &faults[step.fault];
    let end = if step.is_end { "end of: " } else { "" };
    format!("{end}{}", fault.in_words(name(pool, fault)))
}

/// Does one step now. `pool` are the ids as they were at the start.
pub(super) fn carry_out(
    stage: &mut Stage,
    ledger: &mut Ledger,
    faults: &[Fault],
    step: Step,
    pool: &[String],
) -> Result<(), ExperimentError> {
    let fault = &faults[step.fault];
    let id = name(pool, fault).to_owned();
    let kind = event_kind(fault.kind);
    if step.is_end {
        undo(&mock(stage, &id)?, fault.kind)?;
        stage.event(kind, Some(id.clone()), format!("{id} is normal again"));
        return Ok(());
    }
    let began = Instant::now();
    let (whom, text) = match fault.kind {
        FaultKind::Slow { factor } => (Some(id.clone()), mock(stage, &id)?.slow(factor).map(|()| fault.in_words(&id))?),
        FaultKind::Delay { extra } => (Some(id.clone()), mock(stage, &id)?.extra(extra).map(|()| fault.in_words(&id))?),
        FaultKind::Stall => (Some(id.clone()), mock(stage, &id)?.stall(true).map(|()| fault.in_words(&id))?),
        FaultKind::Errors { rate } => (Some(id.clone()), mock(stage, &id)?.fail(rate).map(|()| fault.in_words(&id))?),
        FaultKind::Kill => {
            let pid = state(stage, &id)?.pid.ok_or_else(|| ExperimentError::NoProcess(id.clone()))?;
            // its last words: whatever it counts after this is lost with it
            ledger.look(&stage.balancer.admin)?;
            kill(pid)?;
            (Some(id.clone()), fault.in_words(&id))
        }
        FaultKind::Remove => {
            ledger.look(&stage.balancer.admin)?;
            stage.balancer.admin.remove(std::slice::from_ref(&id))?;
            (Some(id.clone()), fault.in_words(&id))
        }
        FaultKind::Add { n } => {
            stage.balancer.admin.add(n)?;
            (None, fault.in_words(""))
        }
    };
    let took = began.elapsed().as_millis();
    let text = if took > 100 { format!("{text} (done within {took} ms)") } else { text };
    stage.event(kind, whom, text);
    Ok(())
}

/// Puts everything right that is not yet, so that the next arm begins as this one did.
pub(super) fn put_right(
    stage: &Stage,
    faults: &[Fault],
    left: &[Step],
    pool: &[String],
) -> Result<(), ExperimentError> {
    for step in left.iter().filter(|step| step.is_end) {
        let fault = &faults[step.fault];
        undo(&mock(stage, name(pool, fault))?, fault.kind)?;
    }
    // those without an end in the plan
    for fault in faults.iter().filter(|fault| fault.until.is_none()) {
        if let (
            FaultKind::Slow { .. } | FaultKind::Delay { .. } | FaultKind::Stall | FaultKind::Errors { .. },
            Ok(mock),
        ) = (fault.kind, mock(stage, name(pool, fault)))
        {
            undo(&mock, fault.kind)?;
        }
    }
    Ok(())
}

fn undo(mock: &Mock, kind: FaultKind) -> Result<(), ExperimentError> {
    match kind {
        FaultKind::Slow { .. } => mock.slow(1.0)?,
        FaultKind::Delay { .. } => mock.extra(Duration::ZERO)?,
        FaultKind::Stall => mock.stall(false)?,
        FaultKind::Errors { .. } => mock.fail(0.0)?,
        FaultKind::Kill | FaultKind::Add { .. } | FaultKind::Remove => {}
    }
    Ok(())
}

fn kill(pid: u32) -> Result<(), ExperimentError> {
    let process =
        Pid::from_raw(pid.cast_signed()).ok_or(ExperimentError::Kill { pid, reason: "no such process".into() })?;
    kill_process(process, Signal::KILL).map_err(|error| ExperimentError::Kill { pid, reason: error.to_string() })
}

fn name<'a>(pool: &'a [String], fault: &Fault) -> &'a str {
    pool.get(fault.backend as usize - 1).map_or("", String::as_str)
}

fn state(stage: &Stage, id: &str) -> Result<BackendState, ExperimentError> {
    let states = stage.balancer.admin.backends()?;
    states.into_iter().find(|state| state.id == id).ok_or_else(|| ExperimentError::NoBackend(id.to_owned()))
}

fn mock(stage: &Stage, id: &str) -> Result<Mock, ExperimentError> {
    Ok(Mock::at(&state(stage, id)?.address, stage.balancer.admin.web()))
}

fn event_kind(kind: FaultKind) -> EventKind {
    match kind {
        FaultKind::Slow { .. } | FaultKind::Delay { .. } => EventKind::Slow,
        FaultKind::Stall => EventKind::Stall,
        FaultKind::Kill => EventKind::Kill,
        FaultKind::Errors { .. } => EventKind::Errors,
        FaultKind::Add { .. } => EventKind::Add,
        FaultKind::Remove => EventKind::Remove,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_come_between_beginnings_by_their_time() {
        let fault = |at: u64, until: Option<u64>, kind| Fault {
            at: Duration::from_secs(at),
            until: until.map(Duration::from_secs),
            kind,
            backend: 2,
        };
        let faults = [fault(1, Some(9), FaultKind::Stall), fault(5, None, FaultKind::Kill)];
        let steps: Vec<_> = script(&faults).iter().map(|step| (step.at.as_secs(), step.fault, step.is_end)).collect();
        assert_eq!(steps, [(1, 0, false), (5, 1, false), (9, 0, true)]);
        let pool = ["S1".to_owned(), "S2".to_owned()];
        let words: Vec<_> = script(&faults).iter().map(|step| in_words(&faults, *step, &pool)).collect();
        assert_eq!(words, ["S2 stalled", "S2 killed (SIGKILL)", "end of: S2 stalled"]);
    }
}
