//! The pickers of a reload: which pools need new ones, and what follows from the result.

use std::sync::Arc;

use super::reloads::{Reloads, discard};
use super::state::{Assembling, State, Transaction};
use super::{Candidate, Target, outcome};
use crate::config;
use crate::control::api::{ReloadError, ReloadResult};
use crate::control::membership::{Launched, Membership, Plan};
use crate::control::pools::{Entry, Learnt, Member, Members, PoolKey, PoolState, SlotsOf};
use crate::control::publish::{BuiltPool, PoolJob, Publisher};
use crate::listener::Listener;

/// Which pools of a target are new and which change.
#[derive(Default)]
struct Work {
    jobs: Vec<PoolJob>,
    members: Vec<Option<Vec<Member>>>,
    dirty: Vec<PoolKey>,
    new: Vec<PoolState>,
}

// === impl Reloads: assembling ===

impl Reloads {
    /// If a reload is ready, has its pickers made next, for the present members. No build may be running.
    pub(in crate::control) fn assemble_if_ready(&mut self, desk: &mut Publisher) {
        let (transaction, prepared) = match self.state.take() {
            State::Ready { transaction, prepared } => (transaction, *prepared),
            other => return self.state = other,
        };
        let wanted = match wanted_members(desk, &prepared.target, &prepared.listeners) {
            Ok(wanted) => wanted,
            Err(error) => {
                discard(desk, prepared);
                return self.end(desk, transaction, Err(error));
            }
        };
        let mut work = Work::default();
        let pools = prepared.target.config.pools.iter().zip(&prepared.candidates).zip(&wanted).enumerate();
        for (index, ((pool, candidate), entries)) in pools {
            match desk.pools.key_of(&pool.name) {
                Some(key) => work.pool_stays(desk, index, key, pool, candidate, entries),
                None => work.pool_comes(index, pool, candidate, entries),
            }
        }
        let Work { jobs, members, dirty, new } = work;
        let assembling = Box::new(Assembling { prepared, members, dirty, new });
        self.state = State::Assembling { transaction, assembling };
        desk.build_reload(jobs);
    }

    /// The pickers are made, or a strategy refused a list. `None`: the builder broke.
    pub(in crate::control) fn assembled(
        &mut self,
        desk: &mut Publisher,
        membership: &mut Membership,
        built: Option<Result<Vec<BuiltPool>, ReloadError>>,
        covers: u64,
    ) {
        let (transaction, assembling) = match self.state.take() {
            State::Assembling { transaction, assembling } => (transaction, *assembling),
            other => return self.state = other,
        };
        let built = built.unwrap_or_else(|| Err(ReloadError::refused("builder", "the builder broke: see the log")));
        match built {
            Ok(built) if !transaction.request.dry_run => {
                self.commit(desk, membership, transaction, assembling, built, covers);
            }
            result => self.undo(desk, transaction, assembling, result),
        }
    }

    /// After a dry run or a refusal: everything stays as it was.
    fn undo(
        &mut self,
        desk: &mut Publisher,
        transaction: Transaction,
        assembling: Assembling,
        result: Result<Vec<BuiltPool>, ReloadError>,
    ) {
        let Assembling { prepared, dirty, new, members: _ } = assembling;
        dirty.into_iter().for_each(|pool| desk.pools[pool].is_dirty = true);
        desk.builder.retire(new);
        let result = result.map(|built| {
            let generation = desk.hall.current().number;
            let report = outcome::report(&prepared, ReloadResult::WouldWork, &built, generation);
            desk.builder.retire(built);
            report
        });
        discard(desk, prepared);
        self.end(desk, transaction, result);
    }
}

// === impl Work ===

