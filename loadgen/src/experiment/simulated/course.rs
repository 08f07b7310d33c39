//! The course of a plan in virtual time: its jobs one after the other, and their results as cells.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use lb_strategy_simulator::{Arrivals, Job, JobError, Law as TimeLaw, Results, Stopped, World};

use super::super::collected::Collected;
use super::super::judge::{self, Measured};
use super::super::plan::{ArmPlan, BlockPlan, Judged, Law, LoadPlan, Plan, Rate};
use super::super::run::ExperimentError;
use super::super::seeds::Seeds;
use super::libraries::Libraries;
use super::world::{CellLoad, left_out, world};
use super::{Simulator, cells};
use crate::lab::Interrupt;
use crate::model::{CellKey, Conclusion, Load, Mark};
use crate::report::format;
use crate::statistics::{Looks, Orders, StopRule, precision};

pub(super) struct Course<'a> {
    plan: &'a Plan,
    simulator: &'a Simulator,
    libraries: &'a Libraries,
    copies: &'a Path,
    interrupt: &'a Interrupt,
    is_quiet: bool,
    pub(super) marks: Vec<Mark>,
    /// Arms whose library crashed or did not return, with the reason.
    failed: BTreeMap<String, String>,
    /// Arms with a mark about overload.
    overloaded: BTreeSet<String>,
    /// The virtual time of all cells so far.
    clock: Duration,
}

/// The turn of an arm.
#[derive(Clone, Copy)]
struct Turn<'a> {
    arm: &'a ArmPlan,
    n: u32,
    block: u32,
    seed: u64,
}

/// The arrivals of an open loop.
struct Rated {
    arrivals: Arrivals,
    rps: f64,
    capacity_rps: Option<f64>,
}

/// With this load, queues grow until the end.
const FULL: f64 = 1.0;

// === impl Course ===

impl<'a> Course<'a> {
    /// An error if an arm has no library.
    pub(super) fn new(
        plan: &'a Plan,
        simulator: &'a Simulator,
        libraries: &'a Libraries,
        copies: &'a Path,
        interrupt: &'a Interrupt,
        is_quiet: bool,
    ) -> Result<Self, ExperimentError> {
        plan.arms.iter().try_for_each(|arm| libraries.find(&arm.strategy).map(drop))?;
        let mut marks = Vec::new();
        let left_out = left_out(plan);
        if !left_out.is_empty() {
            let reason = format!("these sections of [lb] have no effect in virtual time: {}", left_out.join(", "));
            marks.push(Mark::warning("left_out", reason));
        }
        let (failed, overloaded) = (BTreeMap::new(), BTreeSet::new());
        let clock = Duration::ZERO;
        Ok(Self { plan, simulator, libraries, copies, interrupt, is_quiet, marks, failed, overloaded, clock })
    }

    pub(super) fn run(&mut self, seeds: &Seeds, collected: &mut Collected) -> Result<(), ExperimentError> {
        if let Some(cut) = self.plan.quick_in_words() {
            self.warn("quick", cut);
        }
        match (&self.plan.blocks, &self.plan.load) {
            (Some(blocks), _) => self.blocks(blocks, seeds, collected)?,
            (None, LoadPlan::Open { .. }) => self.timeline(seeds, collected)?,
            (None, LoadPlan::Closed { .. }) => self.closed(seeds, collected)?,
        }
        match self.failed.first_key_value() {
            Some((label, reason)) => Err(ExperimentError::NoResults { label: label.clone(), reason: reason.clone() }),
            None => Ok(()),
        }
    }

    /// Runs each arm for one request.
    pub(super) fn try_arms(&mut self) -> Result<(), ExperimentError> {
        let load = match self.plan.load {
            LoadPlan::Closed { .. } => self.closed_load(1),
            LoadPlan::Open { .. } => {
                let Rated { arrivals, .. } = self.rated()?;
                CellLoad { arrivals, warm_up: Duration::ZERO, duration: Duration::ZERO, requests: 1 }
            }
        };
        for arm in &self.plan.arms {
            for &n in &self.plan.sizes {
                self.job(Turn { arm, n, block: 1, seed: 1 }, &load)?;
            }
        }
        match self.failed.pop_first() {
            Some((label, reason)) => Err(ExperimentError::Arm { label, reason }),
            None => Ok(()),
        }
    }

