//! `loadgen a1 | a2 | a3 | a4 | b | experiment`: from what was typed to a run in its folder, and a line about each thing that
//! came of it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args as ClapArgs;
use thiserror::Error;

use super::out;
use crate::experiment::plan::{ArmPlan, Plan, PlanError};
use crate::experiment::{Experiment, ExperimentError, Finished, Place, folder_for, run};
use crate::lab::{BalancerError, Interrupt, Missing, Programs};
use crate::load::parse_duration;
use crate::model::{FolderError, Scenario, Severity};
use crate::report;
use crate::run::{EXIT_INTERRUPTED, EXIT_USAGE, LONGEST};
use crate::view::Form;

#[derive(Clone, Debug, Default, ClapArgs)]
pub struct ExperimentArgs {
    /// The experiment file, instead of the one that is built in (config/experiments/)
    #[arg(long, value_name = "FILE")]
    pub plan: Option<PathBuf>,

    /// What all of it may take: 30s, 4m
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub budget: Option<Duration>,

    /// Where results and reports go [default: runs/<time>-<scenario>/]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// Of arrivals, keys, costs and the order of arms; the same seed asks for the same requests [default: a fresh one]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,

    /// The one strategy to run, instead of the file's arms
    #[arg(long, visible_alias = "algorithm", value_name = "NAME", conflicts_with = "arms")]
    pub strategy: Option<String>,

    /// The strategies to compare, instead of the file's arms; the first is the baseline
    #[arg(long, value_name = "NAME,NAME…", value_delimiter = ',')]
    pub arms: Vec<String>,

    /// Where requests go, if lb runs already
    #[arg(long, value_name = "URL", requires = "admin")]
    pub target: Option<String>,

    /// The admin port of that lb; if it wants a token, LB_ADMIN_TOKEN has it
    #[arg(long, value_name = "URL", requires = "target")]
    pub admin: Option<String>,

    /// The program lb [default: beside loadgen, then in PATH]
    #[arg(long, value_name = "FILE")]
    pub lb: Option<PathBuf>,

    /// The program mock-server [default: beside loadgen, then in PATH]
    #[arg(long, value_name = "FILE")]
    pub mock_server: Option<PathBuf>,

    /// Tell how it goes in lines, without a picture; so it is also where stderr is no terminal
    #[arg(long)]
    pub plain: bool,

    /// Say nothing while it runs
    #[arg(long, short)]
    pub quiet: bool,
}

