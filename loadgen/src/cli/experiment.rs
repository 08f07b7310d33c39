//! `loadgen a1 | a2 | a3 | a4 | b | experiment`: from the arguments to a run in its folder, its reports and a summary.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args as ClapArgs;
use thiserror::Error;

use super::complaints::complaints;
use super::values::{part, rate, time};
use super::{out, simulate};
use crate::experiment::plan::{
    ArmPlan, LoadPlan, Plan, PlanError, Rate, World, line_of, line_of_arm, line_of_lb_key, line_of_strategy,
};
use crate::experiment::{Experiment, ExperimentError, Finished, Place, folder_for, run};
use crate::lab::{BalancerError, Interrupt, Missing, Programs};
use crate::model::{FolderError, Scenario};
use crate::report;
use crate::run::{EXIT_INTERRUPTED, EXIT_USAGE};
use crate::view::Form;

#[derive(Clone, Debug, Default, ClapArgs)]
pub struct ExperimentArgs {
    /// The experiment file, instead of the built-in one (config/experiments/)
    #[arg(long, value_name = "FILE")]
    pub plan: Option<PathBuf>,

    /// The time for everything, such as 90s or 4m; loadgen refuses a time that is too short. Not for a1 and a2: they
    /// end after their last request
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub budget: Option<Duration>,

    /// Take about 45 s: short blocks that judge p50 and p90. p99 needs more requests. a3 takes half its time; a1 and a2
    /// are quick already
    #[arg(long)]
    pub quick: bool,

    /// The request rate of an open loop (a3, a4, b), instead of a part of the capacity; then loadgen does not measure
    /// the capacity
    #[arg(long, value_name = "RPS", value_parser = rate)]
    pub rate: Option<f64>,

    /// The request rate of an open loop (a3, a4, b) as a part of the capacity, such as 0.5
    #[arg(long, value_name = "PART", value_parser = part, conflicts_with = "rate")]
    pub of_capacity: Option<f64>,

    /// Run this one strategy, instead of the file's arms
    #[arg(long, visible_alias = "algorithm", value_name = "NAME", conflicts_with = "arms")]
    pub strategy: Option<String>,

    /// The strategies to compare, instead of the file's arms; the first is the baseline
    #[arg(long, value_name = "NAME,NAME…", value_delimiter = ',')]
    pub arms: Vec<String>,

    #[command(flatten)]
    pub how: HowArgs,
}

/// The options of running a plan; also the flags of a replay.
#[derive(Clone, Debug, Default, ClapArgs)]
pub struct HowArgs {
    /// The folder for results and reports [default: runs/<time>-<scenario>/]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// The seed of arrivals, keys, costs and order of arms: the same seed gives the same requests [default: random, in
    /// a replay that of the run]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,

    /// Send the requests to this running lb, instead of starting one
    #[arg(long, value_name = "URL", requires = "admin")]
    pub target: Option<String>,

    /// The admin port of that lb; if the port needs a token, set LB_ADMIN_TOKEN
    #[arg(long, value_name = "URL", requires = "target")]
    pub admin: Option<String>,

    /// The program lb [default: beside loadgen, then in PATH]
    #[arg(long, value_name = "FILE")]
    pub lb: Option<PathBuf>,

    /// The program mock-server [default: beside loadgen, then in PATH]
    #[arg(long, value_name = "FILE")]
    pub mock_server: Option<PathBuf>,

    /// Do not start if the check of the machine fails (exit code 1); it takes a second before the run
    #[arg(long)]
    pub strict: bool,

    /// Show progress as lines instead of a live view; this is the default if stderr is not a terminal
    #[arg(long)]
    pub plain: bool,

    /// Show no progress
    #[arg(long, short)]
    pub quiet: bool,
}

#[derive(Debug, Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Missing(#[from] Missing),
    #[error("cannot install the handler for Ctrl-C: {0}")]
    Signals(#[from] std::io::Error),
    #[error(transparent)]
    Experiment(#[from] ExperimentError),
    #[error("an experiment of your own needs its file: --plan FILE")]
    NoPlan,
    #[error("--strategy is for one strategy; this experiment compares several: name them with --arms A,B")]
    OneArm,
    #[error(
        "{flag} is for an open loop, and {name} is a closed loop: each client sends its next request when the last response is there. So the \
         servers set the rate, and the run ends with its last request. Leave out {flag}"
    )]
    Closed { flag: &'static str, name: String },
    #[error("[simulated] has no effect in a live run: run `loadgen simulate`, or remove this section")]
    OnlySimulated,
    #[error("--target and --admin are for live runs, and this plan runs in virtual time")]
    NoTarget,
    #[error("--budget {}", too_short(.name, .reason))]
    Budget { name: String, reason: String },
    #[error("{place}: {reason}")]
    Lacks { place: String, reason: String },
    #[error("{place}: {source}")]
    Placed { place: String, source: ExperimentError },
    #[error("{source}; the results are stored: fix the cause, then run `loadgen report {}`", folder.display())]
    Report { folder: PathBuf, source: report::ReportError },
    #[error("{} was made by `loadgen run` and has no plan to replay: run its command again: {command}", folder.display())]
    SingleLoad { folder: PathBuf, command: String },
    #[error(transparent)]
    Stored(FolderError),
}

