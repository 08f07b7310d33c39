//! One experiment from its plan to its folder.

use std::path::PathBuf;
use std::time::Instant;

use thiserror::Error;

use super::arms::{self, Declared};
use super::host::HostWatch;
use super::membership::Membership;
use super::plan::{LoadPlan, Plan, did_you_mean};
use super::record::Record;
use super::seeds::Seeds;
use super::stage::{self, Stage};
use super::{blocks, cells, described, preflight, timeline};
use crate::lab::{self, Balancer, BalancerError, Interrupt, Programs, Recorder, Scrape};
use crate::load;
use crate::model::{
    self, Comparison, Completeness, Conclusion, Disruption, EventKind, Folder, Load, Manifest, Mark, Program, Results,
    Run, SCHEMA,
};
use crate::view::Form;

/// What to run, where.
#[derive(Clone, Debug)]
pub struct Experiment {
    pub plan: Plan,
    pub place: Place,
    /// `None`: a fresh one.
    pub seed: Option<u64>,
    /// The run's folder. It must not hold a run yet.
    pub out: PathBuf,
    /// For the manifest: how it can be repeated.
    pub command: Vec<String>,
    /// How it is told how it goes.
    pub form: Form,
    /// Do not begin where the check of the machine advises against it.
    pub strict: bool,
}

/// Which balancer.
#[derive(Clone, Debug)]
pub enum Place {
    /// One of our own.
    Ours(Programs),
    /// One that runs: where requests go, and its admin port.
    Theirs { target: String, admin: String },
}

/// A run that was written.
#[derive(Debug)]
pub struct Finished {
    pub folder: Folder,
    pub run: Run,
    /// What ended it early, if anything did.
    pub ended: Option<ExperimentError>,
    /// Why it could not be stored; then it is only here.
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
    #[error("the load ended in a panic; this is a fault of loadgen")]
    LoadDied,
    #[error("lb ended in the middle of the run ({0}); its log is lb/lb.log in the run's folder")]
    BalancerEnded(String),
    #[error("interrupted {0}")]
    Interrupted(String),
    #[error("this course of an experiment needs the other kind of loop")]
    NotOpen,
    #[error("there is no strategy {name}{}", near_and_known(name, known))]
    Strategy { name: String, known: Vec<String> },
    #[error("the strategy {name} cannot be loaded: {reason}")]
    BrokenStrategy { name: String, reason: String },
    #[error("arm {label}: {reason}")]
    Arm { label: String, reason: String },
    #[error("blocks.segment: {0}")]
    TooFewRequests(String),
    #[error("there is no backend {0:?} to befall")]
    NoBackend(String),
    #[error("the process of {0} is not known: only those that lb launched can be killed")]
    NoProcess(String),
    #[error("cannot kill process {pid}: {reason}")]
    Kill { pid: u32, reason: String },
    #[error("not begun, because of --strict: {0}")]
    Untrusted(String),
    #[error("{0} holds a run already: choose another folder with --out")]
    Taken(PathBuf),
}

/// More than this of the budget is told.
const OVER_BUDGET: f64 = 1.1;

pub use crate::model::PLAN_FILE;

impl From<load::CalibrationError> for ExperimentError {
    fn from(error: load::CalibrationError) -> Self {
        match error {
            load::CalibrationError::Aborted => Self::Interrupted("while the capacity was found out".into()),
            other => Self::Calibration(other),
        }
    }
}

