//! A running load, with the observation of the pool.
//!
//! The load has its own threads. The owner of the conductor waits with [`Conductor::until`]. During the wait the
//! conductor polls the pool (requests in flight, rotation) and reports progress. Invariant: when the conductor is
//! dropped, the load is aborted.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::run::ExperimentError;
use super::stage::Stage;
use crate::lab::BackendStatus;
use crate::load::{self, Handle, Outcome, Plan};
use crate::model::EventKind;
use crate::view::Underway;

pub(super) struct Conductor<'a> {
    pub(super) stage: &'a mut Stage,
    pub(super) handle: Handle,
    /// The start of the load, as an instant and on the run's clock.
    pub(super) began: Instant,
    pub(super) began_ms: u64,
    ended: Receiver<Outcome>,
    outcome: Option<Outcome>,
    watch: Watch,
    look_every: Duration,
    next_look: Instant,
    /// The longest wait for the last responses.
    patience: Duration,
}

/// Why `until` returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// The moment has come.
    Reached,
    /// The load has ended.
    Ended,
    Interrupted,
}

/// The observed state of the pool.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Requests in flight by backend, with the time on the run's clock.
    in_flight: Vec<(u64, Vec<(String, u32)>)>,
    states: BTreeMap<String, Seen>,
    /// Backends that left the rotation and have not returned.
    missing: Vec<String>,
    /// Whether a backend was lost or an operator changed the pool. Then the strategy's declaration does not apply.
    is_disturbed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    eligible: bool,
    pid: Option<u32>,
}

const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The poll interval when exact times matter.
const LOOK_CLOSELY: Duration = Duration::from_millis(20);

// === impl Conductor ===

impl<'a> Conductor<'a> {
    /// `place`: the part of the run. `phases`: the names of its warm-up and of the part after it.
    pub(super) fn start(
        stage: &'a mut Stage,
        plan: Plan,
        place: &str,
        phases: (&'static str, &'static str),
    ) -> Result<Self, ExperimentError> {
        let patience = plan.timeout + Duration::from_secs(5);
        let running = load::start(plan.clone())?;
        let handle = running.handle();
        let underway = Underway::new(handle.clone(), &plan, phases);
        stage.progress.board().tell(|facts| {
            facts.place = place.to_owned();
            facts.begin(underway);
        });
        let now = Instant::now();
        let began = now - Duration::from_nanos(handle.ns_at(now));
        let began_ms = stage.at_ms(began);
        let (sender, ended) = mpsc::channel();
        let waiter = std::thread::Builder::new().name("waits-for-load".to_owned());
        waiter.spawn(move || drop(sender.send(running.wait()))).map_err(load::StartError::from)?;
        Ok(Self {
            stage,
            handle,
            began,
            began_ms,
            ended,
            outcome: None,
            watch: Watch::default(),
            look_every: LOOK_EVERY,
            next_look: now,
            patience,
        })
    }

    /// Polls more often from now on.
    pub(super) fn look_closely(&mut self) {
        self.look_every = LOOK_CLOSELY;
    }

    /// Sets the next event and its time, for the view.
    pub(super) fn comes(&self, at: Instant, what: impl Into<String>) {
        let what = what.into();
        self.stage.progress.board().tell(|facts| facts.next = Some((at, what)));
    }

    /// Waits until `moment` (`None`: until the load has ended).
    pub(super) fn until(&mut self, moment: Option<Instant>) -> Result<Flow, ExperimentError> {
        loop {
            if self.outcome.is_some() {
                // a closed loop can also end by errors alone
                self.check_balancer()?;
                return Ok(Flow::Ended);
            }
            if self.stage.interrupt.is_raised() {
                return Ok(Flow::Interrupted);
            }
            let now = Instant::now();
            if moment.is_some_and(|moment| moment <= now) {
                return Ok(Flow::Reached);
            }
            let next = moment.map_or(self.next_look, |moment| moment.min(self.next_look));
            match self.ended.recv_timeout(next.saturating_duration_since(now)) {
                Ok(outcome) => self.outcome = Some(outcome),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(ExperimentError::LoadDied),
            }
            if Instant::now() >= self.next_look {
                self.next_look = Instant::now() + self.look_every;
                self.look()?;
            }
        }
    }

