//! Probation and rollback: a new strategy that fails is replaced by the last proven one.
//!
//! A rollback is a reload that reads and tries nothing. It begins as [`State::Ready`] with the strategy that was kept.

use std::time::Duration;

use tokio::time::Instant;

use super::reloads::{Reloads, access_log_of};
use super::state::{Answer, Rollback, State, Transaction};
use super::{Candidate, Prepared, Target};
use crate::control::api::{ReloadError, RolledBack, Trigger};
use crate::control::pools::{PoolKey, PoolState};
use crate::control::publish::Publisher;
use crate::control::trust::{Opinion, Tenure};
use crate::generation::SILENCE_MAX;

/// The interval of looks at strategies on probation.
const LOOK_EVERY: Duration = Duration::from_millis(100);

// === impl Reloads: probation ===

impl Reloads {
    /// Strategies of the start-up are on probation, too.
    pub(in crate::control) fn begin_probation(desk: &mut Publisher) {
        let tenure = Tenure::begin(Instant::now(), desk.config.reload.probation);
        for pool in desk.pools.keys() {
            *desk.pools[pool].tenure_mut() = tenure.clone();
            // No request has arrived yet.
            let instance = desk.pools[pool].strategy.instance();
            desk.wait_for_newest(crate::control::publish::FollowUp::InCharge { pool, instance });
        }
    }

    /// The wait for the workers is over: probation counts from here.
    pub(in crate::control) fn in_charge(desk: &mut Publisher, pool: PoolKey, instance: u64) {
        let Some(pool) = desk.pools.get_mut(pool) else { return };
        let counted = desk.metrics.pick_totals(&pool.name);
        if pool.strategy.instance() == instance
            && let Tenure::OnProbation(probation) = pool.tenure_mut()
        {
            probation.starts_from(counted);
        }
    }

    /// The next look at strategies on probation.
    pub(in crate::control) fn next_look(&self, desk: &Publisher) -> Option<Instant> {
        let is_on_probation = |pool: &PoolState| matches!(pool.tenure(), Tenure::OnProbation(_));
        desk.pools.iter().any(is_on_probation).then_some(self.next_look)
    }

    /// Looks at the strategies on probation, if that is due. A strategy that failed is rolled back as soon as no reload
    /// runs.
    pub(in crate::control) fn look_at_probation(&mut self, desk: &mut Publisher) {
        if Instant::now() >= self.next_look {
            self.look(desk);
        }
    }

    fn look(&mut self, desk: &mut Publisher) {
        self.next_look = Instant::now() + LOOK_EVERY;
        let failed = failed(desk);
        match (failed, self.state.is_idle()) {
            (Some((pool, reason)), true) => {
                let transaction = Transaction::taking_back(Trigger::Probation, reason, Vec::new());
                self.begin_rollback(desk, transaction, &[pool]);
            }
            // The reload may replace the failed strategy; if not, the next look finds it again. Requests suffer until
            // then, so the trial of other plugins is ended.
            (Some(_), false) => {
                self.state.give_up_trial();
                self.queue.rollback.get_or_insert(Rollback::Failed);
            }
            (None, _) => {
                if matches!(self.queue.rollback, Some(Rollback::Failed)) {
                    self.queue.rollback = None;
                }
                self.begin_next(desk);
            }
        }
    }

    // === rollback ===

    /// An operator requests it: for one pool, or for all that have a strategy to go back to.
    pub(in crate::control) fn roll_back(&mut self, desk: &mut Publisher, pool: Option<String>, answer: Answer) {
        let transaction = Transaction::taking_back(Trigger::Admin, "by hand".into(), vec![answer]);
        self.roll_back_by_hand(desk, pool, transaction);
    }

    fn roll_back_by_hand(&mut self, desk: &mut Publisher, pool: Option<String>, transaction: Transaction) {
        if let Some(running) = self.state.transaction() {
            let is_asked_for = matches!(self.queue.rollback, Some(Rollback::ByHand(..)));
            if running.taking_back.is_some() || is_asked_for {
                return transaction.answer(&Err(ReloadError::Busy));
            }
            // A rollback does not wait for a trial.
            self.state.give_up_trial();
            self.queue.rollback = Some(Rollback::ByHand(pool, Box::new(transaction)));
            return;
        }
        let refused = |reason| Err(ReloadError::refused("rollback", reason));
        if let Some(name) = pool.as_deref().filter(|name| desk.pools.key_of(name).is_none()) {
            return transaction.answer(&refused(format!("there is no pool {name:?}")));
        }
        let is_meant = |state: &PoolState| pool.as_deref().is_none_or(|pool| pool == &*state.name);
        let pools = desk.pools.entries().filter(|(_, state)| is_meant(state) && state.kept().is_some());
        let pools: Vec<PoolKey> = pools.map(|(key, _)| key).collect();
        if pools.is_empty() {
            let of = pool.map_or_else(String::new, |name| format!(" of pool {name:?}"));
            return transaction.answer(&refused(format!(
                "there is nothing to go back to: no other strategy{of} was in charge since the start, or the last rollback"
            )));
        }
        self.begin_rollback(desk, transaction, &pools);
    }

