//! A pool's part of a generation in the making: sent to the builder, and back with a picker.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use lb_balance::Thresholds;
use lb_strategy_host::{BackendList, BackendSpec, HookError, Picker, Slot, Strategy};

use super::Member;
use super::shadows::ShadowAssembly;
use crate::config;
use crate::generation::{PoolGeneration, told};
use crate::pool::Backend;

/// Everything that the builder needs to make a pool's part of a generation.
pub(in crate::control) struct Assembly {
    pub(super) name: Arc<str>,
    pub(super) strategy: Arc<Strategy>,
    pub(super) settings: config::Strategy,
    pub(super) thresholds: Thresholds,
    pub(super) specs: Vec<BackendSpec>,
    pub(super) members: Vec<Member>,
    pub(super) epoch: u64,
    pub(super) members_epoch: u64,
    pub(super) fallback_cursor: usize,
    pub(super) shadows: Vec<ShadowAssembly>,
}

/// A finished part, with the members that it was made from.
pub(in crate::control) struct Assembled {
    pub(in crate::control) generation: Arc<PoolGeneration>,
    pub(super) members: Vec<Member>,
    /// Instances of shadows that refused the list, which have no picker.
    pub(in crate::control) refused: Vec<(u64, HookError)>,
}

// === impl Assembly ===

impl Assembly {
    pub(in crate::control) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(in crate::control) fn strategy(&self) -> &Arc<Strategy> {
        &self.strategy
    }

    /// Starts `strategy` without state, on empty slots.
    pub(in crate::control) fn start_fresh(&mut self, strategy: Arc<Strategy>) {
        self.strategy = strategy;
        self.specs.iter_mut().for_each(|spec| spec.slot = Arc::default());
    }

    /// Makes the picker and the pool's part of a generation. Calls into the plugin.
    pub(in crate::control) fn build(self) -> Result<Assembled, HookError> {
        let plugin = self.strategy.plugin();
        let wants = plugin.wants();
        let backends: Vec<Arc<Backend>> = self.members.iter().map(|member| member.backend.clone()).collect();
        let list = BackendList::new(self.specs, self.epoch, self.members_epoch);
        let picker = Picker::new(self.strategy, list)?;
        let (mut shadows, mut refused) = (Vec::new(), Vec::new());
        for shadow in self.shadows {
            match shadow.build(self.epoch, self.members_epoch) {
                Ok(shadow) => shadows.push(shadow),
                Err(error) => refused.push(error),
            }
        }
        let generation = Arc::new(PoolGeneration {
            name: self.name,
            picker,
            backends,
            hash_on: self.settings.hash_on,
            hash: self.settings.hash,
            fallback: self.settings.fallback,
            fallback_cursor: AtomicUsize::new(self.fallback_cursor),
            thresholds: self.thresholds,
            load_reports: self.settings.load_reports,
            probe: self.settings.probe.filter(|_| wants.probes),
            wants,
            tells: told(wants, &shadows),
            shadows,
        });
        Ok(Assembled { generation, members: self.members, refused })
    }
}

pub(super) fn spec(member: &Member, slot: &Arc<Slot>) -> BackendSpec {
    BackendSpec {
        name: member.backend.id.clone(),
        address: member.backend.address.clone(),
        labels: member.entry.labels.json().clone(),
        weight: u32::from(member.entry.weight),
        effective: u32::from(member.entry.weight) * member.share(),
        flags: member.eligibility().flags(),
        stats: member.backend.stats.clone(),
        slot: slot.clone(),
    }
}
