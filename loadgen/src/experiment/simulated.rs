//! A plan in virtual time: the same arms, seeds, blocks, statistics and report as live, with results from
//! `lb-strategy-simulator`.
//!
//! Each arm of each block is a [`Job`](lb_strategy_simulator::Job) in a child process, because a library may crash or
//! never return. Then that arm has no results, and the run continues with the others.
//!
//! Invariants: all arms of a block have the same seed, so they get the same requests. One seed gives the same cells in
//! every run: the number of blocks depends on virtual time, never on the clock of the machine.

mod cells;
mod course;
mod libraries;
mod world;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::collected::{Collected, Identity};
use super::described;
use super::host::HostWatch;
use super::plan::{ArmPlan, Plan};
use super::run::{ExperimentError, Finished};
use super::seeds::Seeds;
use crate::lab::{Interrupt, digest};
use crate::model::{self, Arm, Folder, Mark, PLAN_FILE, Program};
use course::Course;
use libraries::Libraries;

pub use lb_strategy_simulator::Job;

/// How simulations are run.
#[derive(Clone, Debug)]
pub struct Simulator {
    /// This loadgen. As `loadgen simulate --job DIR` it serves one job.
    pub program: PathBuf,
    /// Folders with libraries of strategies, before those of the plan and of lb.
    pub folders: Vec<PathBuf>,
    /// The time of the machine for one arm of one block.
    pub limit: Duration,
}

/// A plan for virtual time, with its folder and flags.
#[derive(Clone, Debug)]
pub struct Virtual {
    pub plan: Plan,
    pub simulator: Simulator,
    /// `None`: a random one.
    pub seed: Option<u64>,
    /// The run's folder. It must not hold a run yet.
    pub out: PathBuf,
    /// The command line, for the manifest.
    pub command: Vec<String>,
    pub is_quiet: bool,
}

/// The default of [`Simulator::limit`].
pub const LIMIT: Duration = Duration::from_secs(600);

// === impl Simulator ===

impl Simulator {
    /// With this program as the child.
    pub fn here(folders: Vec<PathBuf>, limit: Duration) -> std::io::Result<Self> {
        Ok(Self { program: std::env::current_exe()?, folders, limit })
    }
}

/// Runs the plan and writes its folder. An error means that there is nothing to write.
pub fn simulate(run: &Virtual, interrupt: &Interrupt) -> Result<Finished, ExperimentError> {
    let Virtual { plan, simulator, seed, out, command, is_quiet } = run;
    let folder = Folder::new(out);
    if folder.file("run.json").exists() {
        return Err(ExperimentError::Taken(out.clone()));
    }
    let (started, began) = (jiff::Timestamp::now(), Instant::now());
    let (host, seeds) = (HostWatch::begin(), Seeds::new(*seed));
    let copies = scratch()?;
    let libraries = Libraries::new(&simulator.folders, plan, &simulator.program);
    let mut course = Course::new(plan, simulator, &libraries, copies.path(), interrupt, *is_quiet)?;
    let mut collected = Collected::new(plan);
    let ended = course.run(&seeds, &mut collected).err();
    let Course { mut marks, .. } = course;
    if let (Some(_), true) = (&ended, collected.record.cells.is_empty()) {
        return Err(ended.unwrap_or(ExperimentError::NotOpen));
    }
    marks.push(Mark::passed("world", "virtual time: neither the machine nor a generator has a part in the times"));
    model::write_atomically(&folder.file(PLAN_FILE), plan.to_json().as_bytes())?;
    let arms = plan.arms.iter().map(|arm| described_arm(arm, plan, &libraries)).collect::<Result<_, _>>()?;
    let identity = Identity { command, started, lb: None::<Program>, seeds: &seeds, host: host.end() };
    let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let backends = described::simulated_backends(plan);
    let mut manifest = identity.manifest(plan, arms, collected.load, backends, ended.as_ref());
    (manifest.duration_ms, manifest.marks) = (duration_ms, marks);
    let results =
        model::Results { cells: collected.record.cells, comparison: collected.compared, ..model::Results::default() };
    let run = model::Run { manifest, results, series: Vec::new(), latencies: collected.record.latencies };
    let unwritten = folder.write(&run).err();
    Ok(Finished { folder, run, ended, unwritten })
}

/// Whether every arm can be simulated: each runs for one request in a child.
pub fn check_simulated(plan: &Plan, simulator: &Simulator) -> Result<(), ExperimentError> {
    let copies = scratch()?;
    let libraries = Libraries::new(&simulator.folders, plan, &simulator.program);
    Course::new(plan, simulator, &libraries, copies.path(), &Interrupt::default(), true)?.try_arms()
}

/// A folder for the private copies of libraries.
fn scratch() -> Result<tempfile::TempDir, ExperimentError> {
    tempfile::tempdir().map_err(ExperimentError::Scratch)
}

fn described_arm(arm: &ArmPlan, plan: &Plan, libraries: &Libraries) -> Result<Arm, ExperimentError> {
    let library: &Path = &libraries.find(&arm.strategy)?;
    Ok(Arm {
        label: arm.label.clone(),
        strategy: arm.strategy.clone(),
        strategy_sha256: digest(library)?,
        options: serde_json::to_value(&arm.options).unwrap_or_default(),
        cost_factor: arm.cost_factor,
        config_sha256: world::digest(plan, arm),
        expectation: String::new(),
        safeguards: None,
    })
}
