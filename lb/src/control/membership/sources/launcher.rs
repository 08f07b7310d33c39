//! The launcher as a source: the replicas whose processes lb runs. They are all in the pool `default`.

use super::Source;
use crate::config::DEFAULT_POOL;
use crate::control::pools::{Entry, Members, Origin};

/// The launched replicas, in the order of their start.
pub(in crate::control) struct Launched(Vec<Entry>);

// === impl Launched ===

impl Launched {
    pub(in crate::control) fn new(replicas: Vec<Entry>) -> Self {
        Self(replicas)
    }

    /// The launched replicas among the members of the pool `default`.
    pub(in crate::control) fn of(members: &Members) -> Self {
        let entries = members.iter().map(|member| &member.entry);
        Self(entries.filter(|entry| entry.origin == Origin::Launched).cloned().collect())
    }
}

impl Source for Launched {
    fn set(&self, pool: &str) -> Vec<Entry> {
        if pool == DEFAULT_POOL { self.0.clone() } else { Vec::new() }
    }
}
