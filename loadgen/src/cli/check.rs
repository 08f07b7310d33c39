//! `loadgen check`: checks a stored run against thresholds, or an experiment file. For CI.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args as ClapArgs;

use super::experiment::{lacks, place_of};
use super::out;
use crate::experiment::plan::{Plan, World};
use crate::experiment::{self, ExperimentError, LIMIT, Outcome, Simulator, Threshold};
use crate::lab::Programs;
use crate::model::{Completeness, Conclusion, Folder, Mark, Run, Severity};
use crate::report::same_setting;
use crate::run::{EXIT_CANNOT_TELL, EXIT_THRESHOLD, EXIT_USAGE};

#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  loadgen check runs/20261122-b --threshold 'p99<50ms' --threshold 'errors<0.1%'
  loadgen check runs/new --threshold 'regression(p99)<5%' --baseline runs/old-1 runs/old-2 runs/old-3
  loadgen check runs/x --threshold 'least_connections:answered_within(1s)>99%'
  loadgen check --plan my.toml

regression(…) compares the run with earlier runs of the same setting. Such runs differ by chance, and only several of them show how much.
With three or more baselines, the threshold is missed if the interval of the ratio lies beyond the limit.
With one or two, it is missed if the run is more than 2 times worse, and beyond the limit. Otherwise the result is `cannot tell`.

Exit codes:
   0  every threshold is kept
  99  a threshold is missed
   3  no threshold is missed, but one cannot be judged: too few baselines or requests, or a failed check of the run (such as a late
      generator) makes that conclusion void
   1  the run or a baseline is partial or invalid
   2  wrong use: a file is missing or damaged, a run is given twice, or a baseline has another host, load, backends, options or loadgen")]
pub struct CheckArgs {
    /// The folder of a run
    #[arg(value_name = "DIR", required_unless_present = "plan")]
    pub run: Option<PathBuf>,

    /// A condition for each arm and size, or for one ARM only; may be repeated
    #[arg(long, value_name = "[ARM:]METRIC<VALUE")]
    pub threshold: Vec<Threshold>,

    /// Earlier runs of the same setting, for regression(…): three or more; may be repeated
    #[arg(long, value_name = "DIR", num_args = 1..)]
    pub baseline: Vec<PathBuf>,

    /// Check this experiment file instead of a run
    #[arg(long, value_name = "FILE", conflicts_with_all = ["run", "threshold", "baseline"])]
    pub plan: Option<PathBuf>,

