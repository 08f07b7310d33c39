//! The faults of a plan: a list of steps by time, and their execution on real processes.
//!
//! A fault of a backend is executed here at its time. A hot key is part of the requests, so it is in the schedule of
//! the load ([`hot_keys`]). Here it is only recorded.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::conductor::{Conductor, Flow};
use super::plan::{Fault, FaultKind};
use super::run::ExperimentError;
use super::stage::Stage;
use crate::lab::{BackendStatus, Ledger, Mock, MockError};
use crate::load::HotKey;
use crate::model::{EventKind, Mark};

/// The beginnings and ends of one arm's faults in order of time, and the state of each fault.
pub(super) struct Script<'a> {
    faults: &'a [Fault],
    /// The ids of the backends at the start.
    pool: &'a [String],
    steps: Vec<Step>,
    done: usize,
    /// The longest time that a step came after its time.
    late: Duration,
    /// For each fault: its state while it is in effect and must be undone.
    going_on: Vec<Option<GoingOn>>,
}

/// A fault in effect.
struct GoingOn {
    /// The disturbed server with its address. It may leave the pool and still run. `None` if it was killed, because its
    /// successor is normal, and for a fault in the requests.
    server: Option<Server>,
    /// The number of its event; `None` before the event is recorded, and after its band has ended.
    event: Option<usize>,
}

struct Server {
    address: String,
    mock: Mock,
}

/// A step: the beginning or the end of a fault.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Step {
    /// Measured from the start of the measured load.
    at: Duration,
    /// The index in the plan's list.
    fault: usize,
    is_end: bool,
}

/// A step that takes longer is recorded with its duration.
const LONG: Duration = Duration::from_millis(100);

/// The faults that are part of the requests.
pub(super) fn hot_keys(faults: &[Fault]) -> Vec<HotKey> {
    let hot = |fault: &Fault| match fault.kind {
        FaultKind::HotKey { share } => {
            Some(HotKey { from: fault.at, until: fault.until.unwrap_or(Duration::MAX), share })
        }
        _ => None,
    };
    faults.iter().filter_map(hot).collect()
}

fn steps(faults: &[Fault]) -> Vec<Step> {
    let begin = |(fault, it): (usize, &Fault)| Step { at: it.at, fault, is_end: false };
    let end = |(fault, it): (usize, &Fault)| Some(Step { at: it.until?, fault, is_end: true });
    let mut steps: Vec<Step> = faults.iter().enumerate().map(begin).collect();
    steps.extend(faults.iter().enumerate().filter_map(end));
    // ends come before beginnings: a fault may begin when another one on the same server ends
    steps.sort_by_key(|step| (step.at, !step.is_end));
    steps
}

// === impl Script ===

impl<'a> Script<'a> {
    pub(super) fn new(faults: &'a [Fault], pool: &'a [String]) -> Self {
        let going_on = faults.iter().map(|_| None).collect();
        Self { faults, pool, steps: steps(faults), done: 0, late: Duration::ZERO, going_on }
    }

    /// The next step and its time, from the start of the measured load.
    pub(super) fn next(&self) -> Option<(Duration, String)> {
        let step = self.steps.get(self.done)?;
        let fault = &self.faults[step.fault];
        let end = if step.is_end { "end of: " } else { "" };
        Some((step.at, format!("{end}{}", fault.in_words(self.name(fault)))))
    }

    /// Executes the faults at their times, measured from `start`, until the load ends. `last`: the event after them.
    pub(super) fn play(
        &mut self,
        conductor: &mut Conductor<'_>,
        ledger: &mut Ledger,
        start: Instant,
        last: (Instant, &str),
    ) -> Result<Flow, ExperimentError> {
        while let Some((at, what)) = self.next() {
            conductor.comes(start + at, what);
            let flow = conductor.until(Some(start + at))?;
            if flow != Flow::Reached {
                return Ok(flow);
            }
            self.carry_out(conductor.stage, ledger)?;
            self.late = self.late.max(Instant::now().saturating_duration_since(start + at));
            conductor.look()?;
        }
        conductor.comes(last.0, last.1);
        conductor.until(None)
    }

