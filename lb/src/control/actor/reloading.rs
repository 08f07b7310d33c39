//! Reloads as the actor sees them: one at a time, prepared elsewhere, published in one step.
//!
//! Reading, trying in a child and loading run beside everything else; when they are done and no build runs, the pickers are made for the members as they
//! are then, and the publish makes strategies, settings and members true together. Invariants: until the publish nothing that a
//! worker can see has changed; commands that change members wait while pickers are made (milliseconds) and are done after it; every
//! instance that loses its place is dropped on the builder.

use std::any::Any;
use std::sync::Arc;

use tokio::time::Instant;

use super::publisher::Done;
use super::reloads::{Assembling, Transaction};
use super::{Actor, Event, Wake};
use crate::config;
use crate::control::members::{Entry, Member, Members, Origin, Replaced};
use crate::control::overlay::Overlay;
use crate::control::pool_state::{PoolState, SlotsOf};
use crate::control::pools::PoolKey;
use crate::control::probation::Tenure;
use crate::control::reload::{
    Candidate, Handed, InCharge, PoolJob, Prepared, ReloadError, ReloadResult, RolledBack, StrategyChange, Target,
    Trigger, prepare, read, stage, vet,
};
use crate::control::settings::settings;
use crate::control::start::{reach, vet_backends};
use crate::control::vet::VetBackend;
use crate::control::watch::Attempt;
use crate::listener::Listener;

// === impl Actor: reloading ===

impl Actor {
    pub(super) fn reload(&mut self, mut transaction: Transaction, waits: bool) {
        let Some(running) = &self.reloads.running else { return self.begin_reload(transaction) };
        // The files say something else by now, so what they said before need not be tried to its end.
        if (running.by, transaction.by) == (Trigger::Watcher, Trigger::Watcher) {
            self.reloads.give_up_trial();
        }
        match &mut self.reloads.next {
            _ if !waits => transaction.answer(&Err(ReloadError::Busy)),
            Some(next) => next.answers.append(&mut transaction.answers),
            next => *next = Some(transaction),
        }
    }

    pub(super) fn begin_reload(&mut self, mut transaction: Transaction) {
        transaction.overrides = self.reloads.overrides_with(&transaction.request);
        let (source, overrides) = (self.reloads.source.clone(), transaction.overrides.clone());
        let reporter = self.reporter_of(&transaction);
        self.reloads.running = Some(transaction);
        let given_up = self.reloads.new_trial();
        let (running, loader, builder) = (self.config.clone(), self.loader.clone(), self.builder.clone());
        let in_charge = |pool: &PoolState| (pool.name.to_string(), (pool.strategy.clone(), pool.settings().clone()));
        let in_charge: InCharge = self.pools.iter().map(in_charge).collect();
        let (events, overlay, vetter) = (self.events.clone(), self.overlay_now(), self.vetter.clone());
        let launched: Vec<VetBackend> = vet_backends(&self.launched());
        let doors = self.doors();
        tokio::spawn(async move {
            fn broke<T>() -> Result<T, ReloadError> {
                Err(ReloadError::refused("builder", "a thread broke: see the log"))
            }
            let from = loader.clone();
            let read = move || {
                let mut attempt = Attempt::default();
                let target = read(source.as_ref(), &overrides, &running, &mut attempt);
                let staged = target.and_then(|target| stage(&from, target, &mut attempt));
                reporter.iter().for_each(|reporter| reporter.attempted(attempt.clone()));
                staged
            };
            let staged = tokio::task::spawn_blocking(read).await;
            let vetted = match staged {
                Ok(Ok(staged)) => {
                    let plan = overlay.apply(&staged.target.config);
                    let backends = plan.pools.iter().enumerate().map(|(pool, entries)| {
                        let launched = if pool == 0 { launched.as_slice() } else { &[] };
                        [&vet_backends(entries), launched].concat()
                    });
                    let backends = backends.collect();
                    tokio::select! {
                        tried = vet(vetter.as_deref(), &staged, &in_charge, backends) => tried.map(|()| staged),
                        () = given_up.notified() => {
                            let reason = "its trial was given up, for a rollback or for newer files; ask again if it is still wanted";
                            Err(ReloadError::refused("vet", reason))
                        }
                    }
                }
                Ok(Err(error)) => Err(error),
                Err(_) => broke(),
            };
            let prepared = match vetted {
                Ok(staged) => builder.run(move || prepare(&loader, staged, &in_charge)).await.unwrap_or_else(broke),
                Err(error) => {
                    builder.retire(in_charge);
                    Err(error)
                }
            };
            let prepared = match prepared {
                Ok(prepared) => doors.open(prepared, &builder).await,
                Err(error) => Err(error),
            };
            if let Err(unsent) = events.send(Event::Prepared(Box::new(prepared))).await {
                builder.retire(unsent.0);
            }
        });
    }

