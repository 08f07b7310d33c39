//! Probation and rollback: a new strategy that fails is replaced by the last proven one.
//!
//! A rollback is a reload that reads and tries nothing. It begins as [`State::Ready`] with the strategy that was kept.

use std::time::Duration;

use tokio::time::Instant;

use super::reloads::{Reloads, access_log_of, discard};
use super::state::{Answer, Rollback, State, Transaction};
use super::{Candidate, Prepared, Target, outcome};
use crate::config;
use crate::control::api::{Overriding, ReloadError, ReloadReport, ReloadResult, RolledBack, Trigger};
use crate::control::pools::{Kept, PoolKey, PoolState, ShadowState};
use crate::control::publish::{FollowUp, Publisher};
use crate::control::trust::{Crash, Opinion, Tenure};
use crate::generation::SILENCE_MAX;

/// The interval of looks at strategies on probation.
const LOOK_EVERY: Duration = Duration::from_millis(100);

// === impl Reloads: probation ===

impl Reloads {
    /// Strategies of the start-up are on probation, too.
    pub(in crate::control) fn begin_probation(&mut self, desk: &mut Publisher) {
        let tenure = Tenure::begin(Instant::now(), desk.config.reload.probation);
        for pool in desk.pools.keys() {
            *desk.pools[pool].tenure_mut() = tenure.clone();
            // No request has arrived yet.
            let state = &desk.pools[pool];
            let (plugin, instance) = (state.strategy.plugin(), state.strategy.instance());
            desk.metrics.instance_in_charge(&state.name, plugin.name(), state.strategy.panics().clone());
            desk.wait_for_newest(FollowUp::InCharge { pool, instance });
            let shadows = desk.pools[pool].shadows.iter().map(ShadowState::choice).collect();
            desk.shadows_begin(pool, shadows);
        }
        self.note_proven(desk);
    }

    /// Tells the ledger which strategies are proven.
    pub(super) fn note_proven(&mut self, desk: &Publisher) {
        for pool in desk.pools.iter() {
            let is_proven = matches!(pool.tenure(), Tenure::Proven);
            self.ledger.note(&pool.name, &pool.strategy, &pool.settings().options, is_proven);
        }
    }

    /// Removes crashes from the ledger if an operator has put the strategies in charge. A plain reload removes all. An
    /// override removes only those of strategies that are in charge now.
    pub(super) fn forgive(&mut self, desk: &Publisher, transaction: &Transaction) {
        let Transaction { request, by, taking_back, .. } = transaction;
        if by.is_automatic() || taking_back.is_some() || request.dry_run {
            return;
        }
        let is_plain = request.overriding.is_none();
        let is_in_charge = |crash: &Crash| {
            let is_of = |pool: &PoolState| {
                let sha256 = pool.strategy.plugin().sha256_hex();
                crash.is_of(&pool.name, sha256.as_deref(), &pool.settings().options)
            };
            desk.pools.iter().any(is_of)
        };
        self.ledger.forgive(|crash| is_plain || is_in_charge(crash));
    }

    /// The wait for the workers is over: probation counts from here.
    pub(in crate::control) fn in_charge(desk: &mut Publisher, pool: PoolKey, instance: u64) {
        let Some(pool) = desk.pools.get_mut(pool) else { return };
        let (name, counted) = (pool.name.clone(), desk.metrics.pick_totals(&pool.name));
        pool.shadows.begins(instance, |shadow| desk.metrics.shadow_totals(&name, shadow));
        if pool.strategy.instance() == instance
            && let Tenure::OnProbation(probation) = pool.tenure_mut()
        {
            probation.starts_from(counted);
        }
    }

    /// The next look at strategies on probation.
    pub(in crate::control) fn next_look(&self, desk: &Publisher) -> Option<Instant> {
        let is_on_probation = |pool: &PoolState| matches!(pool.tenure(), Tenure::OnProbation(_));
        (desk.pools.iter().any(is_on_probation) || Self::has_shadows(desk)).then_some(self.next_look)
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
        let hanging = Self::look_at_shadows(desk);
        let failed = failed(desk, hanging);
        self.note_proven(desk);
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
        match pools_to_roll_back(desk, pool.as_deref()) {
            Ok(pools) => self.begin_rollback(desk, transaction, &pools),
            Err(error) => transaction.answer(&Err(error)),
        }
    }

    /// Which strategies a rollback by hand would put back in charge. Changes nothing.
    pub(in crate::control) fn going_back(
        &self,
        desk: &Publisher,
        pool: Option<String>,
    ) -> Result<ReloadReport, ReloadError> {
        let pools = pools_to_roll_back(desk, pool.as_deref())?;
        let (prepared, _) = self.prepare_rollback(desk, &pools, not_proven(desk, &pools));
        let report = outcome::report(&prepared, ReloadResult::WouldWork, &[], desk.hall.current().number);
        discard(desk, prepared);
        Ok(ReloadReport { dry_run: true, ..report })
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
        let warnings = match (&transaction.by, &transaction.taking_back) {
            (Trigger::Probation, Some(reason)) => {
                let failed = pools.iter().filter_map(|key| desk.pools.get(*key));
                failed
                    .map(|pool| format!("pool {:?}: {}: {reason}", pool.name, pool.strategy.plugin().name()))
                    .collect()
            }
            _ => not_proven(desk, pools),
        };
        let (prepared, overrides) = self.prepare_rollback(desk, pools, warnings);
        transaction.overrides = overrides;
        self.begun += 1;
        self.state = State::Ready { transaction, prepared: Box::new(prepared) };
    }