    /// Block after block until the stop rule holds. The budget is virtual time, so a plan has as many blocks as live.
    fn blocks(&mut self, blocks: &BlockPlan, seeds: &Seeds, collected: &mut Collected) -> Result<(), ExperimentError> {
        let rated = self.rated()?;
        collected.load = self.load_of(&rated);
        let blocks = &self.judged(blocks, rated.rps)?;
        let arms = self.plan.arms.len();
        let load =
            CellLoad { arrivals: rated.arrivals, warm_up: blocks.wash_out, duration: blocks.segment, requests: 0 };
        let rule = StopRule { half_width: blocks.half_width, budget_ms: millis(self.plan.for_load()) };
        let (mut looks, period) = (Looks::new(rule), Orders::period(arms) as u32);
        let block_ms = millis(blocks.turn()) * arms as u64;
        let mut ended = Ok("it was interrupted".to_owned());
        let mut complete = 0;
        for (number, order) in (1..).zip(Orders::seeded(seeds.order, arms)) {
            let seed = seeds.of_block(number);
            let turn = |arm: usize| Turn { arm: &self.plan.arms[arm], n: self.plan.sizes[0], block: number, seed };
            let turns: Vec<Turn<'a>> = order.into_iter().map(turn).collect();
            if let Err(error) =
                turns.into_iter().try_for_each(|turn| self.cell(turn, &load, Some(rated.rps), collected))
            {
                ended = Err(error);
                break;
            }
            complete = number;
            self.say(&format!("block {number} done"));
            if !self.failed.is_empty() && self.judged_arms().is_none() {
                ended = Ok("too few arms have results".to_owned());
                break;
            }
            if !number.is_multiple_of(period) {
                continue;
            }
            let widths = self.measured(collected, blocks, number, |measured| measured.half_widths());
            let family = judge::family_size(blocks, self.judged_arms().map_or(1, |arms| arms.len()));
            let precision = precision(&widths.unwrap_or_default(), family, judge::settings(blocks));
            let stop = looks.look(precision, block_ms * u64::from(number), block_ms * u64::from(period));
            if let Some(why) = rule.why(stop) {
                ended = Ok(why);
                break;
            }
        }
        if complete > 0 {
            collected.record.drop_blocks_after(complete);
            let stopped = ended.as_ref().map_or_else(|_| "the run was interrupted".to_owned(), Clone::clone);
            collected.compared = self.measured(collected, blocks, complete, |measured| measured.comparison(stopped));
        }
        ended.map(drop)
    }

    /// Each arm once, with the faults at their times.
    fn timeline(&mut self, seeds: &Seeds, collected: &mut Collected) -> Result<(), ExperimentError> {
        let LoadPlan::Open { warm_up, duration, .. } = self.plan.load else { return Err(ExperimentError::NotOpen) };
        let rated = self.rated()?;
        collected.load = self.load_of(&rated);
        let share = self.plan.for_load() / self.plan.arms.len() as u32;
        let duration = duration.unwrap_or(share.saturating_sub(warm_up).max(self.plan.shortest()));
        let load = CellLoad { arrivals: rated.arrivals, warm_up, duration, requests: 0 };
        for arm in &self.plan.arms {
            let turn = Turn { arm, n: self.plan.sizes[0], block: 1, seed: seeds.requests };
            self.cell(turn, &load, Some(rated.rps), collected)?;
            self.say(&format!("{} done", arm.label));
        }
        Ok(())
    }

    /// Arms and sizes one after the other, a closed loop for each.
    fn closed(&mut self, seeds: &Seeds, collected: &mut Collected) -> Result<(), ExperimentError> {
        let LoadPlan::Closed { requests, repeats, .. } = self.plan.load else { return Ok(()) };
        let load = self.closed_load(requests);
        for arm in &self.plan.arms {
            for &n in &self.plan.sizes {
                for block in 1..=repeats {
                    let seed = if block == 1 { seeds.requests } else { seeds.of_block(block) };
                    self.cell(Turn { arm, n, block, seed }, &load, None, collected)?;
                }
            }
            self.say(&format!("{} done", arm.label));
        }
        Ok(())
    }