    /// A reload has ended. Begins the rollback that waited for it, if there is one.
    pub(super) fn begin_rollback_that_waits(&mut self, desk: &mut Publisher, has_published: bool) {
        match self.queue.rollback.take() {
            // The strategy that it was to replace is not in charge any more.
            Some(Rollback::ByHand(_, transaction)) if has_published => transaction.answer(&Err(ReloadError::Busy)),
            Some(Rollback::ByHand(pool, transaction)) => self.roll_back_by_hand(desk, pool, *transaction),
            Some(Rollback::Failed) => self.look(desk),
            None => {}
        }
    }

    fn begin_rollback(&mut self, desk: &Publisher, mut transaction: Transaction, pools: &[PoolKey]) {
        let mut config = desk.config.clone();
        let mut overrides = self.overrides.clone();
        let mut candidates = Vec::new();
        for (index, (key, pool)) in desk.pools.entries().enumerate() {
            let Some(kept) = pool.kept().filter(|_| pools.contains(&key)) else {
                candidates.push(Candidate::staying(pool.strategy.plugin().clone()));
                continue;
            };
            config.pools[index].strategy = kept.settings.clone();
            overrides.retain(|one| *one.pool != *pool.name);
            overrides.extend(kept.overriding.clone());
            candidates.push(Candidate::back(kept, &pool.strategy, pool.settings()));
        }
        transaction.overrides = overrides;
        let by_itself = transaction.by == Trigger::Probation;
        let warnings = transaction.taking_back.clone().filter(|_| by_itself).into_iter().collect();
        let target = Target { config, applied: Vec::new(), needs_restart: Vec::new(), warnings, pinned: None };
        let (listeners, access_log) = (desk.listeners.open().to_vec(), access_log_of(desk));
        let prepared = Box::new(Prepared { target, candidates, listeners, access_log, files: None });
        self.begun += 1;
        self.state = State::Ready { transaction, prepared };
    }

    /// A rollback failed: the strategy in charge stays. Only an operator can roll it back from now on.
    pub(super) fn rollback_failed(&mut self, desk: &mut Publisher, reason: &str, error: &ReloadError) {
        for pool in desk.pools.iter_mut() {
            if matches!(pool.tenure(), Tenure::OnProbation(_)) && pool.kept().is_some() {
                *pool.tenure_mut() = Tenure::Failed(format!("{reason}; and it could not be rolled back: {error}"));
            }
        }
    }

    /// The candidate with the same bytes and options as one that was rolled back from its pool, if there is one.
    pub(super) fn rolled_back_candidate(&self, prepared: &Prepared) -> Option<&RolledBack> {
        let pools = prepared.target.config.pools.iter().zip(&prepared.candidates);
        pools.filter(|(_, candidate)| candidate.strategy.is_some()).find_map(|(pool, candidate)| {
            let sha256 = candidate.plugin().sha256_hex();
            self.rolled_back
                .iter()
                .find(|old| old.pool == pool.name && old.sha256 == sha256 && old.options == pool.strategy.options)
        })
    }
}

/// The first pool whose strategy failed its probation and can be rolled back, and the reason. Ends probations that are
/// over.
fn failed(desk: &mut Publisher) -> Option<(PoolKey, String)> {
    let now = Instant::now();
    let stuck = desk.hall.stuck_workers(SILENCE_MAX);
    let mut failed = None;
    for (key, pool) in desk.pools.entries_mut() {
        let Tenure::OnProbation(probation) = pool.tenure() else { continue };
        let name = pool.strategy.plugin().name();
        let counted = desk.metrics.pick_totals(&pool.name);
        match probation.opinion(counted, stuck, now) {
            Opinion::Watching => {}
            Opinion::Proven => {
                let picks = pool.tenure().picks(counted);
                tracing::info!(pool = %pool.name, strategy = name, picks, "strategy is proven");
                *pool.tenure_mut() = Tenure::Proven;
            }
            Opinion::Failed(reason) if pool.kept().is_none() => {
                tracing::error!(pool = %pool.name, strategy = name, reason, "strategy fails, and no proven one can replace it");
                *pool.tenure_mut() = Tenure::Failed(reason);
            }
            Opinion::Failed(reason) => {
                failed.get_or_insert((key, reason));
            }
        }
    }
    failed
}
