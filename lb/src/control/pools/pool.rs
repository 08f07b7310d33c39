//! One pool in control: its members, its strategy, and the published part of both.
//!
//! Invariants: `members_epoch` changes only with ids, addresses, weights, labels and their order, so that a ring can be
//! kept if only health changed. `epoch` changes with every list. A slot belongs to one strategy instance and one id
//! while both exist.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use lb_balance::Thresholds;
use lb_strategy_host::Strategy;

use super::assembly::spec;
use super::memory::{Learnt, Memory, Slots};
use super::saved::{Learning, Saved};
use super::shadows::{ShadowChoice, Shadows};
use crate::config::{self, Labels};
use crate::control::api::Overriding;
use crate::control::pools::{Assembled, Assembly, Member, Members};
use crate::control::trust::Tenure;
use crate::generation::PoolGeneration;

pub(in crate::control) struct PoolState {
    pub(in crate::control) name: Arc<str>,
    pub(in crate::control) members: Members,
    pub(in crate::control) strategy: Arc<Strategy>,
    settings: config::Strategy,
    thresholds: Thresholds,
    slots: Slots,
    pub(in crate::control) shadows: Shadows,
    tenure: Tenure,
    /// The last proven strategy, alive, so that it can be put back.
    kept: Option<Kept>,
    /// What strategies of other schemas have left.
    memory: Memory,
    epoch: u64,
    members_epoch: u64,
    /// The content of the lists has changed since the last build began.
    pub(in crate::control) is_dirty: bool,
    published: Option<Published>,
}

/// A strategy that was in charge, with its learnt state.
pub(in crate::control) struct Kept {
    pub(in crate::control) strategy: Arc<Strategy>,
    pub(in crate::control) settings: config::Strategy,
    /// The override that had put it in charge.
    pub(in crate::control) overriding: Option<Overriding>,
    /// Else it is the first strategy of the pool, and none was proven.
    pub(in crate::control) is_proven: bool,
    slots: Slots,
}

/// The source of the slots of a new list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::control) enum SlotsOf {
    /// The slots in use.
    InCharge,
    /// The slots of the strategy that is put back.
    Kept,
    /// The slots that the last strategy with the schema of the new one has left.
    Remembered,
    /// Empty slots.
    Empty,
}

/// The state that workers have.
struct Published {
    generation: Arc<PoolGeneration>,
    members: Vec<Member>,
}

// === impl PoolState ===

impl PoolState {
    pub(in crate::control) fn new(pool: &config::PoolConfig, mut members: Members, strategy: Arc<Strategy>) -> Self {
        members.set_rules(pool.outlier, pool.panic, pool.slow_start);
        Self {
            name: pool.name.as_str().into(),
            members,
            strategy,
            settings: pool.strategy.clone(),
            thresholds: pool.outlier.thresholds,
            slots: Slots::new(),
            shadows: Shadows::default(),
            tenure: Tenure::Proven,
            kept: None,
            memory: Memory::default(),
            epoch: 0,
            members_epoch: 0,
            is_dirty: true,
            published: None,
        }
    }

    /// Takes over what earlier strategies of the pool have learnt. One of them may be that of the present one: its
    /// bytes are imported, and its slots are used. Calls into the plugin. Returns a warning for what is lost.
    pub(in crate::control) fn take_up(&mut self, saved: &mut Saved) -> Option<String> {
        let lost = |why: String| Some(format!("pool {:?}: the learnt state begins anew: {why}", self.name));
        self.memory = match saved.take(&self.name) {
            Ok(memory) => memory,
            Err(error) => return lost(error),
        };
        let (schema, version) = self.strategy.plugin().state_schema()?;
        let learnt = self.memory.of(schema)?.clone();
        self.memory.forget(schema);
        if !learnt.bytes.is_empty()
            && let Err(error) = self.strategy.import_state(learnt.version, &learnt.bytes)
        {
            // It may have taken a part of them.
            let fresh = Strategy::for_pool(self.strategy.plugin().clone(), &self.settings.options, &self.name);
            return match fresh {
                Ok(fresh) => {
                    self.strategy = fresh;
                    lost(error.to_string())
                }
                Err(again) => lost(format!("{error}; and again: {again}")),
            };
        }
        if learnt.version == version {
            self.slots = learnt.slots;
        }
        None
    }

