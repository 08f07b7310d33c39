//! Vetting: a plugin runs in a child process before it runs in this one.
//!
//! Why: a constructor that aborts, an instance that crashes or a pick that never ends would stop the balancer. In a
//! child, each is a refusal with a reason. The child is another `lb` that gets its request on stdin ([`is_asked`],
//! [`answer`]); request and verdict are JSON. It has no token, and its command line is that of any lb. `confine` takes
//! its network and root's rights, where the system allows that.
//!
//! Invariants: nothing of a vetted plugin runs in this process. A child's time is limited. When [`Vetter::vet`] returns
//! or is dropped, the child and its processes are gone. Only good verdicts are cached, because a refusal may depend on
//! the list of backends or on the moment.

mod answers;
mod cache;
mod child;
mod confine;
mod probe;
mod request;
mod serve;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use request::{About, Answer, Verdict, VetBackend, VetError, VetRequest, VetStage};
pub use serve::{answer, is_asked};

use cache::Cache;

/// The time limit for a whole trial.
const TIME_MAX: Duration = Duration::from_secs(5);

/// Tries plugins in child processes and caches the good verdicts.
pub struct Vetter {
    executable: PathBuf,
    time_max: Duration,
    cache: Cache,
}

// === impl Vetter ===

impl Vetter {
    /// `executable` is an `lb`; for `lb` itself, `/proc/self/exe`. Verdicts are kept in `state_dir`, if there is one,
    /// and read from it here.
    pub fn new(executable: PathBuf, state_dir: Option<&Path>) -> Self {
        Self { executable, time_max: TIME_MAX, cache: Cache::read(state_dir) }
    }

    /// The same with another time limit.
    pub fn with_time_max(self, time_max: Duration) -> Self {
        Self { time_max, ..self }
    }

    /// Opens the plugin in a child and returns its description of itself; calls nothing else.
    pub async fn describe(&self, request: &VetRequest) -> Result<About, VetError> {
        let request = VetRequest { opens_only: true, ..request.clone() };
        let verdict = child::run(&self.executable, &request, self.time_max).await?;
        Ok(verdict.about.unwrap_or_default())
    }

    /// Returns the verdict, or why the plugin must not be opened here. Runs on the control runtime and blocks neither
    /// it nor the builder.
    pub async fn vet(&self, request: &VetRequest) -> Result<Verdict, VetError> {
        let key = cache::key(request);
        if let Some(verdict) = self.cache.get(&key) {
            return Ok(verdict);
        }
        let verdict = child::run(&self.executable, request, self.time_max).await?;
        if !verdict.left.is_empty() {
            tracing::debug!(
                left = verdict.left.join(", "),
                "the process that tries plugins could not give up all rights"
            );
        }
        self.cache.put(key, verdict.clone()).await;
        Ok(verdict)
    }
}
