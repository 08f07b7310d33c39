//! Arms in blocks, with one lb process: B and A4.
//!
//! In each block every arm is in charge once, in random order. After its swap it gets the block's sequence of requests
//! from the beginning. The wash-out is not counted, the segment is. So all arms of a block get the same requests with
//! the same gaps, and no arm gets the queue of the arm before it. The whole run is one stretch of accounting.
//!
//! Faults are the same in every segment: their times count from its start, and they are undone at its end. A segment
//! with a late fault is repeated.
//!
//! A block with a late generator is dropped in all arms ([`Lateness`]). While the budget allows, further blocks replace
//! it.

use std::time::{Duration, Instant};

use super::arms::Declared;
use super::calibration::{Rated, engine_plan, judged, rated};
use super::conductor::{Conductor, Flow};
use super::faults::{self, Script};
use super::judge::{self, Measured};
use super::late::Lateness;
use super::plan::{ArmPlan, BlockPlan, ENDING, LoadPlan, Plan};
use super::record::{About, Record};
use super::run::ExperimentError;
use super::seeds::Seeds;
use super::stage::{Stage, client_count};
use crate::lab::{ClientCount, Ledger, Snapshot};
use crate::load::{LEAD_NS, Stop};
use crate::model::{CellKey, Comparison, Conclusion, Load, Mark, Severity};
use crate::report::measure_name;
use crate::statistics::{Looks, Orders, StopRule, Width, fewest_blocks, is_invalid, precision};
use crate::view::{self, Precision};

/// The time of a turn apart from wash-out and segment: the swap, and the counts before and after.
const TURN: Duration = Duration::from_millis(150);
/// A fault may be late by this time, or by this part of a segment, if that is longer.
const FAULT_LATE_MAX: Duration = Duration::from_millis(50);
const FAULT_LATE_PART: u32 = 50;
/// The most tries of a segment.
const TRIES: u32 = 5;
const WHOLE: &str = "whole run";

/// The data that all segments share.
struct Course<'a> {
    plan: &'a Plan,
    blocks: &'a BlockPlan,
    rated: Rated,
    pool: Vec<String>,
    declared: &'a Declared,
    lateness: Lateness,
    client: ClientCount,
    ledger: Ledger,
    /// The start of the first block.
    began: Instant,
}

/// The turn of one arm in one block.
#[derive(Clone, Copy)]
struct Turn<'a> {
    block: u32,
    at: usize,
    seed: u64,
    /// The label of the next arm in the block.
    next: Option<&'a str>,
}

/// Runs the blocks. The comparison is over the complete blocks, also if the run was interrupted.
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
    *load = super::described::open_load(&rated, outstanding);
    let blocks = &judged(stage, plan, blocks, &rated)?;
    let mut course = Course {
        plan,
        blocks,
        rated,
        pool,
        declared,
        lateness: Lateness::default(),
        client: ClientCount::default(),
        ledger: stage.open_ledger(WHOLE)?,
        began: Instant::now(),
    };
    course.tell_precision(stage, record, 0);
    let ended = course.go_on(stage, seeds, record);
    let Course { ledger, lateness, client, .. } = course;
    let closed = stage.close_ledger(ledger, WHOLE, client);
    let (completed, stopped) = match &ended {
        Ok(ended) => ended.clone(),
        Err(_) => (complete_blocks(record, plan.arms.len()), "the run was interrupted".to_owned()),
    };
    // one mark for the run, not one for each segment
    let labels: Vec<&str> = plan.arms.iter().map(|arm| arm.label.as_str()).collect();
    for mark in lateness.marks(&labels, completed.max(1)) {
        if mark.severity != Severity::Passed {
            stage.progress.say(&format!("doubtful: {}", mark.reason));
        }
        stage.mark(mark);
    }
    // without a complete block, the cells of the first one are kept
    if completed > 0 {
        record.drop_blocks_after(completed);
    }
    if completed > 0 && plan.arms.len() > 1 {
        let dropped = lateness.dropped(completed);
        let measured = Measured { record, arms: &plan.arms, plan: blocks, blocks: completed, dropped: &dropped };
        let comparison = measured.comparison(stopped);
        if let Some(drift) = comparison.drift.as_ref().filter(|drift| is_invalid(drift)) {
            let reason = format!(
                "{} of {} changed by {:+.0} % from the first block to the last: the machine was busy with something else",
                comparison.primary,
                comparison.baseline,
                (drift.ratio - 1.0) * 100.0
            );
            stage.mark(Mark::invalid("drift", reason, &Conclusion::OF_TIME));
        }
        *compared = Some(comparison);
    }
    ended?;
    closed.map(drop)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The number of complete blocks. In a complete block every arm has a cell.
