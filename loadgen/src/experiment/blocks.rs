//! Arms side by side in blocks, within one life of lb: B and A4.
//!
//! In each block every arm takes over once, in an order that is drawn. After its swap it gets the block's sequence of requests from its
//! beginning; the wash-out of it is not counted, the segment is. So arms of a block face the same requests at the same distances, and
//! none of them meets a queue that another left behind. All of it is one stretch of accounting.

use std::time::{Duration, Instant};

use super::calibration::{Rated, engine_plan, rated};
use super::conductor::{Conductor, Flow};
use super::judge;
use super::plan::{ArmPlan, BlockPlan, LoadPlan, Plan};
use super::record::{About, Record};
use super::run::{Declared, ExperimentError};
use super::seeds::Seeds;
use super::stage::{Stage, client_count};
use crate::lab::{ClientCount, Snapshot};
use crate::load::Stop;
use crate::model::{CellKey, Comparison, Load, Severity};
use crate::statistics::{ArmBlocks, Looks, Orders, StopRule, is_invalid, precision};

/// What ending and reporting take of the budget.
const RESERVE: Duration = Duration::from_secs(5);
const WHOLE: &str = "whole run";

/// What all segments share.
struct Course<'a> {
    plan: &'a Plan,
    blocks: &'a BlockPlan,
    rated: Rated,
    pool: Vec<String>,
    declared: &'a Declared,
    doubts: Vec<String>,
    client: ClientCount,
}

