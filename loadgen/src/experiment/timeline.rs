//! A load by the clock with faults at their times, one arm after the other: A3, and files of one's own.

use std::time::{Duration, Instant};

use super::calibration::{engine_plan, rated};
use super::conductor::{Conductor, Flow};
use super::plan::{ArmPlan, LoadPlan, Plan};
use super::record::{About, Record};
use super::run::{Declared, ExperimentError};
use super::seeds::Seeds;
use super::stage::{Stage, client_count};
use super::{faults, judge};
use crate::load::Stop;
use crate::model::{CellKey, Load};

/// What setting up, ending and reporting take of the budget.
const RESERVE: Duration = Duration::from_secs(5);
const SHORTEST: Duration = Duration::from_secs(2);

/// Answers the load as it was, with its rate.
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
    *load = super::run::open_load(&rated, outstanding);
    let left = plan.budget.saturating_sub(stage.origin.elapsed()).saturating_sub(RESERVE);
    let share = left / plan.arms.len() as u32;
    let duration = duration.unwrap_or(share.saturating_sub(warm_up)).max(SHORTEST);
    let end = Instant::now() + (warm_up + duration) * plan.arms.len() as u32;
    stage.progress.board().tell(|facts| facts.end = Some((end, false)));
    for (at, arm) in plan.arms.iter().enumerate() {
        // the pool of this arm is whole before it begins
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
    let mut conductor = Conductor::start(stage, engine, "", ("warm-up", "measuring"))?;
    let start = Instant::now() - Duration::from_nanos(conductor.handle.ns_at(Instant::now())) + warm_up;
    if !plan.faults.is_empty() {
        conductor.look_closely();
    }
    let steps = faults::script(&plan.faults);
    let mut done = 0;
    let mut flow = Flow::Reached;
    while let Some(step) = steps.get(done) {
        conductor.comes(start + step.at, faults::in_words(&plan.faults, *step, pool));
        flow = conductor.until(Some(start + step.at))?;
        if flow != Flow::Reached {
            break;
        }
        faults::carry_out(conductor.stage, &mut ledger, &plan.faults, *step, pool)?;
        done += 1;
        conductor.look()?;
    }
    if flow == Flow::Reached {
        conductor.comes(start + duration, "the end");
        flow = conductor.until(None)?;
    }
    let began_ms = conductor.began_ms;
    faults::put_right(conductor.stage, &plan.faults, &steps[done..], pool)?;
    let (outcome, watch) = conductor.finish()?;
    let client = client_count(outcome.warm_up.iter().chain(&outcome.segments));
    let retries = stage.close_ledger(ledger, &arm.label, client)?;
    stage.check_in_charge(arm)?;
    // with faults, counts are not what a strategy declares of a healthy pool
    let law = judge::law(declared, plan, arm, pool).filter(|_| plan.faults.is_empty());
    let about = About {
        key: CellKey { arm: arm.label.clone(), n: pool.len() as u32, block: 1 },
        pool,
        law: law.as_ref(),
        asked_rps: Some(rated.rps),
        retries: Some(retries),
        began_ms,
    };
    record.keep(about, &outcome.total(), &outcome, &watch);
    stage.doubt(&outcome.doubts);
    Ok(flow)
}