    /// Executes the next step.
    pub(super) fn carry_out(&mut self, stage: &mut Stage, ledger: &mut Ledger) -> Result<(), ExperimentError> {
        let Some(&Step { fault: number, is_end, .. }) = self.steps.get(self.done) else { return Ok(()) };
        self.done += 1;
        if is_end {
            return self.end(stage, number);
        }
        let fault = &self.faults[number];
        let id = self.name(fault).to_owned();
        let began = Instant::now();
        if fault.kind.goes_on() {
            // recorded before the execution, so that a fault that fails half-way is undone too
            let server = if fault.kind.affects_one() { Some(server(stage, &id)?) } else { None };
            let begun = self.going_on[number].insert(GoingOn { server, event: None });
            if let Some(server) = &begun.server {
                disturb(&server.mock, fault.kind)?;
            }
        }
        match fault.kind {
            FaultKind::Kill => {
                let pid = state(stage, &id)?.pid.ok_or_else(|| ExperimentError::NoProcess(id.clone()))?;
                // the last scrape: later counts of this backend are lost
                ledger.look(&stage.balancer.admin)?;
                kill(pid)?;
                self.ends_with_server(stage, fault.backend, true);
            }
            FaultKind::Remove => {
                ledger.look(&stage.balancer.admin)?;
                stage.balancer.admin.remove(std::slice::from_ref(&id))?;
                self.ends_with_server(stage, fault.backend, false);
            }
            FaultKind::Add { n } => stage.balancer.admin.add(n)?,
            _ => {}
        }
        if matches!(fault.kind, FaultKind::Remove | FaultKind::Add { .. }) {
            stage.adopt()?;
        }
        let took = began.elapsed();
        let text = match took > LONG {
            true => format!("{} (done within {} ms)", fault.in_words(&id), took.as_millis()),
            false => fault.in_words(&id),
        };
        if let Some(begun) = &mut self.going_on[number] {
            begun.event = Some(stage.events.len());
        }
        stage.event(event_kind(fault.kind), fault.kind.affects_one().then_some(id), text);
        Ok(())
    }

    /// Undoes all faults in effect, so that the next arm starts with a normal pool. Errors are recorded, and the other
    /// faults are still undone. Returns the first error.
    pub(super) fn put_right(&mut self, stage: &mut Stage) -> Result<(), ExperimentError> {
        let mut first = Ok(());
        for (number, fault) in self.faults.iter().enumerate() {
            if let Err(error) = self.end(stage, number) {
                let what = fault.in_words(self.name(fault));
                stage.mark(Mark::warning("faults", format!("a fault could not be undone: {what} ({error})")));
                first = first.and(Err(error));
            }
        }
        first
    }

    /// The longest time that a step was late; `None` if a fault did not begin before the load ended.
    pub(super) fn late(&self) -> Option<Duration> {
        self.left().is_empty().then_some(self.late)
    }

    /// The faults that were not executed.
    pub(super) fn left(&self) -> Vec<String> {
        let left = self.steps[self.done..].iter().filter(|step| !step.is_end).map(|step| &self.faults[step.fault]);
        left.map(|fault| fault.in_words(self.name(fault))).collect()
    }

    /// Undoes a fault, if it is in effect.
    fn end(&mut self, stage: &mut Stage, number: usize) -> Result<(), ExperimentError> {
        let fault = &self.faults[number];
        let id = self.name(fault).to_owned();
        let Some(begun) = self.going_on[number].take() else { return Ok(()) };
        if let Some(Server { address, mock }) = &begun.server
            && let Err(error) = calm(mock, fault.kind)
            && !has_left(stage, &id, address)
        {
            return Err(error.into());
        }
        // without an event, its band has ended or it was not recorded
        let Some(event) = begun.event else { return Ok(()) };
        stage.events[event].until_ms = Some(stage.now_ms());
        let (whom, text) = match fault.kind {
            FaultKind::HotKey { .. } => (None, "keys are as before".to_owned()),
            _ => (Some(id.clone()), format!("{id} is normal again")),
        };
        stage.event(EventKind::Undone, whom, text);
        Ok(())
    }

    /// Ends the bands of the faults of a server that left the pool. A killed server has nothing to undo. A removed
    /// server may still have requests in flight, and keeps its fault until the end.
    fn ends_with_server(&mut self, stage: &mut Stage, backend: u32, is_killed: bool) {
        for (fault, begun) in self.faults.iter().zip(&mut self.going_on) {
            let Some(begun) = begun.as_mut().filter(|_| fault.kind.affects_one() && fault.backend == backend) else {
                continue;
            };
            if is_killed {
                begun.server = None;
            }
            if let Some(event) = begun.event.take() {
                stage.events[event].until_ms = Some(stage.now_ms());
            }
        }
    }

    fn name(&self, fault: &Fault) -> &str {
        self.pool.get(fault.backend as usize - 1).map_or("", String::as_str)
    }
}

