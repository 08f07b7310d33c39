//! The listeners of this worker's connections, each at a place: an index that finds its counters without a look-up.
//!
//! Connections bring the name of their listener. They may arrive before the worker has taken up the generation with the
//! listener, or after it has taken up the one without. Invariant: a place belongs to one listener while the generation
//! has it or one of its connections is open.

use std::sync::Arc;

use crate::listener::Listener;
use crate::telemetry::{ConnectionShard, Metrics};

#[derive(Default)]
pub(super) struct Listeners {
    places: Vec<Option<Place>>,
}

struct Place {
    name: Arc<str>,
    shard: Arc<ConnectionShard>,
    /// Connections of this worker.
    open: usize,
    /// Whether the newest generation has it.
    is_named: bool,
}

// === impl Listeners ===

impl Listeners {
    /// Gives each of a generation's listeners a place; `true` if one is new.
    pub(super) fn follow(&mut self, named: &[Arc<Listener>], metrics: &Metrics, worker: usize) -> bool {
        for place in self.places.iter_mut().flatten() {
            place.is_named = named.iter().any(|listener| *listener.name() == place.name);
        }
        let mut has_new = false;
        for listener in named {
            let (index, is_new) = self.place(listener.name(), metrics, worker);
            has_new |= is_new;
            if let Some(place) = &mut self.places[index] {
                place.is_named = true;
            }
        }
        has_new
    }

    /// The place of `name`, and whether it is a new one.
    pub(super) fn place(&mut self, name: &Arc<str>, metrics: &Metrics, worker: usize) -> (usize, bool) {
        let known = self.places.iter().position(|place| place.as_ref().is_some_and(|place| place.name == *name));
        if let Some(index) = known {
            return (index, false);
        }
        let shard = metrics.connections(worker, name);
        let place = Some(Place { name: name.clone(), shard, open: 0, is_named: false });
        match self.places.iter().position(Option::is_none) {
            Some(index) => {
                self.places[index] = place;
                (index, true)
            }
            None => {
                self.places.push(place);
                (self.places.len() - 1, true)
            }
        }
    }

    /// A connection begins.
    pub(super) fn came(&mut self, index: usize) {
        if let Some(place) = &mut self.places[index] {
            place.open += 1;
            place.shard.accepted.inc();
            place.shard.open.inc();
        }
    }

    /// A connection is over.
    pub(super) fn went(&mut self, index: usize) {
        if let Some(place) = &mut self.places[index] {
            place.open -= 1;
            place.shard.open.dec();
        }
    }

    /// Frees the places of listeners that are gone with their last connection; `true` if there were any.
    pub(super) fn forget_gone(&mut self) -> bool {
        let is_gone = |place: &Option<Place>| place.as_ref().is_some_and(|place| !place.is_named && place.open == 0);
        let mut has_gone = false;
        for place in self.places.iter_mut().filter(|place| is_gone(place)) {
            *place = None;
            has_gone = true;
        }
        has_gone
    }

    /// The name at each place.
    pub(super) fn names(&self) -> impl Iterator<Item = Option<&Arc<str>>> {
        self.places.iter().map(|place| place.as_ref().map(|place| &place.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::open;

    #[test]
    fn a_place_is_kept_until_the_listener_is_gone_and_its_last_connection_over() {
        let metrics = Metrics::new();
        let any = ([127, 0, 0, 1], 0).into();
        let [one, two, three] = open(&[any, any, any], &[]).unwrap().try_into().unwrap();
        let mut listeners = Listeners::default();
        assert!(listeners.follow(&[one.clone(), two.clone()], &metrics, 0));
        assert!(!listeners.follow(&[two.clone(), one.clone()], &metrics, 0), "places do not follow the order");
        assert_eq!(listeners.place(two.name(), &metrics, 0), (1, false));
        listeners.came(0);
        assert!(listeners.follow(&[two.clone(), three.clone()], &metrics, 0));
        assert!(!listeners.forget_gone(), "a connection of the first is open");
        assert_eq!(listeners.place(one.name(), &metrics, 0), (0, false));
        listeners.went(0);
        assert!(listeners.forget_gone() && !listeners.forget_gone());
        assert_eq!(listeners.names().collect::<Vec<_>>(), [None, Some(two.name()), Some(three.name())]);
        assert_eq!(listeners.place(one.name(), &metrics, 0), (0, true), "a late connection has it back");
        listeners.came(0);
        assert!(!listeners.forget_gone());
    }
}
