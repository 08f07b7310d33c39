//! `loadgen replay`: repeats a stored run with its plan and seed, and compares the results.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args as ClapArgs;

use super::experiment::{Failure, HowArgs, carry_out, report_failure};
use super::out;
use crate::experiment::PLAN_FILE;
use crate::experiment::plan::{Plan, PlanError};
use crate::model::Folder;
use crate::report::replayed;

#[derive(Clone, Debug, ClapArgs)]
pub struct ReplayArgs {
    /// The folder of a run, or its run.json
    #[arg(value_name = "RUN")]
    pub run: PathBuf,

    #[command(flatten)]
    pub how: HowArgs,
}

pub(super) fn main(args: &ReplayArgs) -> ExitCode {
    match replay(args) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => report_failure(&failure),
    }
}

fn replay(args: &ReplayArgs) -> Result<u8, Failure> {
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
    let how = HowArgs { seed: args.how.seed.or(seed), ..args.how.clone() };
    let (code, finished) = carry_out(plan, &how)?;
    let lines = replayed(&old, &finished.run).join("\n  ");
    let is_printed = out::print(&format!("\ncompared with {}:\n  {lines}", path.display()));
    Ok(if is_printed { code } else { code.max(1) })
}

fn stored_plan(path: &Path) -> Result<Plan, PlanError> {
    Plan::read_stored(&path.join(PLAN_FILE))
}
