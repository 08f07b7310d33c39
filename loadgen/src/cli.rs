//! The command line: what may be typed, and what becomes of it.
//!
//! Invariants: every failure is one line on stderr that begins `loadgen: `; exit codes are those of `EXIT_CODES`; a reader of
//! stdout that leaves early is no failure.

mod ancestor;
mod check;
mod experiment;
mod openmetrics;
mod out;
mod replay;
mod report;
mod usage;
mod values;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::model::Scenario;
use crate::run::{self, EXIT_CODES};

/// Experiments with a load balancer whose results one can defend.
#[derive(Debug, Parser)]
#[command(name = "loadgen", version, about, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Send requests to any HTTP server and measure its answers
    Run(run::Args),
    /// 10,000 requests on three servers: who got how many?
    A1(experiment::ExperimentArgs),
    /// The same on one to six: does it scale?
    A2(experiment::ExperimentArgs),
    /// One of three servers is killed: who notices?
    A3(experiment::ExperimentArgs),
    /// Other hash functions than the course's
    A4(experiment::ExperimentArgs),
    /// Strategies against each other: which is better, and how sure is that?
    #[command(visible_alias = "compare")]
    B(experiment::ExperimentArgs),
    /// An experiment of your own, from its file (--plan)
    Experiment(experiment::ExperimentArgs),
    /// Repeat a stored run, and say whether it came out the same
    Replay(replay::ReplayArgs),
    /// Make the reports of a stored run again, or hold two runs against each other
    Report(report::ReportArgs),
    /// What the balancer said of itself during stored runs, for Prometheus and Grafana
    #[command(name = "openmetrics")]
    OpenMetrics(openmetrics::OpenMetricsArgs),
    /// Hold a stored run against thresholds, or look at an experiment file; for CI
    Check(check::CheckArgs),
}

/// Does what was typed.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    // One connection is one descriptor; a soft limit of 1024 would bound the load.
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        tell!("loadgen: cannot raise the limit of open files: {error}");
    }
    let args = match Args::try_parse_from(ancestor::translated(arguments)) {
        Ok(args) => args,
        Err(error) if !error.use_stderr() => {
            // help and version are answers, not mistakes
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            tell!("loadgen: {}", usage::one_line(&error));
            return ExitCode::from(run::EXIT_USAGE);
        }
    };
    match args.command {
        Command::Run(args) => run::main(&args),
        Command::A1(args) => experiment::main(Scenario::A1, &args),
        Command::A2(args) => experiment::main(Scenario::A2, &args),
        Command::A3(args) => experiment::main(Scenario::A3, &args),
        Command::A4(args) => experiment::main(Scenario::A4, &args),
        Command::B(args) => experiment::main(Scenario::B, &args),
        Command::Experiment(args) => experiment::main(Scenario::Own, &args),
        Command::Replay(args) => replay::main(&args),
        Command::Report(args) => report::main(&args),
        Command::OpenMetrics(args) => openmetrics::main(&args),
        Command::Check(args) => check::main(&args),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Args::command().debug_assert();
    }
}