    /// The kept strategies of `pools`, ready to be put back, and the overrides that are then in force.
    fn prepare_rollback(
        &self,
        desk: &Publisher,
        pools: &[PoolKey],
        warnings: Vec<String>,
    ) -> (Prepared, Vec<Overriding>) {
        let mut config = desk.config.clone();
        let mut overrides = self.overrides.clone();
        let mut candidates = Vec::new();
        for (index, (key, pool)) in desk.pools.entries().enumerate() {
            let Some(kept) = pool.kept().filter(|_| pools.contains(&key)) else {
                let staying = Candidate::staying(pool.strategy.plugin().clone());
                candidates.push(staying.with_shadows(pool.shadows.choices()));
                continue;
            };
            // The shadows stay those that they are.
            let shadows = std::mem::take(&mut config.pools[index].strategy.shadows);
            config.pools[index].strategy = config::Strategy { shadows, ..kept.settings.clone() };
            overrides.retain(|one| *one.pool != *pool.name);
            overrides.extend(kept.overriding.clone());
            let back = Candidate::back(kept, &pool.strategy, pool.settings());
            candidates.push(back.with_shadows(pool.shadows.choices()));
        }
        let target = Target { config, applied: Vec::new(), needs_restart: Vec::new(), warnings, pinned: None };
        let (listeners, access_log) = (desk.listeners.open().to_vec(), access_log_of(desk));
        (Prepared { target, candidates, listeners, access_log, files: None }, overrides)
    }

    /// A rollback failed: the strategy in charge stays. Only an operator can roll it back from now on.
    pub(super) fn rollback_failed(&mut self, desk: &mut Publisher, reason: &str, error: &ReloadError) {
        for pool in desk.pools.iter_mut() {
            if matches!(pool.tenure(), Tenure::OnProbation(_)) && pool.kept().is_some() {
                *pool.tenure_mut() = Tenure::Failed(format!("{reason}; and it could not be rolled back: {error}"));
            }
        }
    }

    /// The candidate with the same bytes and options as one that was rolled back from its pool, or crashed in it.
    pub(super) fn rolled_back_candidate(&self, prepared: &Prepared) -> Option<RolledBack> {
        let pools = prepared.target.config.pools.iter().zip(&prepared.candidates);
        pools.filter(|(_, candidate)| candidate.strategy.is_some()).find_map(|(pool, candidate)| {
            let sha256 = candidate.plugin().sha256_hex();
            let options = &pool.strategy.options;
            let is_same = |old: &&RolledBack| old.pool == pool.name && old.sha256 == sha256 && old.options == *options;
            let rolled_back = self.rolled_back.iter().find(is_same).cloned();
            rolled_back.or_else(|| self.ledger.crash_of(&pool.name, sha256.as_deref(), options))
        })
    }
}

/// The pools that a rollback by hand is about: `pool`, or all that have a strategy to go back to.
fn pools_to_roll_back(desk: &Publisher, pool: Option<&str>) -> Result<Vec<PoolKey>, ReloadError> {
    let refused = |reason| Err(ReloadError::refused("rollback", reason));
    if let Some(name) = pool.filter(|name| desk.pools.key_of(name).is_none()) {
        return refused(format!("there is no pool {name:?}"));
    }
    let is_meant = |state: &PoolState| pool.is_none_or(|pool| pool == &*state.name);
    let pools = desk.pools.entries().filter(|(_, state)| is_meant(state) && state.kept().is_some());
    let pools: Vec<PoolKey> = pools.map(|(key, _)| key).collect();
    if pools.is_empty() {
        let of = pool.map_or_else(String::new, |name| format!(" of pool {name:?}"));
        return refused(format!(
            "there is nothing to go back to: no other strategy{of} was in charge since the start, or the last rollback"
        ));
    }
    Ok(pools)
}

/// A sentence for each pool whose kept strategy was not proven.
fn not_proven(desk: &Publisher, pools: &[PoolKey]) -> Vec<String> {
    let kept = pools.iter().filter_map(|key| Some((&desk.pools[*key].name, desk.pools[*key].kept()?)));
    let unproven = kept.filter(|(_, kept)| !kept.is_proven);
    let sentence = |(pool, kept): (_, &Kept)| {
        let name = kept.strategy.plugin().name();
        format!("pool {pool}: no strategy was proven yet, so {name} is the first one that was in charge")
    };
    unproven.map(sentence).collect()
}

/// The first pool whose strategy failed its probation and can be rolled back, and the reason. Ends probations that are
/// over. `hanging` workers are in a pick of a shadow.
fn failed(desk: &mut Publisher, hanging: usize) -> Option<(PoolKey, String)> {
    let now = Instant::now();
    let stuck = desk.hall.stuck_workers(SILENCE_MAX).saturating_sub(hanging);
    let mut failed = None;
    for (key, pool) in desk.pools.entries_mut() {
        let Tenure::OnProbation(probation) = pool.tenure() else { continue };
        let name = pool.strategy.plugin().name();
        let counted = desk.metrics.pick_totals(&pool.name);
        match probation.opinion(counted, pool.strategy.panics(), stuck, now) {
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
