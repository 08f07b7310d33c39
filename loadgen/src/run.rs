//! `loadgen run URL`: one load on any HTTP server, and its report for people and for scripts.
//!
//! The steps: options → target (resolved, one connection tried) → plan → load with live view → summary with thresholds
//! → text or JSON → store (`--out`) → exit code.

#[cfg(test)]
mod acceptance_queues;
mod json;
mod options;
mod store;
mod summary;
mod target;
mod text;
mod threshold;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};

pub use options::{Args, BadOptions};
pub use store::BadFolder;
pub use target::BadTarget;
pub use threshold::{BadThreshold, Threshold};

use crate::load::{self, Outcome, Plan, StartError, Stop};
use crate::view::{Board, Form, Underway, View};
use store::Store;
use summary::Summary;

/// The text for `--help`.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
    0  success
    1  the result is NOT VALID and no threshold is missed, or another failure
    2  wrong use: a mistake in the command line, a target that cannot be reached, a damaged run
    3  loadgen check: a threshold cannot be judged
   99  a threshold is missed, also by a result that is NOT VALID
  130  interrupted; the partial results are printed";
/// A mistake that the user can fix.
pub const EXIT_USAGE: u8 = 2;
/// A threshold cannot be judged by these numbers.
pub const EXIT_CANNOT_TELL: u8 = 3;
/// A threshold was missed. k6 uses the same code.
pub const EXIT_THRESHOLD: u8 = 99;
/// Ended by Ctrl-C: 128 plus the signal's number, the convention of shells.
pub const EXIT_INTERRUPTED: u8 = 130;
const EXIT_FAILURE: u8 = 1;
/// The longest time that a flag accepts, 1,000 hours. A longer one is a typing mistake.
pub(crate) const LONGEST: Duration = Duration::from_secs(3_600_000);
/// The time between two lines of progress: on a terminal, and in a log.
const LINES_EVERY: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(10)];

/// Why a run did not take place.
#[derive(Debug, Error)]
pub enum RunError {
    #[error(transparent)]
    Options(#[from] BadOptions),
    #[error(transparent)]
    Target(#[from] BadTarget),
    #[error(transparent)]
    Folder(#[from] BadFolder),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("cannot install the signal handlers: {0}")]
    Signals(io::Error),
    #[error("the thread of the load panicked; this is a fault of loadgen")]
    Thread,
}

/// Runs `loadgen run`.
pub fn main(args: &Args) -> ExitCode {
    match run(args) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            tell!("loadgen: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(args: &Args) -> Result<u8, RunError> {
    let thresholds = args.thresholds()?;
    let url = target::parse(&args.url)?;
    // options are checked before the target is resolved, because resolving can take long
    let prepared = args.prepare(&url)?;
    let plan = prepared.plan(url.reach(args.timeout())?)?;
    let store = args.out.as_deref().map(Store::begin).transpose()?;
    let outcome = carry_out(plan.clone(), args)?;
    let summary = Summary::of(&outcome, &plan, &args.url, &thresholds);
    let printed = if args.json { json::print(&summary) } else { text::print(&summary) };
    if !is_written(printed) {
        return Ok(EXIT_FAILURE);
    }
    let is_stored = store.is_none_or(|store| keep(store, &plan, &outcome, args));
    for line in summary.complaints() {
        tell!("loadgen: {line}");
    }
    Ok(match summary.exit_code() {
        0 if !is_stored => EXIT_FAILURE,
        code => code,
    })
}

/// Whether the report was written. A reader that closed the pipe is not a failure. Any other error is reported.
fn is_written(printed: io::Result<()>) -> bool {
    match printed.and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            tell!("loadgen: cannot write the report: {error}");
            false
        }
        _ => true,
    }
}

/// Stores the run and prints the path, or the reason of a failure.
fn keep(store: Store, plan: &Plan, outcome: &Outcome, args: &Args) -> bool {
    match store.finish(plan, outcome, &args.url, &args.headers) {
        // here stdout has only JSON
        Ok(page) if args.json => tell!("loadgen: stored, report: {}", page.display()),
        Ok(page) => return is_written(writeln!(io::stdout(), "report: {}", page.display())),
        Err(error) => {
            tell!("loadgen: {error}");
            return false;
        }
    }
    true
}

/// Runs the plan and shows its progress. Ctrl-C or SIGTERM ends the load at once; its results so far are kept.
fn carry_out(plan: Plan, args: &Args) -> Result<Outcome, RunError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(RunError::Signals)?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signals)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signals)?;
        let running = load::start(plan.clone())?;
        let handle = running.handle();
        let view = view(&plan, &handle, args);
        let mut ended = tokio::task::spawn_blocking(move || running.wait());
        loop {
            tokio::select! {
                outcome = &mut ended => {
                    let outcome = outcome.map_err(|_| RunError::Thread)?;
                    view.board().tell(|facts| {
                        facts.end_load(true);
                        facts.end = None;
                        facts.phase = if outcome.aborted { "interrupted" } else { "done" }.to_owned();
                    });
                    return Ok(outcome);
                }
                _ = interrupt.recv() => handle.abort(),
                _ = terminate.recv() => handle.abort(),
            }
        }
    })
}

fn view(plan: &Plan, handle: &load::Handle, args: &Args) -> View {
    let now = Instant::now();
    let board = Board::new(format!("loadgen run {}", args.url), now);
    board.tell(|facts| {
        if let Stop::AfterTime(time) = plan.stop {
            facts.end = Some((now + plan.warm_up + time, false));
        }
        facts.begin(Underway::new(handle.clone(), plan, ("warm-up", "measuring")));
    });
    let [on_terminal, in_log] = LINES_EVERY;
    let every = if io::stderr().is_terminal() { on_terminal } else { in_log };
    View::start(board, Form::choose(args.json || args.quiet, args.plain), every)
}

// === impl RunError ===

impl RunError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Options(_) | Self::Target(_) | Self::Folder(_) | Self::Start(StartError::Plan(_)) => EXIT_USAGE,
            Self::Start(StartError::Resources(_)) | Self::Signals(_) | Self::Thread => EXIT_FAILURE,
        }
    }
}
