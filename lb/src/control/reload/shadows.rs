//! The watch over shadows: one that fails is switched off, and requests go on.
//!
//! Why not probation: a shadow routes nothing, so there is nothing to put back. The rules for faults and slow picks are
//! those of probation, and they hold as long as the shadow runs. Invariant: a fault of a shadow never counts against
//! the strategy in charge. So a worker that hangs in a hook of a shadow is taken out of the count of stuck workers.

use std::time::Duration;

use super::reloads::Reloads;
use crate::control::pools::{PoolKey, ShadowState};
use crate::control::publish::Publisher;
use crate::generation::SILENCE_MAX;

/// A worker counts as stuck after [`SILENCE_MAX`]. It shows each second that it is alive, so its pick may be younger.
const HANG_MIN: Duration = Duration::from_secs(SILENCE_MAX.as_secs() - 1);

// === impl Reloads: shadows ===

impl Reloads {
    /// Whether a shadow has to be watched.
    pub(super) fn has_shadows(desk: &Publisher) -> bool {
        desk.pools.iter().any(|pool| pool.shadows.on().next().is_some())
    }

    /// Switches off the shadows that fail. Returns the number of workers that hang in one.
    pub(super) fn look_at_shadows(desk: &mut Publisher) -> usize {
        let now_ns = desk.hall.opened().elapsed().as_nanos() as u64;
        let mut hanging = 0;
        for key in desk.pools.keys() {
            let name = desk.pools[key].name.clone();
            for shadow in desk.pools[key].shadows.iter() {
                hanging += desk.metrics.shadow_hangs(&name, &shadow.id, now_ns, HANG_MIN);
            }
            for (instance, reason) in failing(desk, key, now_ns) {
                desk.switch_off_shadow(key, instance, reason);
            }
        }
        hanging
    }
}

fn failing(desk: &Publisher, key: PoolKey, now_ns: u64) -> Vec<(u64, String)> {
    let pool = &desk.pools[key];
    let fault = |shadow: &ShadowState| match desk.metrics.shadow_hangs(&pool.name, &shadow.id, now_ns, SILENCE_MAX) {
        0 => shadow.fault(desk.metrics.shadow_picks(&pool.name, &shadow.id)),
        workers => Some(format!("{workers} workers hang in it, and do not respond until it returns")),
    };
    let failing = pool.shadows.on().filter_map(|shadow| Some((shadow.strategy.instance(), fault(shadow)?)));
    failing.collect()
}