    /// Polls the pool and records changes.
    pub(super) fn look(&mut self) -> Result<(), ExperimentError> {
        self.check_balancer()?;
        // one failed poll does not end the run
        if let Ok(states) = self.stage.balancer.admin.backends() {
            self.watch.note(self.stage, &states);
            self.stage.tell_pool(states, true);
        }
        Ok(())
    }

    fn check_balancer(&mut self) -> Result<(), ExperimentError> {
        self.stage.balancer.has_ended().map_or(Ok(()), |how| Err(ExperimentError::BalancerEnded(how)))
    }

    /// Stops sending, waits for the requests in flight, and returns the counts.
    pub(super) fn finish(mut self) -> Result<(Outcome, Watch), ExperimentError> {
        if self.outcome.is_none() {
            self.handle.finish();
            let patience = if self.stage.interrupt.is_raised() { Duration::from_secs(2) } else { self.patience };
            self.outcome = match self.ended.recv_timeout(patience) {
                Ok(outcome) => Some(outcome),
                Err(RecvTimeoutError::Timeout) => {
                    self.handle.abort();
                    self.ended.recv().ok()
                }
                Err(RecvTimeoutError::Disconnected) => None,
            };
        }
        let outcome = self.outcome.take().ok_or(ExperimentError::LoadDied)?;
        // changes since the last poll affect these counts too; the next request to an exited lb reports that it exited
        if self.stage.balancer.has_ended().is_none()
            && let Ok(states) = self.stage.balancer.admin.backends()
        {
            self.watch.note(self.stage, &states);
        }
        Ok((outcome, std::mem::take(&mut self.watch)))
    }
}

impl Drop for Conductor<'_> {
    fn drop(&mut self) {
        self.handle.abort();
        self.stage.progress.board().tell(|facts| {
            facts.end_load(true);
            facts.phase = "waiting for the last responses".to_owned();
        });
    }
}

// === impl Watch ===

impl Watch {
    fn note(&mut self, stage: &mut Stage, states: &[BackendStatus]) {
        let counts = states.iter().map(|state| (state.id.clone(), state.in_flight)).collect();
        let is_first = self.in_flight.is_empty();
        self.in_flight.push((stage.now_ms(), counts));
        stage.note_operator(states);
        self.is_disturbed |= stage.membership.has_changed();
        for state in states {
            let now = Seen { eligible: state.eligible, pid: state.pid };
            let before = match self.states.insert(state.id.clone(), now) {
                Some(before) => before,
                // at the start of a load all backends are in rotation
                None if is_first => Seen { eligible: true, ..now },
                None => continue,
            };
            // a backend that an operator set aside is not lost
            let is_lost = !state.is_set_aside() && before.eligible && (!now.eligible || now.pid != before.pid);
            if is_lost && !self.missing.contains(&state.id) {
                self.missing.push(state.id.clone());
                self.is_disturbed = true;
                let text = match &state.ejection {
                    Some(ejection) => format!("{} is ejected: {}", state.id, ejection.reason),
                    None => format!("{} gets no more requests", state.id),
                };
                stage.event(EventKind::Detected, Some(state.id.clone()), text);
            }
            if now.eligible && self.missing.contains(&state.id) {
                self.missing.retain(|id| *id != state.id);
                let text = if self.missing.is_empty() { ": all are back" } else { "" };
                stage.event(
                    EventKind::Recovered,
                    Some(state.id.clone()),
                    format!("{} gets requests again{text}", state.id),
                );
            }
        }
        self.states.retain(|id, _| states.iter().any(|state| state.id == *id));
    }

    /// Whether the pool changed, so that counts cannot be compared with a strategy's declaration.
    pub(super) fn is_disturbed(&self) -> bool {
        self.is_disturbed
    }

    /// Mean requests in flight of each of these backends between two moments; `None` without a poll between them.
    pub(super) fn mean_in_flight(&self, from_ms: u64, to_ms: u64, ids: &[String]) -> Option<Vec<f64>> {
        let looks: Vec<_> = self.in_flight.iter().filter(|(at, _)| (from_ms..to_ms).contains(at)).collect();
        if looks.is_empty() {
            return None;
        }
        let of = |id: &String| {
            let of_look = |look: &&&(u64, Vec<(String, u32)>)| {
                look.1.iter().find(|(other, _)| other == id).map_or(0.0, |(_, count)| f64::from(*count))
            };
            looks.iter().map(|look| of_look(&look)).sum::<f64>() / looks.len() as f64
        };
        Some(ids.iter().map(of).collect())
    }
}