    /// For the file of learnt state.
    pub(in crate::control) fn learning(&self) -> Learning {
        Learning {
            pool: self.name.clone(),
            strategy: self.strategy.clone(),
            slots: self.slots.clone(),
            memory: self.memory.clone(),
        }
    }

    /// The input of a build, from the present state.
    pub(in crate::control) fn assembly(&mut self) -> Assembly {
        self.is_dirty = false;
        let (members, strategy, settings) = (self.members.snapshot(), self.strategy.clone(), self.settings.clone());
        let mut assembly = self.assembly_of(members, strategy, settings, SlotsOf::InCharge);
        self.add_shadows(&mut assembly, &self.shadows.choices());
        assembly
    }

    /// Adds these shadows to the input of a build, without those that are off.
    pub(in crate::control) fn add_shadows(&mut self, assembly: &mut Assembly, choices: &[ShadowChoice]) {
        let wanted = self.shadows.wanted(choices);
        self.shadows.join(assembly, &wanted);
    }

    /// The input of a build, from a future state.
    pub(in crate::control) fn assembly_of(
        &mut self,
        members: Vec<Member>,
        strategy: Arc<Strategy>,
        settings: config::Strategy,
        slots: SlotsOf,
    ) -> Assembly {
        self.epoch += 1;
        let members_epoch = match &self.published {
            Some(published) if same_members(&published.members, &members) => {
                published.generation.picker.backends().members_epoch()
            }
            _ => {
                self.members_epoch += 1;
                self.members_epoch
            }
        };
        let mut apart = match (slots, &self.kept, self.learnt(&strategy)) {
            (SlotsOf::Kept, Some(kept), _) => kept.slots.clone(),
            (SlotsOf::Remembered, _, Some(learnt)) => learnt.slots.clone(),
            _ => Slots::new(),
        };
        let slots = if slots == SlotsOf::InCharge { &mut self.slots } else { &mut apart };
        let specs = members.iter().map(|member| spec(member, slots.entry(member.id().clone()).or_default())).collect();
        Assembly {
            name: self.name.clone(),
            strategy,
            settings,
            thresholds: self.thresholds,
            specs,
            members,
            epoch: self.epoch,
            members_epoch,
            shadows: Vec::new(),
            fallback_cursor: self.published.as_ref().map_or(0, |p| p.generation.fallback_cursor.load(Relaxed)),
        }
    }

    /// Whether the instance is in charge, or is a shadow that is on.
    pub(in crate::control) fn uses(&self, instance: u64) -> bool {
        let mut shadows = self.shadows.on();
        self.strategy.instance() == instance || shadows.any(|shadow| shadow.strategy.instance() == instance)
    }

    /// Follows the rules of this pool for failing and starting backends from the next list on.
    pub(in crate::control) fn set_rules(&mut self, pool: &config::PoolConfig) {
        let is_new = self.thresholds != pool.outlier.thresholds;
        self.thresholds = pool.outlier.thresholds;
        self.is_dirty |= self.members.set_rules(pool.outlier, pool.panic, pool.slow_start) || is_new;
    }

    pub(in crate::control) fn settings(&self) -> &config::Strategy {
        &self.settings
    }

    /// What the last strategy with the schema of `strategy` has left, if it is not in charge.
    pub(in crate::control) fn learnt(&self, strategy: &Strategy) -> Option<&Learnt> {
        strategy.plugin().state_schema().and_then(|(schema, _)| self.memory.of(schema))
    }

