//! The pool of the run, and the changes that an operator makes to it.
//!
//! A strategy's declaration is about a pool that only the plan changes. An operator can drain, remove, add and weigh
//! backends during a run. Then counts cannot be compared with the declaration. Invariants: each change of membership,
//! draining or weight that the run did not make is reported once. From the first one on, the run is marked as changed.

use std::collections::BTreeMap;

use crate::lab::BackendStatus;

/// The known state of the pool. Empty until the first poll, whose result is accepted unchanged.
#[derive(Debug, Default)]
pub(super) struct Membership {
    known: Option<BTreeMap<String, Standing>>,
    has_changed: bool,
}

/// A change that an operator made to one backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) backend: String,
    /// For example `an operator drained Server 2`.
    pub(super) text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Standing {
    weight: u16,
    draining: bool,
}

// === impl Membership ===

impl Membership {
    /// Whether an operator has changed the pool since the start of the run.
    pub(super) fn has_changed(&self) -> bool {
        self.has_changed
    }

    /// Takes over the current members after the run added or removed backends. The known state of other backends is
    /// kept.
    pub(super) fn adopt(&mut self, states: &[BackendStatus]) {
        let before = self.known.take().unwrap_or_default();
        let standing = |state: &BackendStatus| before.get(&state.id).copied().unwrap_or(Standing::of(state));
        self.known = Some(states.iter().map(|state| (state.id.clone(), standing(state))).collect());
    }

    /// The differences to the known state, which is then updated.
    pub(super) fn changes(&mut self, states: &[BackendStatus]) -> Vec<Change> {
        let now: BTreeMap<String, Standing> =
            states.iter().map(|state| (state.id.clone(), Standing::of(state))).collect();
        let Some(before) = self.known.replace(now.clone()) else { return Vec::new() };
        let mut changes = Vec::new();
        let mut tell = |id: &str, text: String| changes.push(Change { backend: id.to_owned(), text });
        for (id, now) in &now {
            match before.get(id) {
                None => tell(id, format!("an operator added {id}")),
                Some(before) => before.differences(*now, id).into_iter().for_each(|text| tell(id, text)),
            }
        }
        for id in before.keys().filter(|id| !now.contains_key(*id)) {
            tell(id, format!("an operator removed {id}"));
        }
        self.has_changed |= !changes.is_empty();
        changes
    }
}

// === impl Standing ===

impl Standing {
    fn of(state: &BackendStatus) -> Self {
        Self { weight: state.weight, draining: state.draining }
    }

    fn differences(self, now: Self, id: &str) -> Vec<String> {
        let mut differences = Vec::new();
        match (self.draining, now.draining) {
            (false, true) => differences.push(format!("an operator drained {id}")),
            (true, false) => differences.push(format!("an operator ended the draining of {id}")),
            _ => {}
        }
        if self.weight != now.weight {
            differences.push(format!("an operator gave {id} the weight {} instead of {}", now.weight, self.weight));
        }
        differences
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(members: &[(&str, u16, bool)]) -> Vec<BackendStatus> {
        let state = |&(id, weight, draining): &(&str, u16, bool)| {
            serde_json::from_value(serde_json::json!({
                "pool": "default", "id": id, "address": "127.0.0.1:1", "weight": weight, "origin": "launched",
                "eligible": !draining, "draining": draining, "in_flight": 0,
            }))
            .expect("a state")
        };
        members.iter().map(state).collect()
    }

    fn told(membership: &mut Membership, members: &[(&str, u16, bool)]) -> Vec<String> {
        membership.changes(&pool(members)).into_iter().map(|change| change.text).collect()
    }

    #[test]
    fn every_change_of_an_operator_is_reported_once() {
        let mut membership = Membership::default();
        assert!(told(&mut membership, &[("a", 1, false), ("b", 1, false), ("c", 1, false)]).is_empty());
        assert!(!membership.has_changed());
        let changed = [("a", 3, true), ("b", 1, false), ("d", 1, false)];
        let expected = [
            "an operator drained a",
            "an operator gave a the weight 3 instead of 1",
            "an operator added d",
            "an operator removed c",
        ];
        assert_eq!(told(&mut membership, &changed), expected);
        assert!(told(&mut membership, &changed).is_empty() && membership.has_changed());
        assert_eq!(
            told(&mut membership, &[("a", 3, false), changed[1], changed[2]]),
            ["an operator ended the draining of a"]
        );
    }

    #[test]
    fn changes_of_the_run_are_not_an_operators_and_hide_none() {
        let mut membership = Membership::default();
        assert!(told(&mut membership, &[("a", 1, false), ("b", 1, false)]).is_empty());
        let grown = [("a", 1, true), ("b", 1, false), ("c", 1, false)];
        membership.adopt(&pool(&grown));
        assert!(!membership.has_changed());
        assert_eq!(told(&mut membership, &grown), ["an operator drained a"], "together with the run's own change");
        membership.adopt(&pool(&grown[..2]));
        assert!(told(&mut membership, &grown[..2]).is_empty());
    }
}
