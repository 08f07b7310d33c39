//! `loadgen check`: whether a stored run keeps its thresholds, or whether an experiment file is sound. For CI.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args as ClapArgs;

use super::experiment::{lacks, place_of};
use super::out;
use crate::experiment::plan::Plan;
use crate::experiment::{self, Outcome, Threshold};
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

regression(…) compares with runs, not with requests: how much runs of the same setting differ is only seen from several. With three
baselines or more it is missed if the interval of the ratio lies beyond the limit. With one or two it is missed if the run is worse
beyond 2 times (and beyond the limit); otherwise the answer is `cannot tell`.

Exit codes: 0 every threshold is kept; 99 one is missed; 3 none is missed, but of one it cannot be told (too few baselines or requests, or
a check of the run itself, such as a late generator, takes that conclusion away); 1 the run is partial, or nothing in it may be believed, or
a baseline is like that; 2 something to mend: a file that is missing or damaged, a baseline of another host, load, backends, options or
loadgen, a run given twice.")]
pub struct CheckArgs {
    /// The folder of a run
    #[arg(value_name = "DIR", required_unless_present = "plan")]
    pub run: Option<PathBuf>,

    /// What must hold for each arm and size, or for ARM: alone; may be repeated
    #[arg(long, value_name = "[ARM:]METRIC<VALUE")]
    pub threshold: Vec<Threshold>,

    /// Earlier runs of the same setting, for regression(…): three or more; may be repeated
    #[arg(long, value_name = "DIR", num_args = 1..)]
    pub baseline: Vec<PathBuf>,

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

fn check_run(args: &CheckArgs, path: &Path) -> u8 {
    match judged(args, path) {
        Ok(code) => code,
        Err((code, sentence)) => {
            tell!("loadgen: {sentence}");
            code
        }
    }
}

/// The exit code; or that and why nothing was judged.
fn judged(args: &CheckArgs, path: &Path) -> Result<u8, (u8, String)> {
    let read = |path: &Path| Folder::new(path).read().map_err(|error| (EXIT_USAGE, error.to_string()));
    let run = read(path)?;
    let baselines = args.baseline.iter().map(|path| read(path)).collect::<Result<Vec<Run>, _>>()?;
    fit(args, path, &run, &baselines)?;
    let mut outcomes = Vec::new();
    for threshold in &args.threshold {
        if threshold.needs_baseline() && baselines.is_empty() {
            return Err((EXIT_USAGE, "regression(…) needs --baseline DIR, three times or more".to_owned()));
        }
        let judgements = threshold.judge(&run, &baselines);
        if judgements.is_empty() {
            let labels: Vec<&str> = run.manifest.arms.iter().map(|arm| arm.label.as_str()).collect();
            let sentence = format!("a threshold names an arm that the run has not; it has {}", labels.join(", "));
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
    if args.threshold.is_empty() && !out::print("no threshold was given, so none was judged (--threshold 'p99<50ms')") {
        return Ok(1);
    }
    Ok(match () {
        () if !is_believed => 1,
        () if outcomes.contains(&Outcome::Missed) => EXIT_THRESHOLD,
        () if outcomes.contains(&Outcome::CannotTell) => EXIT_CANNOT_TELL,
        () => 0,
    })
}

/// Tells what the run's own checks found. Whether anything in it may be believed; without a threshold: its main conclusion.
fn tell_of_run(run: &Run, is_without_thresholds: bool) -> bool {
    for mark in run.manifest.marks.iter().filter(|mark| mark.severity == Severity::Invalid) {
        tell!("loadgen: this run must not be believed{} ({}): {}", about(mark), mark.check, mark.reason);
    }
    if let Completeness::Partial { reason } = &run.manifest.completeness {
        tell!("loadgen: this run is partial: {reason}");
    }
    let is_void = Conclusion::all().iter().all(|conclusion| !run.manifest.supports(*conclusion));
    !(run.manifest.is_partial() || is_void || is_without_thresholds && !run.manifest.answers())
}

/// ` in its latency and throughput`; nothing where it is everything.
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

/// Whether the baselines are whole, may be believed in what they are needed for, and are other runs of the same setting.
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
            let sentence = "is the same run: a run held against itself does not show how much runs differ";
            return Err((EXIT_USAGE, format!("{named} and {}: {sentence}", other.display())));
        }
        if let Err(error) = same_setting(baseline, run) {
            return Err((EXIT_USAGE, format!("{error} (the first is {named})")));
        }
        seen.push((path, baseline));
    }
    Ok(())
}

/// The same folder, however it is written.
fn is_same(first: &Path, second: &Path) -> bool {
    match (first.canonicalize(), second.canonicalize()) {
        (Ok(first), Ok(second)) => first == second,
        _ => false,
    }
}