    /// Configuration and plugins are there, or refused.
    pub(super) fn reload_prepared(&mut self, prepared: Result<Prepared, ReloadError>) {
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return self.end_refused(error),
        };
        let by = self.reloads.running.as_ref().map(|running| running.by);
        let mut prepared = prepared;
        if let Some(old) = self.rolled_back_candidate(&prepared) {
            let RolledBack { pool, strategy, reason, .. } = old;
            let sentence = format!("pool {pool}: strategy {strategy} was rolled back before: {reason}");
            if by.is_some_and(Trigger::is_by_itself) {
                self.discard(prepared);
                let advice = "it is tried again when its bytes or options change, or when it is asked for: lb reload";
                return self.end_refused(ReloadError::refused("probation", format!("{sentence}; {advice}")));
            }
            prepared.target.warnings.push(sentence);
        }
        let is_same = prepared.candidates.iter().all(|candidate| candidate.change == StrategyChange::Unchanged);
        if is_same && prepared.target.applied.is_empty() {
            return self.end_unchanged(prepared);
        }
        self.reloads.ready = Some(prepared);
    }

    /// No build runs: the pickers are made for the members as they are now.
    pub(super) fn assemble_reload(&mut self, prepared: Prepared) {
        let wanted = match self.wanted_members(&prepared.target, &prepared.listeners) {
            Ok(wanted) => wanted,
            Err(error) => {
                self.discard(prepared);
                return self.end_refused(error);
            }
        };
        let (mut jobs, mut members, mut dirty, mut fresh) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (index, (wanted_pool, entries)) in prepared.target.config.pools.iter().zip(&wanted).enumerate() {
            let (candidate, new) = (&prepared.candidates[index], &wanted_pool.strategy);
            let Some(key) = self.pools.key_of(&wanted_pool.name) else {
                let Some(strategy) = &candidate.strategy else { continue };
                let mut pool = PoolState::new(wanted_pool, Members::default(), strategy.clone());
                let planned = pool.members.planned(entries);
                let assembly = pool.assembly_of(planned.clone(), strategy.clone(), new.clone(), SlotsOf::InCharge);
                jobs.push(PoolJob { index, assembly, swap: None });
                members.push(Some(planned));
                pool.is_dirty = false;
                fresh.push(pool);
                continue;
            };
            let pool = &mut self.pools[key];
            let planned = pool.members.planned(entries);
            let is_same = candidate.strategy.is_none()
                && pool.settings() == new
                && !pool.is_dirty
                && planned.iter().map(|member| &member.entry).eq(pool.members.iter().map(|member| &member.entry));
            if is_same {
                members.push(None);
                continue;
            }
            if std::mem::take(&mut pool.is_dirty) {
                dirty.push(key);
            }
            let strategy = candidate.strategy.as_ref().unwrap_or(&pool.strategy).clone();
            let schema = strategy.plugin().state_schema();
            let slots = match () {
                () if candidate.is_return => SlotsOf::Kept,
                () if strategy.instance() == pool.strategy.instance() => SlotsOf::InCharge,
                () if schema.is_some() && schema == pool.strategy.plugin().state_schema() => SlotsOf::InCharge,
                () => SlotsOf::Nobody,
            };
            // One that returns knows what it knew; what it would hear now comes from one that failed.
            let is_swap = candidate.strategy.is_some() && !candidate.is_return;
            let swap = is_swap.then(|| (pool.strategy.clone(), new.options.clone()));
            let assembly = pool.assembly_of(planned.clone(), strategy, new.clone(), slots);
            jobs.push(PoolJob { index, assembly, swap });
            members.push(Some(planned));
        }
        self.reloads.assembling = Some(Assembling { prepared, members, dirty, new: fresh });
        self.build_reload(jobs);
    }

    /// By pool the members that are not launched: the new file, with what was changed at run time and has not lapsed.
    fn wanted_members(&self, target: &Target, listeners: &[Arc<Listener>]) -> Result<Vec<Vec<Entry>>, ReloadError> {
        let reach = reach(&target.config, listeners, self.admin);
        let plan = self.overlay_now().apply(&target.config);
        for (pool, entries) in target.config.pools.iter().zip(&plan.pools) {
            let running = self.pools.named(&pool.name);
            let launched = |entry: &&Entry| {
                running
                    .and_then(|pool| pool.members.get(&entry.id))
                    .is_some_and(|member| member.entry.origin == Origin::Launched)
            };
            if let Some(entry) = entries.iter().find(launched) {
                let id = &entry.id;
                let reason = format!("backend {id:?}: a launched replica has this name: remove it, or choose another");
                return Err(ReloadError::refused("config", reason));
            }
            for entry in entries {
                let refused = |what| ReloadError::refused("config", format!("backend {:?}: {what}", entry.id));
                reach.check(entry.socket).map_err(refused)?;
            }
        }
        Ok(plan.pools)
    }

    /// Launched ones are all in the pool `default`.
    fn launched(&self) -> Vec<Entry> {
        let members = self.pools[PoolKey::DEFAULT].members.iter().map(|member| &member.entry);
        members.filter(|entry| entry.origin == Origin::Launched).cloned().collect()
    }

    fn overlay_now(&self) -> Overlay {
        let entries: Vec<Vec<_>> =
            self.pools.iter().map(|pool| pool.members.iter().map(|member| member.entry.clone()).collect()).collect();
        Overlay::of(&self.config, &entries)
    }

    /// The pickers are there, or one was refused; `None` when the builder broke.
    pub(super) fn reload_assembled(&mut self, built: Option<Result<Vec<Handed>, ReloadError>>, covers: u64) {
        let Some(Assembling { prepared, members, dirty, new }) = self.reloads.assembling.take() else { return };
        let is_dry = self.reloads.running.as_ref().is_some_and(|running| running.request.dry_run);
        match built.unwrap_or_else(|| Err(ReloadError::refused("builder", "the builder broke: see the log"))) {
            Ok(handed) if !is_dry => self.commit(prepared, members, handed, new, covers),
            result => {
                dirty.into_iter().for_each(|pool| self.pools[pool].is_dirty = true);
                self.builder.retire(new);
                match result {
                    Ok(handed) => {
                        let report = self.report(&prepared, ReloadResult::WouldWork, &handed);
                        self.builder.retire((prepared, handed));
                        self.end(Ok(report));
                    }
                    Err(error) => {
                        self.discard(prepared);
                        self.end_refused(error);
                    }
                }
            }
        }
        for wake in std::mem::take(&mut self.reloads.deferred) {
            match wake {
                Wake::Command(Some(command)) => self.command(command),
                Wake::Event(event) => self.event(event),
                Wake::Command(None) | Wake::Built(_) | Wake::Look => {}
            }
        }
    }

    /// Makes everything true and publishes it.
    fn commit(
        &mut self,
        prepared: Prepared,
        mut members: Vec<Option<Vec<Member>>>,
        handed: Vec<Handed>,
        new: Vec<PoolState>,
        covers: u64,
    ) {
        let lapsed = self.overlay_now().apply(&prepared.target.config).lapsed;
        let taking_back = self.reloads.running.as_ref().and_then(|running| running.taking_back.clone());
        let result = taking_back.as_ref().map_or(ReloadResult::Done, |_| ReloadResult::RolledBack);
        let mut report = self.report(&prepared, result, &handed);
        report.warnings.extend(lapsed.into_iter().map(|what| format!("a change made at run time has lapsed: {what}")));
        let Prepared { target, candidates, listeners, access_log } = prepared;
        self.reopen_access_log(access_log.as_ref());
        let closed = self.listen(listeners);
        let (mut changed, mut swapped) = (Vec::new(), Vec::new());
        let (now, probation) = (Instant::now(), target.config.reload.probation);
        match taking_back {
            Some(reason) => self.remember_rolled_back(&candidates, &reason),
            // What was asked for is in force, whatever was thought of it before.
            None => self.reloads.rolled_back.clear(),
        }
        let (came, left) = self.take_up_pools(&target.config, new, &Tenure::begin(now, probation));
        swapped.extend(came.iter().map(|key| (*key, self.pools[*key].strategy.instance())));
        for Handed { index, assembled, .. } in handed {
            let config::Pool { name, strategy: settings, .. } = target.config.pools[index].clone();
            let Some(key) = self.pools.key_of(&name) else { continue };
            let pool = &mut self.pools[key];
            let overriding = self.reloads.overrides.iter().find(|one| *one.pool == *pool.name).cloned();
            if let Some(old) = pool.put_in_charge(&assembled, settings, Tenure::begin(now, probation), overriding) {
                let instance: Arc<dyn Any + Send + Sync> = old.clone();
                self.metrics.strategy_retired(&pool.name, Arc::downgrade(&instance));
                drop(instance);
                self.builder.retire(old);
            }
            changed.push((key, pool.members.replace(members[index].take().unwrap_or_default())));
            pool.adopt(assembled);
            if let Some(kind) = candidates[index].swap_kind() {
                swapped.push((key, pool.strategy.instance()));
                let plugin = pool.strategy.plugin();
                self.metrics.set_strategy(&pool.name, plugin.name(), plugin.version());
                self.metrics.strategy_swapped(&pool.name, kind);
            }
        }
        // The last of an instance that an import spoiled may be among them.
        self.builder.retire(candidates);
        let has_new_health = target.config.health != self.config.health;
        self.take_up(target.config);
        self.watch_as_configured();
        let mut replaced = Vec::new();
        for (pool, Replaced { came, gone, left }) in changed {
            replaced.extend(left);
            for member in gone {
                tracing::info!("pool {}: backend {} is removed and drains", self.pools[pool].name, member.id());
                self.member_goes(pool, &member);
                self.publisher.wait(pool, Done::Removed { pool, member: Box::new(member), supervisor: None });
            }
            for member in &came {
                self.member_came(pool, member);
            }
            for member in self.pools[pool].members.snapshot() {
                self.show(pool, &member);
            }
        }
        if has_new_health {
            self.check_by_new_rules();
        }
        self.put_in_force(covers, self.config.routes.clone(), settings(&self.config, access_log));
        for (pool, instance) in swapped {
            self.publisher.settle_newest(Done::InCharge { pool, instance });
        }
        self.publisher.settle_newest(Done::Replaced(replaced));
        self.see_off(left);
        self.close(closed);
        report.generation = self.hall.current().number;
        self.end(Ok(report));
    }

    fn remember_rolled_back(&mut self, candidates: &[Candidate], reason: &str) {
        let generation = self.hall.current().number + 1;
        for (pool, _) in self.pools.iter().zip(candidates).filter(|(_, candidate)| candidate.is_return) {
            let plugin = pool.strategy.plugin();
            self.reloads.rolled_back.retain(|old| *old.pool != *pool.name);
            self.reloads.rolled_back.push(RolledBack {
                pool: pool.name.to_string(),
                strategy: plugin.name().to_owned(),
                sha256: plugin.sha256_hex(),
                options: pool.settings().options.clone(),
                reason: reason.to_owned(),
                generation,
            });
        }
    }

    fn check_by_new_rules(&mut self) {
        self.checkers.set_rules(self.config.health.clone());
        for index in self.pools.keys() {
            for member in self.pools[index].members.snapshot() {
                // Nobody would say that it is up again.
                if !self.config.health.enabled && member.entry.origin != Origin::Launched {
                    let up = self.pools[index].members.update(member.id(), |member| member.standing.trust());
                    if let Some(Some(up)) = up {
                        self.health_changed(index, member.id(), up);
                    }
                }
                self.member_came(index, &member);
            }
        }
    }
}
