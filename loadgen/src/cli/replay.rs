//! `loadgen replay`: a stored run again, with its plan and its seed, and whether it came out the same.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args as ClapArgs;

use super::experiment::{ExperimentArgs, Failure, carry_out, report_failure};
use super::out;
use crate::experiment::PLAN_FILE;
use crate::experiment::plan::{Plan, PlanError};
use crate::model::{Cell, Folder, Ratio, Run};
use crate::report::held_against;

#[derive(Clone, Debug, ClapArgs)]
pub struct ReplayArgs {
    /// run.json of a run, or its folder
    #[arg(value_name = "RUN")]
    pub run: PathBuf,

    #[command(flatten)]
    pub how: ExperimentArgs,
}

pub(super) fn main(args: &ReplayArgs) -> ExitCode {
    match replay(args) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => report_failure(&failure),
    }
}

fn replay(args: &ReplayArgs) -> Result<u8, Failure> {
    let ExperimentArgs { plan, budget, strategy, arms, .. } = &args.how;
    if plan.is_some() || budget.is_some() || strategy.is_some() || !arms.is_empty() {
        return Err(Failure::Replayed);
    }
    let path = match args.run.file_name() {
        Some(name) if name == "run.json" => args.run.parent().unwrap_or(Path::new(".")),
        _ => &args.run,
    };
    let old = Folder::new(path).read().map_err(Failure::Stored)?;
    if old.manifest.is_single_load() {
        let (folder, command) = (path.to_owned(), old.manifest.command.join(" "));
        return Err(Failure::SingleLoad { folder, command });
    }
    let plan = stored_plan(path)?;
    let seed = old.manifest.seeds.get("run").copied();
    let how = ExperimentArgs { seed: args.how.seed.or(seed), ..args.how.clone() };
    let (code, finished) = carry_out(plan, &how)?;
    let lines = compare(&old, &finished.run).join("\n  ");
    let is_printed = out::print(&format!("\ncompared with {}:\n  {lines}", path.display()));
    Ok(if is_printed { code } else { code.max(1) })
}

fn stored_plan(path: &Path) -> Result<Plan, PlanError> {
    Plan::read_stored(&path.join(PLAN_FILE))
}

/// A line for each thing that can be held against the old run.
fn compare(old: &Run, new: &Run) -> Vec<String> {
    if let (Some(before), Some(after)) = (&old.results.comparison, &new.results.comparison) {
        let of_primary = before.ratios.iter().filter(|ratio| ratio.measure == before.primary);
        let line = |ratio: &Ratio| {
            let Some(again) = after.ratio(&ratio.arm, &ratio.measure) else {
                return format!("{}: could not be said this time", ratio.arm);
            };
            format!(
                "{} over {}, {}: {:.3} ({:.3} to {:.3}) now {}",
                ratio.arm,
                before.baseline,
                ratio.measure,
                again.ratio,
                again.low,
                again.high,
                held_against(ratio, again)
            )
        };
        return of_primary.map(line).collect();
    }
    let line = |cell: &Cell| {
        let again = new.results.cells.iter().find(|other| other.key() == cell.key());
        let counts = |cell: &Cell| cell.counts().iter().map(u64::to_string).collect::<Vec<_>>().join(" / ");
        match again {
            Some(again) if again.counts() == cell.counts() => {
                format!("{}, N = {}: the same counts, {}", cell.arm, cell.n, counts(cell))
            }
            Some(again) => {
                let (arm, n) = (&cell.arm, cell.n);
                format!(
                    "{arm}, N = {n}: counts {} then, {} now; {:.0} good answers/s then, {:.0} now",
                    counts(cell),
                    counts(again),
                    cell.rps(),
                    again.rps()
                )
            }
            None => format!("{}, N = {}: not measured this time", cell.arm, cell.n),
        }
    };
    old.results.cells.iter().map(line).collect()
}
