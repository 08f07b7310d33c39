//! What the earlier strategies of a pool have learnt, by schema, so that one that comes back goes on.
//!
//! Why: with A → B → A, the second A has no predecessor of its own schema. Without a memory it would begin anew.
//! Invariants: a memory holds only data of the host, never an instance or memory of a plugin. It has one entry for each
//! schema, at most [`SCHEMAS_MAX`]; the oldest one goes first. The strategy in charge has no entry: it knows more.

use std::collections::HashMap;
use std::sync::Arc;

use lb_strategy_host::Slot;

/// The slots of a strategy, by the names of backends.
pub(super) type Slots = HashMap<Arc<str>, Arc<Slot>>;

/// The most schemas that a pool remembers.
const SCHEMAS_MAX: usize = 8;

/// See the module; oldest first.
#[derive(Clone, Default)]
pub(super) struct Memory(Vec<Learnt>);

/// The state that a strategy left.
#[derive(Clone)]
pub(in crate::control) struct Learnt {
    schema: Box<str>,
    pub(in crate::control) version: u32,
    /// The exported bytes. Empty: the slots have all of it.
    pub(in crate::control) bytes: Arc<[u8]>,
    pub(super) slots: Slots,
}

// === impl Memory ===

impl Memory {
    /// What the last strategy with this schema has left.
    pub(super) fn of(&self, schema: &str) -> Option<&Learnt> {
        self.0.iter().find(|learnt| *learnt.schema == *schema)
    }

    pub(super) fn remember(&mut self, learnt: Learnt) {
        self.forget(&learnt.schema.clone());
        if self.0.len() == SCHEMAS_MAX {
            self.0.remove(0);
        }
        self.0.push(learnt);
    }

    pub(super) fn into_states(self) -> Vec<Learnt> {
        self.0
    }

    pub(super) fn forget(&mut self, schema: &str) {
        self.0.retain(|learnt| *learnt.schema != *schema);
    }
}

// === impl Learnt ===

impl Learnt {
    pub(super) fn new((schema, version): (&str, u32), bytes: Vec<u8>, slots: Slots) -> Self {
        Self { schema: schema.into(), version, bytes: bytes.into(), slots }
    }

    pub(super) fn schema(&self) -> &str {
        &self.schema
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learnt(schema: &str, version: u32) -> Learnt {
        Learnt::new((schema, version), vec![version as u8], Slots::new())
    }

    #[test]
    fn the_last_state_of_a_schema_is_remembered_and_the_oldest_schema_goes_first() {
        let mut memory = Memory::default();
        for number in 0..SCHEMAS_MAX {
            memory.remember(learnt(&format!("s{number}"), 1));
        }
        memory.remember(learnt("s0", 2));
        assert_eq!(memory.of("s0").map(|learnt| learnt.version), Some(2));
        memory.remember(learnt("another", 1));
        assert!(memory.of("s1").is_none() && memory.of("s0").is_some() && memory.of("s2").is_some());
        assert_eq!(memory.0.len(), SCHEMAS_MAX);
        memory.forget("s0");
        assert!(memory.of("s0").is_none());
    }
}
