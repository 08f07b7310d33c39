//! Arms side by side in blocks, within one life of lb: B and A4.
//!
//! In each block every arm takes over once, in an order that is drawn. After its swap it gets the block's sequence of requests from its
//! beginning; the wash-out of it is not counted, the segment is. So arms of a block face the same requests at the same distances, and
//! none of them meets a queue that another left behind. All of it is one stretch of accounting.

use std::time::{Duration, Instant};

use super::arms::Declared;
use super::calibration::{Rated, engine_plan, rated};
use super::conductor::{Conductor, Flow};
use super::judge;
use super::plan::{ArmPlan, BlockPlan, LoadPlan, Plan};
use super::record::{About, Record};
use super::run::ExperimentError;
use super::seeds::Seeds;
use super::stage::{Stage, client_count};
use crate::lab::{ClientCount, Snapshot};
use crate::load::Stop;
use crate::model::{CellKey, Comparison, Conclusion, Load, Mark, Severity};
use crate::report::measure_name;
use crate::statistics::{ArmBlocks, Looks, Orders, StopRule, blocks_needed, half_widths, is_invalid, widest};
use crate::view::{self, Precision};

/// What ending and reporting take of the budget.
const RESERVE: Duration = Duration::from_secs(5);
/// Up to this share of an arm's segments may be in doubt. A machine hiccups, and then whoever is in charge has a bad second, which the
/// median over blocks does not follow; what befalls more of them is no hiccup, and falls to one arm sooner than to another.
const DOUBTED_SHARE: f64 = 0.1;
const WHOLE: &str = "whole run";

/// What all segments share.
struct Course<'a> {
    plan: &'a Plan,
    blocks: &'a BlockPlan,
    rated: Rated,
    pool: Vec<String>,
    declared: &'a Declared,
    doubts: Vec<Doubt>,
    client: ClientCount,
}

/// A segment in which the generator was in doubt of itself.
struct Doubt {
    arm: String,
    what: String,
}

