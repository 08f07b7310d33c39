//! Probation and the way back: the last proven strategy of a pool comes into charge again, by itself or by hand.
//!
//! A rollback is a reload that reads nothing: what was kept alive gets pickers for the members as they are now and is published like
//! any other change. Invariants: members, health and every other setting stay as they are; one that could not be put back is not
//! tried again; a look at the counts happens here and never on a request's way.

use std::time::Duration;

use tokio::time::Instant;

use super::Actor;
use super::reloads::Transaction;
use crate::control::pools::PoolKey;
use crate::control::probation::{Opinion, Tenure};
use crate::control::reload::{Candidate, Prepared, ReloadError, RolledBack, Target, Trigger};
use crate::generation::SILENCE_MAX;

/// How often strategies on probation are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

// === impl Actor: rolling back ===

impl Actor {
    /// When strategies on probation want to be looked at next.
    pub(super) fn next_probation_look(&self) -> Option<Instant> {
        let on_probation =
            |pool: &crate::control::pool_state::PoolState| matches!(pool.tenure(), Tenure::OnProbation(_));
        self.pools.iter().any(on_probation).then_some(self.reloads.next_look)
    }

    /// Looks at the strategies on probation; one that failed is rolled back, once nothing else is under way.
    pub(super) fn look_at_probation(&mut self) {
        let now = Instant::now();
        if now < self.reloads.next_look {
            return;
        }
        self.reloads.next_look = now + LOOK_EVERY;
        let stuck = self.hall.stuck_workers(SILENCE_MAX);
        let mut failed = Vec::new();
        for (index, pool) in self.pools.entries_mut() {
            let Tenure::OnProbation(probation) = pool.tenure() else { continue };
            match probation.opinion(self.metrics.pick_totals(&pool.name), stuck, now) {
                Opinion::Watching => {}
                Opinion::Proven => {
                    tracing::info!("pool {}: strategy {} is proven", pool.name, pool.strategy.plugin().name());
                    *pool.tenure_mut() = Tenure::Proven;
                }
                Opinion::Failed(reason) if pool.kept().is_none() => {
                    let name = pool.strategy.plugin().name();
                    tracing::error!(
                        "pool {}: strategy {name} fails, and there is none to put back: {reason}",
                        pool.name
                    );
                    *pool.tenure_mut() = Tenure::Failed(reason);
                }
                Opinion::Failed(reason) => failed.push((index, reason)),
            }
        }
        self.reloads.is_rollback_due = !failed.is_empty();
        match (failed.into_iter().next(), &self.reloads.running) {
            (Some((index, reason)), None) => {
                self.reloads.is_rollback_due = false;
                self.begin_rollback(Transaction::taking_back(Trigger::Probation, reason), &[index]);
            }
            // It may change what failed; if it does not, the next look finds it again. Requests suffer until then, so nothing else is tried.
            (Some(_), Some(_)) => self.reloads.give_up_trial(),
            (None, _) => self.begin_next(),
        }
    }

    /// By hand: of one pool, or of all that have something to go back to.
    pub(super) fn roll_back_by_hand(&mut self, pool: Option<&str>, transaction: Transaction) {
        if let Some(running) = &self.reloads.running {
            if running.taking_back.is_some() || self.reloads.rollback.is_some() {
                return transaction.answer(&Err(ReloadError::Busy));
            }
            // A rollback reads and tries nothing, so it waits for nobody who does.
            self.reloads.give_up_trial();
            self.reloads.rollback = Some((pool.map(str::to_owned), transaction));
            return;
        }
        let is_meant = |name: &str| pool.is_none_or(|pool| pool == name);
        if let Some(name) = pool
            && self.pools.key_of(name).is_none()
        {
            return transaction.answer(&Err(ReloadError::refused("rollback", format!("there is no pool {name:?}"))));
        }
        let pools: Vec<PoolKey> = self
            .pools
            .keys()
            .into_iter()
            .filter(|&index| is_meant(&self.pools[index].name) && self.pools[index].kept().is_some())
            .collect();
        if pools.is_empty() {
            let of = pool.map_or_else(String::new, |name| format!(" of pool {name:?}"));
            let reason = format!(
                "there is nothing to go back to: no other strategy{of} was in charge since the start, or the last rollback"
            );
            return transaction.answer(&Err(ReloadError::refused("rollback", reason)));
        }
        self.begin_rollback(transaction, &pools);
    }

    fn begin_rollback(&mut self, mut transaction: Transaction, pools: &[PoolKey]) {
        let mut config = self.config.clone();
        let mut overrides = self.reloads.overrides.clone();
        let mut candidates = Vec::new();
        for (index, (key, pool)) in self.pools.entries().enumerate() {
            let kept = pool.kept().filter(|_| pools.contains(&key));
            let Some(kept) = kept else {
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
        let target = Target { config, applied: Vec::new(), needs_restart: Vec::new(), warnings };
        self.reloads.running = Some(transaction);
        let (listeners, access_log) = (self.listeners.clone(), self.access_log());
        self.reloads.ready = Some(Prepared { target, candidates, listeners, access_log });
    }

    /// A rollback did not work out: what is in charge stays, and is not taken back again by itself.
    pub(super) fn rollback_failed(&mut self, reason: &str, error: &ReloadError) {
        for pool in self.pools.iter_mut() {
            if matches!(pool.tenure(), Tenure::OnProbation(_)) && pool.kept().is_some() {
                *pool.tenure_mut() = Tenure::Failed(format!("{reason}; and it could not be rolled back: {error}"));
            }
        }
    }

    /// The candidate that was rolled back from that pool with the same bytes and options, if there is one.
    pub(super) fn rolled_back_candidate(&self, prepared: &Prepared) -> Option<&RolledBack> {
        let pools = prepared.target.config.pools.iter().zip(&prepared.candidates);
        pools.filter(|(_, candidate)| candidate.strategy.is_some()).find_map(|(pool, candidate)| {
            let sha256 = candidate.plugin().sha256_hex();
            self.reloads
                .rolled_back
                .iter()
                .find(|old| old.pool == pool.name && old.sha256 == sha256 && old.options == pool.strategy.options)
        })
    }
}
