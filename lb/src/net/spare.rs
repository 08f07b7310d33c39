//! Unused values of one kind that are kept for their memory, so that the next user allocates nothing.
//!
//! Invariants: the number of kept values is limited. Each call of [`shrink`](Spare::shrink) drops half of the values
//! that were unused since the call before. So a burst of connections does not keep its memory, and a steady load loses
//! nothing.

use std::cell::RefCell;

#[derive(Debug)]
pub(crate) struct Spare<T> {
    kept: RefCell<Kept<T>>,
    most: usize,
}

#[derive(Debug)]
struct Kept<T> {
    values: Vec<T>,
    /// The smallest number of values here since the last `shrink`; these were not needed.
    least: usize,
}

// === impl Spare ===

impl<T> Spare<T> {
    /// Keeps at most `most` values.
    pub(crate) fn new(most: usize) -> Self {
        Self { kept: RefCell::new(Kept { values: Vec::new(), least: 0 }), most }
    }

    /// The value that was kept last: its memory is most likely still in the processor's cache.
    #[inline]
    pub(crate) fn take(&self) -> Option<T> {
        let mut kept = self.kept.borrow_mut();
        let value = kept.values.pop();
        kept.least = kept.least.min(kept.values.len());
        value
    }

    /// Keeps `value`, or drops it if enough are kept.
    #[inline]
    pub(crate) fn put(&self, value: T) {
        let mut kept = self.kept.borrow_mut();
        if kept.values.len() < self.most {
            kept.values.push(value);
        }
    }

    /// Drops half of the values that were not needed since the last call; also the last one.
    pub(crate) fn shrink(&self) {
        let mut kept = self.kept.borrow_mut();
        let keep = kept.values.len() - kept.least.div_ceil(2);
        kept.values.truncate(keep);
        if kept.values.capacity() > 4 * keep {
            kept.values.shrink_to(2 * keep);
        }
        kept.least = keep;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(spare: &Spare<u32>) -> usize {
        spare.kept.borrow().values.len()
    }

    #[test]
    fn values_left_by_a_burst_are_dropped_by_halves_and_used_ones_stay() {
        let spare = Spare::new(1024);
        (0..2000).for_each(|value| spare.put(value));
        assert_eq!(count(&spare), 1024);
        spare.shrink();
        assert_eq!(count(&spare), 1024, "all came since the last time");
        // A load that uses 100 at a time.
        for _ in 0..20 {
            let out: Vec<_> = (0..100).map(|_| spare.take().unwrap()).collect();
            out.into_iter().for_each(|value| spare.put(value));
            spare.shrink();
        }
        assert_eq!(count(&spare), 100);
        assert!(spare.kept.borrow().values.capacity() <= 400);
        (0..10).for_each(|_| spare.shrink());
        assert_eq!((count(&spare), spare.take()), (0, None));
    }

    #[test]
    fn the_value_kept_last_is_reused_first() {
        let spare = Spare::new(9);
        (1..=3).for_each(|value| spare.put(value));
        assert_eq!((spare.take(), spare.take()), (Some(3), Some(2)));
    }
}