/// One arm's place in one block.
struct Turn<'a> {
    block: u32,
    at: usize,
    seed: u64,
    /// Who follows within the block.
    next: Option<&'a str>,
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
    *load = super::described::open_load(&rated, outstanding);
    let ledger = stage.open_ledger(WHOLE)?;
    let mut course = Course { plan, blocks, rated, pool, declared, doubts: Vec::new(), client: ClientCount::default() };
    course.tell_precision(stage, &vec![None; plan.arms.len().saturating_sub(1)]);
    let ended = course.go_on(stage, seeds, record);
    let closed = stage.close_ledger(ledger, WHOLE, course.client);
    // told once, not once for each segment
    let of = |arm: &ArmPlan| record.cells.iter().filter(|cell| cell.arm == arm.label).count();
    let segments: Vec<(&str, usize)> = plan.arms.iter().map(|arm| (arm.label.as_str(), of(arm))).collect();
    let (severity, finding) = generator(&course.doubts, &segments);
    if severity != Severity::Passed {
        stage.progress.say(&format!("doubtful: {finding}"));
    }
    stage.mark(Mark { severity, ..Mark::invalid("generator", finding, &Conclusion::OF_TIME) });

    let (completed, stopped) = match &ended {
        Ok(ended) => ended.clone(),
        Err(_) => (complete_blocks(record, plan.arms.len()), "it was interrupted".to_owned()),
    };
    // where no block is whole, what there is is all there is
    if completed > 0 {
        record.drop_blocks_after(completed);
    }
    if completed > 0 && plan.arms.len() > 1 {
        let comparison = judge::comparison(record, &plan.arms, blocks, completed, stopped);
        if let Some(drift) = comparison.drift.as_ref().filter(|drift| is_invalid(drift)) {
            let reason = format!(
                "{} of {} changed by {:+.0} % from the first block to the last: something else was going on",
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

/// What the doubts of single segments mean for all of them. `segments`: how many each arm had.
fn generator(doubts: &[Doubt], segments: &[(&str, usize)]) -> (Severity, String) {
    let all: usize = segments.iter().map(|(_, count)| count).sum();
    let [first, ..] = doubts else {
        return (Severity::Passed, format!("it kept to its schedule in all {all} segments"));
    };
    let share = |&(arm, count): &(&str, usize)| {
        doubts.iter().filter(|doubt| doubt.arm == arm).count() as f64 / count.max(1) as f64
    };
    let severity = match segments.iter().map(share).fold(0.0, f64::max) > DOUBTED_SHARE {
        true => Severity::Invalid,
        false => Severity::Warning,
    };
    let which = if doubts.len() == 1 { "" } else { "such as " };
    (severity, format!("in {} of {all} segments, {which}{}", doubts.len(), first.what))
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
            for (at, &arm) in order.iter().enumerate() {
                let next = order.get(at + 1).map(|next| self.plan.arms[*next].label.as_str());
                let turn = Turn { block: number, at, seed: seeds.of_block(number), next };
                self.segment(stage, &self.plan.arms[arm], turn, record)?;
            }
            let widths = self.half_widths(record, number);
            self.tell_precision(stage, &widths);
            stage.progress.say(&format!("block {number} done"));
            // only whole squares are balanced
            if number % period > 0 {
                continue;
            }
            let precision = widest(&widths);
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
        Turn { block, at, seed, next }: Turn<'_>,
        record: &mut Record,
    ) -> Result<(), ExperimentError> {
        stage.swap(arm)?;
        let retries = Snapshot::take(&stage.balancer.admin)?.retries();
        let stop = Stop::AfterTime(self.blocks.segment);
        let mut engine = engine_plan(stage, self.plan, arm, self.rated.arrivals, stop, seed);
        engine.warm_up = self.blocks.wash_out;
        let place = format!("block {block}, arm {} of {}", at + 1, self.plan.arms.len());
        let mut conductor = Conductor::start(stage, engine, &place, ("wash-out", "segment"))?;
        let end = Instant::now() + self.blocks.wash_out + self.blocks.segment;
        conductor.comes(end, next.map_or_else(|| format!("end of block {block}"), |next| format!("{next} takes over")));
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
            let what = format!("block {block}, {}: {}", arm.label, outcome.doubts.join("; "));
            self.doubts.push(Doubt { arm: arm.label.clone(), what });
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

    /// How wide the intervals of the primary measure are by now, for all arms but the baseline.
    fn half_widths(&self, record: &Record, blocks: u32) -> Vec<Option<f64>> {
        let numbers = |arm: &ArmPlan| judge::numbers(record, &arm.label, &self.blocks.primary, blocks);
        let [baseline, others @ ..] = self.plan.arms.as_slice() else { return Vec::new() };
        let others: Vec<(&str, Vec<Option<f64>>)> =
            others.iter().map(|arm| (arm.label.as_str(), numbers(arm))).collect();
        let others: Vec<ArmBlocks<'_>> = others.iter().map(|(arm, numbers)| ArmBlocks { arm, numbers }).collect();
        half_widths(&numbers(baseline), &others, judge::settings(self.blocks))
    }

    fn tell_precision(&self, stage: &Stage, widths: &[Option<f64>]) {
        let [baseline, others @ ..] = self.plan.arms.as_slice() else { return };
        let arm = |(arm, half_width): (&ArmPlan, &Option<f64>)| view::Arm {
            label: arm.label.clone(),
            half_width: *half_width,
        };
        let precision = Precision {
            measure: format!("{} over {}", measure_name(&self.blocks.primary), baseline.label),
            target: self.blocks.half_width,
            blocks_needed: blocks_needed(others.len(), judge::settings(self.blocks)),
            arms: others.iter().zip(widths).map(arm).collect(),
        };
        stage.progress.board().tell(|facts| facts.precision = Some(precision));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hiccup_is_a_warning_and_many_of_one_arm_make_the_run_invalid() {
        let segments = [("a", 20), ("b", 20)];
        let of = |arm: &str, count: usize| {
            (0..count).map(|n| Doubt { arm: arm.into(), what: format!("block {n}") }).collect::<Vec<_>>()
        };
        let judge = |doubts: Vec<Doubt>| generator(&doubts, &segments).0;
        assert_eq!(judge(of("a", 0)), Severity::Passed);
        assert_eq!(judge(of("a", 2)), Severity::Warning);
        assert_eq!(judge(of("a", 2).into_iter().chain(of("b", 2)).collect()), Severity::Warning);
        assert_eq!(judge(of("b", 3)), Severity::Invalid);
    }
}
