//! What a strategy computed from a list, kept while its members are the same.
//!
//! Why: an outage makes a new list with the same members. A ring or a table depends on the members only, so it need
//! not be computed again. Invariant: only the builder thread takes the lock; a pick never does.

use std::sync::{Arc, Mutex, PoisonError};

use lb_strategy::{Backends, Error};

/// The last value, with the `members_epoch` of its list.
#[derive(Debug)]
pub struct Kept<T>(Mutex<Option<(u64, Arc<T>)>>);

// === impl Kept ===

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T> Kept<T> {
    /// The kept value if the members are still the same. Otherwise the value that `make` returns, which is then kept.
    pub fn get(&self, backends: &Backends<'_>, make: impl FnOnce() -> Result<T, Error>) -> Result<Arc<T>, Error> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((epoch, value)) = &*last
            && *epoch == backends.members_epoch()
        {
            return Ok(value.clone());
        }
        let value = Arc::new(make()?);
        *last = Some((backends.members_epoch(), value.clone()));
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use lb_strategy_conformance::World;

    use super::*;

    #[test]
    fn a_value_is_kept_while_only_health_changes() {
        let kept = Kept::default();
        let of = |world: &World| kept.get(&world.list().lend(), || Ok(world.len())).expect("a value");
        let first = of(&World::of(3));
        assert!(Arc::ptr_eq(&first, &of(&World::of(3).up(&[true, false, true]))), "health");
        assert!(!Arc::ptr_eq(&first, &of(&World::of(3).weights(&[1, 2, 1]))), "weights");
        assert_eq!(*of(&World::of(4)), 4, "members");
    }

    #[test]
    fn a_failure_keeps_the_value_before() {
        let kept = Kept::default();
        let of = |n: usize, made: Result<usize, Error>| kept.get(&World::of(n).list().lend(), || made);
        let first = of(3, Ok(3)).expect("a value");
        assert_eq!(of(4, Err("too many".into())), Err("too many".into()));
        assert!(Arc::ptr_eq(&first, &of(3, Ok(9)).expect("a value")));
    }
}
