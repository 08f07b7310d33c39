//! One experiment from its plan to its folder.

use std::path::PathBuf;
use std::time::Instant;

use thiserror::Error;

use super::arms::Declared;
use super::begun::Begun;
use super::collected::{Collected, Identity};
use super::host::HostWatch;
use super::plan::{LoadPlan, Plan, did_you_mean};
use super::seeds::Seeds;
use super::stage::Stage;
use super::{blocks, cells, last_checks, preflight, safeguards, timeline};
use crate::lab::{self, BalancerError, Interrupt, Programs, Recorder};
use crate::load;
use crate::model::{self, Folder, Mark, Program, Run};
use crate::view::Form;

/// A plan with its balancer, folder and flags.
#[derive(Clone, Debug)]
pub struct Experiment {
    pub plan: Plan,
    pub place: Place,
    /// `None`: a random one.
    pub seed: Option<u64>,
    /// The run's folder. It must not hold a run yet.
    pub out: PathBuf,
    /// The command line, for the manifest.
    pub command: Vec<String>,
    /// How progress is shown.
    pub form: Form,
    /// Do not start if the check of the machine fails.
    pub strict: bool,
}

/// The balancer of the experiment.
#[derive(Clone, Debug)]
pub enum Place {
    /// An lb that loadgen starts.
    Ours(Programs),
    /// A running lb: the address for requests, and its admin port.
    Theirs { target: String, admin: String },
}

/// A run whose measurement has ended.
#[derive(Debug)]
pub struct Finished {
    pub folder: Folder,
    pub run: Run,
    /// The error that ended the run early.
    pub ended: Option<ExperimentError>,
    /// Why the run could not be stored.
    pub unwritten: Option<model::FolderError>,
}

