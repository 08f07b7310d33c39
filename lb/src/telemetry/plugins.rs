//! The own metrics of strategies: the state of each pool, and its part of the exposition as `lb_plugin_<name>`.
//!
//! Why apart from the hub: names, kinds and numbers come from plugins, so no table of this crate lists them.
//! [`PluginPage`] reads and checks them. Invariants: a pool shows only pages of strategies in use. Pools that
//! have the same name share one family with one kind and one help text. The lock is never held while text is made.

use std::collections::BTreeMap;
use std::sync::Arc;

use lb_strategy_host::{Family, PluginPage};
use parking_lot::Mutex;
use prometheus::proto;

use super::exposition::{Exposition, series};
use super::hub::Metrics;
use super::names;
use super::reason::DutyHook;

/// The prefix of the names of these metrics.
const PREFIX: &str = "lb_plugin_";

/// A pool and a strategy.
type InPool = (Arc<str>, Arc<str>);

/// What the plugins of all pools have said.
#[derive(Default)]
pub(super) struct Plugins(Mutex<State>);

#[derive(Default)]
struct State {
    /// By pool and strategy: of the strategy in charge, and of shadows.
    pages: BTreeMap<InPool, Arc<PluginPage>>,
    /// Lines that were not exported, by pool and strategy.
    dropped: BTreeMap<InPool, u64>,
    /// By pool and strategy. `None`: the strategy does not have the hook.
    failures: BTreeMap<InPool, [Option<u64>; DutyHook::COUNT]>,
}

// === impl Metrics ===

impl Metrics {
    /// Shows `page` as the metrics of a strategy of the pool, and counts its dropped lines.
    pub fn plugin_page(&self, pool: &str, strategy: &str, page: PluginPage) {
        let state = &mut *self.shared().plugins.0.lock();
        *state.dropped.entry((pool.into(), strategy.into())).or_default() += page.dropped();
        state.pages.insert((pool.into(), strategy.into()), Arc::new(page));
    }

    /// The strategy that wrote the page is no longer in use, or has no current one.
    pub fn plugin_page_ends(&self, pool: &str, strategy: &str) {
        self.shared().plugins.0.lock().pages.remove(&(pool.into(), strategy.into()));
    }

    /// Counts `failures` of the hook; with 0 its series exists from now on.
    pub fn duty_failures(&self, pool: &str, strategy: &str, hook: DutyHook, failures: u64) {
        let state = &mut *self.shared().plugins.0.lock();
        let of_strategy = state.failures.entry((pool.into(), strategy.into())).or_default();
        *of_strategy[hook as usize].get_or_insert_default() += failures;
    }
}

// === impl Plugins ===

impl Plugins {
    /// The pool is removed: so are its series.
    pub(super) fn forget(&self, pool: &str) {
        let state = &mut *self.0.lock();
        state.pages.retain(|(of, _), _| **of != *pool);
        state.dropped.retain(|(of, _), _| **of != *pool);
        state.failures.retain(|(of, _), _| **of != *pool);
    }

    /// The counts of lb about plugins.
    pub(super) fn tell(&self, e: &mut Exposition) {
        let (dropped, failures) = {
            let state = self.0.lock();
            (state.dropped.clone(), state.failures.clone())
        };
        for ((pool, strategy), count) in &dropped {
            e.number(&names::PLUGIN_METRICS_DROPPED, &[pool, strategy], *count as f64);
        }
        for ((pool, strategy), counts) in &failures {
            for (hook, count) in DutyHook::ALL.iter().zip(counts) {
                if let Some(count) = count {
                    e.number(&names::STRATEGY_HOOK_FAILURES, &[pool, strategy, hook.as_str()], *count as f64);
                }
            }
        }
    }

    /// The plugins' own families.
    pub(super) fn families(&self) -> Vec<proto::MetricFamily> {
        let pages = self.0.lock().pages.clone();
        let mut by_name: BTreeMap<&str, Vec<(&str, &str, &Family)>> = BTreeMap::new();
        for ((pool, strategy), page) in &pages {
            for (name, family) in page.families() {
                by_name.entry(name).or_default().push((pool, strategy, family));
            }
        }
        by_name.into_iter().map(|(name, of_pools)| merged(name, &of_pools)).collect()
    }
}

/// One family of all pools. The first pool gives the help text. If kinds differ, it is a gauge: that loses no number.
fn merged(name: &str, of_pools: &[(&str, &str, &Family)]) -> proto::MetricFamily {
    let is_counter = of_pools.iter().all(|(_, _, family)| family.is_counter);
    let kind = if is_counter { proto::MetricType::COUNTER } else { proto::MetricType::GAUGE };
    let mut merged = proto::MetricFamily::default();
    merged.set_name(format!("{PREFIX}{name}"));
    merged.set_help(of_pools.first().map_or_else(String::new, |(_, _, family)| family.help.to_string()));
    merged.set_field_type(kind);
    for (pool, strategy, family) in of_pools {
        for (backend, value) in &family.series {
            let one = match backend {
                None => series(&["pool", "strategy"], &[pool, strategy], kind, *value),
                Some(backend) => series(&["pool", "strategy", "backend"], &[pool, strategy, backend], kind, *value),
            };
            merged.mut_metric().push(one);
        }
    }
    merged
}
