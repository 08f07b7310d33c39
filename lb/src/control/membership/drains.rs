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
    Late { pool: Arc<str>, backend: Arc<Backend> },
    /// It has no request in flight, or its drain time has passed: its process can end.
    Idle { supervisor: u64 },
}

/// The drains of members. A removed member keeps its drain until every worker has a list without it, because its
/// strategy may refuse that list.
#[derive(Default)]
pub(super) struct Drains(HashMap<BackendKey, Drain>);

struct Drain {
    since: Instant,
    deadline: Option<Instant>,
    /// The requests that ended at the deadline, once it has passed.
    cut: Option<u32>,
    /// The backends of the member since then: a changed address makes another one.
    backends: Vec<Arc<Backend>>,
}

// === impl Drains ===

impl Drains {
    /// Begins a drain. If the member drains already, it gets another deadline.
    pub(super) fn begin(&mut self, pool: PoolKey, member: &Member, within: Option<Duration>) {
        let key = (pool, member.id().clone());
        if !member.entry.draining {
            // It may be left from a drain that a list ended.
            self.0.remove(&key);
        }
        let drain = self.0.entry(key).or_insert_with(Drain::begins);
        (drain.deadline, drain.cut) = (within.map(|within| Instant::now() + within), None);
        drain.note(&member.backend);
    }

    /// A member that drains came into the list, or has another backend.
    pub(super) fn note(&mut self, pool: PoolKey, member: &Member) {
        self.0.entry((pool, member.id().clone())).or_insert_with(Drain::begins).note(&member.backend);
    }

    /// The deadline of a drain, unless it has passed.
    pub(super) fn deadline(&self, key: &BackendKey) -> Option<Instant> {
        self.0.get(key).filter(|drain| drain.cut.is_none())?.deadline
    }

    /// Forgets drains of removed pools.
    pub(super) fn keep(&mut self, has_pool: impl Fn(PoolKey) -> bool) {
        self.0.retain(|(pool, _), _| has_pool(*pool));
    }

    pub(super) fn end(&mut self, key: &BackendKey) {
        self.0.remove(key);
    }

    pub(super) fn status(&self, key: &BackendKey) -> Option<DrainStatus> {
        let Drain { since, deadline, cut, .. } = self.0.get(key)?;
        let ms = |time: Duration| time.as_millis() as u64;
        let now = Instant::now();
        let left_ms = deadline.map(|deadline| ms(deadline.saturating_duration_since(now)));
        Some(DrainStatus { for_ms: ms(now - *since), left_ms, cut: *cut })
    }
}

// === impl Drain ===

impl Drain {
    fn begins() -> Self {
        Self { since: Instant::now(), deadline: None, cut: None, backends: Vec::new() }
    }

    fn note(&mut self, backend: &Arc<Backend>) {
        if !self.backends.iter().any(|known| Arc::ptr_eq(known, backend)) {
            self.backends.push(backend.clone());
        }
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
            let pool = desk.pools.get(*pool);
            // A list may have ended the drain.
            let drains = |member: &Member| member.entry.draining;
            let pool = pool.filter(|pool| pool.members.get(id).is_some_and(drains));
            drain.cut = Some(pool.map_or(0, |pool| cut(desk, &pool.name, &drain.backends)));
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
        &mut self,
        desk: &Publisher,
        pool: PoolKey,
        member: &Member,
        supervisor: Option<u64>,
        deadline: Option<Instant>,
    ) {
        // Without its pool, all series of the pool are removed.
        let name = desk.pools.get(pool).map(|pool| pool.name.clone()).unwrap_or_default();
        if let Some(state) = desk.pools.get(pool).filter(|pool| !pool.members.contains(member.id())) {
            desk.metrics.retire_backend(&state.name, member.id());
            self.drains.end(&(pool, member.id().clone()));
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
                        let _ = reports.send(Drained::Late { pool: name, backend: backend.clone() }).await;
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
            Drained::Late { pool, backend } => drop(cut(desk, &pool, &[backend])),
            Drained::Idle { supervisor } => {
                if let Some(launcher) = &mut self.launcher {
                    launcher.stop(supervisor);
                }
            }
        }
    }
}

/// Ends the requests of the backends of one id. Returns how many there were.
fn cut(desk: &Publisher, pool: &str, backends: &[Arc<Backend>]) -> u32 {
    // They count together.
    let Some((id, in_flight)) = backends.first().map(|backend| (&backend.id, backend.in_flight())) else { return 0 };
    if in_flight > 0 {
        tracing::warn!(pool, backend = %id, in_flight, "the deadline of the drain has passed: its requests end");
        backends.iter().for_each(|backend| backend.cut());
        desk.hall.cut();
    }
    in_flight
}

async fn idle(backend: &Backend) {
    while backend.in_flight() > 0 {
        sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::InitialState;
    use crate::control::pools::{Entry, Members};

    const KEY: PoolKey = PoolKey::DEFAULT;

    fn drain<'a>(drains: &'a Drains, member: &Member) -> &'a Drain {
        &drains.0[&(KEY, member.id().clone())]
    }

    #[test]
    fn a_second_drain_counts_from_its_own_start_and_a_new_deadline_does_not() {
        let members = Members::of(&[Entry::stand_in()], InitialState::Up);
        let mut member = members.get("b1").unwrap().clone();
        let mut drains = Drains::default();
        drains.begin(KEY, &member, None);
        let first = drain(&drains, &member).since;
        member.entry.draining = true;
        drains.begin(KEY, &member, Some(Duration::from_secs(60)));
        assert_eq!(drain(&drains, &member).since, first);
        // A reload ended the drain.
        member.entry.draining = false;
        drains.begin(KEY, &member, None);
        assert!(drain(&drains, &member).since > first);
        assert_eq!(drains.deadline(&(KEY, member.id().clone())), None);
    }

    #[test]
    fn the_requests_on_both_addresses_of_a_member_end_at_the_deadline() {
        let mut members = Members::of(&[Entry::stand_in()], InitialState::Up);
        let mut drains = Drains::default();
        let old = members.get("b1").unwrap().clone();
        drains.begin(KEY, &old, Some(Duration::ZERO));
        members.set_address("b1", "127.0.0.1:2", ([127, 0, 0, 1], 2).into());
        let new = members.get("b1").unwrap().clone();
        drains.note(KEY, &new);
        drains.note(KEY, &new);
        let backends = &drain(&drains, &new).backends;
        assert!(backends.iter().map(Arc::as_ptr).eq([&old, &new].map(|member| Arc::as_ptr(&member.backend))));
    }
}
