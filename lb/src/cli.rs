//! The command line: what may be typed, and what becomes of it.
//!
//! Invariants: every failure is one line on stderr that begins `lb: `; exit code 2 means that the operator has something to mend
//! (usage, configuration, a taken port, a plugin), 1 that something else went wrong, 0 that all is well; a reader of stdout that
//! leaves early is no failure.

mod args;
mod card_table;
mod check_strategy;
mod client;
mod explain;
mod inspect;
mod reload;
mod running;
mod usage;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

pub use args::{Args, Command, Settings};
pub use check_strategy::{CheckStrategy, How};
pub use explain::Explain;

use crate::config::{self, Admin, ConfigError, Loaded};
use crate::control::{self, vet};
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
    #[error(transparent)]
    Client(#[from] client::ClientError),
    /// The lb that runs said no; in its words.
    #[error("{0}")]
    Refused(String),
    /// It was understood, but the answer could not be told.
    #[error("cannot write to stdout: {0}")]
    Output(std::io::Error),
    #[error("the process that would judge the plugin: {0}")]
    Child(std::io::Error),
    #[error("the system gives no random bytes: {0}")]
    Random(std::io::Error),
    /// The cards say it all.
    #[error("some checks failed")]
    ChecksFailed,
}

/// Does what was typed.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let done = match Args::parse_all(arguments) {
        // Nothing on its command line says so: a plugin on trial could look there.
        _ if vet::is_asked() => vet::answer().map_err(CliError::Usage),
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
    // These look at plugins alone, so no configuration has to be there.
    match &args.command {
        Some(Command::CheckStrategy(command)) => {
            return check_strategy::run(command, args.json)?.then_some(()).ok_or(CliError::ChecksFailed);
        }
        Some(Command::ScorePlugin { file, directory, how }) => return check_strategy::score(file, directory, how),
        Some(Command::Token) => return token(),
        // The request says it all.
        Some(Command::VetPlugin) => return vet::answer().map_err(CliError::Usage),
        // These ask one that runs, perhaps because the file is broken.
        Some(Command::Reload { dry_run }) => {
            return reload::reload(&admin(args)?, args.settings.strategy.as_deref(), *dry_run, args.json);
        }
        Some(Command::Rollback { pool }) => return reload::roll_back(&admin(args)?, pool.as_deref(), args.json),
        Some(Command::Status) => return running::status(&admin(args)?, args.json),
        Some(Command::Backends) => return running::backends(&admin(args)?, args.json),
        Some(Command::Explain(question)) => return explain::explain(&admin(args)?, question, args.json),
        None | Some(Command::Check | Command::Config | Command::Strategies) => {}
    }
    let loaded = load(&args.settings)?;
    match args.command {
        None => Ok(run::run(&loaded, &args.run_options())?),
        Some(Command::Check) => inspect::check(&loaded, args.json),
        Some(Command::Config) => inspect::config(&loaded, args.json),
        Some(Command::Strategies) => inspect::strategies(&loaded, args.json),
        Some(_) => unreachable!("done before the configuration"),
    }
}

/// One line, for a file that only its owner may read.
fn token() -> Result<(), CliError> {
    inspect::print(&config::random_digits().map_err(CliError::Random)?)
}

fn admin(args: &Args) -> Result<Admin, ConfigError> {
    config::load_admin(&args.settings.source())
}

fn load(settings: &Settings) -> Result<Loaded, ConfigError> {
    config::load(&settings.source())
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
            Self::Usage(_) | Self::Config(_) | Self::Client(_) => EXIT_USAGE,
            Self::Start(error) if run::is_for_the_operator(error) => EXIT_USAGE,
            Self::Run(error) if error.is_for_the_operator() => EXIT_USAGE,
            Self::Start(_) | Self::Run(_) | Self::Refused(_) | Self::Output(_) => EXIT_FAILURE,
            Self::Child(_) | Self::Random(_) | Self::ChecksFailed => EXIT_FAILURE,
        }
    }
}
