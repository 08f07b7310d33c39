//! The commit of a reload: strategies, settings, members, pools and listeners change in one publish.

use std::any::Any;
use std::sync::Arc;

use tokio::time::Instant;

use super::reloads::{Reloads, reopen_access_log};
use super::state::{Assembling, Transaction};
use super::{Candidate, Prepared, outcome};
use crate::config::{self, Config};
use crate::control::api::{ReloadResult, RolledBack};
use crate::control::membership::{Membership, Plan};
use crate::control::pools::{Member, PoolKey, PoolState, Replaced, ShadowChoice};
use crate::control::publish::{BuiltPool, FollowUp, Publisher};
use crate::control::trust::Tenure;
use crate::telemetry::logs;

/// The changes of pools.
#[derive(Default)]
struct Changes {
    members: Vec<(PoolKey, Replaced)>,
    /// Pools that got another instance.
    swapped: Vec<PoolKey>,
    /// Pools that got other shadows.
    shadows: Vec<(PoolKey, Vec<ShadowChoice>)>,
}

// === impl Reloads: commit ===

impl Reloads {
    pub(super) fn commit(
        &mut self,
        desk: &mut Publisher,
        membership: &mut Membership,
        transaction: Transaction,
        assembling: Assembling,
        built: Vec<BuiltPool>,
        covers: u64,
    ) {
        let Assembling { prepared, members, new, dirty: _ } = assembling;
        let lapsed = Plan::of(&prepared.target.config, &Membership::overlay_now(desk), &[]).lapsed;
        let result = transaction.taking_back.as_ref().map_or(ReloadResult::Done, |_| ReloadResult::RolledBack);
        let mut report = outcome::report(&prepared, result, &built, 0);
        report.warnings.extend(lapsed.into_iter().map(|what| format!("a change made at run time has lapsed: {what}")));
        let Prepared { target, candidates, listeners, access_log, files: _ } = prepared;
        reopen_access_log(desk, access_log.as_ref());
        let closed = desk.listeners.replace(listeners, &desk.metrics);
        match &transaction.taking_back {
            Some(reason) => self.remember_rolled_back(desk, &candidates, reason),
            // A reload puts into force what was requested, also a strategy that was rolled back before.
            None => self.rolled_back.clear(),
        }
        let tenure = Tenure::begin(Instant::now(), target.config.reload.probation);
        let mut changes = Changes::default();
        let left = take_up_pools(desk, membership, &target.config, new, &tenure, &mut changes);
        self.put_in_charge(desk, &target.config, &candidates, built, members, &tenure, &mut changes);
        // A partial import may have damaged an instance, which is dropped here.
        desk.builder.retire(candidates);
        let before = self.take_up(desk, target.config);
        for (pool, replaced) in &changes.members {
            membership.replaced(desk, *pool, replaced);
        }
        membership.configured(desk, &before);
        desk.put_in_force(covers, desk.settings(access_log));
        membership.write_overlay(desk);
        for pool in changes.swapped {
            self.ledger.replaced(&desk.pools[pool].name);
            let instance = desk.pools[pool].strategy.instance();
            desk.wait_for_newest(FollowUp::InCharge { pool, instance });
        }
        for (pool, came) in changes.shadows {
            desk.shadows_begin(pool, came);
        }
        let replaced = changes.members.into_iter().flat_map(|(_, replaced)| replaced.left).collect();
        desk.wait_for_newest(FollowUp::Replaced(replaced));
        desk.see_off(left);
        desk.listeners.close(closed, &desk.metrics);
        self.forgive(desk, &transaction);
        self.note_proven(desk);
        report.generation = desk.hall.current().number;
        self.end(desk, transaction, Ok(report));
    }