    fn closed_load(&self, requests: u64) -> CellLoad {
        let clients = if let LoadPlan::Closed { connections, .. } = self.plan.load { connections } else { 1 };
        let arrivals = Arrivals::Closed { clients, think: TimeLaw::None };
        CellLoad { arrivals, warm_up: Duration::ZERO, duration: Duration::ZERO, requests }
    }

    /// Simulates and keeps a cell. An arm that failed before is left out.
    fn cell(
        &mut self,
        turn: Turn<'_>,
        load: &CellLoad,
        asked_rps: Option<f64>,
        collected: &mut Collected,
    ) -> Result<(), ExperimentError> {
        let label = &turn.arm.label;
        if self.failed.contains_key(label) {
            return Ok(());
        }
        let results = self.job(turn, load)?;
        if self.interrupt.is_raised() {
            return Err(ExperimentError::Interrupted(format!("in block {} of {label}", turn.block)));
        }
        let Some(results) = results else {
            let record = &mut collected.record;
            record.cells.retain(|cell| cell.arm != *label);
            record.latencies.retain(|key, _| key.arm != *label);
            return Ok(());
        };
        self.mark_overload(turn, &results);
        self.clock += load.warm_up;
        let key = CellKey { arm: label.clone(), n: turn.n, block: turn.block };
        cells::keep(&mut collected.record, key, asked_rps, millis(self.clock), &results);
        self.clock += Duration::from_nanos(results.measured.ns);
        Ok(())
    }

    /// The results of a job in a child; `None` if the library crashed or did not return.
    fn job(&mut self, turn: Turn<'_>, load: &CellLoad) -> Result<Option<Results>, ExperimentError> {
        let Turn { arm, n, seed, .. } = turn;
        let refused = |reason: String| ExperimentError::Arm { label: arm.label.clone(), reason };
        let world = world(self.plan, arm, n, load).map_err(refused)?;
        let job = Job {
            world,
            library: self.libraries.find(&arm.strategy)?,
            strategy: arm.strategy.clone(),
            options: serde_json::to_value(&arm.options).unwrap_or_default(),
            seed,
            allow_group_writable: self.plan.lb.get("allow_group_writable").is_some_and(|it| it.as_bool() == Some(true)),
        };
        let mut child = Command::new(&self.simulator.program);
        child.args(["simulate", "--job"]).arg(self.copies);
        match job.run_in(&mut child, self.simulator.limit) {
            Ok(results) => Ok(Some(results)),
            // Ctrl-C ends the child, too
            Err(_) if self.interrupt.is_raised() => Ok(None),
            Err(error @ (JobError::Crashed(_) | JobError::TookTooLong(_))) => {
                let reason = error.to_string();
                self.say(&format!("{}: {reason}", arm.label));
                let told = format!("{} has no results: {reason}", arm.label);
                // without the baseline nothing can be compared; without another arm the rest can
                self.marks.push(match arm.label == self.plan.arms[0].label {
                    true => Mark::invalid("library", told, &Conclusion::all()),
                    false => Mark::warning("library", told),
                });
                self.failed.insert(arm.label.clone(), reason);
                Ok(None)
            }
            Err(error) => Err(refused(error.to_string())),
        }
    }

    fn mark_overload(&mut self, turn: Turn<'_>, results: &Results) {
        let Some(Stopped::Overload { unfinished, after }) = &results.stopped else { return };
        if self.overloaded.insert(turn.arm.label.clone()) {
            let (label, unfinished) = (&turn.arm.label, format::count(*unfinished as u64));
            let reason = format!(
                "{label} was overloaded: {unfinished} requests had no end after {after} (load.outstanding_max), and the simulation stopped there"
            );
            self.say(&reason);
            self.marks.push(Mark::invalid("overload", reason, &Conclusion::all()));
        }
    }

