//! Vetting: a plugin runs in a child process before it runs in this one.
//!
//! Why: a constructor that aborts, an instance that crashes, a pick that never ends would be the end of the balancer; in a child they
//! are a refusal with a reason. The child is another `lb` that finds its request on stdin ([`is_asked`], [`answer`]); request and verdict
//! travel as JSON. It has no token, a command line as any other, and no network and no rights of root where that can be had
//! (`confine`). Invariants: nothing of a vetted plugin runs in this process; a child is given a limited time and is gone, with all that
//! it started, when [`Vetter::vet`] returns or is dropped; only good verdicts are remembered, because a refusal may hang on the list of
//! backends or on the moment.

mod cache;
mod child;
mod confine;
mod probe;
mod remains;
mod request;
mod serve;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use request::{About, Answer, Verdict, VetBackend, VetError, VetRequest, VetStage};
pub use serve::{answer, is_asked};

use cache::Cache;

/// How long a plugin may take for all that is asked of it.
const TIME_MAX: Duration = Duration::from_secs(5);

/// Tries plugins in child processes and remembers the good ones.
pub struct Vetter {
    executable: PathBuf,
    time_max: Duration,
    cache: Cache,
}

// === impl Vetter ===

impl Vetter {
    /// `executable` is an `lb`, for `lb` itself `/proc/self/exe`. Verdicts are kept in `state_dir`, if there is one, which is read here.
    pub fn new(executable: PathBuf, state_dir: Option<&Path>) -> Self {
        Self { executable, time_max: TIME_MAX, cache: Cache::read(state_dir) }
    }

    /// The same with another limit.
    pub fn with_time_max(self, time_max: Duration) -> Self {
        Self { time_max, ..self }
    }

    /// What the plugin says of itself when it is opened, which is all that is done with it.
    pub async fn describe(&self, request: &VetRequest) -> Result<About, VetError> {
        let request = VetRequest { opens_only: true, ..request.clone() };
        let verdict = child::run(&self.executable, &request, self.time_max).await?;
        Ok(verdict.about.unwrap_or_default())
    }

    /// Answers how it did, or why it must not be opened here. Runs on the control runtime and blocks nothing, the builder least of all.
    pub async fn vet(&self, request: &VetRequest) -> Result<Verdict, VetError> {
        let key = cache::key(request);
        if let Some(verdict) = self.cache.get(&key) {
            return Ok(verdict);
        }
        let verdict = child::run(&self.executable, request, self.time_max).await?;
        if !verdict.left.is_empty() {
            tracing::debug!(left = verdict.left.join(", "), "the process that tries plugins keeps more than it needs");
        }
        self.cache.put(key, verdict.clone()).await;
        Ok(verdict)
    }
}
