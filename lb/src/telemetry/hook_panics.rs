//! Panics in the hooks of strategies, by strategy and hook. The instances count them, and the hub reads the counts.
//!
//! Why by instance: `on_finish` returns no status, so the host finds its panics in the log lines of the instance.
//! Invariant: no count is lost when an instance is freed.

use std::collections::BTreeMap;
use std::sync::Arc;

use lb_strategy_host::{Hook, HookPanics};

/// The hooks of an instance. Panics of the others refuse the plugin.
pub const INSTANCE_HOOKS: [Hook; 12] = [
    Hook::PickerNew,
    Hook::Pick,
    Hook::OnStart,
    Hook::OnFinish,
    Hook::OnProbe,
    Hook::Tick,
    Hook::StateExport,
    Hook::StateImport,
    Hook::Metrics,
    Hook::Explain,
    Hook::PickerFree,
    Hook::StrategyFree,
];

/// Panics by strategy, in the order of [`INSTANCE_HOOKS`].
pub(super) type PanicSums = BTreeMap<Arc<str>, [u64; INSTANCE_HOOKS.len()]>;

/// The instances that one pool has had.
#[derive(Default)]
pub(super) struct Instances {
    /// The counts of instances that are gone.
    gone: PanicSums,
    alive: Vec<(Arc<str>, Arc<HookPanics>)>,
}

fn add(sums: &mut PanicSums, strategy: &Arc<str>, panics: &HookPanics) {
    let sum = sums.entry(strategy.clone()).or_default();
    INSTANCE_HOOKS.iter().zip(sum).for_each(|(hook, sum)| *sum += panics.of(*hook));
}

// === impl Instances ===

impl Instances {
    /// An instance is in charge. It may have been in charge before.
    pub(super) fn push(&mut self, strategy: &str, panics: Arc<HookPanics>) {
        self.look_again();
        if !self.alive.iter().any(|(_, known)| Arc::ptr_eq(known, &panics)) {
            self.alive.push((strategy.into(), panics));
        }
    }

    pub(super) fn sums(&mut self) -> PanicSums {
        self.look_again();
        let mut sums = self.gone.clone();
        self.alive.iter().for_each(|(strategy, panics)| add(&mut sums, strategy, panics));
        sums
    }

    /// Adds up the counts of instances that were freed.
    fn look_again(&mut self) {
        let gone = &mut self.gone;
        self.alive.retain(|(strategy, panics)| {
            let is_alive = Arc::strong_count(panics) > 1;
            if !is_alive {
                add(gone, strategy, panics);
            }
            is_alive
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_panics_of_an_instance_stay_when_it_is_gone_and_count_once_when_it_returns() {
        let mut instances = Instances::default();
        let (first, second) = (Arc::new(HookPanics::default()), Arc::new(HookPanics::default()));
        instances.push("a", first.clone());
        instances.push("b", second.clone());
        first.count(Hook::OnFinish);
        second.count(Hook::Tick);
        instances.push("a", first.clone());
        let of = |instances: &mut Instances| {
            let sums = instances.sums();
            ["a", "b"].map(|strategy| sums[strategy].iter().sum::<u64>())
        };
        assert_eq!(of(&mut instances), [1, 1]);
        drop(first);
        assert_eq!((of(&mut instances), instances.alive.len()), ([1, 1], 1));
        let on_finish = INSTANCE_HOOKS.iter().position(|hook| *hook == Hook::OnFinish).unwrap();
        assert_eq!(instances.sums()["a"][on_finish], 1);
    }
}
