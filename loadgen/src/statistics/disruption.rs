//! How many keys changed their backend when the pool changed.

use std::collections::HashMap;
use std::hash::Hash;

use crate::model::Disruption;

/// Counts the keys that were requested both before, with `from_n` backends, and after, with `to_n`.
pub fn disruption<K: Eq + Hash, B: PartialEq>(
    arm: &str,
    (from_n, before): (u32, &HashMap<K, B>),
    (to_n, after): (u32, &HashMap<K, B>),
) -> Disruption {
    let both = before.iter().filter_map(|(key, home)| Some((home, after.get(key)?)));
    let (keys, moved) = both.fold((0, 0), |(keys, moved), (old, now)| (keys + 1, moved + u64::from(old != now)));
    Disruption { arm: arm.to_owned(), from_n, to_n, keys, moved }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_one_side_only_do_not_count() {
        let before = HashMap::from([(1, "a"), (2, "b"), (3, "c"), (4, "c")]);
        let after = HashMap::from([(1, "a"), (2, "a"), (3, "b"), (5, "b")]);
        let found = disruption("ring", (3, &before), (2, &after));
        assert_eq!((found.keys, found.moved), (3, 2));
        assert!((found.ideal() - 1.0 / 3.0).abs() < 1e-12);
    }
}