    /// The rate of the plan. The capacity is that of the backends, and needs no calibration.
    fn rated(&mut self) -> Result<Rated, ExperimentError> {
        let LoadPlan::Open { law, rate, .. } = self.plan.load else { return Err(ExperimentError::NotOpen) };
        let capacity = self.capacity()?;
        let (rps, capacity_rps) = match (rate, capacity) {
            (Rate::Rps(rps), _) => (rps, None),
            (Rate::OfCapacity(part), Some(capacity)) => (part * capacity, Some(capacity)),
            (Rate::OfCapacity(_), None) => return Err(ExperimentError::NoCapacity),
        };
        if let Some(load) = capacity.map(|capacity| rps / capacity).filter(|load| *load >= FULL) {
            let percent = format::decimals(load * 100.0, 0);
            self.warn("load", format!("the load is {percent} % of the capacity: queues grow until the end"));
        }
        let arrivals = match law {
            Law::Poisson => Arrivals::Poisson { rps },
            Law::Constant => Arrivals::Constant { rps },
        };
        Ok(Rated { arrivals, rps, capacity_rps })
    }

    /// Requests per second that all backends can serve; `None` without a limit of concurrency.
    fn capacity(&self) -> Result<Option<f64>, ExperimentError> {
        let arm = &self.plan.arms[0];
        let one = CellLoad {
            arrivals: Arrivals::Constant { rps: 1.0 },
            warm_up: Duration::ZERO,
            duration: Duration::from_secs(1),
            requests: 0,
        };
        let plain = ArmPlan { cost_factor: 1.0, ..arm.clone() };
        let world = world(self.plan, &plain, self.plan.sizes[0], &one);
        let world = world.map_err(|reason| ExperimentError::Arm { label: arm.label.clone(), reason })?;
        Ok(World::load(&world).map(|load| 1.0 / load))
    }

    fn load_of(&self, rated: &Rated) -> Load {
        let outstanding_max = if let LoadPlan::Open { outstanding, .. } = self.plan.load { outstanding } else { 0 };
        let arrivals = match rated.arrivals {
            Arrivals::Constant { .. } => crate::model::Arrivals::Constant,
            _ => crate::model::Arrivals::Poisson,
        };
        Load::Open { arrivals, rate_rps: rated.rps, capacity_rps: rated.capacity_rps, outstanding_max }
    }

    /// The blocks with the verdicts that their segments allow at this rate.
    fn judged(&mut self, blocks: &BlockPlan, rps: f64) -> Result<BlockPlan, ExperimentError> {
        let law = if let LoadPlan::Open { law, .. } = self.plan.load { law } else { Law::Poisson };
        match blocks.judged(rps, law) {
            Judged::All => Ok(blocks.clone()),
            Judged::Fewer { blocks, left_out } => {
                self.warn("verdicts", left_out);
                Ok(*blocks)
            }
            Judged::Refused(why) => Err(ExperimentError::TooFewRequests(why)),
        }
    }

    /// The arms with results; `None` if the baseline or all others have none.
    fn judged_arms(&self) -> Option<Vec<ArmPlan>> {
        let has_results = |arm: &&ArmPlan| !self.failed.contains_key(&arm.label);
        let arms: Vec<ArmPlan> = self.plan.arms.iter().filter(has_results).cloned().collect();
        (arms.len() > 1 && has_results(&&self.plan.arms[0])).then_some(arms)
    }

    fn measured<T>(
        &self,
        collected: &Collected,
        plan: &BlockPlan,
        blocks: u32,
        look: impl FnOnce(&Measured<'_>) -> T,
    ) -> Option<T> {
        let arms = self.judged_arms()?;
        Some(look(&Measured { record: &collected.record, arms: &arms, plan, blocks, dropped: &[] }))
    }

    fn warn(&mut self, check: &str, reason: String) {
        self.say(&reason);
        self.marks.push(Mark::warning(check, reason));
    }

    fn say(&self, line: &str) {
        if !self.is_quiet {
            tell!("{line}");
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
