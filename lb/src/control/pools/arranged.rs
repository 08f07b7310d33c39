//! The existing pools, in the configuration's order.
//!
//! Why keys: checks, waiters and running builds name a pool, and pools are added and removed meanwhile. Invariants: a
//! key belongs to one pool forever. A new pool of the same name gets another key. The pool `default` always exists.

use std::ops::{Index, IndexMut};

use crate::config;
use crate::control::pools::PoolState;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::control) struct PoolKey(u64);

pub(in crate::control) struct Pools {
    list: Vec<(PoolKey, PoolState)>,
    next: u64,
}

// === impl PoolKey ===

impl PoolKey {
    /// The key of the pool `default`.
    pub(in crate::control) const DEFAULT: Self = Self(0);
}

// === impl Pools ===

impl Pools {
    /// The first is `default`.
    pub(in crate::control) fn new(pools: Vec<PoolState>) -> Self {
        let next = pools.len() as u64;
        Self { list: (0..next).map(PoolKey).zip(pools).collect(), next }
    }

    pub(in crate::control) fn iter(&self) -> impl Iterator<Item = &PoolState> {
        self.list.iter().map(|(_, pool)| pool)
    }

    pub(in crate::control) fn iter_mut(&mut self) -> impl Iterator<Item = &mut PoolState> {
        self.list.iter_mut().map(|(_, pool)| pool)
    }

    pub(in crate::control) fn entries(&self) -> impl Iterator<Item = (PoolKey, &PoolState)> {
        self.list.iter().map(|(key, pool)| (*key, pool))
    }

    pub(in crate::control) fn entries_mut(&mut self) -> impl Iterator<Item = (PoolKey, &mut PoolState)> {
        self.list.iter_mut().map(|(key, pool)| (*key, pool))
    }

    pub(in crate::control) fn keys(&self) -> Vec<PoolKey> {
        self.list.iter().map(|(key, _)| *key).collect()
    }

    /// `None` for a removed pool.
    pub(in crate::control) fn get(&self, key: PoolKey) -> Option<&PoolState> {
        self.entries().find(|(other, _)| *other == key).map(|(_, pool)| pool)
    }

    pub(in crate::control) fn get_mut(&mut self, key: PoolKey) -> Option<&mut PoolState> {
        self.entries_mut().find(|(other, _)| *other == key).map(|(_, pool)| pool)
    }

    pub(in crate::control) fn key_of(&self, name: &str) -> Option<PoolKey> {
        self.entries().find(|(_, pool)| *pool.name == *name).map(|(key, _)| key)
    }

    pub(in crate::control) fn named(&self, name: &str) -> Option<&PoolState> {
        self.iter().find(|pool| *pool.name == *name)
    }

    /// Adds the pools `new` and brings all into the order of `wanted`. Returns the keys of the new ones, and the pools
    /// that are not wanted.
    pub(in crate::control) fn arrange(
        &mut self,
        wanted: &[config::PoolConfig],
        new: Vec<PoolState>,
    ) -> (Vec<PoolKey>, Vec<(PoolKey, PoolState)>) {
        let mut came = Vec::with_capacity(new.len());
        for pool in new {
            came.push(PoolKey(self.next));
            self.list.push((PoolKey(self.next), pool));
            self.next += 1;
        }
        let mut left = std::mem::take(&mut self.list);
        for pool in wanted {
            if let Some(index) = left.iter().position(|(_, state)| *state.name == *pool.name) {
                self.list.push(left.remove(index));
            }
        }
        (came, left)
    }

    pub(in crate::control) fn into_states(self) -> Vec<PoolState> {
        self.list.into_iter().map(|(_, pool)| pool).collect()
    }
}

/// For keys of existing pools. For a key that was stored earlier, use [`Pools::get`].
impl Index<PoolKey> for Pools {
    type Output = PoolState;

    fn index(&self, key: PoolKey) -> &PoolState {
        self.get(key).expect("the pool is there")
    }
}

impl IndexMut<PoolKey> for Pools {
    fn index_mut(&mut self, key: PoolKey) -> &mut PoolState {
        self.get_mut(key).expect("the pool is there")
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use lb_strategy_host::{Loader, Strategy, Wanted};

    use super::*;
    use crate::control::pools::Members;

    fn wanted(names: &[&str]) -> Vec<config::PoolConfig> {
        let text: String =
            names.iter().map(|name| format!("[pools.{name}.strategy]\nname = \"round_robin\"\n")).collect();
        let source = config::Source { path: "/nowhere/lb.toml".into(), ..config::Source::default() };
        config::load_text(&source, &text).unwrap().config.pools
    }

    #[test]
    fn a_key_never_names_another_pool() {
        let path = lb_strategy_built::library("round_robin");
        let copies = tempfile::tempdir().unwrap();
        let loader = Loader::new(Path::to_owned(copies.path()), 1);
        let plugin = loader.load(&Wanted { path: &path, name: None, sha256: None }).unwrap();
        let state = |pool: &config::PoolConfig| {
            let strategy = Strategy::new(plugin.clone(), &serde_json::json!({})).unwrap();
            PoolState::new(pool, Members::default(), strategy)
        };
        let names = |pools: &Pools| pools.iter().map(|pool| pool.name.to_string()).collect::<Vec<_>>();
        let (first, both) = (wanted(&["b"]), wanted(&["a", "b"]));
        let mut pools = Pools::new(first.iter().map(state).collect());
        let b = pools.key_of("b").unwrap();
        let (came, left) = pools.arrange(&both, vec![state(&both[1])]);
        assert_eq!((names(&pools), came.len(), left.len()), (["default", "a", "b"].map(String::from).to_vec(), 1, 0));
        assert_eq!((pools.key_of("default"), pools.key_of("b")), (Some(PoolKey::DEFAULT), Some(b)));
        let (_, left) = pools.arrange(&wanted(&[]), Vec::new());
        assert_eq!((left.len(), pools.get(b).is_none(), pools.get(came[0]).is_none()), (2, true, true));
        let (again, _) = pools.arrange(&first, vec![state(&first[1])]);
        assert!(again[0] != b && again[0] != came[0] && pools.get(b).is_none(), "the name is back, and the key is not");
    }
}
