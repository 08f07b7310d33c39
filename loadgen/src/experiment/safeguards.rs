//! The safeguards of lb in a run: off unless the plan sets them, and the same at the start of every arm.
//!
//! The arms of a plan run in one lb process. A restart for each arm would measure cold caches and new servers. So an
//! arm with other safeguards is put in charge by hot reloads:
//!
//! 1. The strategy of the next arm takes over, with all safeguards off. Ejections end.
//! 2. The failures and ejections that lb remembers of each backend are forgotten.
//! 3. When no worker uses an older generation, the safeguards of the arm are put in force. Their budget for retries is
//!    not that of step 1, so it starts full.
//!
//! A plan whose safeguards are all off needs one reload for an arm. Invariant: in each arm the running lb has
//! reported the safeguards that the plan gives it. Otherwise the run ends.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use toml::{Table, Value};

use super::arms;
use super::plan::{ArmPlan, Plan};
use super::run::{ExperimentError, Place};
use crate::lab::{self, AdminError, Balancer, BalancerError, Interrupt, Programs, Status};
use crate::model::{Mark, Safeguard, Safeguards};

/// The safeguards of the arms of a run.
#[derive(Debug, Default)]
pub(super) struct Watched {
    /// How an lb that loadgen started is configured; `None` for another lb, whose configuration stays.
    writer: Option<Writer>,
    /// By the label of the arm, as the running lb reported them.
    found: BTreeMap<String, Safeguards>,
    /// The digest of the configuration, by the label of the arm.
    digests: BTreeMap<String, String>,
}

#[derive(Debug)]
struct Writer {
    programs: Programs,
    plan: Plan,
    /// The folder of lb.toml.
    folder: PathBuf,
}

/// The longest wait until no worker uses an old generation.
const SETTLED_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// The safeguards of this arm, by section: off, unless the plan sets them.
pub(super) fn wanted(plan: &Plan, arm: &ArmPlan) -> Safeguards {
    let mut all = lab::off();
    for keys in [&plan.lb, &arm.lb] {
        let of_safeguards = keys.iter().filter(|(section, _)| Safeguard::of(section).is_some());
        lab::merge(&mut all, &of_safeguards.map(|(section, keys)| (section.clone(), keys.clone())).collect());
    }
    let by_section = |(section, keys): (String, Value)| {
        let keys = serde_json::to_value(keys).unwrap_or_default();
        Some((section, keys.as_object()?.clone()))
    };
    Safeguards(all.into_iter().filter_map(by_section).collect())
}

/// Refuses arms with safeguards if loadgen does not write the configuration of their lb.
pub(super) fn refuse(plan: &Plan, place: &Place) -> Result<(), ExperimentError> {
    let is_theirs = matches!(place, Place::Theirs { .. });
    match plan.arms.iter().find(|arm| is_theirs && !arm.lb.is_empty()) {
        Some(ArmPlan { label, .. }) => {
            let reason = "arms.lb needs an lb that loadgen starts: leave out --target and --admin".to_owned();
            Err(ExperimentError::Arm { label: label.clone(), reason })
        }
        None => Ok(()),
    }
}

/// The arm with all safeguards off, and with another budget for retries than its own.
fn neutral(plan: &Plan, arm: &ArmPlan) -> ArmPlan {
    let budget = |keys: &Table| keys.get("retry").and_then(|keys| keys.get("budget_percent")?.as_integer());
    let of_arm = budget(&arm.lb).or_else(|| budget(&plan.lb));
    let mut lb = lab::off();
    let other = Table::from_iter([("budget_percent".to_owned(), Value::from(i64::from(of_arm == Some(0))))]);
    lab::merge(&mut lb, &Table::from_iter([("retry".to_owned(), other.into())]));
    ArmPlan { lb, ..arm.clone() }
}

// === impl Watched ===

impl Watched {
    /// For an lb that loadgen started with these programs, with its lb.toml in `folder`.
    pub(super) fn ours(programs: &Programs, plan: &Plan, folder: PathBuf) -> Self {
        let writer = Writer { programs: programs.clone(), plan: plan.clone(), folder };
        Self { writer: Some(writer), ..Self::default() }
    }

    /// Whether an arm of the plan has a safeguard that is on.
    pub(super) fn are_studied(&self) -> bool {
        let has_any = |plan: &Plan| plan.arms.iter().any(|arm| !wanted(plan, arm).on().is_empty());
        self.writer.as_ref().is_some_and(|writer| has_any(&writer.plan))
    }

    /// Puts an arm in charge.
    pub(super) fn swap(
        &mut self,
        balancer: &Balancer,
        arm: &ArmPlan,
        interrupt: &Interrupt,
    ) -> Result<(), ExperimentError> {
        let options = serde_json::to_value(&arm.options).unwrap_or_default();
        let put_in_charge = || balancer.admin.swap(&arm.strategy, &options);
        if let Some(writer) = self.writer.as_ref().filter(|_| self.are_studied()) {
            writer.write(&neutral(&writer.plan, arm))?;
            put_in_charge()?;
            forget(balancer)?;
            settle(balancer, interrupt)?;
            self.digests.insert(arm.label.clone(), writer.write(arm)?);
        }
        put_in_charge()?;
        self.check(arm, &balancer.admin.status()?)
    }

