//! The command line: what may be typed, and what becomes of it.
//!
//! Invariants: every failure is one line on stderr that begins `lb: `; exit code 2 means that the operator has something to mend
//! (usage, configuration, a taken port, a plugin), 1 that something else went wrong, 0 that all is well; a reader of stdout that
//! leaves early is no failure.

mod args;
mod inspect;
mod usage;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

pub use args::{Args, Command, Settings};

use crate::config::{self, ConfigError, Loaded, Source};
use crate::control;
use crate::run::{self, RunError};
use crate::telemetry::logs;

/// Something for the operator to mend.
const EXIT_USAGE: u8 = 2;
const EXIT_FAILURE: u8 = 1;
/// How long the end waits for whoever reads the log.
const LOG_TIME_MAX: Duration = Duration::from_secs(1);

/// Why `lb` ends with a code other than 0.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Start(#[from] control::StartError),
    #[error(transparent)]
    Run(#[from] RunError),
}

/// Does what was typed.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let done = match Args::try_parse_from(arguments) {
        Ok(args) => dispatch(&args),
        Err(error) if !error.use_stderr() => {
            // help and version are answers, not mistakes
            let _ = error.print();
            Ok(())
        }
        Err(error) => Err(CliError::Usage(usage::one_line(&error))),
    };
    let code = match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            logs::say(&format!("lb: {}", in_one_line(&error.to_string())));
            ExitCode::from(error.exit_code())
        }
    };
    logs::flush(LOG_TIME_MAX);
    code
}

fn dispatch(args: &Args) -> Result<(), CliError> {
    args.check_combination().map_err(CliError::Usage)?;
    let loaded = load(&args.settings)?;
    match args.command {
        None => Ok(run::run(&loaded, &args.run_options())?),
        Some(Command::Check) => inspect::check(&loaded, args.json),
        Some(Command::Config) => {
            inspect::config(&loaded, args.json);
            Ok(())
        }
        Some(Command::Strategies) => inspect::strategies(&loaded, args.json),
    }
}

fn load(settings: &Settings) -> Result<Loaded, ConfigError> {
    config::load(&Source {
        path: settings.config.clone(),
        command_line: settings.as_keys(),
        environment: config::process_environment(),
    })
}

/// A plugin or a library may say something in several lines; ours is one.
fn in_one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join(" ").replace(char::is_control, " ")
}

// === impl CliError ===

impl CliError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Config(_) => EXIT_USAGE,
            Self::Start(error) if run::is_for_the_operator(error) => EXIT_USAGE,
            Self::Run(error) if error.is_for_the_operator() => EXIT_USAGE,
            Self::Start(_) | Self::Run(_) => EXIT_FAILURE,
        }
    }
}
