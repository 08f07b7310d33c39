//! The start of a run: the balancer, and the declarations of its strategies.

use std::collections::BTreeMap;
use std::time::Instant;

use super::arms::{self, Declared};
use super::membership::Membership;
use super::plan::Plan;
use super::run::{ExperimentError, Place};
use super::safeguards::Watched;
use super::stage::{self, Stage};
use crate::lab::{self, Balancer, Interrupt};
use crate::model::{self, Folder, PLAN_FILE};
use crate::view::Form;

pub(super) struct Begun {
    pub(super) balancer: Balancer,
    pub(super) declared: Declared,
    pub(super) status: lab::Status,
}

// === impl Begun ===

impl Begun {
    /// Starts lb, or attaches to a running one. Writes the plan into the folder.
    pub(super) fn new(
        plan: &Plan,
        place: &Place,
        folder: &Folder,
        interrupt: &Interrupt,
    ) -> Result<Self, ExperimentError> {
        let (balancer, declared) = match place {
            Place::Ours(programs) => {
                let (config, declared) = arms::tried(plan, programs, &folder.file("lb"))?;
                (Balancer::start(programs, &config, arms::replicas(plan), interrupt)?, declared)
            }
            // a running lb does not list its strategies; it refuses a swap to an unknown one
            Place::Theirs { target, admin } => (Balancer::attach(target, admin)?, Declared::default()),
        };
        model::write_atomically(&folder.file(PLAN_FILE), plan.to_json().as_bytes())?;
        let status = balancer.admin.status()?;
        Ok(Self { balancer, declared, status })
    }

    fn pool(&self) -> Option<&lab::PoolStatus> {
        self.status.pools.iter().find(|pool| pool.name == "default")
    }

    pub(super) fn backends(&self) -> u32 {
        self.pool().map_or(0, |pool| pool.backends.len() as u32)
    }

    /// The plan. With a running balancer, a single N is replaced by the size of its pool.
    pub(super) fn sized(&self, plan: &Plan) -> Plan {
        let mut plan = plan.clone();
        if !self.balancer.is_ours() && plan.sizes.len() == 1 {
            plan.sizes = vec![self.backends().max(1)];
        }
        plan
    }

    /// The label of the arm that lb started with; "" if no arm is known to be in charge.
    fn in_charge(&self, plan: &Plan, place: &Place) -> String {
        let first = plan.arms.first().filter(|arm| {
            matches!(place, Place::Ours(_)) && self.pool().is_some_and(|pool| pool.strategy == arm.strategy)
        });
        first.map(|arm| arm.label.clone()).unwrap_or_default()
    }

    pub(super) fn stage(
        self,
        plan: &Plan,
        place: &Place,
        folder: Folder,
        interrupt: &Interrupt,
        (form, origin): (Form, Instant),
    ) -> (Stage, Declared) {
        let in_charge = self.in_charge(plan, place);
        let safeguards = match place {
            Place::Ours(programs) => Watched::ours(programs, plan, folder.file("lb")),
            Place::Theirs { .. } => Watched::default(),
        };
        let stage = Stage {
            folder,
            interrupt: interrupt.clone(),
            progress: stage::view(plan, form, origin, &in_charge),
            origin,
            events: Vec::new(),
            marks: Vec::new(),
            accounting: Vec::new(),
            waits_without_queue: BTreeMap::new(),
            in_charge,
            membership: Membership::default(),
            safeguards,
            balancer: self.balancer,
        };
        (stage, self.declared)
    }
}
