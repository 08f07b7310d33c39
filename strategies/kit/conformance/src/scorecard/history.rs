//! Determinism and instances: a history of requests, failures and outages from one seed, repeated and run side by side.
//!
//! A strategy gets all its data from the host. So two instances that get the same data must make the same picks. If
//! not, the strategy has its own clock, random generator or static.

use std::sync::Arc;

use lb_strategy_host::{Finish, Outcome, backend_id};

use super::subject::Subject;
use super::{Finding, Found};
use crate::{Decision, Picker, Requests, Strategy, World};

const BACKENDS: usize = 5;
const STEPS: usize = 4_000;
/// Steps from one change of health to the next.
const CALM: usize = 250;
const IN_FLIGHT: usize = 12;

/// One instance and its world.
struct History {
    instance: Arc<Strategy>,
    world: World,
    picker: Picker,
    requests: Requests,
    random: fastrand::Rng,
    /// Index and token of each request in flight.
    running: Vec<(usize, u64)>,
    steps: usize,
}

/// One thread, the same seed twice.
pub(super) fn determinism(subject: &Subject) -> Found {
    let first = History::new(subject, 40)?.live(STEPS)?;
    let second = History::new(subject, 40)?.live(STEPS)?;
    let (good, bad) = ("the same seed gives the same picks", "the same seed gave other picks the second time");
    Ok(same(&first, &second, good, bad))
}

/// Two instances that pick in turns. Each must pick as it does alone.
pub(super) fn instances(subject: &Subject) -> Found {
    let alone = [History::new(subject, 41)?.live(STEPS)?, History::new(subject, 42)?.live(STEPS)?].concat();
    let (mut one, mut two) = (History::new(subject, 41)?, History::new(subject, 42)?);
    let (mut ones, mut twos) = (Vec::with_capacity(2 * STEPS), Vec::with_capacity(STEPS));
    for _ in 0..STEPS {
        ones.push(one.step()?);
        twos.push(two.step()?);
    }
    ones.append(&mut twos);
    let (good, bad) =
        ("two instances do not affect each other", "two instances affect each other: keep no state in statics");
    Ok(same(&alone, &ones, good, bad))
}

fn same(expected: &[Decision], got: &[Decision], good: &str, bad: &str) -> Finding {
    let differing = expected.iter().zip(got).filter(|(expected, got)| expected != got).count();
    Finding::judged(differing == 0, format!("{differing} of {} differ", expected.len()), "0 differ", good, bad)
}

// === impl History ===

impl History {
    fn new(subject: &Subject, salt: u64) -> Result<Self, String> {
        let (instance, world) = (subject.instance()?, World::labelled(BACKENDS).weights(&[1, 2, 3, 1, 2]));
        Ok(Self {
            picker: world.picker(&instance)?,
            instance,
            world,
            requests: subject.requests(salt),
            random: fastrand::Rng::with_seed(subject.seed ^ salt),
            running: Vec::new(),
            steps: 0,
        })
    }

    fn live(mut self, steps: usize) -> Result<Vec<Decision>, String> {
        (0..steps).map(|_| self.step()).collect()
    }

    /// One step: a request may end, health may change, and one request arrives.
    fn step(&mut self) -> Result<Decision, String> {
        self.steps += 1;
        if self.running.len() >= IN_FLIGHT {
            self.end_one();
        }
        if self.steps.is_multiple_of(CALM) {
            let is_up: Vec<bool> = (0..BACKENDS).map(|_| self.random.u8(..4) > 0).collect();
            self.world = self.world.clone().up(&is_up);
            self.picker = self.world.picker(&self.instance)?;
        }
        let decision = self.requests.ask().pick(&self.picker);
        if let Decision::Backend { index, token } = decision {
            self.world.set_load(index, self.world.load(index) + 1);
            self.running.push((index, token));
        }
        Ok(decision)
    }

    fn end_one(&mut self) {
        let (index, token) = self.running.swap_remove(self.random.usize(..self.running.len()));
        self.world.set_load(index, self.world.load(index) - 1);
        let total_ns = self.random.u64(100_000..10_000_000);
        if self.instance.plugin().wants().finish {
            self.picker.finish(&Finish {
                worker: Some(0),
                backend_id: backend_id(self.world.name(index)),
                outcome: if self.random.u8(..20) == 0 { Outcome::Reset } else { Outcome::Ok },
                http_status: Some(200),
                attempt: 0,
                own: true,
                upgraded: false,
                token,
                time_to_head_ns: total_ns / 2,
                total_ns,
                now_ns: self.steps as u64 * 1_000_000,
            });
        }
    }
}
