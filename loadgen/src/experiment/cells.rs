//! Arms and sizes one after the other, a closed loop for each: A1 and A2.

use super::arms::Declared;
use super::calibration::engine_plan;
use super::conductor::{Conductor, Flow};
use super::judge;
use super::plan::{ArmPlan, LoadPlan, Plan};
use super::probe;
use super::record::{About, Record};
use super::run::ExperimentError;
use super::seeds::Seeds;
use super::stage::{Stage, client_count};
use crate::load::{Arrivals, Stop};
use crate::model::{CellKey, Disruption};
use crate::statistics::disruption;

pub(super) fn run(
    stage: &mut Stage,
    plan: &Plan,
    seeds: &Seeds,
    declared: &Declared,
    record: &mut Record,
    disruptions: &mut Vec<Disruption>,
) -> Result<(), ExperimentError> {
    let LoadPlan::Closed { repeats, .. } = plan.load else { return Err(ExperimentError::NotOpen) };
    for arm in &plan.arms {
        stage.swap(arm)?;
        let mut before = None;
        for &n in &plan.sizes {
            let pool = stage.resize(n)?;
            // if the strategy picks by key, count the keys that move
            if declared.is_keyed(&arm.strategy) && plan.sizes.len() > 1 {
                let homes = probe::homes(stage, &plan.requests.path)?;
                if let Some((from, before)) = &before {
                    disruptions.push(disruption(&arm.label, (*from, before), (n, &homes)));
                }
                before = Some((n, homes));
            }
            let law = judge::law(stage, declared, plan, arm, &pool, record);
            for repeat in 1..=repeats {
                let cell = About {
                    key: CellKey { arm: arm.label.clone(), n, block: repeat },
                    pool: &pool,
                    law: law.as_ref(),
                    asked_rps: None,
                    retries: None,
                    began_ms: 0,
                };
                // the first repeat has the seed of a run without repeats
                let seed = if repeat == 1 { seeds.requests } else { seeds.of_block(repeat) };
                one(stage, plan, arm, cell, seed, record)?;
            }
        }
    }
    Ok(())
}

/// Measures one arm at one N, once. Sets the parts of `about` that are only known after the load.
fn one(
    stage: &mut Stage,
    plan: &Plan,
    arm: &ArmPlan,
    mut about: About<'_>,
    seed: u64,
    record: &mut Record,
) -> Result<(), ExperimentError> {
    let LoadPlan::Closed { connections, requests, repeats } = plan.load else { return Err(ExperimentError::NotOpen) };
    let mut place = Vec::new();
    if plan.sizes.len() > 1 {
        place.push(format!("N = {}", about.key.n));
    }
    if repeats > 1 {
        place.push(format!("{} of {repeats}", about.key.block));
    }
    let place = place.join(", ");
    let what = if place.is_empty() { arm.label.clone() } else { format!("{}, {place}", arm.label) };
    let ledger = stage.open_ledger(&what)?;
    let arrivals = Arrivals::Closed { connections: connections as usize };
    let engine = engine_plan(stage, plan, arm, arrivals, Stop::AfterRequests(requests), seed);
    let mut conductor = Conductor::start(stage, engine, &place, ("warm-up", "measuring"))?;
    let flow = conductor.until(None);
    about.began_ms = conductor.began_ms;
    let (outcome, watch) = conductor.finish()?;
    // the measurement is stored even if a check fails below
    let closed = stage.close_ledger(ledger, &what, client_count(outcome.segments.iter()));
    about.retries = closed.as_ref().ok().copied();
    let total = outcome.total();
    record.keep(about, &total, &outcome, &watch);
    stage.doubt(&outcome, true);
    // an error of `flow` comes first: a request to an exited lb would only fail
    let flow = flow?;
    closed?;
    stage.check_in_charge(arm)?;
    stage.progress.say(&format!(
        "{what}: {} responses in {:.2} s, {:.0}/s",
        total.answered,
        total.seconds(),
        total.rps()
    ));
    match flow {
        Flow::Interrupted => Err(ExperimentError::Interrupted(format!("in {what}"))),
        _ => Ok(()),
    }
}
