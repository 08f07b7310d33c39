//! The command line: its subcommands, and the dispatch to them.
//!
//! Invariants: every failure is one line on stderr that begins with `loadgen: `. Exit codes are those of `EXIT_CODES`.
//! A reader that closes stdout early is not a failure.

mod ancestor;
mod check;
mod complaints;
mod experiment;
mod openmetrics;
mod out;
mod replay;
mod report;
mod simulate;
mod usage;
mod values;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use lb_manual::{CompletionsArgs, ManArgs};

use crate::model::Scenario;
use crate::run::{self, EXIT_CODES};

/// Load, experiments and reports for an HTTP load balancer. Each run checks its own results.
#[derive(Debug, Parser)]
#[command(name = "loadgen", version = env!("BUILD_VERSION"), about, after_help = EXIT_CODES)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Send requests to any HTTP server and measure its responses
    Run(run::Args),
    /// 10,000 requests on three servers: how many does each server get?
    #[command(alias = "A1")]
    A1(experiment::ExperimentArgs),
    /// The same on one to six servers: does throughput grow?
    #[command(alias = "A2")]
    A2(experiment::ExperimentArgs),
    /// One of three servers is killed: how long until lb notices, and which requests fail?
    #[command(alias = "A3")]
    A3(experiment::ExperimentArgs),
    /// The course's hash ring with other hash functions: how even is each?
    #[command(alias = "A4")]
    A4(experiment::ExperimentArgs),
    /// Compare strategies: which is better, and how sure is the result?
    #[command(visible_alias = "compare", alias = "B")]
    B(experiment::ExperimentArgs),
    /// An experiment of your own, from its file (--plan)
    Experiment(experiment::ExperimentArgs),
    /// An experiment in virtual time: the same plan, statistics and report, with simulated servers
    Simulate(simulate::SimulateArgs),
    /// Repeat a stored run and compare the results
    Replay(replay::ReplayArgs),
    /// Make the reports of a stored run again, or compare two runs
    Report(report::ReportArgs),
    /// Convert the balancer's recorded metrics of stored runs for Prometheus and Grafana
    #[command(name = "openmetrics")]
    OpenMetrics(openmetrics::OpenMetricsArgs),
    /// Check a stored run against thresholds, or check an experiment file; for CI
    Check(check::CheckArgs),
    /// Print the script with which a shell completes the command line of loadgen
    Completions(CompletionsArgs),
    /// Print the man page of loadgen, or write the pages of all commands into a folder
    Man(ManArgs),
}

/// Runs the subcommand of these arguments.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    // One connection needs one descriptor, and a soft limit of 1024 would limit the load.
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        tell!("loadgen: cannot raise the limit of open files: {error}");
    }
    let args = match Args::try_parse_from(ancestor::translated(arguments)) {
        Ok(args) => args,
        Err(error) if !error.use_stderr() => {
            // clap reports --help and --version as errors
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
        Command::Simulate(args) => simulate::main(&args),
        Command::Replay(args) => replay::main(&args),
        Command::Report(args) => report::main(&args),
        Command::OpenMetrics(args) => openmetrics::main(&args),
        Command::Check(args) => check::main(&args),
        Command::Completions(args) => printed(&args.text(Args::command())),
        Command::Man(args) => match args.text(Args::command()) {
            Ok(text) => printed(&text),
            Err(error) => {
                tell!("loadgen: the man pages are not complete: {error}");
                ExitCode::from(run::EXIT_USAGE)
            }
        },
    }
}

fn printed(text: &str) -> ExitCode {
    if out::print(text.trim_end()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
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
