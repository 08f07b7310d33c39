//! `loadgen run URL`: one load on any HTTP server, and what came of it, for people and for scripts.
//!
//! The way of a run, from top to bottom: options → target (resolved and tried once) → plan → run with a view of it →
//! summary → text or JSON → stored, if a folder was named → thresholds → exit code.

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

/// For `--help`.
pub(crate) const EXIT_CODES: &str = "\
Exit codes: 0 all is well, 1 the result must not be believed (NOT VALID, with or without a threshold) or anything else failed,
2 something for you to mend (usage, target not reachable, a damaged run), 3 check can call a threshold neither kept nor missed,
99 a threshold was missed, 130 interrupted (what there is was printed).";
/// Something for the user to mend.
pub const EXIT_USAGE: u8 = 2;
/// The numbers do not say whether a threshold is kept.
pub const EXIT_CANNOT_TELL: u8 = 3;
/// A threshold was missed: k6's code.
pub const EXIT_THRESHOLD: u8 = 99;
/// Ended by Ctrl-C: 128 and the signal's number, as shells have it.
pub const EXIT_INTERRUPTED: u8 = 130;
const EXIT_FAILURE: u8 = 1;
/// A time beyond it was mistyped: 1,000 hours.
pub(crate) const LONGEST: Duration = Duration::from_secs(3_600_000);
/// Between two lines that tell how it goes: on a terminal, and where they stay in a log.
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
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
    #[error("the load's thread has failed")]
    Thread,
}

/// Carries out what was typed.
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
    // Options are judged before the target is looked for: whoever mistypes both should not have to wait to hear it.
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

/// A reader of stdout that has left wants no more, which is no failure; anything else is told.
fn is_written(printed: io::Result<()>) -> bool {
    match printed.and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            tell!("loadgen: cannot write the report: {error}");
            false
        }
        _ => true,
    }
}

/// Stores the run and says where, or why not.
fn keep(store: Store, plan: &Plan, outcome: &Outcome, args: &Args) -> bool {
    match store.finish(plan, outcome, &args.url, &args.headers) {
        // stdout is JSON alone there
        Ok(page) if args.json => tell!("loadgen: stored, report: {}", page.display()),
        Ok(page) => return is_written(writeln!(io::stdout(), "report: {}", page.display())),
        Err(error) => {
            tell!("loadgen: {error}");
            return false;
        }
    }
    true
}

/// Runs the plan, shows how it goes, and ends it at Ctrl-C: once for what there is, twice at once.
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
