//! Vetting: a plugin runs in a child process before it runs in this one.
//!
//! Why: a constructor that aborts, an instance that crashes, a pick that never ends would be the end of the balancer; in a child they
//! are a refusal with a reason. The child is `lb vet-plugin` ([`answer`]); request and verdict travel as JSON. Invariants: nothing of a
//! vetted plugin runs in this process; a child is given a limited time and is gone, with all that it started, when [`Vetter::vet`]
//! returns or is dropped; only good verdicts are remembered, because a refusal may hang on the list of backends or on the moment.

mod cache;
mod child;
mod probe;
mod remains;
mod request;
mod serve;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use request::{Answer, Verdict, VetBackend, VetError, VetRequest, VetStage};
pub use serve::answer;

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

    /// Answers how it did, or why it must not be opened here. Runs on the control runtime and blocks nothing, the builder least of all.
    pub async fn vet(&self, request: &VetRequest) -> Result<Verdict, VetError> {
        let key = cache::key(request);
        if let Some(verdict) = self.cache.get(&key) {
            return Ok(verdict);
        }
        let verdict = child::run(&self.executable, request, self.time_max).await?;
        self.cache.put(key, verdict.clone()).await;
        Ok(verdict)
    }
}
