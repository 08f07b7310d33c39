//! Drains: since when a backend gets no new request, and the end of its requests at the deadline.
//!
//! A deadline belongs to the running lb; the overlay keeps only that a backend drains. The deadline of a removed
//! backend is with the task that waits for its requests. Invariant: the requests of a backend are cut at most once for
//! each deadline.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{BackendKey, Membership};
use crate::control::api::DrainStatus;
use crate::control::pools::{Member, PoolKey};
use crate::control::publish::Publisher;
use crate::pool::Backend;

/// The interval of looks at a removed backend; its counter wakes no task.
const LOOK: Duration = Duration::from_millis(10);
/// How long the process of a removed replica stays after its requests were cut, so that the workers end them first.
const CUT_MAX: Duration = Duration::from_secs(1);

/// Sent for a removed backend.
pub(in crate::control) enum Drained {
    /// Its deadline has passed, and requests are in flight.
    Late(Arc<Backend>),
    /// It has no request in flight, or its drain time has passed: its process can end.
    Idle { supervisor: u64 },
}

/// The drains of members.
#[derive(Default)]
pub(super) struct Drains(HashMap<BackendKey, Drain>);

struct Drain {
    since: Instant,
    deadline: Option<Instant>,
    /// The requests that ended at the deadline, once it has passed.
    cut: Option<u32>,
}

// === impl Drains ===

impl Drains {
    /// Begins a drain, or gives a running one another deadline.
    pub(super) fn begin(&mut self, key: BackendKey, within: Option<Duration>) {
        let drain = self.0.entry(key).or_insert_with(Drain::begins);
        (drain.deadline, drain.cut) = (within.map(|within| Instant::now() + within), None);
    }

    /// A member that drained before came into the list again.
    pub(super) fn note(&mut self, key: BackendKey) {
        self.0.entry(key).or_insert_with(Drain::begins);
    }

    pub(super) fn end(&mut self, key: &BackendKey) {
        self.0.remove(key);
    }

    pub(super) fn status(&self, key: &BackendKey) -> Option<DrainStatus> {
        let Drain { since, deadline, cut } = self.0.get(key)?;
        let ms = |time: Duration| time.as_millis() as u64;
        let now = Instant::now();
        let left_ms = deadline.map(|deadline| ms(deadline.saturating_duration_since(now)));
        Some(DrainStatus { for_ms: ms(now - *since), left_ms, cut: *cut })
    }
}

// === impl Drain ===

impl Drain {
    fn begins() -> Self {
        Self { since: Instant::now(), deadline: None, cut: None }
    }

    /// Whether its deadline has passed and nothing was done about it.
    fn awaits(&self, now: Instant) -> bool {
        self.cut.is_none() && self.deadline.is_some_and(|deadline| deadline <= now)
    }
}

// === impl Membership: drains ===

impl Membership {
    /// Ends the requests of members whose deadline has passed.
    pub(in crate::control) fn cut_late_drains(&mut self, desk: &Publisher) {
        let now = Instant::now();
        for ((pool, id), drain) in self.drains.0.iter_mut().filter(|(_, drain)| drain.awaits(now)) {
            let Some(pool) = desk.pools.get(*pool) else { continue };
            // A list that its strategy refused may have ended the drain.
            let member = pool.members.get(id).filter(|member| member.entry.draining);
            drain.cut = Some(member.map_or(0, |member| cut(desk, &pool.name, &member.backend)));
        }
    }

    /// The next time at which a deadline passes.
    pub(super) fn next_drain_look(&self) -> Option<Instant> {
        self.drains.0.values().filter(|drain| drain.cut.is_none()).filter_map(|drain| drain.deadline).min()
    }

    /// The wait for the workers' views is over. The member's process, if `supervisor` runs one, ends after its last
    /// request. Requests are counted by id, so the old process stays while a new backend of the same id is busy. It
    /// stays at most for `timeouts.drain_ms`. If there is a deadline, it stays until then, and then the requests end.
    pub(in crate::control) fn left(
        &self,
        desk: &Publisher,
        pool: PoolKey,
        member: &Member,
        supervisor: Option<u64>,
        deadline: Option<Instant>,
    ) {
        // Without its pool, all series of the pool are removed.
        if let Some(pool) = desk.pools.get(pool).filter(|pool| !pool.members.contains(member.id())) {
            desk.metrics.retire_backend(&pool.name, member.id());
        }
        if supervisor.is_none() && deadline.is_none() {
            return;
        }
        let (backend, reports) = (member.backend.clone(), self.drained.clone());
        let limit = deadline.unwrap_or_else(|| Instant::now() + desk.config.timeouts.drain);
        tokio::spawn(async move {
            if timeout_at(limit, idle(&backend)).await.is_err() {
                match deadline {
                    None => {
                        let (backend, in_flight) = (&backend.id, backend.in_flight());
                        tracing::warn!(%backend, in_flight, "the replica is stopped: its drain time is over");
                    }
                    Some(_) => {
                        let _ = reports.send(Drained::Late(backend.clone())).await;
                        let _ = timeout(CUT_MAX, idle(&backend)).await;
                    }
                }
            }
            if let Some(supervisor) = supervisor {
                let _ = reports.send(Drained::Idle { supervisor }).await;
            }
        });
    }

    /// A removed backend has no requests any more, or its deadline has passed.
    pub(in crate::control) fn drained(&mut self, desk: &Publisher, drained: Drained) {
        match drained {
            Drained::Late(backend) => drop(cut(desk, &desk.pools[PoolKey::DEFAULT].name, &backend)),
            Drained::Idle { supervisor } => {
                if let Some(launcher) = &mut self.launcher {
                    launcher.stop(supervisor);
                }
            }
        }
    }
}

/// Ends the requests of a backend. Returns how many there were.
fn cut(desk: &Publisher, pool: &str, backend: &Backend) -> u32 {
    let (id, in_flight) = (&backend.id, backend.in_flight());
    if in_flight > 0 {
        tracing::warn!(pool, backend = %id, in_flight, "the deadline of the drain has passed: its requests end");
        backend.cut();
        desk.hall.cut();
    }
    in_flight
}

async fn idle(backend: &Backend) {
    while backend.in_flight() > 0 {
        sleep(LOOK).await;
    }
}
