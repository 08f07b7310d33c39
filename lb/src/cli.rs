//! The command line: arguments, commands and exit codes.
//!
//! Invariants: every failure is one line on stderr that begins `lb: `, and each mistake of a configuration has its own.
//! Exit code 0 is success. 2 is a mistake that the operator can correct: usage, configuration, a port in use, a plugin,
//! no lb at the admin address. 1 is any other failure. A closed stdout is no failure.

mod args;
mod card_table;
mod check_strategy;
mod client;
mod commands;
mod drain;
mod explain;
mod inspect;
mod placed;
mod reload;
mod running;
mod shadows;
mod usage;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::CommandFactory;
use lb_manual::ManError;

pub use args::{Args, Settings};
pub use check_strategy::{CheckStrategy, How};
pub use commands::{Asking, Command, Json, Reading};
pub use drain::{Drain, Target};
pub use explain::Explain;

use self::check_strategy::ScorePlugin;
use self::client::ClientError;
use crate::config::{self, Admin, ConfigError, Loaded};
use crate::control::{self, vet};
use crate::run::{self, RunError};
use crate::telemetry::logs;

/// A mistake that the operator can correct.
const EXIT_USAGE: u8 = 2;
const EXIT_FAILURE: u8 = 1;
/// Tries one plugin, named on stdin. It is no command of [`Args`], so that no help, tip or completion names it.
const VET_PLUGIN: &str = "vet-plugin";
/// How long lb waits at its end until its log lines are written.
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
    #[error(transparent)]
    Client(#[from] ClientError),
    /// One of the errors above, with its place in the configuration.
    #[error("{place}: {what}")]
    Placed { place: String, what: String, code: u8 },
    /// The running lb refused. The text is its sentence.
    #[error("{0}")]
    Refused(String),
    #[error("cannot write to stdout: {0}")]
    Output(std::io::Error),
    #[error("the child process that checks the plugin cannot run: {0}")]
    Child(std::io::Error),
    #[error("the man pages are not complete: {0}")]
    Pages(#[from] ManError),
    #[error("the system returned no random bytes: {0}")]
    Random(std::io::Error),
    /// The score cards on stdout name the checks.
    #[error("some checks failed")]
    ChecksFailed,
}

/// Runs the command in `arguments` and returns its exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<_> = arguments.into_iter().collect();
    // Not a command line argument: a plugin under test could read it.
    let is_vet = vet::is_asked() || arguments.get(1).is_some_and(|first| first == VET_PLUGIN);
    let done = if is_vet {
        vet::answer().map_err(CliError::Usage)
    } else if let Some(child) = ScorePlugin::of(&arguments) {
        child.map_err(refused).and_then(|child| check_strategy::score(&child))
    } else {
        match Args::parse_all(arguments) {
            Ok(args) => dispatch(&args),
            Err(error) if !error.use_stderr() => {
                // `--help` and `--version` are not failures.
                let _ = error.print();
                Ok(())
            }
            Err(error) => Err(refused(error)),
        }
    };
    let code = match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            for line in error.lines() {
                logs::say(&format!("lb: {}", in_one_line(&line)));
            }
            ExitCode::from(error.exit_code())
        }
    };
    logs::flush(LOG_TIME_MAX);
    code
}

fn dispatch(args: &Args) -> Result<(), CliError> {
    args.check_combination().map_err(CliError::Usage)?;
    let json = args.json.json;
    match &args.command {
        None => {
            let loaded = load(&args.settings)?;
            run::run(&loaded, &args.run_options()).map_err(|error| placed::placed(&loaded, error.into()))
        }
        // These commands read the configuration.
        Some(Command::Check(_)) => read(args, inspect::check),
        Some(Command::Config(_)) => read(args, inspect::config),
        Some(Command::Strategies(_)) => read(args, inspect::strategies),
        // These commands talk to a running lb. They also work while the configuration file is broken.
        Some(Command::Reload { dry_run, .. }) => {
            reload::reload(&admin(args)?, args.settings.strategy.as_deref(), *dry_run, json)
        }
        Some(Command::Rollback { pool, dry_run, .. }) => {
            reload::roll_back(&admin(args)?, pool.as_deref(), *dry_run, json)
        }
        Some(Command::Status(_)) => running::status(&admin(args)?, json),
        Some(Command::Backends { labels, .. }) => running::backends(&admin(args)?, *labels, json),
        Some(Command::Health { ready, .. }) => running::health(&admin(args)?, *ready, json),
        Some(Command::Drain { drain, .. }) => drain::drain(&admin(args)?, drain, json),
        Some(Command::Ready { target, .. }) => drain::ready(&admin(args)?, target, json),
        Some(Command::Explain { question, .. }) => explain::explain(&admin(args)?, question, json),
        // These commands need no configuration.
        Some(Command::CheckStrategy(command)) => {
            check_strategy::run(command, json)?.then_some(()).ok_or(CliError::ChecksFailed)
        }
        Some(Command::Token) => token(),
        Some(Command::Schema) => inspect::print(&format!("{:#}", config::schema())),
        Some(Command::Completions(command)) => inspect::print(&command.text(Args::command())),
        Some(Command::Man(command)) => inspect::print(&command.text(Args::command())?),
    }
}

fn read(args: &Args, command: fn(&Loaded, bool) -> Result<(), CliError>) -> Result<(), CliError> {
    let loaded = load(&args.settings)?;
    command(&loaded, args.json.json).map_err(|error| placed::placed(&loaded, error))
}

fn refused(error: clap::Error) -> CliError {
    CliError::Usage(usage::one_line(&error))
}

/// Prints a new token, for a file that only its owner can read.
fn token() -> Result<(), CliError> {
    inspect::print(&config::random_digits().map_err(CliError::Random)?)
}

fn admin(args: &Args) -> Result<Admin, ConfigError> {
    config::load_admin(&args.settings.source())
}

fn load(settings: &Settings) -> Result<Loaded, ConfigError> {
    config::load(&settings.source())
}

/// Errors of plugins and libraries can have several lines. An error of lb has one.
fn in_one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join(" ").replace(char::is_control, " ")
}

// === impl CliError ===

impl CliError {
    /// One line for each mistake.
    fn lines(&self) -> Vec<String> {
        match self {
            Self::Config(error) => error.each().iter().map(ToString::to_string).collect(),
            other => vec![other.to_string()],
        }
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::Client(ClientError::Unreadable { .. }) => EXIT_FAILURE,
            Self::Placed { code, .. } => *code,
            Self::Usage(_) | Self::Config(_) | Self::Client(_) | Self::Pages(_) => EXIT_USAGE,
            Self::Start(error) if run::is_for_the_operator(error) => EXIT_USAGE,
            Self::Run(error) if error.is_for_the_operator() => EXIT_USAGE,
            Self::Start(_) | Self::Run(_) | Self::Refused(_) | Self::Output(_) => EXIT_FAILURE,
            Self::Child(_) | Self::Random(_) | Self::ChecksFailed => EXIT_FAILURE,
        }
    }
}