/// Runs the scenario's experiment.
pub(super) fn main(scenario: Scenario, args: &ExperimentArgs) -> ExitCode {
    let carried_out = plan_of(scenario, args).and_then(|plan| carry_out(plan, &args.how));
    match carried_out.map_err(|failure| placed(failure, args.plan.as_deref())) {
        Ok((code, _)) => ExitCode::from(code),
        Err(failure) => report_failure(&failure),
    }
}

pub(super) fn report_failure(failure: &Failure) -> ExitCode {
    tell!("loadgen: {failure}");
    ExitCode::from(exit_code(failure))
}

/// The plan with the changes of the command line. An error if its time is too short.
pub(super) fn plan_of(scenario: Scenario, args: &ExperimentArgs) -> Result<Plan, Failure> {
    let mut plan = match &args.plan {
        Some(path) => Plan::read(path)?,
        None => Plan::of(scenario).ok_or(Failure::NoPlan)?,
    };
    let name =
        args.plan.as_ref().map_or_else(|| scenario.to_string().to_lowercase(), |path| path.display().to_string());
    take_arms(&mut plan, args)?;
    take_load(&mut plan, args, &name)?;
    if args.quick {
        plan = plan.quick(args.budget);
    }
    if let Some(reason) = plan.lacks_time() {
        return Err(match (args.budget, &args.plan) {
            (None, Some(path)) if !args.quick => lacks(path, "budget", reason),
            _ => Failure::Budget { name, reason },
        });
    }
    // a low rate of the command line is not a mistake of the file: percentiles that need more requests are left out
    if let (Some(path), None, false, Some(reason)) = (&args.plan, args.rate, args.quick, plan.lacks_requests()) {
        return Err(lacks(path, "blocks.segment", reason));
    }
    Ok(plan)
}

fn take_arms(plan: &mut Plan, args: &ExperimentArgs) -> Result<(), Failure> {
    let named: Vec<&String> = args.strategy.iter().chain(&args.arms).collect();
    if args.strategy.is_some() && plan.blocks.is_some() {
        return Err(Failure::OneArm);
    }
    if named.is_empty() {
        return Ok(());
    }
    // an arm keeps its options from the file; the same name twice compares an arm with itself
    let known = std::mem::take(&mut plan.arms);
    for name in named {
        let found = known.iter().find(|arm| arm.label == *name || arm.strategy == *name);
        let mut arm = found.cloned().unwrap_or_else(|| ArmPlan::plain(name, name));
        let same = plan.arms.iter().filter(|other| other.strategy == arm.strategy && other.options == arm.options);
        let again = same.count();
        if again > 0 {
            arm.label = format!("{} again{}", arm.label, if again > 1 { format!(" ({again})") } else { String::new() });
        }
        plan.arms.push(arm);
    }
    Ok(())
}

fn take_load(plan: &mut Plan, args: &ExperimentArgs, name: &str) -> Result<(), Failure> {
    let typed = args.rate.map(Rate::Rps).or(args.of_capacity.map(Rate::OfCapacity));
    let flag = match (args.rate, args.of_capacity, args.budget) {
        (Some(_), _, _) => "--rate",
        (_, Some(_), _) => "--of-capacity",
        (_, _, Some(_)) => "--budget",
        (None, None, None) => return Ok(()),
    };
    let LoadPlan::Open { rate, .. } = &mut plan.load else {
        return Err(Failure::Closed { flag, name: name.to_owned() });
    };
    *rate = typed.unwrap_or(*rate);
    plan.budget = args.budget.filter(|_| !args.quick).unwrap_or(plan.budget);
    Ok(())
}

/// The error of a plan that is too small, with the line of the key to change.
pub(super) fn lacks(path: &Path, key: &str, reason: String) -> Failure {
    // a key that is not in the file has its default, so the error names line 1
    Failure::Lacks { place: format!("{}, line {}: {key}", path.display(), line_of(path, key).unwrap_or(1)), reason }
}

fn too_short(name: &str, reason: &str) -> String {
    match reason.split_once(':') {
        Some((given, least)) => format!("{given} for {name}:{least}"),
        None => reason.to_owned(),
    }
}

/// Adds the line of the experiment file that has the value that lb refused.
pub(super) fn placed(failure: Failure, plan: Option<&Path>) -> Failure {
    match (failure, plan) {
        (Failure::Experiment(source), Some(path)) => match place_of(&source, path) {
            Some(place) => Failure::Placed { place, source },
            None => Failure::Experiment(source),
        },
        (failure, _) => failure,
    }
}