fn complete_blocks(record: &Record, arms: usize) -> u32 {
    let cells_of = |block: u32| record.cells.iter().filter(|cell| cell.block == block).count();
    (1..).take_while(|block| cells_of(*block) == arms).last().unwrap_or(0)
}

// === impl Course ===

impl Course<'_> {
    /// Runs block after block until the stop rule holds. Returns the number of blocks and the reason.
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
            for (at, &arm) in order.iter().enumerate() {
                let next = order.get(at + 1).map(|next| self.plan.arms[*next].label.as_str());
                let turn = Turn { block: number, at, seed: seeds.of_block(number), next };
                self.segment(stage, &self.plan.arms[arm], turn, record)?;
            }
            let widths = self.tell_precision(stage, record, number);
            stage.progress.say(&format!("block {number} done"));
            // only complete squares of orders are balanced
            if number % period > 0 {
                continue;
            }
            let square_ms = millis(square_began.elapsed());
            let precision = precision(&widths, self.family(), judge::settings(self.blocks));
            square_began = Instant::now();
            let stop = looks.look(precision, stage.now_ms() + millis(ENDING), square_ms);
            if let Some(stopped) = rule.why(stop) {
                return Ok((number, stopped));
            }
        }
        unreachable!("orders never end")
    }

    /// Runs the turn of one arm. A turn with a late fault is repeated: its arm would have fewer requests during the
    /// fault than the others.
    fn segment(
        &mut self,
        stage: &mut Stage,
        arm: &ArmPlan,
        turn: Turn<'_>,
        record: &mut Record,
    ) -> Result<(), ExperimentError> {
        stage.swap(arm)?;
        let mut tries = 1;
        while let Some(late) = self.turn(stage, arm, turn, record)? {
            let what = format!("in block {}, with {}, a fault {late}", turn.block, arm.label);
            if tries == TRIES {
                return Err(ExperimentError::LateFault(format!("{what}, at the last of {TRIES} tries")));
            }
            tries += 1;
            stage.progress.say(&format!("{what}: the segment is repeated"));
            stage.swap(arm)?;
        }
        Ok(())
    }

    /// Runs and keeps the segment. If one of its faults was late, keeps nothing and returns by how much, in words.
    fn turn(
        &mut self,
        stage: &mut Stage,
        arm: &ArmPlan,
        Turn { block, at, seed, next }: Turn<'_>,
        record: &mut Record,
    ) -> Result<Option<String>, ExperimentError> {
        let retries = Snapshot::take(&stage.balancer.admin)?.retries();
        let stop = Stop::AfterTime(self.blocks.segment);
        let mut engine = engine_plan(stage, self.plan, arm, self.rated.arrivals, stop, seed);
        engine.warm_up = self.blocks.wash_out;
        engine.hot_keys = faults::hot_keys(&self.plan.faults);
        let place = format!("block {block}, arm {} of {}", at + 1, self.plan.arms.len());
        let mut conductor = Conductor::start(stage, engine, &place, ("wash-out", "segment"))?;
        // the earliest send time of a measured request
        let start = conductor.began + Duration::from_nanos(LEAD_NS) + self.blocks.wash_out;
        let next = next.map_or_else(|| format!("end of block {block}"), |next| format!("{next} takes over"));
        let mut script = Script::new(&self.plan.faults, &self.pool);
        let flow = script.play(&mut conductor, &mut self.ledger, start, (start + self.blocks.segment, &next));
        let began_ms = conductor.began_ms;
        let put_right = script.put_right(conductor.stage);
        let (outcome, watch) = conductor.finish()?;
        let part = client_count(outcome.warm_up.iter().chain(&outcome.segments));
        self.client.sent += part.sent;
        self.client.uncertain += part.uncertain;
        if flow? == Flow::Interrupted {
            return Err(ExperimentError::Interrupted(format!("in block {block}")));
        }
        put_right?;
        let fault_late_max = FAULT_LATE_MAX.max(self.blocks.segment / FAULT_LATE_PART);
        match script.late() {
            None => return Ok(Some("did not begin".to_owned())),
            Some(late) if late > fault_late_max => return Ok(Some(format!("came {} ms late", late.as_millis()))),
            Some(_) => {}
        }
        if let Some(late) = self.lateness.note(block, &arm.label, &outcome) {
            stage.progress.say(&format!(
                "the generator was late, {late}: the latencies of block {block} do not count, in any arm"
            ));
        }
        stage.check_in_charge(arm)?;
        // a declaration is about a healthy pool, so it does not apply with faults
        let is_calm = self.plan.faults.is_empty();
        let law = is_calm.then(|| judge::law(stage, self.declared, self.plan, arm, &self.pool, record)).flatten();
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
        Ok(None)
    }

    /// The number of comparisons that Holm's correction covers.
    fn family(&self) -> usize {
        judge::family_size(self.blocks, self.plan.arms.len())
    }

    /// Shows the widths of the intervals of the primary measure after `blocks` blocks, and their expected widths at the
    /// end of the budget.
    fn tell_precision(&self, stage: &Stage, record: &Record, blocks: u32) -> Vec<Option<Width>> {
        let [baseline, others @ ..] = self.plan.arms.as_slice() else { return Vec::new() };
        if others.is_empty() {
            return Vec::new();
        }
        let dropped = self.lateness.dropped(blocks);
        let measured = Measured { record, arms: &self.plan.arms, plan: self.blocks, blocks, dropped: &dropped };
        let widths = measured.half_widths();
        let possible = self.blocks_possible(stage, blocks);
        // assumes that future blocks are dropped as often as past ones
        let usable = |possible: u32| match blocks {
            0 => possible,
            blocks => possible - possible * dropped.len() as u32 / blocks,
        };
        let arm = |(arm, width): (&ArmPlan, &Option<Width>)| view::Arm {
            label: arm.label.clone(),
            half_width: width.map(|width| width.half),
            expected: width.map(|width| width.expected(usable(possible) as usize)),
        };
        let precision = Precision {
            measure: format!("{} over {}", measure_name(&self.blocks.primary), baseline.label),
            target: self.blocks.half_width,
            blocks_needed: fewest_blocks(self.family(), self.blocks.confidence),
            blocks_possible: possible as usize,
            arms: others.iter().zip(&widths).map(arm).collect(),
        };
        if blocks.is_multiple_of(Orders::period(self.plan.arms.len()) as u32) {
            stage.progress.say(&precision.in_words());
        }
        stage.progress.board().tell(|facts| facts.precision = Some(precision));
        widths
    }

    /// The number of blocks that the budget allows: complete squares, at least one.
    fn blocks_possible(&self, stage: &Stage, done: u32) -> u32 {
        let arms = self.plan.arms.len() as u32;
        let block = match done {
            0 => (self.blocks.wash_out + self.blocks.segment + TURN) * arms,
            done => self.began.elapsed() / done,
        };
        let left = self.plan.budget.saturating_sub(ENDING).saturating_sub(stage.origin.elapsed());
        squares(arms, done, left.as_secs_f64() / block.as_secs_f64().max(1e-3))
    }
}

/// The number of blocks in complete squares: `done` and those that fit into `room`. The current square is always
/// completed.
fn squares(arms: u32, done: u32, room: f64) -> u32 {
    let period = Orders::period(arms as usize) as u32;
    let fits = (f64::from(done) + room.max(0.0)).min(f64::from(u32::MAX / 2)) as u32 / period * period;
    fits.max(done.max(1).div_ceil(period) * period)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_has_room_for_complete_squares_and_at_least_one() {
        // b: three arms, six orders
        assert_eq!([0.0, 5.9, 6.0, 14.3].map(|room| squares(3, 0, room)), [6, 6, 6, 12]);
        assert_eq!(
            [(6, 8.3), (7, 0.5), (12, 2.0), (13, 1.0)].map(|(done, room)| squares(3, done, room)),
            [12, 12, 12, 18]
        );
        assert_eq!([(0, 3.0), (1, 0.0), (4, 1.9)].map(|(done, room)| squares(2, done, room)), [2, 2, 4]);
    }
}