    /// Puts another instance, or other settings, in charge of later lists. Returns the parts that are no longer needed;
    /// the builder must drop them. A proven strategy is kept, and so is the first one, which has no predecessor. `left`
    /// is the exported state of the strategy before, for one of its schema that may come later.
    pub(in crate::control) fn put_in_charge(
        &mut self,
        assembled: &Assembled,
        settings: config::Strategy,
        tenure: Tenure,
        overriding: Option<Overriding>,
        left: Option<Vec<u8>>,
    ) -> Option<Arc<Strategy>> {
        let picker = &assembled.generation.picker;
        let settings = std::mem::replace(&mut self.settings, settings);
        if picker.strategy().instance() == self.strategy.instance() {
            return None;
        }
        let slots = picker.backends().specs().iter().map(|spec| (spec.name.clone(), spec.slot.clone())).collect();
        let slots = std::mem::replace(&mut self.slots, slots);
        let strategy = std::mem::replace(&mut self.strategy, picker.strategy().clone());
        if let (Some(bytes), Some(schema)) = (left, strategy.plugin().state_schema()) {
            self.memory.remember(Learnt::new(schema, bytes, slots.clone()));
        }
        if let Some((schema, _)) = picker.strategy().plugin().state_schema() {
            self.memory.forget(schema);
        }
        if self.kept.as_ref().is_some_and(|kept| kept.strategy.instance() == self.strategy.instance()) {
            self.kept = None;
            self.tenure = Tenure::Proven;
            return Some(strategy);
        }
        let before = std::mem::replace(&mut self.tenure, tenure);
        match before {
            Tenure::OnProbation(_) if self.kept.is_some() => Some(strategy),
            Tenure::Failed(_) => Some(strategy),
            Tenure::Proven | Tenure::OnProbation(_) => {
                let is_proven = before == Tenure::Proven;
                self.kept.replace(Kept { strategy, settings, overriding, is_proven, slots }).map(|kept| kept.strategy)
            }
        }
    }

    pub(in crate::control) fn kept(&self) -> Option<&Kept> {
        self.kept.as_ref()
    }

    pub(in crate::control) fn tenure(&self) -> &Tenure {
        &self.tenure
    }

    pub(in crate::control) fn tenure_mut(&mut self) -> &mut Tenure {
        &mut self.tenure
    }

    /// Takes the built part; the caller publishes it. Shadows that refused it are for the caller.
    pub(in crate::control) fn adopt(&mut self, assembled: Assembled) -> Arc<PoolGeneration> {
        let members = &assembled.members;
        // A slot without a list is kept only for members that may still be in a later list.
        let current = &self.members;
        let is_kept = |id: &Arc<str>| current.contains(id) || members.iter().any(|member| member.id() == id);
        self.slots.retain(|id, slot| is_kept(id) || Arc::strong_count(slot) > 1);
        self.shadows.keep_slots(is_kept);
        let generation = assembled.generation.clone();
        self.published = Some(Published { generation: assembled.generation, members: assembled.members });
        generation
    }

    /// Whether the list in force has other flags than its members have now.
    pub(in crate::control) fn is_outdated(&self) -> bool {
        let flags = |member: &Member| member.eligibility().flags();
        self.published.as_ref().is_some_and(|published| {
            published.members.len() == self.members.len()
                && published.members.iter().map(flags).ne(self.members.iter().map(flags))
        })
    }

    /// The part in force.
    pub(in crate::control) fn published(&self) -> Option<Arc<PoolGeneration>> {
        self.published.as_ref().map(|published| published.generation.clone())
    }

    /// The strategy refused a list: goes back to the published membership and returns the removed members. One more
    /// build is due for checks that ended meanwhile, but only if the membership had changed. Otherwise a strategy that
    /// refuses every list would be asked forever.
    pub(in crate::control) fn roll_back(&mut self) -> Vec<Member> {
        let Some(published) = &self.published else { return Vec::new() };
        let before = self.members.snapshot();
        self.is_dirty = !same_members(&published.members, &before);
        self.members.restore(published.members.clone());
        // Otherwise a strategy that refuses every list would be asked forever.
        self.members.take_changed();
        before.into_iter().filter(|member| !self.members.contains(&member.entry.id)).collect()
    }
}

fn same_members(left: &[Member], right: &[Member]) -> bool {
    fn told(member: &Member) -> (u64, &str, u16, &Labels) {
        (member.backend.number, &member.backend.address, member.entry.weight, &member.entry.labels)
    }
    left.len() == right.len() && left.iter().map(told).eq(right.iter().map(told))
}