    /// Compares the safeguards in force with those of the plan, and keeps them for the report.
    pub(super) fn check(&mut self, arm: &ArmPlan, status: &Status) -> Result<(), ExperimentError> {
        let pool = status.pools.iter().find(|pool| pool.name == "default");
        let found = pool.and_then(|pool| pool.safeguards.clone());
        if let Some(writer) = &self.writer {
            let differences = found.clone().unwrap_or_default().differences(&wanted(&writer.plan, arm));
            if !differences.is_empty() {
                return Err(ExperimentError::Safeguards { label: arm.label.clone(), differences });
            }
        }
        if let Some(found) = found {
            self.found.insert(arm.label.clone(), found);
        }
        Ok(())
    }

    /// The safeguards that were in force with this arm.
    pub(super) fn of(&self, arm: &str) -> Option<&Safeguards> {
        self.found.get(arm)
    }

    /// The digest of the arm's configuration, if it has its own.
    pub(super) fn digest(&self, arm: &str) -> Option<&String> {
        self.digests.get(arm)
    }

    /// The finding for a report. An lb that loadgen did not start may have any safeguards.
    pub(super) fn mark(&self) -> Option<Mark> {
        let is_ours = self.writer.is_some();
        let mut on: Vec<&str> = self.found.values().flat_map(Safeguards::on).map(|(it, _)| it.name).collect();
        on.sort_unstable();
        on.dedup();
        match (is_ours, self.found.is_empty(), on.as_slice()) {
            (true, true, _) => None,
            (true, false, _) => {
                Some(Mark::passed("safeguards", "in each arm the running lb had those that the plan gives it"))
            }
            (false, true, _) => Some(Mark::warning("safeguards", "this lb does not report which safeguards it has")),
            (false, false, []) => Some(Mark::passed("safeguards", "the running lb had none")),
            (false, false, on) => Some(Mark::warning(
                "safeguards",
                format!("this lb has {}: counts and latencies are not those of the strategy alone", on.join(", ")),
            )),
        }
    }
}

// === impl Writer ===

impl Writer {
    /// Writes the configuration for `arm`. Returns its digest.
    fn write(&self, arm: &ArmPlan) -> Result<String, BalancerError> {
        let config = lab::write_config(&self.programs, &arms::setup(&self.plan, arm), &self.folder)?;
        lab::digest(&config)
    }
}

/// Makes lb forget the failures of each backend, and its ejections. A backend that an operator set aside stays so, and
/// one that is down stays down.
fn forget(balancer: &Balancer) -> Result<(), AdminError> {
    let states = balancer.admin.backends()?;
    let mut up = states.iter().filter(|state| state.healthy && !state.is_set_aside());
    up.try_for_each(|state| balancer.admin.pardon(&state.id))
}

/// Waits until every worker uses the newest generation.
fn settle(balancer: &Balancer, interrupt: &Interrupt) -> Result<(), ExperimentError> {
    let deadline = Instant::now() + SETTLED_WITHIN;
    loop {
        let old = balancer.admin.status()?.retired_generations;
        if old == 0 {
            return Ok(());
        }
        if Instant::now() > deadline {
            let what = format!("{old} old generations are still in use after a reload");
            return Err(BalancerError::NotReady(SETTLED_WITHIN.as_secs(), what).into());
        }
        if interrupt.wait(LOOK_EVERY) {
            return Err(ExperimentError::Interrupted("between two arms".to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: &str = "[load]\nloop = \"open\"\nrate_rps = 9\n[lb.retry]\non = [\"500\"]\n[lb.proxy]\nworkers = 1\n\
        [[arms]]\nlabel = \"a\"\nstrategy = \"round_robin\"\n[[arms]]\nlabel = \"b\"\nstrategy = \"round_robin\"\n\
        [arms.lb.outlier]\nenabled = true\neject_ms = 9\n[arms.lb.retry]\nattempts = 3\nbudget_percent = 0\n";

    #[test]
    fn safeguards_are_off_unless_the_plan_or_the_arm_sets_them() {
        let plan = Plan::parse(PLAN, "x.toml".as_ref()).expect("sound");
        let told = |arm: usize| serde_json::to_value(wanted(&plan, &plan.arms[arm])).expect("JSON");
        let (outlier, panic) = (serde_json::json!({ "enabled": false }), serde_json::json!({ "below_percent": 0 }));
        let (slow_start, queue) = (outlier.clone(), serde_json::json!({ "length": 0 }));
        let all = |outlier: serde_json::Value, retry: serde_json::Value| {
            let (panic, slow_start, queue) = (&panic, &slow_start, &queue);
            serde_json::json!({
                "outlier": outlier, "panic": panic, "slow_start": slow_start, "retry": retry, "queue": queue,
            })
        };
        let retry = serde_json::json!({ "attempts": 1, "on": ["500"] });
        assert_eq!(told(0), all(outlier, retry));
        let outlier = serde_json::json!({ "enabled": true, "eject_ms": 9 });
        let retry = serde_json::json!({ "attempts": 3, "budget_percent": 0, "on": ["500"] });
        assert_eq!(told(1), all(outlier, retry));
    }

    #[test]
    fn between_two_arms_all_is_off_and_the_budget_is_another_one() {
        let plan = Plan::parse(PLAN, "x.toml".as_ref()).expect("sound");
        for (arm, other_budget) in plan.arms.iter().zip([0, 1]) {
            let between = neutral(&plan, arm);
            assert_eq!(between.lb["retry"]["budget_percent"].as_integer(), Some(other_budget), "{}", arm.label);
            let off = wanted(&Plan { lb: Table::new(), ..plan.clone() }, &ArmPlan::plain("off", "round_robin"));
            assert!(wanted(&plan, &between).differences(&off).is_empty(), "{}", arm.label);
        }
    }
}