/// Answers the comparison over the blocks that were completed, also if the run was interrupted.
pub(super) fn run(
    stage: &mut Stage,
    plan: &Plan,
    blocks: &BlockPlan,
    seeds: &Seeds,
    declared: &Declared,
    (record, load, compared): (&mut Record, &mut Load, &mut Option<Comparison>),
) -> Result<(), ExperimentError> {
    let LoadPlan::Open { outstanding, .. } = plan.load else { return Err(ExperimentError::NotOpen) };
    let pool = stage.resize(*plan.sizes.first().unwrap_or(&3))?;
    let rated = rated(stage, plan, seeds)?;
    *load = super::run::open_load(&rated, outstanding);
    let ledger = stage.open_ledger(WHOLE)?;
    let mut course = Course { plan, blocks, rated, pool, declared, doubts: Vec::new(), client: ClientCount::default() };
    let ended = course.go_on(stage, seeds, record);
    let closed = stage.close_ledger(ledger, WHOLE, course.client);
    // told once, not once for each segment
    if let [first, ..] = course.doubts.as_slice() {
        let of = format!("in {} of {} segments, such as {first}", course.doubts.len(), record.cells.len());
        stage.doubt(&[of]);
    }

    let (completed, stopped) = match &ended {
        Ok(ended) => ended.clone(),
        Err(_) => (complete_blocks(record, plan.arms.len()), "it was interrupted".to_owned()),
    };
    // where no block is whole, what there is is all there is
    if completed > 0 {
        record.drop_blocks_after(completed);
    }
    if completed > 0 && plan.arms.len() > 1 {
        let comparison = judge::comparison(record, &plan.arms, blocks, completed, stopped, seeds.bootstrap);
        if let Some(drift) = comparison.drift.as_ref().filter(|drift| is_invalid(drift)) {
            let reason = format!(
                "{} of {} changed by {:+.0} % from the first block to the last: something else was going on",
                comparison.primary,
                comparison.baseline,
                (drift.ratio - 1.0) * 100.0
            );
            stage.mark(Severity::Invalid, "drift", reason);
        }
        *compared = Some(comparison);
    }
    ended?;
    closed.map(drop)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Blocks in which every arm has a cell.
fn complete_blocks(record: &Record, arms: usize) -> u32 {
    let cells_of = |block: u32| record.cells.iter().filter(|cell| cell.block == block).count();
    (1..).take_while(|block| cells_of(*block) == arms).last().unwrap_or(0)
}

// === impl Course ===

impl Course<'_> {
    /// Block after block until it is enough; answers how many, and why it stopped.
    fn go_on(
        &mut self,
        stage: &mut Stage,
        seeds: &Seeds,
        record: &mut Record,
    ) -> Result<(u32, String), ExperimentError> {
        let rule = StopRule { half_width: self.blocks.half_width, budget_ms: millis(self.plan.budget) };
        let mut looks = Looks::new(rule);
        let period = Orders::period(self.plan.arms.len()) as u32;
        let mut square_began = Instant::now();
        for (number, order) in (1..).zip(Orders::seeded(seeds.order, self.plan.arms.len())) {
            for &arm in &order {
                self.segment(stage, &self.plan.arms[arm], number, seeds.of_block(number), record)?;
            }
            stage.progress.say(&format!("block {number} done"));
            // only whole squares are balanced
            if number % period > 0 {
                continue;
            }
            let precision = self.precision(record, number);
            if let Some(precision) = precision {
                let width = format!("widest interval of {}: ±{:.1} %", self.blocks.primary, precision * 100.0);
                stage.progress.say(&width);
            }
            let square_ms = millis(square_began.elapsed());
            square_began = Instant::now();
            let stop = looks.look(precision, stage.now_ms() + millis(RESERVE), square_ms);
            if let Some(stopped) = rule.why(stop) {
                return Ok((number, stopped));
            }
        }
        unreachable!("orders never end")
    }

    /// One arm's turn.
    fn segment(
        &mut self,
        stage: &mut Stage,
        arm: &ArmPlan,
        block: u32,
        seed: u64,
        record: &mut Record,
    ) -> Result<(), ExperimentError> {
        stage.swap(arm)?;
        let retries = Snapshot::take(&stage.balancer.admin)?.retries();
        let stop = Stop::AfterTime(self.blocks.segment);
        let mut engine = engine_plan(stage, self.plan, self.rated.arrivals, stop, seed);
        engine.warm_up = self.blocks.wash_out;
        let mut conductor = Conductor::start(stage, engine, &format!("block {block}, {}", arm.label))?;
        let flow = conductor.until(None);
        let began_ms = conductor.began_ms;
        let (outcome, watch) = conductor.finish()?;
        let part = client_count(outcome.warm_up.iter().chain(&outcome.segments));
        self.client.sent += part.sent;
        self.client.uncertain += part.uncertain;
        if flow? == Flow::Interrupted {
            return Err(ExperimentError::Interrupted(format!("in block {block}")));
        }
        if !outcome.doubts.is_empty() {
            self.doubts.push(format!("block {block}, {}: {}", arm.label, outcome.doubts.join("; ")));
        }
        stage.check_in_charge(arm)?;
        let law = judge::law(self.declared, self.plan, arm, &self.pool);
        let retried = Snapshot::take(&stage.balancer.admin)?.retries().saturating_sub(retries);
        let about = About {
            key: CellKey { arm: arm.label.clone(), n: self.pool.len() as u32, block },
            pool: &self.pool,
            law: law.as_ref(),
            asked_rps: Some(self.rated.rps),
            retries: Some(retried),
            began_ms,
        };
        record.keep(about, &outcome.total(), &outcome, &watch);
        Ok(())
    }

    /// How wide the widest interval of the primary measure is by now.
    fn precision(&self, record: &Record, blocks: u32) -> Option<f64> {
        let numbers = |arm: &ArmPlan| judge::numbers(record, &arm.label, &self.blocks.primary, blocks);
        let [baseline, others @ ..] = self.plan.arms.as_slice() else { return None };
        let others: Vec<(&str, Vec<Option<f64>>)> =
            others.iter().map(|arm| (arm.label.as_str(), numbers(arm))).collect();
        let others: Vec<ArmBlocks<'_>> = others.iter().map(|(arm, numbers)| ArmBlocks { arm, numbers }).collect();
        precision(&numbers(baseline), &others, judge::settings(self.blocks))
    }
}
