//! What the publisher does about shadows beside the builds, which have their pickers.
//!
//! Invariant: an instance that no pool has any more is dropped on the builder, as every instance is.

use std::any::Any;
use std::sync::Arc;

use super::{FollowUp, Publisher};
use crate::control::pools::{PoolKey, ShadowChoice, ShadowsReplaced};

// === impl Publisher: shadows ===

impl Publisher {
    /// A shadow fails: the next list has no picker of it.
    pub(in crate::control) fn switch_off_shadow(&mut self, pool: PoolKey, instance: u64, reason: String) {
        let state = &mut self.pools[pool];
        let name = state.name.clone();
        if let Some((id, strategy)) = state.shadows.switch_off(instance, reason.clone()) {
            tracing::error!(pool = %name, shadow = %id, strategy, reason, "shadow is switched off: requests go on without it");
            self.metrics.shadow_is_off(&name, &id);
            self.touch(pool);
        }
    }

    /// A reload has replaced shadows. Drops those that left, and returns those that came.
    pub(in crate::control) fn shadows_replaced(&self, pool: PoolKey, replaced: ShadowsReplaced) -> Vec<ShadowChoice> {
        let ShadowsReplaced { came, left } = replaced;
        let name = &self.pools[pool].name;
        for shadow in left {
            if !self.pools[pool].shadows.iter().any(|other| other.id == shadow.id) {
                tracing::info!(pool = %name, shadow = %shadow.id, "shadow is removed");
                self.metrics.shadow_ends(name, &shadow.id);
            }
            let instance: Arc<dyn Any + Send + Sync> = shadow.strategy.clone();
            self.metrics.strategy_retired(name, Arc::downgrade(&instance));
            drop(instance);
            self.builder.retire(shadow);
        }
        came
    }

    /// These shadows are in the newest generation. Their faults count when every worker has it.
    pub(in crate::control) fn shadows_begin(&mut self, pool: PoolKey, came: Vec<ShadowChoice>) {
        let name = self.pools[pool].name.clone();
        for choice in &came {
            let ShadowChoice { strategy, settings } = choice;
            let (plugin, id) = (strategy.plugin(), &settings.id);
            let version = plugin.version();
            self.metrics.shadow_begins(&name, id, plugin.name(), version);
            self.metrics.instance_in_charge(&name, &choice.label(), strategy.panics().clone());
            match self.pools[pool].shadows.iter().find(|shadow| *shadow.id == **id && shadow.is_off()) {
                Some(_) => self.metrics.shadow_is_off(&name, id),
                None => tracing::info!(pool = %name, shadow = %id, strategy = plugin.name(), version, "shadow begins"),
            }
            self.wait_for_newest(FollowUp::InCharge { pool, instance: strategy.instance() });
        }
        // The last reference may be here.
        self.builder.retire(came);
    }
}