#[derive(Debug, Error)]
pub enum ExperimentError {
    #[error(transparent)]
    Balancer(#[from] BalancerError),
    #[error(transparent)]
    Admin(#[from] lab::AdminError),
    #[error(transparent)]
    Mock(#[from] lab::MockError),
    #[error(transparent)]
    Web(#[from] lab::WebError),
    #[error(transparent)]
    Ledger(#[from] lab::LedgerError),
    #[error(transparent)]
    Folder(#[from] model::FolderError),
    #[error(transparent)]
    Load(#[from] load::StartError),
    #[error(transparent)]
    Calibration(load::CalibrationError),
    #[error("a sending thread panicked; this is a fault of loadgen")]
    LoadDied,
    #[error("lb exited during the run ({0}); its log is lb/lb.log in the run's folder")]
    BalancerEnded(String),
    #[error("interrupted {0}")]
    Interrupted(String),
    #[error("this experiment needs the other kind of loop")]
    NotOpen,
    #[error("there is no strategy {name}{}", near_and_known(name, known))]
    Strategy { name: String, known: Vec<String> },
    #[error("the strategy {name} cannot be loaded: {reason}")]
    BrokenStrategy { name: String, reason: String },
    #[error("arm {label}: {reason}")]
    Arm { label: String, reason: String },
    #[error("the running lb has other safeguards than the plan gives to {label}: {}; did something reload it?", differences.join("; "))]
    Safeguards { label: String, differences: Vec<String> },
    #[error("{0}: this machine is too busy for faults in segments of this length")]
    LateFault(String),
    #[error("blocks.segment: {0}")]
    TooFewRequests(String),
    #[error("there is no backend {0:?} for this fault")]
    NoBackend(String),
    #[error("the process of {0} is not known: only a backend that lb launched can be killed")]
    NoProcess(String),
    #[error("cannot kill process {pid}: {reason}")]
    Kill { pid: u32, reason: String },
    #[error("not started, because of --strict: {0}")]
    Untrusted(String),
    #[error("{label} has no results: {reason}")]
    NoResults { label: String, reason: String },
    #[error(
        "load.of_capacity: the backends have no limit of concurrency, so their capacity is not known: write load.rate_rps"
    )]
    NoCapacity,
    #[error("cannot create a folder for copies of libraries: {0}")]
    Scratch(std::io::Error),
    #[error("{0} already has a run: choose another folder with --out")]
    Taken(PathBuf),
}

pub use crate::model::PLAN_FILE;

impl From<load::CalibrationError> for ExperimentError {
    fn from(error: load::CalibrationError) -> Self {
        match error {
            load::CalibrationError::Aborted => Self::Interrupted("during calibration".into()),
            other => Self::Calibration(other),
        }
    }
}

/// Runs the experiment and writes its folder. An error means that there is nothing to write. An error that ends the run
/// later is in [`Finished::ended`].
pub fn run(experiment: &Experiment, interrupt: &Interrupt) -> Result<Finished, ExperimentError> {
    let Experiment { plan, place, seed, out, command, form, strict } = experiment;
    let folder = Folder::new(out);
    if folder.file("run.json").exists() {
        return Err(ExperimentError::Taken(out.clone()));
    }
    safeguards::refuse(plan, place)?;
    let (origin, started) = (Instant::now(), jiff::Timestamp::now());
    let (host, seeds) = (HostWatch::begin(), Seeds::new(*seed));
    let machine = preflight::judge(&preflight::look(host.host(), interrupt), plan);
    if *strict && preflight::advises_against(&machine) {
        return Err(ExperimentError::Untrusted(machine.reason));
    }
    // a run that did not begin leaves no folder, because the error has the output of lb
    let was_there = out.exists();
    let leave_nothing = || {
        if !was_there {
            let _ = std::fs::remove_dir_all(out);
        }
    };
    let begun = Begun::new(plan, place, &folder, interrupt).inspect_err(|_| leave_nothing())?;
    let (found, lb_version) = (begun.backends(), begun.status.version.clone());
    let plan = &begun.sized(plan);
    let (mut stage, declared) = begun.stage(plan, place, folder.clone(), interrupt, (*form, origin));
    announce(&mut stage, plan, machine, &lb_version, seeds.run);
    let recorder = Recorder::start(&stage.balancer.admin, out);
    let mut collected = Collected::new(plan);
    let ended = course(&mut stage, plan, &seeds, &declared, &mut collected).err();
    stage.conclude(ended.as_ref());
    let put_back = stage.put_back(found);
    let ended = match ended {
        // nothing was measured, so there is nothing to write
        Some(error) if collected.record.cells.is_empty() => {
            drop(stage);
            // this error names the log in the folder
            if !matches!(error, ExperimentError::BalancerEnded(_)) {
                leave_nothing();
            }
            return Err(error);
        }
        ended => ended,
    };
    last_checks::mark(&mut stage, plan, ended.as_ref(), put_back, recorder.and_then(Recorder::finish));
    let lb = Some(Program { version: lb_version, commit: "unknown".to_owned() });
    let identity = Identity { command, started, lb, seeds: &seeds, host: host.end() };
    let run = collected.into_run(&mut stage, plan, &declared, identity, ended.as_ref());
    // ending lb frees disk space: its copies of plugins are larger than all results
    drop(stage);
    let unwritten = folder.write(&run).err();
    Ok(Finished { folder, run, ended, unwritten })
}

/// The parts of a plan decide its course, not its scenario.
fn course(
    stage: &mut Stage,
    plan: &Plan,
    seeds: &Seeds,
    declared: &Declared,
    Collected { record, disruptions, load, compared }: &mut Collected,
) -> Result<(), ExperimentError> {
    let status = stage.balancer.admin.status()?;
    stage.safeguards.check(&plan.arms[0], &status)?;
    match (&plan.blocks, &plan.load) {
        (Some(blocks), _) => blocks::run(stage, plan, blocks, seeds, declared, (record, load, compared)),
        (None, LoadPlan::Open { .. }) => timeline::run(stage, plan, seeds, declared, record, load),
        (None, LoadPlan::Closed { .. }) => cells::run(stage, plan, seeds, declared, record, disruptions),
    }
}

/// Reports and marks the facts that are known before the first request.
fn announce(stage: &mut Stage, plan: &Plan, machine: Mark, lb_version: &str, seed: u64) {
    stage.progress.say(&machine.reason);
    stage.mark(machine);
    if let Some(cut) = plan.quick_in_words() {
        stage.progress.say(&cut);
        stage.mark(Mark::warning("quick", cut));
    }
    stage.progress.say(&format!("lb {lb_version} serves {}, seed {seed}", stage.balancer.target));
}

fn near_and_known(name: &str, known: &[String]) -> String {
    let near = did_you_mean(name, &known.iter().map(String::as_str).collect::<Vec<_>>());
    let and = if near.is_empty() { ";" } else { "" };
    format!("{near}{and} there are: {}", known.join(", "))
}

// === impl Finished ===

impl Finished {
    /// The disagreement of client, balancer and backends, if they counted different numbers. Then the run is invalid.
    pub fn mismatch(&self) -> Option<&str> {
        self.run.results.accounting.iter().find_map(|stretch| stretch.mismatch.as_deref())
    }
}

/// The default folder of a run, for example `runs/20261122-160312-a1`.
pub fn folder_for(scenario: model::Scenario) -> PathBuf {
    let time = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S");
    PathBuf::from("runs").join(format!("{time}-{}", scenario.to_string().to_lowercase()))
}