#[derive(Debug, Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Missing(#[from] Missing),
    #[error("cannot watch for Ctrl-C: {0}")]
    Signals(#[from] std::io::Error),
    #[error(transparent)]
    Experiment(#[from] ExperimentError),
    #[error("an experiment of your own needs its file: --plan FILE")]
    NoPlan,
    #[error("--strategy is for one strategy; this experiment compares several: name them with --arms A,B")]
    OneArm,
    #[error("a replay runs the stored plan: leave out --plan, --budget, --strategy and --arms")]
    Replayed,
    #[error("{source}; what was measured is stored: mend that, then run `loadgen report {}`", folder.display())]
    Report { folder: PathBuf, source: report::ReportError },
    #[error("{} is of `loadgen run` and has no plan to replay: repeat its command, {command}", folder.display())]
    SingleLoad { folder: PathBuf, command: String },
    #[error(transparent)]
    Stored(FolderError),
}

/// Runs the scenario's experiment.
pub(super) fn main(scenario: Scenario, args: &ExperimentArgs) -> ExitCode {
    match plan_of(scenario, args).and_then(|plan| carry_out(plan, args)) {
        Ok((code, _)) => ExitCode::from(code),
        Err(failure) => report_failure(&failure),
    }
}

pub(super) fn report_failure(failure: &Failure) -> ExitCode {
    tell!("loadgen: {failure}");
    ExitCode::from(exit_code(failure))
}

/// The plan with what was typed over it.
fn plan_of(scenario: Scenario, args: &ExperimentArgs) -> Result<Plan, Failure> {
    let mut plan = match &args.plan {
        Some(path) => Plan::read(path)?,
        None => Plan::of(scenario).ok_or(Failure::NoPlan)?,
    };
    if let Some(budget) = args.budget {
        plan.budget = budget;
    }
    let named: Vec<&String> = args.strategy.iter().chain(&args.arms).collect();
    if args.strategy.is_some() && plan.blocks.is_some() {
        return Err(Failure::OneArm);
    }
    if !named.is_empty() {
        // the file's options of an arm are kept; the same name twice is an arm against itself
        let known = std::mem::take(&mut plan.arms);
        for name in named {
            let found = known.iter().find(|arm| arm.label == *name || arm.strategy == *name);
            let arm = found.cloned();
            let mut arm = arm.unwrap_or_else(|| ArmPlan::plain(name, name));
            let same = plan.arms.iter().filter(|other| other.strategy == arm.strategy && other.options == arm.options);
            let again = same.count();
            if again > 0 {
                arm.label =
                    format!("{} again{}", arm.label, if again > 1 { format!(" ({again})") } else { String::new() });
            }
            plan.arms.push(arm);
        }
    }
    Ok(plan)
}

/// Runs a plan as the arguments have it; answers the exit code too.
pub(super) fn carry_out(plan: Plan, args: &ExperimentArgs) -> Result<(u8, Finished), Failure> {
    let place = match (&args.target, &args.admin) {
        (Some(target), Some(admin)) => Place::Theirs { target: target.clone(), admin: admin.clone() },
        _ => Place::Ours(Programs::find(args.lb.as_deref(), args.mock_server.as_deref())?),
    };
    let out = args.out.clone().unwrap_or_else(|| folder_for(plan.scenario));
    let interrupt = Interrupt::watch()?;
    let form = Form::choose(args.quiet, args.plain);
    let experiment = Experiment { plan, place, seed: args.seed, out, command: std::env::args().collect(), form };
    let finished = run(&experiment, &interrupt)?;
    Ok((conclude(&finished)?, finished))
}

/// Writes the reports, says what came of it, and gives the exit code.
fn conclude(finished: &Finished) -> Result<u8, Failure> {
    let folder = finished.folder.path();
    let text = report::text(&finished.run);
    if let Some(error) = &finished.unwritten {
        out::print(text.trim_end());
        tell!("loadgen: {error}; what was measured is printed above and stored nowhere");
        return Ok(1);
    }
    let written = report::write_for(&finished.folder, &finished.run)
        .map_err(|source| Failure::Report { folder: folder.to_owned(), source })?;
    let html = written.first().map(|path| path.display().to_string()).unwrap_or_default();
    let is_printed = out::print(&format!("{}\n\nreport: {html}", text.trim_end()));
    let manifest = &finished.run.manifest;
    for mark in manifest.marks.iter().filter(|mark| mark.severity == Severity::Invalid) {
        tell!("loadgen: not to be believed ({}): {}", mark.check, mark.reason);
    }
    match &finished.ended {
        Some(ExperimentError::Interrupted(at)) => {
            tell!("loadgen: interrupted {at}; what was measured until then is in {}", folder.display());
        }
        Some(error) => {
            tell!("loadgen: ended early: {error}; what was measured until then is in {}", folder.display());
        }
        None => {}
    }
    Ok(match &finished.ended {
        _ if finished.mismatch().is_some() => 1,
        Some(ExperimentError::Interrupted(_)) => EXIT_INTERRUPTED,
        Some(_) => 1,
        None => u8::from(!is_printed || !manifest.is_valid()),
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
        | Failure::Replayed => EXIT_USAGE,
        Failure::Experiment(error) => match error {
            ExperimentError::Interrupted(_) | ExperimentError::Balancer(Interrupted) => EXIT_INTERRUPTED,
            ExperimentError::Strategy { .. } | ExperimentError::BrokenStrategy { .. } | ExperimentError::Arm { .. } => {
                EXIT_USAGE
            }
            ExperimentError::Taken(_) => EXIT_USAGE,
            ExperimentError::Balancer(Ended { .. } | Start { .. } | Target(_) | Unreachable { .. } | Strategies(_)) => {
                EXIT_USAGE
            }
            ExperimentError::Balancer(BalancerError::Admin(_)) | ExperimentError::Admin(_) => EXIT_USAGE,
            _ => 1,
        },
        Failure::Signals(_) | Failure::Report { .. } => 1,
    }
}

fn time(text: &str) -> Result<Duration, String> {
    let time = parse_duration(text).filter(|time| !time.is_zero() && *time <= LONGEST);
    time.ok_or_else(|| format!("{text:?} is no time: write a number and a unit, such as 30s or 4m, 1000h at most"))
}
