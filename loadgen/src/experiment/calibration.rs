//! The capacity of the pool, and the load of a plan.

use std::time::Instant;

use super::plan::{self, ArmPlan, BlockPlan, Judged, Law, LoadPlan, Rate};
use super::run::ExperimentError;
use super::seeds::Seeds;
use super::stage::Stage;
use crate::load::{self, Arrivals, Goal, Stop};
use crate::model;
use crate::view::Underway;

/// An open loop with a known rate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rated {
    pub(super) arrivals: Arrivals,
    pub(super) rps: f64,
    pub(super) capacity_rps: Option<f64>,
}

/// The load of this arm: its requests by this arrival law until `stop`.
pub(super) fn engine_plan(
    stage: &Stage,
    plan: &plan::Plan,
    arm: &ArmPlan,
    arrivals: Arrivals,
    stop: Stop,
    seed: u64,
) -> load::Plan {
    let target = load::Target { addresses: vec![stage.balancer.target], host: stage.balancer.host.clone() };
    let mut engine = load::Plan::new(target, arrivals, stop);
    engine.requests = vec![load::Request::get(&plan.requests.path)];
    engine.keys = plan.requests.keys;
    engine.cost = plan.requests.cost.times(arm.cost_factor);
    engine.timeout = plan.requests.timeout;
    engine.seed = seed;
    if let LoadPlan::Open { outstanding, .. } = plan.load {
        engine.outstanding = outstanding as usize;
        engine.connections = outstanding as usize;
    }
    engine
}

/// The rate of the plan. If it is a part of the capacity, the capacity is measured first, with round robin in charge.
/// The capacity is that of the pool, not of an arm, and round robin uses all of it.
pub(super) fn rated(stage: &mut Stage, plan: &plan::Plan, seeds: &Seeds) -> Result<Rated, ExperimentError> {
    let LoadPlan::Open { law, rate, .. } = plan.load else { return Err(ExperimentError::NotOpen) };
    let arrivals = |rps: f64| match law {
        Law::Poisson => Arrivals::Poisson { rps },
        Law::Constant => Arrivals::Constant { rps },
    };
    let part = match rate {
        Rate::Rps(rps) => return Ok(Rated { arrivals: arrivals(rps), rps, capacity_rps: None }),
        Rate::OfCapacity(part) => part,
    };
    let even = ArmPlan::plain("round_robin, to calibrate", "round_robin");
    let is_even = |arm: &ArmPlan| arm.strategy == even.strategy && arm.lb.is_empty();
    let is_in_charge = plan.arms.iter().any(|arm| arm.label == stage.in_charge && is_even(arm));
    if !is_in_charge {
        stage.swap(&even)?;
    }
    let budget = plan.calibration();
    stage.progress.say(&format!("measuring the capacity of the pool, for {:.0} s", budget.as_secs_f64()));
    let engine = engine_plan(stage, plan, &even, Arrivals::Closed { connections: 1 }, Stop::WhenTold, seeds.requests);
    let goal = Goal { p99: plan.requests.calm_p99, ..Goal::default() };
    let (interrupt, board) = (stage.interrupt.clone(), stage.progress.board().clone());
    board.tell(|facts| facts.next = Some((Instant::now() + budget, "the measured load".to_owned())));
    let found = load::calibrate(&engine, &goal, budget, |handle, rps| {
        let arrivals = rps.map_or(engine.arrivals, |rps| Arrivals::Poisson { rps });
        let step = load::Plan { arrivals, ..engine.clone() };
        board.tell(|facts| facts.begin(Underway::new(handle.clone(), &step, ("calibrating", "calibrating"))));
        if interrupt.is_raised() {
            handle.abort();
        }
    });
    // overload is intended here, so its errors are not errors of the run
    board.tell(|facts| facts.end_load(false));
    let found = found?;
    let (capacity, rps) = (found.capacity_rps, found.capacity_rps * part);
    stage.progress.say(&format!("capacity {capacity:.0}/s with p99 within {:?}; {part} of it is {rps:.0}/s", goal.p99));
    if !found.is_bracketed {
        let reason = format!("calibration ended before a rate was too high: the capacity may be above {capacity:.0}/s");
        stage.mark(model::Mark::warning("capacity", reason));
    }
    Ok(Rated { arrivals: arrivals(rps), rps, capacity_rps: Some(capacity) })
}

/// The blocks with the verdicts that their segments allow at this rate.
pub(super) fn judged(
    stage: &mut Stage,
    plan: &plan::Plan,
    blocks: &BlockPlan,
    rated: &Rated,
) -> Result<BlockPlan, ExperimentError> {
    let LoadPlan::Open { law, .. } = plan.load else { return Err(ExperimentError::NotOpen) };
    match blocks.judged(rated.rps, law) {
        Judged::All => Ok(blocks.clone()),
        Judged::Fewer { blocks, left_out } => {
            stage.progress.say(&left_out);
            stage.mark(model::Mark::warning("verdicts", left_out));
            Ok(*blocks)
        }
        Judged::Refused(why) => Err(ExperimentError::TooFewRequests(why)),
    }
}
