//! The sources of members.
//!
//! A [`Source`] returns its full set for a pool; [`merge`] makes one list of the sets of all sources. A start and a
//! reload merge them into a [`Plan`](super::Plan). Invariant: ids are unique in a merged list. If two sources have one
//! id, the earlier source wins and the other entry is a clash.

mod attached;
mod file;
mod launcher;

use crate::control::pools::Entry;

pub(super) use attached::Attached;
pub(super) use file::File;
pub(in crate::control) use launcher::Launched;

/// One source of members.
pub(in crate::control) trait Source {
    /// The full set for `pool` now, in order. It replaces every set that the source returned before.
    fn set(&self, pool: &str) -> Vec<Entry>;
}

/// One pool's members from all sources.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Merged {
    pub(super) entries: Vec<Entry>,
    /// Entries whose id an earlier source has.
    pub(super) clashes: Vec<Entry>,
}

/// The members of `pool`. Earlier sources come first in the list and win clashes.
pub(super) fn merge(sources: &[&dyn Source], pool: &str) -> Merged {
    let mut merged = Merged::default();
    for entry in sources.iter().flat_map(|source| source.set(pool)) {
        let is_taken = merged.entries.iter().any(|other| other.id == entry.id);
        if is_taken { merged.clashes.push(entry) } else { merged.entries.push(entry) }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Labels;
    use crate::control::pools::Origin;

    fn launched(ids: &[&str]) -> Launched {
        let entry = |(order, id): (usize, &&str)| Entry {
            id: (*id).to_owned(),
            address: "127.0.0.1:5001".into(),
            socket: ([127, 0, 0, 1], 5001).into(),
            weight: 1,
            origin: Origin::Launched,
            order,
            draining: false,
            backup: false,
            labels: Labels::default(),
        };
        Launched::new(ids.iter().enumerate().map(entry).collect())
    }

    #[test]
    fn the_earlier_source_wins_a_clash() {
        let (first, second) = (launched(&["a", "b"]), launched(&["b", "c"]));
        let merged = merge(&[&first, &second], "default");
        // The order tells the two entries of the clash apart.
        let listed = |entries: &[Entry]| entries.iter().map(|one| (one.id.clone(), one.order)).collect::<Vec<_>>();
        assert_eq!(listed(&merged.entries), [("a".into(), 0), ("b".into(), 1), ("c".into(), 1)]);
        assert_eq!(listed(&merged.clashes), [("b".into(), 0)]);
        assert_eq!(merge(&[&first], "other"), Merged::default());
    }
}
