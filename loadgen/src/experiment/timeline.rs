//! A load by the clock with faults at their times, one arm after the other: A3, and experiment files of users.

use std::time::{Duration, Instant};

use super::arms::Declared;
use super::calibration::{engine_plan, rated};
use super::conductor::{Conductor, Flow};
use super::faults::{self, Script};
use super::judge;
use super::plan::{ArmPlan, ENDING, LoadPlan, Plan};
use super::record::{About, Record};
use super::run::ExperimentError;
use super::seeds::Seeds;
use super::stage::{Stage, client_count};
use crate::load::{LEAD_NS, Stop};
use crate::model::{CellKey, Load, Mark};

/// Runs the arms. `load` gets the measured rate.
pub(super) fn run(
    stage: &mut Stage,
    plan: &Plan,
    seeds: &Seeds,
    declared: &Declared,
    record: &mut Record,
    load: &mut Load,
) -> Result<(), ExperimentError> {
    let LoadPlan::Open { warm_up, duration, outstanding, .. } = plan.load else { return Err(ExperimentError::NotOpen) };
    let n = *plan.sizes.first().unwrap_or(&3);
    stage.resize(n)?;
    let rated = rated(stage, plan, seeds)?;
    *load = super::described::open_load(&rated, outstanding);
    let left = plan.budget.saturating_sub(stage.origin.elapsed()).saturating_sub(ENDING);
    let share = left / plan.arms.len() as u32;
    let duration = duration.unwrap_or(share.saturating_sub(warm_up).max(plan.shortest()));
    let end = Instant::now() + (warm_up + duration) * plan.arms.len() as u32;
    stage.progress.board().tell(|facts| facts.end = Some((end, false)));
    for (at, arm) in plan.arms.iter().enumerate() {
        // all backends must be in rotation before the arm begins
        let pool = stage.resize(n)?;
        stage.swap(arm)?;
        let flow = one(stage, plan, arm, &pool, &rated, (warm_up, duration), seeds, declared, record)?;
        if flow == Flow::Interrupted {
            return Err(ExperimentError::Interrupted(format!("in arm {} of {}", at + 1, plan.arms.len())));
        }
    }
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "one step of the course above, cut out to be readable")]
fn one(
    stage: &mut Stage,
    plan: &Plan,
    arm: &ArmPlan,
    pool: &[String],
    rated: &super::calibration::Rated,
    (warm_up, duration): (Duration, Duration),
    seeds: &Seeds,
    declared: &Declared,
    record: &mut Record,
) -> Result<Flow, ExperimentError> {
    let mut ledger = stage.open_ledger(&arm.label)?;
    let mut engine = engine_plan(stage, plan, arm, rated.arrivals, Stop::AfterTime(duration), seeds.requests);
    engine.warm_up = warm_up;
    engine.hot_keys = faults::hot_keys(&plan.faults);
    let mut conductor = Conductor::start(stage, engine, "", ("warm-up", "measuring"))?;
    // the earliest send time of a measured request
    let start = conductor.began + Duration::from_nanos(LEAD_NS) + warm_up;
    if !plan.faults.is_empty() {
        conductor.look_closely();
    }
    let mut script = Script::new(&plan.faults, pool);
    let flow = script.play(&mut conductor, &mut ledger, start, (start + duration, "the end"));
    let began_ms = conductor.began_ms;
    let (put_right, left) = (script.put_right(conductor.stage), script.left());
    let (outcome, watch) = conductor.finish()?;
    let client = client_count(outcome.warm_up.iter().chain(&outcome.segments));
    // the measurement is stored even if a check fails below
    let closed = stage.close_ledger(ledger, &arm.label, client);
    if !left.is_empty() && flow.as_ref().is_ok_and(|flow| *flow != Flow::Interrupted) {
        let reason = format!("the load of {} ended before these faults: {}", arm.label, left.join(", "));
        stage.mark(Mark::warning("faults", reason));
    }
    // a declaration is about a healthy pool, so it does not apply with faults
    let law = plan.faults.is_empty().then(|| judge::law(stage, declared, plan, arm, pool, record)).flatten();
    let about = About {
        key: CellKey { arm: arm.label.clone(), n: pool.len() as u32, block: 1 },
        pool,
        law: law.as_ref(),
        asked_rps: Some(rated.rps),
        retries: closed.as_ref().ok().copied(),
        began_ms,
    };
    record.keep(about, &outcome.total(), &outcome, &watch);
    stage.doubt(&outcome, false);
    // an error of `flow` comes first: a request to an exited lb would only fail
    let flow = flow?;
    put_right?;
    closed?;
    stage.check_in_charge(arm)?;
    Ok(flow)
}