impl Work {
    /// A pool that the balancer does not have yet.
    fn pool_comes(&mut self, index: usize, pool: &config::PoolConfig, candidate: &Candidate, entries: &[Entry]) {
        let Some(strategy) = &candidate.strategy else { return };
        let mut state = PoolState::new(pool, Members::default(), strategy.clone());
        let planned = state.members.planned(entries, pool.health.initial, pool.slow_start);
        let settings = pool.strategy.clone();
        let mut assembly = state.assembly_of(planned.clone(), strategy.clone(), settings, SlotsOf::InCharge);
        state.add_shadows(&mut assembly, &candidate.shadows);
        self.jobs.push(PoolJob { index, assembly, swap: None, learnt: None });
        self.members.push(Some(planned));
        state.is_dirty = false;
        self.new.push(state);
    }

    fn pool_stays(
        &mut self,
        desk: &mut Publisher,
        index: usize,
        key: PoolKey,
        wanted: &config::PoolConfig,
        candidate: &Candidate,
        entries: &[Entry],
    ) {
        let (pool, settings) = (&mut desk.pools[key], &wanted.strategy);
        let planned = pool.members.planned(entries, wanted.health.initial, wanted.slow_start);
        let is_same = candidate.strategy.is_none()
            && pool.settings() == settings
            && pool.shadows.are(&candidate.shadows)
            && !pool.is_dirty
            && planned.iter().map(|member| &member.entry).eq(pool.members.iter().map(|member| &member.entry));
        if is_same {
            self.members.push(None);
            return;
        }
        if std::mem::take(&mut pool.is_dirty) {
            self.dirty.push(key);
        }
        let strategy = candidate.strategy.as_ref().unwrap_or(&pool.strategy).clone();
        let schema = strategy.plugin().state_schema();
        let before = pool.strategy.plugin().state_schema();
        let is_heir = schema.is_some_and(|(new, _)| before.is_some_and(|(old, _)| old == new));
        let learnt = pool.learnt(&strategy).filter(|_| !is_heir && !candidate.is_return).cloned();
        let is_current = |learnt: &Learnt| schema.is_some_and(|(_, version)| version == learnt.version);
        let slots = match () {
            () if candidate.is_return => SlotsOf::Kept,
            () if strategy.instance() == pool.strategy.instance() => SlotsOf::InCharge,
            () if schema.is_some() && schema == before => SlotsOf::InCharge,
            () if learnt.as_ref().is_some_and(is_current) => SlotsOf::Remembered,
            () => SlotsOf::Empty,
        };
        // A strategy that is put back keeps its own state. Its predecessor failed, so that one's state is not used.
        let is_swap = candidate.strategy.is_some() && !candidate.is_return;
        let swap = is_swap.then(|| (pool.strategy.clone(), settings.options.clone()));
        let mut assembly = pool.assembly_of(planned.clone(), strategy, settings.clone(), slots);
        pool.add_shadows(&mut assembly, &candidate.shadows);
        self.jobs.push(PoolJob { index, assembly, swap, learnt });
        self.members.push(Some(planned));
    }
}

/// The members that the target asks for, by pool, checked.
fn wanted_members(
    desk: &Publisher,
    target: &Target,
    listeners: &[Arc<Listener>],
) -> Result<Vec<Vec<Entry>>, ReloadError> {
    let launched = Launched::of(&desk.pools[PoolKey::DEFAULT].members);
    let plan = Plan::of(&target.config, &Membership::overlay_now(desk), &[&launched]);
    if let Some(clash) = plan.clashes.first() {
        let id = &clash.id;
        let reason = format!("backend {id:?}: a launched replica has this name: remove it, or choose another");
        return Err(ReloadError::refused("config", reason));
    }
    let reach = desk.reach(&target.config, listeners);
    for (entries, pool) in plan.pools.iter().zip(&target.config.pools) {
        for entry in entries {
            let refused = |what| ReloadError::refused("config", format!("backend {:?}: {what}", entry.id));
            reach.check(entry.socket, &pool.health).map_err(refused)?;
        }
    }
    Ok(plan.pools)
}
