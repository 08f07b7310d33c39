//! Builds: jobs that make pickers on the builder thread, one at a time.
//!
//! Invariants: at most one build runs. The pause after a build is at least [`SPACING_MIN`] and at least
//! [`SPACING_BUILDS`] times the build's duration. So slow builds leave the builder free most of the time. A build that
//! takes longer than [`BUSY_MAX`] is logged once.

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant as StdInstant};

use lb_strategy_host::HookError;
use tokio::time::Instant;

use super::{Builder, BuiltPool};
use crate::control::api::ReloadError;
use crate::control::pools::{Assembled, PoolKey};

const SPACING_MIN: Duration = Duration::from_millis(10);
/// Builds take at most one part in this many of the time.
const SPACING_BUILDS: u32 = 10;
const BUSY_MAX: Duration = Duration::from_secs(1);

/// The result of a build.
pub(in crate::control) enum Built {
    /// Pickers for changed members.
    Members(Vec<(PoolKey, Result<Assembled, HookError>)>),
    /// Pickers for a reload.
    Reload(Result<Vec<BuiltPool>, ReloadError>),
}

/// A build that has ended.
pub(in crate::control) struct Ended {
    /// The count of changes when it began. Its pickers contain the changes up to this count.
    pub(in crate::control) covers: u64,
    /// `None`: the builder broke.
    pub(in crate::control) built: Option<Built>,
}

pub(super) struct Builds {
    running: Option<Running>,
    next: Instant,
}

/// The result of a job, and its duration.
type Timed = (Built, Duration);

struct Running {
    covers: u64,
    since: Instant,
    is_told: bool,
    result: Pin<Box<dyn Future<Output = Option<Timed>> + Send>>,
}

// === impl Builds ===

impl Builds {
    pub(super) fn new() -> Self {
        Self { running: None, next: Instant::now() }
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Whether the spacing allows a build now.
    pub(super) fn is_due(&self) -> bool {
        Instant::now() >= self.next
    }

    pub(super) fn begin(&mut self, builder: &Builder, covers: u64, job: impl FnOnce() -> Built + Send + 'static) {
        let builder = builder.clone();
        let timed = move || {
            let began = StdInstant::now();
            (job(), began.elapsed())
        };
        let result = Box::pin(async move { builder.run(timed).await });
        self.running = Some(Running { covers, since: Instant::now(), is_told: false, result });
    }

    /// Waits for the running build; without one it never returns. Can be dropped and called again.
    pub(super) async fn ended(&mut self) -> Ended {
        let Some(running) = &mut self.running else { return std::future::pending().await };
        let (covers, result) = (running.covers, running.result.as_mut().await);
        self.running = None;
        let (built, took) = result.map_or((None, Duration::ZERO), |(built, took)| (Some(built), took));
        self.next = Instant::now() + SPACING_MIN.max(took * SPACING_BUILDS);
        Ended { covers, built }
    }

    pub(super) fn tell_if_stuck(&mut self) {
        if let Some(running) = &mut self.running
            && !running.is_told
            && running.since.elapsed() >= BUSY_MAX
        {
            running.is_told = true;
            tracing::error!(busy_for = ?BUSY_MAX, "a strategy keeps the builder busy: changes of backends wait for it");
        }
    }

    /// The next time for [`Builds::is_due`] or [`Builds::tell_if_stuck`]. `is_wanted`: changes wait for a build.
    pub(super) fn next_look(&self, is_wanted: bool) -> Option<Instant> {
        match &self.running {
            None => is_wanted.then_some(self.next),
            Some(running) => (!running.is_told).then(|| running.since + BUSY_MAX),
        }
    }
}
