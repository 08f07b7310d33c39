//! `loadgen check`: whether a stored run keeps its thresholds, or whether an experiment file is sound. For CI.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args as ClapArgs;

use super::experiment::{lacks, place_of};
use super::out;
use crate::experiment::plan::Plan;
use crate::experiment::{self, Threshold};
use crate::lab::Programs;
use crate::model::{Completeness, Folder, Run, Severity};
use crate::report::same_setting;
use crate::run::{EXIT_THRESHOLD, EXIT_USAGE};

#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  loadgen check runs/20261122-b --threshold 'p99<50ms' --threshold 'errors<0.1%'
  loadgen check runs/new --baseline runs/old --threshold 'regression(p99)<5%'
  loadgen check runs/x --threshold 'least_connections:answered_within(1s)>99%'
  loadgen check --plan my.toml

A run that must not be believed (its counts disagree, its generator was late), or that is partial, keeps no threshold: exit code 1.
So does a baseline like that. One of another host, load, backends or loadgen is refused, as by report --diff: exit code 2.")]
pub struct CheckArgs {
    /// The folder of a run
    #[arg(value_name = "DIR", required_unless_present = "plan")]
    pub run: Option<PathBuf>,

    /// What must hold for each arm and size, or for ARM: alone; may be repeated
    #[arg(long, value_name = "[ARM:]METRIC<VALUE")]
    pub threshold: Vec<Threshold>,

    /// An earlier run, for regression(…)
    #[arg(long, value_name = "DIR")]
    pub baseline: Option<PathBuf>,

    /// An experiment file: is it right?
    #[arg(long, value_name = "FILE", conflicts_with_all = ["run", "threshold", "baseline"])]
    pub plan: Option<PathBuf>,

    /// The lb that is asked whether it takes the arms of --plan [default: the one beside loadgen, or in PATH]
    #[arg(long, value_name = "FILE", requires = "plan")]
    pub lb: Option<PathBuf>,
}

pub(super) fn main(args: &CheckArgs) -> ExitCode {
    match (&args.plan, &args.run) {
        (Some(plan), _) => check_plan(plan, args.lb.as_deref()),
        (None, Some(run)) => ExitCode::from(check_run(args, run)),
        (None, None) => ExitCode::from(EXIT_USAGE),
    }
}

fn check_plan(path: &Path, lb: Option<&Path>) -> ExitCode {
    match tried(path, lb) {
        Ok(plan) => {
            let arms: Vec<&str> = plan.arms.iter().map(|arm| arm.label.as_str()).collect();
            let sizes: Vec<String> = plan.sizes.iter().map(u32::to_string).collect();
            let (path, arms, sizes) = (path.display(), arms.join(", "), sizes.join(", "));
            let faults = match plan.faults.len() {
                1 => "1 fault".to_owned(),
                number => format!("{number} faults"),
            };
            let time = plan
                .least_budget()
                .map_or(String::new(), |least| format!("; budget {} s: {}", plan.budget.as_secs(), least.in_words()));
            let is_printed = out::print(&format!("{path}: sound; arms {arms}; N = {sizes}; {faults}{time}"));
            if is_printed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(sentence) => {
            tell!("loadgen: {sentence}");
            ExitCode::from(EXIT_USAGE)
        }
    }
}

/// The plan, when it can be read, can come to its verdicts, and lb would take every arm of it; else why not.
fn tried(path: &Path, lb: Option<&Path>) -> Result<Plan, String> {
    let plan = Plan::read(path).map_err(|error| error.to_string())?;
    let lacks = |key: &str, reason: String| Err(lacks(path, key, reason).to_string());
    match (plan.lacks_requests(), plan.lacks_time()) {
        (Some(reason), _) => return lacks("blocks.segment", reason),
        (None, Some(reason)) => return lacks("budget", reason),
        (None, None) => {}
    }
    let programs = Programs::find(lb, None).map_err(|missing| missing.to_string())?;
    let scratch = tempfile::tempdir().map_err(|error| format!("cannot make a folder to try the arms in: {error}"))?;
    experiment::check(&plan, &programs, scratch.path()).map_err(|error| {
        let place = place_of(&error, path).unwrap_or_else(|| path.display().to_string());
        format!("{place}: {error}")
    })?;
    Ok(plan)
}

/// Why nothing can be held against this run.
fn unfit(run: &Run) -> Option<String> {
    let invalid = run.manifest.marks.iter().find(|mark| mark.severity == Severity::Invalid);
    let partial = match &run.manifest.completeness {
        Completeness::Partial { reason } => Some(format!("is partial: {reason}")),
        Completeness::Complete => None,
    };
    invalid.map(|mark| format!("must not be believed ({}): {}", mark.check, mark.reason)).or(partial)
}

fn check_run(args: &CheckArgs, path: &Path) -> u8 {
    let read = |path: &Path| -> Result<Run, u8> {
        Folder::new(path).read().map_err(|error| {
            tell!("loadgen: {error}");
            EXIT_USAGE
        })
    };
    let (run, baseline) = match (read(path), args.baseline.as_deref().map(read).transpose()) {
        (Ok(run), Ok(baseline)) => (run, baseline),
        (Err(code), _) | (_, Err(code)) => return code,
    };
    if let Some(baseline) = &baseline {
        if let Some(why) = unfit(baseline) {
            tell!("loadgen: the baseline {why}");
            return 1;
        }
        if let Err(error) = same_setting(baseline, &run) {
            tell!("loadgen: {error} (the first is the baseline)");
            return EXIT_USAGE;
        }
    }
    let mut code = 0;
    for threshold in &args.threshold {
        if threshold.needs_baseline() && baseline.is_none() {
            tell!("loadgen: regression(…) needs --baseline DIR");
            return EXIT_USAGE;
        }
        let judgements = threshold.judge(&run, baseline.as_ref());
        if judgements.is_empty() {
            let labels: Vec<&str> = run.manifest.arms.iter().map(|arm| arm.label.as_str()).collect();
            tell!("loadgen: a threshold names an arm that the run has not; it has {}", labels.join(", "));
            return EXIT_USAGE;
        }
        for judgement in judgements {
            if !out::print(&format!("{}  {}", if judgement.is_kept { "kept  " } else { "MISSED" }, judgement.text)) {
                return 1;
            }
            if !judgement.is_kept {
                code = EXIT_THRESHOLD;
            }
        }
    }
    for mark in run.manifest.marks.iter().filter(|mark| mark.severity == Severity::Invalid) {
        tell!("loadgen: this run must not be believed ({}): {}", mark.check, mark.reason);
        code = 1;
    }
    if let Completeness::Partial { reason } = &run.manifest.completeness {
        tell!("loadgen: this run is partial: {reason}");
        code = 1;
    }
    code
}