/// Runs it and writes what came of it. An error means that there is nothing to write; whatever ends a run later is in
/// [`Finished::ended`].
pub fn run(experiment: &Experiment, interrupt: &Interrupt) -> Result<Finished, ExperimentError> {
    let Experiment { plan, place, seed, out, command, form, strict } = experiment;
    let folder = Folder::new(out);
    if folder.file("run.json").exists() {
        return Err(ExperimentError::Taken(out.clone()));
    }
    let (origin, started) = (Instant::now(), jiff::Timestamp::now());
    let (host, seeds) = (HostWatch::begin(), Seeds::new(*seed));
    let machine = preflight::judge(&preflight::look(host.host(), interrupt), plan);
    if *strict && preflight::advises_against(&machine) {
        return Err(ExperimentError::Untrusted(machine.reason));
    }
    // a run that never began leaves no folder; what lb said is in the error
    let was_there = out.exists();
    let leave_nothing = || {
        if !was_there {
            let _ = std::fs::remove_dir_all(out);
        }
    };
    let begun = set_up(plan, place, &folder, interrupt).and_then(|(balancer, declared)| {
        model::write_atomically(&folder.file(PLAN_FILE), plan.to_json().as_bytes())?;
        let status = balancer.admin.status()?;
        Ok((balancer, declared, status))
    });
    let (balancer, declared, status) = begun.inspect_err(|_| leave_nothing())?;
    let pool = status.pools.iter().find(|pool| pool.name == "default");
    let found = pool.map_or(0, |pool| pool.backends.len() as u32);
    let mut plan = plan.clone();
    if !balancer.is_ours() && plan.sizes.len() == 1 {
        // a pool that is there is taken as it is
        plan.sizes = vec![found.max(1)];
    }
    let plan = &plan;
    let in_charge = plan.arms.iter().find(|arm| {
        matches!(place, Place::Ours(_))
            && arm.label == plan.arms[0].label
            && pool.is_some_and(|pool| pool.strategy == arm.strategy)
    });
    let in_charge = in_charge.map(|arm| arm.label.clone()).unwrap_or_default();
    let mut stage = Stage {
        folder: folder.clone(),
        interrupt: interrupt.clone(),
        progress: stage::view(plan, *form, origin, &in_charge),
        origin,
        events: Vec::new(),
        marks: Vec::new(),
        accounting: Vec::new(),
        in_charge,
        membership: Membership::default(),
        balancer,
    };
    stage.progress.say(&machine.reason);
    stage.mark(machine);
    if let Some(cut) = plan.quick_in_words() {
        stage.progress.say(&cut);
        stage.mark(Mark::warning("quick", cut));
    }
    stage.progress.say(&format!("lb {} serves {}, seed {}", status.version, stage.balancer.target, seeds.run));
    let recorder = Recorder::start(&stage.balancer.admin, out);
    let (mut record, mut disruptions, mut compared) = (Record::default(), Vec::new(), None);
    let mut load = described::load(plan);
    let ended = course(&mut stage, plan, &seeds, &declared, (&mut record, &mut disruptions, &mut load, &mut compared));
    let ended = ended.err();
    stage.conclude(ended.as_ref());
    let put_back = stage.put_back(found);
    if record.cells.is_empty() {
        // nothing was measured: the reason is all there is
        if let Some(error) = ended {
            drop(stage);
            // of one that died it names the log
            if !matches!(error, ExperimentError::BalancerEnded(_)) {
                leave_nothing();
            }
            return Err(error);
        }
    }
    if let Some(error) = &ended {
        stage.event(EventKind::Interrupted, None, error.to_string());
    }
    if let Err(error) = put_back {
        let reason = format!("the balancer could not be left as it was found: {error}");
        stage.mark(Mark::warning("put_back", reason));
    }
    if let Err(error) = recorder.and_then(Recorder::finish) {
        stage.mark(Mark::warning("recording", format!("the balancer's scrapes could not be recorded: {error}")));
    }
    mark_generator(&mut stage, plan);
    mark_accounting(&mut stage);
    if stage.origin.elapsed() > plan.budget.mul_f64(OVER_BUDGET) {
        let taken = format!(
            "it took {:.0} s of a budget of {:.0} s",
            stage.origin.elapsed().as_secs_f64(),
            plan.budget.as_secs_f64()
        );
        let reason = format!("{taken}: a closed loop takes what its requests take; else the machine was busy");
        stage.mark(Mark::warning("budget", reason));
    }
    let revision = stage.balancer.admin.metrics().ok().and_then(|text| Scrape::parse(&text).ok());
    let manifest = Manifest {
        schema: SCHEMA,
        scenario: plan.scenario,
        title: plan.title.clone(),
        command: command.clone(),
        loadgen: Program { version: env!("CARGO_PKG_VERSION").to_owned(), commit: env!("BUILD_REVISION").to_owned() },
        lb: Some(Program { version: status.version, commit: revision.as_ref().map_or("unknown".into(), revision_of) }),
        started: started.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        duration_ms: stage.now_ms(),
        budget_ms: u64::try_from(plan.budget.as_millis()).unwrap_or(u64::MAX),
        arms: plan.arms.iter().map(|arm| declared.arm(arm, &stage.balancer.config_sha256)).collect(),
        load,
        backends: described::backends(plan, &stage.balancer),
        seeds: seeds.by_name(),
        host: host.end(),
        completeness: match &ended {
            None => Completeness::Complete,
            Some(error) => Completeness::Partial { reason: error.to_string() },
        },
        marks: std::mem::take(&mut stage.marks),
    };
    let results = Results {
        cells: record.cells,
        events: std::mem::take(&mut stage.events),
        accounting: std::mem::take(&mut stage.accounting),
        disruptions,
        rings: record.rings,
        comparison: compared,
    };
    let run = Run { manifest, results, series: record.series, latencies: record.latencies };
    // lb's end makes room: its copies of plugins are larger than all results
    drop(stage);
    let unwritten = folder.write(&run).err();
    Ok(Finished { folder, run, ended, unwritten })
}