/// The line of an experiment file with the value that lb refused.
pub(super) fn place_of(error: &ExperimentError, path: &Path) -> Option<String> {
    let said = error.to_string();
    let found = match error {
        ExperimentError::Strategy { name, .. } | ExperimentError::BrokenStrategy { name, .. } => {
            line_of_strategy(path, name)
        }
        ExperimentError::Arm { label, .. } => line_of_arm(path, label, &said),
        ExperimentError::TooFewRequests(_) => line_of(path, "blocks.segment").map(|line| (line, String::new())),
        ExperimentError::NoCapacity => line_of(path, "load.of_capacity").map(|line| (line, String::new())),
        ExperimentError::Balancer(_) => line_of_lb_key(path, &said),
        _ => None,
    };
    let (line, key) = found?;
    let key = if key.is_empty() { key } else { format!(": {key}") };
    Some(format!("{}, line {line}{key}", path.display()))
}

/// Runs a plan with these arguments. Returns the exit code and the run.
pub(super) fn carry_out(plan: Plan, args: &HowArgs) -> Result<(u8, Finished), Failure> {
    match (plan.world, &plan.simulated) {
        (World::Simulated, _) => return simulate::of_plan(plan, args),
        (World::Live, Some(_)) => return Err(Failure::OnlySimulated),
        (World::Live, None) => {}
    }
    let place = match (&args.target, &args.admin) {
        (Some(target), Some(admin)) => Place::Theirs { target: target.clone(), admin: admin.clone() },
        _ => Place::Ours(Programs::find(args.lb.as_deref(), args.mock_server.as_deref())?),
    };
    let out = args.out.clone().unwrap_or_else(|| folder_for(plan.scenario));
    let interrupt = Interrupt::watch()?;
    let form = Form::choose(args.quiet, args.plain);
    let (command, strict) = (std::env::args().collect(), args.strict);
    let experiment = Experiment { plan, place, seed: args.seed, out, command, form, strict };
    let finished = run(&experiment, &interrupt)?;
    Ok((conclude(&finished)?, finished))
}

/// Writes the reports, prints the summary, and returns the exit code.
pub(super) fn conclude(finished: &Finished) -> Result<u8, Failure> {
    let folder = finished.folder.path();
    if let Some(error) = &finished.unwritten {
        out::print(report::text(&finished.run).trim_end());
        tell!("loadgen: {error}; the results are printed above and are not stored");
        return Ok(1);
    }
    let written = report::write_for(&finished.folder, &finished.run)
        .map_err(|source| Failure::Report { folder: folder.to_owned(), source })?;
    let html = written.first().map(|path| path.display().to_string()).unwrap_or_default();
    let manifest = &finished.run.manifest;
    for line in complaints(manifest, finished.run.main_conclusion()) {
        tell!("loadgen: {line}");
    }
    match &finished.ended {
        Some(ExperimentError::Interrupted(at)) => {
            tell!("loadgen: interrupted {at}; the results until then are in {}", folder.display());
        }
        Some(error) => {
            tell!("loadgen: ended early: {error}; the results until then are in {}", folder.display());
        }
        None => {}
    }
    // last, so that a terminal ends with the result and the path of the report
    let is_printed = out::print(&report::summary(&finished.run, &html));
    Ok(match &finished.ended {
        _ if finished.mismatch().is_some() => 1,
        Some(ExperimentError::Interrupted(_)) => EXIT_INTERRUPTED,
        Some(_) => 1,
        None => u8::from(!is_printed || !finished.run.answers()),
    })
}

fn exit_code(failure: &Failure) -> u8 {
    use BalancerError::{Ended, Interrupted, Start, Strategies, Target, Unreachable};
    match failure {
        Failure::Plan(_)
        | Failure::Stored(_)
        | Failure::SingleLoad { .. }
        | Failure::Missing(_)
        | Failure::NoPlan
        | Failure::OneArm
        | Failure::OnlySimulated
        | Failure::NoTarget
        | Failure::Closed { .. }
        | Failure::Budget { .. }
        | Failure::Lacks { .. } => EXIT_USAGE,
        Failure::Experiment(error) | Failure::Placed { source: error, .. } => match error {
            ExperimentError::Interrupted(_) | ExperimentError::Balancer(Interrupted) => EXIT_INTERRUPTED,
            ExperimentError::Strategy { .. } | ExperimentError::BrokenStrategy { .. } | ExperimentError::Arm { .. } => {
                EXIT_USAGE
            }
            ExperimentError::Taken(_) | ExperimentError::TooFewRequests(_) | ExperimentError::NoCapacity => EXIT_USAGE,
            ExperimentError::Balancer(Ended { .. } | Start { .. } | Target(_) | Unreachable { .. } | Strategies(_)) => {
                EXIT_USAGE
            }
            ExperimentError::Balancer(BalancerError::Admin(_)) | ExperimentError::Admin(_) => EXIT_USAGE,
            _ => 1,
        },
        Failure::Signals(_) | Failure::Report { .. } => 1,
    }
}
