//! The seeds of a run: one number, from which the others are drawn.

use std::collections::BTreeMap;

/// The seeds of a run, one for each purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seeds {
    pub(super) run: u64,
    /// Arrivals, keys and costs.
    pub(super) requests: u64,
    /// The order of arms in blocks.
    pub(super) order: u64,
}

// === impl Seeds ===

impl Seeds {
    /// A random seed is below 2^32, so that it is short to type.
    pub(super) fn new(run: Option<u64>) -> Self {
        let run = run.unwrap_or_else(|| u64::from(fastrand::u32(..)));
        let mut random = fastrand::Rng::with_seed(run);
        let mut draw = || u64::from(random.u32(..));
        Self { run, requests: draw(), order: draw() }
    }

    /// The seed of a block's requests, the same for all its arms.
    pub(super) fn of_block(&self, block: u32) -> u64 {
        fastrand::Rng::with_seed(self.requests ^ (u64::from(block) << 32)).u64(..)
    }

    pub(super) fn by_name(&self) -> BTreeMap<String, u64> {
        let Self { run, requests, order } = *self;
        let named = [("run", run), ("requests", requests), ("order", order)];
        named.into_iter().map(|(name, seed)| (name.to_owned(), seed)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_all_seeds_and_blocks_differ() {
        assert_eq!(Seeds::new(Some(7)), Seeds::new(Some(7)));
        let seeds = Seeds::new(Some(7));
        assert_ne!(seeds.requests, Seeds::new(Some(8)).requests);
        assert_ne!(seeds.of_block(1), seeds.of_block(2));
        assert_eq!(seeds.by_name()["run"], 7);
    }
}