    /// The program lb that checks the arms of --plan [default: beside loadgen, then in PATH]
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

/// Reads the plan, checks that its budget allows verdicts, and has lb check every arm. The error states the mistake.
fn tried(path: &Path, lb: Option<&Path>) -> Result<Plan, String> {
    let plan = Plan::read(path).map_err(|error| error.to_string())?;
    let lacks = |key: &str, reason: String| Err(lacks(path, key, reason).to_string());
    match (plan.lacks_requests(), plan.lacks_time()) {
        (Some(reason), _) => return lacks("blocks.segment", reason),
        (None, Some(reason)) => return lacks("budget", reason),
        (None, None) => {}
    }
    let placed = |error: ExperimentError| {
        let place = place_of(&error, path).unwrap_or_else(|| path.display().to_string());
        format!("{place}: {error}")
    };
    match (plan.world, &plan.simulated) {
        (World::Simulated, _) => {
            let simulator = Simulator::here(Vec::new(), LIMIT).map_err(|error| error.to_string())?;
            return experiment::check_simulated(&plan, &simulator).map(|()| plan).map_err(placed);
        }
        (World::Live, Some(_)) => {
            return lacks(
                "simulated",
                "has no effect without world = \"simulated\": add it, or remove this section".to_owned(),
            );
        }
        (World::Live, None) => {}
    }
    let programs = Programs::find(lb, None).map_err(|missing| missing.to_string())?;
    let scratch =
        tempfile::tempdir().map_err(|error| format!("cannot create a folder for a check of the arms: {error}"))?;
    experiment::check(&plan, &programs, scratch.path()).map_err(placed)?;
    Ok(plan)
}

fn check_run(args: &CheckArgs, path: &Path) -> u8 {
    match judged(args, path) {
        Ok(code) => code,
        Err((code, sentence)) => {
            tell!("loadgen: {sentence}");
            code
        }
    }
}

/// Returns the exit code. The error has the exit code and the reason why nothing was judged.
fn judged(args: &CheckArgs, path: &Path) -> Result<u8, (u8, String)> {
    let read = |path: &Path| Folder::new(path).read().map_err(|error| (EXIT_USAGE, error.to_string()));
    let run = read(path)?;
    let baselines = args.baseline.iter().map(|path| read(path)).collect::<Result<Vec<Run>, _>>()?;
    fit(args, path, &run, &baselines)?;
    let mut outcomes = Vec::new();
    for threshold in &args.threshold {
        if threshold.needs_baseline() && baselines.is_empty() {
            return Err((
                EXIT_USAGE,
                "regression(…) needs earlier runs: add --baseline DIR, better three or more".to_owned(),
            ));
        }
        let judgements = threshold.judge(&run, &baselines);
        if judgements.is_empty() {
            let labels: Vec<&str> = run.manifest.arms.iter().map(|arm| arm.label.as_str()).collect();
            let sentence =
                format!("a threshold names an arm that is not in the run; its arms are {}", labels.join(", "));
            return Err((EXIT_USAGE, sentence));
        }
        for judgement in judgements {
            let word = match judgement.outcome {
                Outcome::Kept => "kept  ",
                Outcome::Missed => "MISSED",
                Outcome::CannotTell => "?     ",
            };
            if !out::print(&format!("{word}  {}", judgement.text)) {
                return Ok(1);
            }
            outcomes.push(judgement.outcome);
        }
    }
    let is_believed = tell_of_run(&run, args.threshold.is_empty());
    if args.threshold.is_empty()
        && !out::print("no threshold was given, so none was judged: add --threshold 'p99<50ms'")
    {
        return Ok(1);
    }
    Ok(match () {
        () if !is_believed => 1,
        () if outcomes.contains(&Outcome::Missed) => EXIT_THRESHOLD,
        () if outcomes.contains(&Outcome::CannotTell) => EXIT_CANNOT_TELL,
        () => 0,
    })
}

/// Prints the failed checks of the run. Returns whether any conclusion is valid; without thresholds, whether the main
/// one is.
fn tell_of_run(run: &Run, is_without_thresholds: bool) -> bool {
    for mark in run.manifest.marks.iter().filter(|mark| mark.severity == Severity::Invalid) {
        tell!("loadgen: this run must not be believed{} ({}): {}", about(mark), mark.check, mark.reason);
    }
    if let Completeness::Partial { reason } = &run.manifest.completeness {
        tell!("loadgen: this run is partial: {reason}");
    }
    let is_void = Conclusion::all().iter().all(|conclusion| !run.manifest.supports(*conclusion));
    !(run.manifest.is_partial() || is_void || is_without_thresholds && !run.answers())
}

/// For example ` in its latency and throughput`; empty if every conclusion is void.
fn about(mark: &Mark) -> String {
    let name = |conclusion: &Conclusion| match conclusion {
        Conclusion::Latency => "latency",
        Conclusion::Throughput => "throughput",
        Conclusion::Shares => "shares",
        Conclusion::Recovery => "recovery",
        Conclusion::Counts => "counts",
    };
    let all = Conclusion::all();
    match all.iter().all(|conclusion| mark.voids.contains(conclusion)) {
        true => String::new(),
        false => format!(" in its {}", mark.voids.iter().map(name).collect::<Vec<_>>().join(" and ")),
    }
}

/// Checks that each baseline is complete, valid for these thresholds, and another run of the same setting.
fn fit(args: &CheckArgs, path: &Path, run: &Run, baselines: &[Run]) -> Result<(), (u8, String)> {
    let needed = args.threshold.iter().filter(|threshold| threshold.needs_baseline()).map(Threshold::conclusion);
    let needed: Vec<Conclusion> = needed.collect();
    let mut seen = vec![(path, run)];
    for (path, baseline) in args.baseline.iter().map(PathBuf::as_path).zip(baselines) {
        let named = format!("the baseline {}", path.display());
        if let Completeness::Partial { reason } = &baseline.manifest.completeness {
            return Err((1, format!("{named} is partial: {reason}")));
        }
        if let Some(mark) = needed.iter().find_map(|conclusion| baseline.manifest.why_void(*conclusion)) {
            let reason = &mark.reason;
            return Err((1, format!("{named} must not be believed{} ({}): {reason}", about(mark), mark.check)));
        }
        if let Some((other, _)) = seen.iter().find(|(other, run)| is_same(other, path) || *run == baseline) {
            let why = "a run compared with itself does not show how much runs differ";
            return Err((EXIT_USAGE, format!("{named} is the same run as {}: {why}", other.display())));
        }
        if let Err(error) = same_setting(baseline, run) {
            return Err((EXIT_USAGE, format!("{error} (the first is {named})")));
        }
        seen.push((path, baseline));
    }
    Ok(())
}

/// Whether both paths lead to the same folder.
fn is_same(first: &Path, second: &Path) -> bool {
    match (first.canonicalize(), second.canonicalize()) {
        (Ok(first), Ok(second)) => first == second,
        _ => false,
    }
}
