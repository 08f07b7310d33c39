//! Pools that come and go with a reload.
//!
//! One that comes is there with strategy, members and checkers in the publish that has its routes. One that goes gets nothing new from
//! that publish on; what runs in it finishes; its parts are dropped when no worker has it any more. Invariant: until then its backends
//! stay eligible, because a worker that has not heard of the publish yet still picks among them.

use super::Actor;
use super::publisher::Done;
use crate::config::Config;
use crate::control::pool_state::PoolState;
use crate::control::pools::PoolKey;
use crate::control::probation::Tenure;

// === impl Actor: pools ===

impl Actor {
    /// The pools are those of `config` from now on. Answers those that came and those that left, to be seen off after the publish.
    pub(super) fn take_up_pools(
        &mut self,
        config: &Config,
        new: Vec<PoolState>,
        tenure: &Tenure,
    ) -> (Vec<PoolKey>, Vec<PoolKey>) {
        let (came, left) = self.pools.arrange(&config.pools, new);
        for key in &came {
            let pool = &mut self.pools[*key];
            *pool.tenure_mut() = tenure.clone();
            let plugin = pool.strategy.plugin();
            tracing::info!("pool {} is new, with strategy {}", pool.name, plugin.name());
            self.metrics.pool_opened(&pool.name);
            self.metrics.set_strategy(&pool.name, plugin.name(), plugin.version());
        }
        let keys = left.iter().map(|(key, _)| *key).collect();
        for (key, pool) in left {
            tracing::info!("pool {} is removed; what runs in it finishes", pool.name);
            for member in pool.members.snapshot() {
                self.member_goes(key, &member);
            }
            self.leaving.push((key, pool));
        }
        (came, keys)
    }

    /// They are in no generation any more.
    pub(super) fn see_off(&mut self, left: Vec<PoolKey>) {
        left.into_iter().for_each(|pool| self.publisher.settle_newest(Done::PoolLeft { pool }));
    }

    /// No worker has it in its view any more.
    pub(super) fn pool_left(&mut self, key: PoolKey) {
        let Some(index) = self.leaving.iter().position(|(leaving, _)| *leaving == key) else { return };
        let (_, mut pool) = self.leaving.swap_remove(index);
        pool.members.close();
        // One that is called the same may be there by now, and counts on.
        if self.pools.key_of(&pool.name).is_none() {
            self.metrics.retire_pool(&pool.name);
        }
        self.builder.retire(pool);
    }
}
