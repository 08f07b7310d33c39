//! `loadgen report`: makes the reports of a stored run again, or compares two runs.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args as ClapArgs;

use super::out;
use crate::model::Folder;
use crate::report;
use crate::run::EXIT_USAGE;

#[derive(Clone, Debug, ClapArgs)]
pub struct ReportArgs {
    /// The folder of a run
    #[arg(value_name = "DIR", required_unless_present = "diff")]
    pub run: Option<PathBuf>,

    /// Compare two runs
    #[arg(long, num_args = 2, value_names = ["OLD", "NEW"], conflicts_with = "run")]
    pub diff: Vec<PathBuf>,
}

pub(super) fn main(args: &ReportArgs) -> ExitCode {
    let folders: Vec<Folder> = args.run.iter().chain(&args.diff).map(Folder::new).collect();
    let runs = folders.iter().map(Folder::read).collect::<Result<Vec<_>, _>>();
    let runs = match runs {
        Ok(runs) => runs,
        Err(error) => return failed(&error, EXIT_USAGE),
    };
    let is_printed = match (runs.as_slice(), folders.as_slice()) {
        ([old, new], _) => match report::diff(old, new) {
            Ok(text) => out::print(text.trim_end()),
            Err(error) => return failed(&error, EXIT_USAGE),
        },
        ([run], [folder]) => match report::write_for(folder, run) {
            Ok(written) => {
                let html = written.first().map(|path| path.display().to_string()).unwrap_or_default();
                out::print(&format!("{}\n\nreport: {html}", report::text(run).trim_end()))
            }
            Err(error) => return failed(&error, 1),
        },
        _ => return ExitCode::from(EXIT_USAGE),
    };
    if is_printed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn failed(error: &dyn std::error::Error, code: u8) -> ExitCode {
    tell!("loadgen: {error}");
    ExitCode::from(code)
}