type Out<'a> = (&'a mut Record, &'a mut Vec<Disruption>, &'a mut Load, &'a mut Option<Comparison>);

/// Which course a plan takes is read off the plan, not off its scenario.
fn course(
    stage: &mut Stage,
    plan: &Plan,
    seeds: &Seeds,
    declared: &Declared,
    (record, disruptions, load, compared): Out<'_>,
) -> Result<(), ExperimentError> {
    match (&plan.blocks, &plan.load) {
        (Some(blocks), _) => blocks::run(stage, plan, blocks, seeds, declared, (record, load, compared)),
        (None, LoadPlan::Open { .. }) => timeline::run(stage, plan, seeds, declared, record, load),
        (None, LoadPlan::Closed { .. }) => cells::run(stage, plan, seeds, declared, record, disruptions),
    }
}

fn set_up(
    plan: &Plan,
    place: &Place,
    folder: &Folder,
    interrupt: &Interrupt,
) -> Result<(Balancer, Declared), ExperimentError> {
    let programs = match place {
        Place::Ours(programs) => programs,
        // a running lb does not tell what it could load; it will refuse what it cannot
        Place::Theirs { target, admin } => return Ok((Balancer::attach(target, admin)?, Declared::default())),
    };
    let (config, declared) = arms::tried(plan, programs, &folder.file("lb"))?;
    Ok((Balancer::start(programs, &config, arms::replicas(plan), interrupt)?, declared))
}

/// What passed is told as well, or it would seem not to have been looked at.
fn mark_generator(stage: &mut Stage, plan: &Plan) {
    if stage.marks.iter().all(|mark| mark.check != "generator") {
        let reason = match plan.load {
            LoadPlan::Open { .. } => "requests went out when they were due",
            LoadPlan::Closed { .. } => {
                "its sending threads had processor time to spare; lateness is not judged: a closed loop has no schedule"
            }
        };
        stage.mark(Mark::passed("generator", reason));
    }
}

fn mark_accounting(stage: &mut Stage) {
    let wrong: Vec<String> = stage
        .accounting
        .iter()
        .filter_map(|stretch| Some(format!("{}: {}", stretch.stretch, stretch.mismatch.as_ref()?)))
        .collect();
    if !wrong.is_empty() {
        stage.mark(Mark::invalid("accounting", wrong.join("; "), &Conclusion::all()));
    } else if !stage.accounting.is_empty() {
        let sum = |read: fn(&model::Accounting) -> u64| stage.accounting.iter().map(read).sum::<u64>();
        let (client, balancer) = (sum(|stretch| stretch.client), sum(|stretch| stretch.balancer));
        if client == balancer {
            let reason = format!("client, balancer and backends counted the same {client} requests");
            stage.mark(Mark::passed("accounting", reason));
        } else {
            let reason = format!(
                "of {client} requests {} broke on their way, by a refused, reset or closed connection, and never became requests of the \
                 balancer, which counted {balancer}: shares and percentiles are those of the others",
                client.saturating_sub(balancer)
            );
            stage.mark(Mark::warning("accounting", reason));
        }
    }
}

fn near_and_known(name: &str, known: &[String]) -> String {
    let near = did_you_mean(name, &known.iter().map(String::as_str).collect::<Vec<_>>());
    let and = if near.is_empty() { ";" } else { "" };
    format!("{near}{and} there are: {}", known.join(", "))
}

fn revision_of(scrape: &Scrape) -> String {
    let info = scrape.matching("lb_build_info", &[]).find_map(|info| info.label("revision"));
    info.unwrap_or("unknown").to_owned()
}

// === impl Finished ===

impl Finished {
    /// The three sides do not agree: whatever the run says, it must not be believed.
    pub fn mismatch(&self) -> Option<&str> {
        self.run.results.accounting.iter().find_map(|stretch| stretch.mismatch.as_deref())
    }
}

/// A folder for a run that nobody named: `runs/20261122-160312-a1`.
pub fn folder_for(scenario: model::Scenario) -> PathBuf {
    let time = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S");
    PathBuf::from("runs").join(format!("{time}-{}", scenario.to_string().to_lowercase()))
}
