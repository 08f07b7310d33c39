//! Active health checks: one task per backend checks it by the rules of its pool and reports the outcome.
//!
//! While the outcomes contradict the backend's state, checks come sooner. [`Standing`] holds the rules for outcomes.
//!
//! Invariants: at most [`CHECKS_AT_ONCE`] checks run at the same time, beside those of replicas that are joining. A
//! task ends when its entry here is dropped. The checker's number shows that a late outcome is outdated.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::sleep;

use super::check::check;
use super::{CheckFailure, Standing};
use crate::config::Health;

const CHECKS_AT_ONCE: usize = 256;
/// The interval of checks of a starting process.
const JOIN_INTERVAL: Duration = Duration::from_millis(20);

/// The running checkers. `K` identifies a backend; it is returned with each outcome.
pub(in crate::control) struct Checkers<K> {
    outcomes: mpsc::Sender<Checked<K>>,
    permits: Arc<Semaphore>,
    running: HashMap<K, Checker>,
    next_number: u64,
}

/// The outcome of one check.
pub(in crate::control) struct Checked<K> {
    pub(in crate::control) backend: K,
    pub(in crate::control) outcome: Result<(), CheckFailure>,
    checker: u64,
}

struct Checker {
    number: u64,
    task: AbortHandle,
}

/// What one task checks.
struct Target<K> {
    checker: u64,
    backend: K,
    /// Spreads the checks of backends that were added together.
    seed: u64,
    /// For the header Host, unless the rules name another.
    address: Arc<str>,
    socket: SocketAddr,
}

// === impl Checkers ===

impl<K: Clone + Eq + Hash + Send + Sync + 'static> Checkers<K> {
    pub(in crate::control) fn new(outcomes: mpsc::Sender<Checked<K>>) -> Self {
        let permits = Arc::new(Semaphore::new(CHECKS_AT_ONCE));
        Self { outcomes, permits, running: HashMap::new(), next_number: 0 }
    }

    /// Checks this backend by `rules` from now on; the first check is sent at once. A joining backend is checked often,
    /// and only its first good outcome is reported. After that it is checked like the others. It is also checked if
    /// checks are switched off: only a check shows that it has joined.
    pub(in crate::control) fn watch(
        &mut self,
        backend: K,
        address: &Arc<str>,
        socket: SocketAddr,
        joins: bool,
        seed: u64,
        rules: Arc<Health>,
    ) {
        self.forget(&backend);
        if !joins && !rules.enabled {
            return;
        }
        self.next_number += 1;
        let target =
            Target { checker: self.next_number, backend: backend.clone(), seed, address: address.clone(), socket };
        let (permits, outcomes) = (self.permits.clone(), self.outcomes.clone());
        let task = tokio::spawn(target.run(rules, permits, outcomes, joins)).abort_handle();
        self.running.insert(backend, Checker { number: self.next_number, task });
    }

    pub(in crate::control) fn forget(&mut self, backend: &K) {
        self.running.remove(backend);
    }

    pub(in crate::control) fn is_watched(&self, backend: &K) -> bool {
        self.running.contains_key(backend)
    }

    /// Whether the outcome comes from the checker that runs now.
    pub(in crate::control) fn is_current(&self, checked: &Checked<K>) -> bool {
        self.running.get(&checked.backend).is_some_and(|running| running.number == checked.checker)
    }
}

impl Drop for Checker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl Target ===

impl<K: Clone + Sync> Target<K> {
    async fn run(self, rules: Arc<Health>, permits: Arc<Semaphore>, outcomes: mpsc::Sender<Checked<K>>, joins: bool) {
        if joins {
            while check(self.socket, &self.address, &rules).await.is_err() {
                sleep(JOIN_INTERVAL).await;
            }
            if !self.report(&outcomes, Ok(())).await || !rules.enabled {
                return;
            }
            sleep(self.first_pause(rules.interval)).await;
        }
        let mut is_first = !joins;
        // The rules that membership applies as well; here they only decide how soon to check again.
        let mut standing = if joins { Standing::unknown() } else { rules.initial.standing() };
        loop {
            let outcome = {
                // The semaphore is never closed, so this cannot fail.
                let _permit = permits.acquire().await;
                check(self.socket, &self.address, &rules).await
            };
            standing.check(outcome.clone(), rules.check_rules());
            if !self.report(&outcomes, outcome).await {
                return;
            }
            sleep(match (standing.is_in_doubt(), is_first) {
                (true, _) => rules.fast_interval,
                (false, true) => self.first_pause(rules.interval),
                (false, false) => rules.interval,
            })
            .await;
            is_first = false;
        }
    }

    /// Returns `false` if the receiver is gone.
    async fn report(&self, outcomes: &mpsc::Sender<Checked<K>>, outcome: Result<(), CheckFailure>) -> bool {
        outcomes.send(Checked { backend: self.backend.clone(), outcome, checker: self.checker }).await.is_ok()
    }

    /// A pause between half an interval and a whole one, by the seed. Without it, backends that were added together
    /// would always be checked at the same time.
    fn first_pause(&self, interval: Duration) -> Duration {
        let part = self.seed % 1000;
        interval / 2 + interval * part as u32 / 2000
    }
}