fn kill(pid: u32) -> Result<(), ExperimentError> {
    let process =
        Pid::from_raw(pid.cast_signed()).ok_or(ExperimentError::Kill { pid, reason: "no such process".into() })?;
    kill_process(process, Signal::KILL).map_err(|error| ExperimentError::Kill { pid, reason: error.to_string() })
}

fn state(stage: &Stage, id: &str) -> Result<BackendStatus, ExperimentError> {
    let states = stage.balancer.admin.backends()?;
    states.into_iter().find(|state| state.id == id).ok_or_else(|| ExperimentError::NoBackend(id.to_owned()))
}

fn server(stage: &Stage, id: &str) -> Result<Server, ExperimentError> {
    let address = state(stage, id)?.address;
    Ok(Server { mock: Mock::at(&address, stage.balancer.admin.web()), address })
}

/// Whether the server has left the pool, so that its faults affect no request.
fn has_left(stage: &mut Stage, id: &str, address: &str) -> bool {
    let is_gone = |states: Vec<BackendStatus>| !states.iter().any(|it| it.id == id && it.address == address);
    stage.balancer.has_ended().is_some() || stage.balancer.admin.backends().is_ok_and(is_gone)
}

fn disturb(mock: &Mock, kind: FaultKind) -> Result<(), MockError> {
    match kind {
        FaultKind::Slow { factor } => mock.slow(factor),
        FaultKind::Delay { extra } => mock.extra(extra),
        FaultKind::Stall => mock.stall(true),
        FaultKind::Errors { rate } => mock.fail(rate),
        FaultKind::HotKey { .. } | FaultKind::Kill | FaultKind::Add { .. } | FaultKind::Remove => Ok(()),
    }
}

fn calm(mock: &Mock, kind: FaultKind) -> Result<(), MockError> {
    match kind {
        FaultKind::Slow { .. } => mock.slow(1.0),
        FaultKind::Delay { .. } => mock.extra(Duration::ZERO),
        FaultKind::Stall => mock.stall(false),
        FaultKind::Errors { .. } => mock.fail(0.0),
        FaultKind::HotKey { .. } | FaultKind::Kill | FaultKind::Add { .. } | FaultKind::Remove => Ok(()),
    }
}

fn event_kind(kind: FaultKind) -> EventKind {
    match kind {
        FaultKind::Slow { .. } | FaultKind::Delay { .. } => EventKind::Slow,
        FaultKind::Stall => EventKind::Stall,
        FaultKind::Kill => EventKind::Kill,
        FaultKind::Errors { .. } => EventKind::Errors,
        FaultKind::HotKey { .. } => EventKind::HotKey,
        FaultKind::Add { .. } => EventKind::Add,
        FaultKind::Remove => EventKind::Remove,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(at: u64, until: Option<u64>, kind: FaultKind) -> Fault {
        Fault { at: Duration::from_secs(at), until: until.map(Duration::from_secs), kind, backend: 2 }
    }

    #[test]
    fn beginnings_and_ends_are_in_order_of_time() {
        let faults = [fault(1, Some(9), FaultKind::Stall), fault(5, None, FaultKind::Kill)];
        let pool = ["S1".to_owned(), "S2".to_owned()];
        let mut script = Script::new(&faults, &pool);
        let mut told = Vec::new();
        while let Some((at, words)) = script.next() {
            told.push((at.as_secs(), words));
            script.done += 1;
        }
        let expected = [(1, "S2 stalled"), (5, "S2 killed (SIGKILL)"), (9, "end of: S2 stalled")];
        assert_eq!(told, expected.map(|(at, words)| (at, words.to_owned())));
    }

    #[test]
    fn a_fault_that_begins_when_another_ends_begins_after_it() {
        let (four, ten) = (FaultKind::Slow { factor: 4.0 }, FaultKind::Slow { factor: 10.0 });
        let steps = steps(&[fault(2, Some(4), four), fault(4, Some(7), ten)]);
        let told: Vec<_> = steps.iter().map(|step| (step.at.as_secs(), step.fault, step.is_end)).collect();
        assert_eq!(told, [(2, 0, false), (4, 0, true), (4, 1, false), (7, 1, true)]);
    }

    #[test]
    fn a_hot_key_without_an_end_has_none() {
        let faults = [fault(1, Some(3), FaultKind::HotKey { share: 0.8 }), fault(5, None, FaultKind::Kill)];
        let second = Duration::from_secs(1);
        assert_eq!(hot_keys(&faults), [HotKey { from: second, until: 3 * second, share: 0.8 }]);
        assert_eq!(hot_keys(&[fault(1, None, FaultKind::HotKey { share: 1.0 })])[0].until, Duration::MAX);
    }
}
