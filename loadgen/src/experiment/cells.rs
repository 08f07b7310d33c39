//! Arms and sizes one after the other, a closed loop for each: A1 and A2.

use super::calibration::engine_plan;
use super::conductor::{Conductor, Flow};
use super::judge;
use super::plan::{LoadPlan, Plan};
use super::probe;
use super::record::{About, Record};
use super::run::{Declared, ExperimentError};
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
    let LoadPlan::Closed { connections, requests } = plan.load else { return Err(ExperimentError::NotOpen) };
    for arm in &plan.arms {
        stage.swap(arm)?;
        let mut before = None;
        for &n in &plan.sizes {
            let pool = stage.resize(n)?;
            // where keys have homes, count how many lose theirs
            if declared.is_keyed(&arm.strategy) && plan.sizes.len() > 1 {
                let homes = probe::homes(stage, &plan.requests.path)?;
                if let Some((from, before)) = &before {
                    disruptions.push(disruption(&arm.label, (*from, before), (n, &homes)));
                }
                before = Some((n, homes));
            }
            let what = if plan.sizes.len() > 1 { format!("{}, N = {n}", arm.label) } else { arm.label.clone() };
            let ledger = stage.open_ledger(&what)?;
            let arrivals = Arrivals::Closed { connections: connections as usize };
            let engine = engine_plan(stage, plan, arrivals, Stop::AfterRequests(requests), seeds.requests);
            let mut conductor = Conductor::start(stage, engine, &what)?;
            let flow = conductor.until(None)?;
            let began_ms = conductor.began_ms;
            let (outcome, watch) = conductor.finish()?;
            // what was measured is kept, whatever may be said of it
            let closed = stage.close_ledger(ledger, &what, client_count(outcome.segments.iter()));
            let law = judge::law(declared, plan, arm, &pool);
            let about = About {
                key: CellKey { arm: arm.label.clone(), n, block: 1 },
                pool: &pool,
                law: law.as_ref(),
                asked_rps: None,
                retries: closed.as_ref().ok().copied(),
                began_ms,
            };
            let total = outcome.total();
            record.keep(about, &total, &outcome, &watch);
            stage.doubt(&outcome.doubts);
            closed?;
            stage.check_in_charge(arm)?;
            stage.progress.say(&format!(
                "{what}: {} answered in {:.2} s, {:.0}/s",
                total.answered,
                total.seconds(),
                total.rps()
            ));
            if flow == Flow::Interrupted {
                return Err(ExperimentError::Interrupted(format!("in {what}")));
            }
        }
    }
    Ok(())
}