    /// Puts new instances and settings in charge of the assembled pools.
    #[expect(clippy::too_many_arguments, reason = "one step of the commit, apart only to be read alone")]
    fn put_in_charge(
        &self,
        desk: &mut Publisher,
        config: &Config,
        candidates: &[Candidate],
        built: Vec<BuiltPool>,
        mut members: Vec<Option<Vec<Member>>>,
        tenure: &Tenure,
        changes: &mut Changes,
    ) {
        for BuiltPool { index, assembled, left, .. } in built {
            let config::PoolConfig { name, strategy: settings, .. } = config.pools[index].clone();
            let Some(key) = desk.pools.key_of(&name) else { continue };
            let pool = &mut desk.pools[key];
            let overriding = self.overrides.iter().find(|one| *one.pool == *pool.name).cloned();
            if let Some(old) = pool.put_in_charge(&assembled, settings, tenure.clone(), overriding, left) {
                let instance: Arc<dyn Any + Send + Sync> = old.clone();
                desk.metrics.strategy_retired(&pool.name, Arc::downgrade(&instance));
                drop(instance);
                desk.builder.retire(old);
            }
            changes.members.push((key, pool.members.replace(members[index].take().unwrap_or_default())));
            let replaced = pool.shadows.replace(candidates[index].shadows.clone(), &assembled.generation);
            pool.adopt(assembled);
            changes.shadows.push((key, desk.shadows_replaced(key, replaced)));
            let pool = &desk.pools[key];
            if let Some(kind) = candidates[index].swap_kind() {
                changes.swapped.push(key);
                let plugin = pool.strategy.plugin();
                desk.metrics.set_strategy(&pool.name, plugin.name(), plugin.version());
                desk.metrics.instance_in_charge(&pool.name, plugin.name(), pool.strategy.panics().clone());
                desk.metrics.strategy_swapped(&pool.name, kind);
            }
        }
    }

    /// Puts `config` into force. Returns the one before.
    fn take_up(&self, desk: &mut Publisher, config: Config) -> Config {
        if config.log != desk.config.log {
            logs::set_level(&config.log.level);
        }
        if let Some(watch) = &self.tools.watch {
            watch.set(config.reload.clone());
        }
        std::mem::replace(&mut desk.config, config)
    }

    fn remember_rolled_back(&mut self, desk: &Publisher, candidates: &[Candidate], reason: &str) {
        let generation = desk.hall.current().number + 1;
        let at = jiff::Timestamp::now();
        let at = jiff::Timestamp::from_second(at.as_second()).unwrap_or(at).to_string();
        for (pool, _) in desk.pools.iter().zip(candidates).filter(|(_, candidate)| candidate.is_return) {
            let plugin = pool.strategy.plugin();
            self.rolled_back.retain(|old| *old.pool != *pool.name);
            self.rolled_back.push(RolledBack {
                pool: pool.name.to_string(),
                strategy: plugin.name().to_owned(),
                sha256: plugin.sha256_hex(),
                options: pool.settings().options.clone(),
                reason: reason.to_owned(),
                generation,
                at: at.clone(),
            });
        }
    }
}

/// Makes the pools those of `config`. Returns those that left.
fn take_up_pools(
    desk: &mut Publisher,
    membership: &mut Membership,
    config: &Config,
    new: Vec<PoolState>,
    tenure: &Tenure,
    changes: &mut Changes,
) -> Vec<(PoolKey, PoolState)> {
    let (came, left) = desk.pools.arrange(&config.pools, new);
    for key in &came {
        let pool = &mut desk.pools[*key];
        *pool.tenure_mut() = tenure.clone();
        let plugin = pool.strategy.plugin();
        tracing::info!(pool = %pool.name, strategy = plugin.name(), "pool is added");
        desk.metrics.pool_opened(&pool.name);
        desk.metrics.set_strategy(&pool.name, plugin.name(), plugin.version());
        desk.metrics.instance_in_charge(&pool.name, plugin.name(), pool.strategy.panics().clone());
    }
    for (key, pool) in &left {
        tracing::info!(pool = %pool.name, "pool is removed: its requests finish");
        pool.members.iter().for_each(|member| membership.goes(*key, member));
    }
    changes.swapped.extend(came);
    left
}
