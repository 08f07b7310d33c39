//! `loadgen simulate PLAN`: a plan in virtual time, with the statistics and the report of a live run.
//!
//! The same subcommand with `--job` is the child process of one simulation. That flag is hidden, because only loadgen
//! uses it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args as ClapArgs;

use super::experiment::{ExperimentArgs, Failure, HowArgs, conclude, placed, plan_of, report_failure};
use super::values::{part, rate, time};
use crate::experiment::plan::{Plan, World};
use crate::experiment::{Finished, Job, LIMIT, Simulator, Virtual, folder_for, simulate};
use crate::lab::Interrupt;
use crate::model::Scenario;

#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  loadgen simulate config/experiments/linkerd.toml
  loadgen simulate my.toml --strategies target/release --arms round_robin,my_strategy --seed 7
  loadgen check --plan my.toml           (a plan with world = \"simulated\")

Time is virtual: a minute of load takes about a second, and one seed gives the same results in every run. The budget of the plan counts
virtual time. docs/simulator.md says what is modelled.

Exit codes:
    0  success
    1  the library of an arm crashed or did not return, or the conclusion of the run is void (as with overload)
    2  wrong use: a mistake in the plan, a strategy without a library, options that the strategy refuses
  130  interrupted; the results until then are stored")]
pub struct SimulateArgs {
    /// The experiment file
    #[arg(value_name = "PLAN", required_unless_present = "job")]
    pub plan: Option<PathBuf>,

    /// A folder with libraries of strategies (lib*.so), searched before plugin_dirs of the plan and the folders of lb;
    /// may be repeated
    #[arg(long, value_name = "DIR")]
    pub strategies: Vec<PathBuf>,

    /// The longest time of one arm in one block, by the clock of the machine. A library that does not return is ended
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "10m")]
    pub limit: Duration,

    /// The virtual time for everything, instead of the plan's
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub budget: Option<Duration>,

    /// Short blocks, for a first look
    #[arg(long)]
    pub quick: bool,

    /// The request rate of an open loop, instead of the plan's
    #[arg(long, value_name = "RPS", value_parser = rate)]
    pub rate: Option<f64>,

    /// The request rate of an open loop as a part of the capacity, such as 0.5
    #[arg(long, value_name = "PART", value_parser = part, conflicts_with = "rate")]
    pub of_capacity: Option<f64>,

    /// The strategies to compare, instead of the plan's arms; the first is the baseline
    #[arg(long, value_name = "NAME,NAME…", value_delimiter = ',')]
    pub arms: Vec<String>,

    /// The folder for results and reports [default: runs/<time>-<scenario>/]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// The seed of all random numbers: the same seed gives the same results [default: random]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,

    /// Show no progress
    #[arg(long, short)]
    pub quiet: bool,

    /// Serve one job: read it from stdin, and write its results to stdout. The folder is for copies of libraries
    #[arg(long, value_name = "DIR", hide = true, conflicts_with = "plan")]
    pub job: Option<PathBuf>,
}

pub(super) fn main(args: &SimulateArgs) -> ExitCode {
    if let Some(copies) = &args.job {
        return serve(copies);
    }
    let how = HowArgs { out: args.out.clone(), seed: args.seed, quiet: args.quiet, ..HowArgs::default() };
    let changes = ExperimentArgs {
        plan: args.plan.clone(),
        budget: args.budget,
        quick: args.quick,
        rate: args.rate,
        of_capacity: args.of_capacity,
        strategy: None,
        arms: args.arms.clone(),
        how,
    };
    let carried_out = plan_of(Scenario::Own, &changes)
        .and_then(|plan| carry_out(plan, &changes.how, args.strategies.clone(), args.limit));
    match carried_out.map_err(|failure| placed(failure, args.plan.as_deref())) {
        Ok((code, _)) => ExitCode::from(code),
        Err(failure) => report_failure(&failure),
    }
}

/// Simulates a plan that says so itself.
pub(super) fn of_plan(plan: Plan, how: &HowArgs) -> Result<(u8, Finished), Failure> {
    carry_out(plan, how, Vec::new(), LIMIT)
}

fn carry_out(plan: Plan, how: &HowArgs, folders: Vec<PathBuf>, limit: Duration) -> Result<(u8, Finished), Failure> {
    if how.target.is_some() {
        return Err(Failure::NoTarget);
    }
    let out = how.out.clone().unwrap_or_else(|| folder_for(plan.scenario));
    let run = Virtual {
        plan: Plan { world: World::Simulated, ..plan },
        simulator: Simulator::here(folders, limit)?,
        seed: how.seed,
        out,
        command: std::env::args().collect(),
        is_quiet: how.quiet,
    };
    let finished = simulate(&run, &Interrupt::watch()?)?;
    Ok((conclude(&finished)?, finished))
}

fn serve(copies: &Path) -> ExitCode {
    // a loadgen that is killed leaves no child
    let bound = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let served = bound
        .map_err(std::io::Error::from)
        .and_then(|()| Job::serve(std::io::stdin().lock(), std::io::stdout().lock(), copies));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell!("loadgen: cannot serve a simulation: {error}");
            ExitCode::FAILURE
        }
    }
}
