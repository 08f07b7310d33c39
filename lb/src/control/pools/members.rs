//! The members of one pool: their ids and addresses, their order, and whether they may get requests. Pure data, owned
//! by the actor.
//!
//! Invariants:
//!
//! - Ids are unique. The order is: the file's, then attached ones, then launched ones by order of start.
//! - Live numbers are kept by id, over removal and return and over a change of address.
//! - The live flags of every member's [`Backend`] always agree with its entry. A `Backend` without a member gets no new
//!   request.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use lb_strategy_host::Stats;

use crate::config::InitialState;
use crate::control::health::Standing;
use crate::pool::{Backend, Eligibility};

/// How many removed backends keep their live numbers for a return. With more, the numbers of idle ones are dropped.
const REMEMBERED_MAX: usize = 4_096;

/// The origin of a member; also the first part of its place in the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::control) enum Origin {
    File,
    Attached,
    Launched,
}

/// The description of a member, without its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::control) struct Entry {
    pub(in crate::control) id: String,
    pub(in crate::control) address: String,
    pub(in crate::control) socket: SocketAddr,
    pub(in crate::control) weight: u16,
    pub(in crate::control) origin: Origin,
    /// The place among entries of the same origin.
    pub(in crate::control) order: usize,
    pub(in crate::control) draining: bool,
}

#[derive(Clone, Debug)]
pub(in crate::control) struct Member {
    pub(in crate::control) entry: Entry,
    pub(in crate::control) standing: Standing,
    /// Shared with the workers; it has the entry's id and address.
    pub(in crate::control) backend: Arc<Backend>,
}

#[derive(Debug, Default)]
pub(in crate::control) struct Members {
    list: Vec<Member>,
    stats: HashMap<Arc<str>, Arc<Stats>>,
    /// For later members that lb does not launch.
    pub(in crate::control) initial: InitialState,
}

/// The result of a replacement of members.
#[derive(Debug)]
pub(in crate::control) struct Replaced {
    /// Includes members with a changed address.
    pub(in crate::control) came: Vec<Member>,
    pub(in crate::control) gone: Vec<Member>,
    /// Backends without a member; [`close`] them when no worker's view has them.
    pub(in crate::control) left: Vec<Arc<Backend>>,
}

// === impl Origin ===

impl Origin {
    pub(in crate::control) fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Attached => "attached",
            Self::Launched => "launched",
        }
    }
}

// === impl Entry ===

impl Entry {
    /// A backend for the trial of a pool that has none. Nothing connects to it.
    pub(in crate::control) fn stand_in() -> Self {
        let socket = ([127, 0, 0, 1], 1).into();
        let (id, address) = ("b1".to_owned(), "127.0.0.1:1".to_owned());
        Self { id, address, socket, weight: 1, origin: Origin::File, order: 0, draining: false }
    }
}

// === impl Member ===

impl Member {
    pub(in crate::control) fn eligibility(&self) -> Eligibility {
        Eligibility { healthy: self.standing.is_healthy(), draining: self.entry.draining, weight: self.entry.weight }
    }

    pub(in crate::control) fn id(&self) -> &Arc<str> {
        &self.backend.id
    }
}

// === impl Members ===

impl Members {
    /// New members, each with a standing of its own.
    pub(in crate::control) fn of(entries: &[Entry], initial: InitialState) -> Self {
        let mut members = Self { initial, ..Self::default() };
        for entry in entries {
            members.insert(entry.clone());
        }
        members
    }

    pub(in crate::control) fn iter(&self) -> impl ExactSizeIterator<Item = &Member> {
        self.list.iter()
    }

    pub(in crate::control) fn len(&self) -> usize {
        self.list.len()
    }

    pub(in crate::control) fn get(&self, id: &str) -> Option<&Member> {
        self.list.iter().find(|member| &*member.entry.id == id)
    }

    pub(in crate::control) fn contains(&self, id: &str) -> bool {
        self.get(id).is_some()
    }

    /// The place after all entries of this origin.
    pub(in crate::control) fn next_order(&self, origin: Origin) -> usize {
        self.list.iter().filter(|member| member.entry.origin == origin).map(|m| m.entry.order + 1).max().unwrap_or(0)
    }

    /// Inserts a new member at its place. Returns `false` if the id exists.
    pub(in crate::control) fn insert(&mut self, entry: Entry) -> bool {
        if self.contains(&entry.id) {
            return false;
        }
        let standing = match entry.origin {
            Origin::Launched => Standing::starting(),
            Origin::File | Origin::Attached => Standing::new(self.initial),
        };
        let eligibility =
            Eligibility { healthy: standing.is_healthy(), draining: entry.draining, weight: entry.weight };
        let stats = self.stats(&entry.id);
        let backend = Backend::new(&entry.id, &entry.address, entry.socket, stats, eligibility);
        let place = (entry.origin, entry.order);
        let index = self.list.partition_point(|member| (member.entry.origin, member.entry.order) <= place);
        self.list.insert(index, Member { entry, standing, backend });
        true
    }

    /// Removes a member; its backend gets no new request.
    pub(in crate::control) fn remove(&mut self, id: &str) -> Option<Member> {
        let index = self.list.iter().position(|member| &*member.entry.id == id)?;
        let member = self.list.remove(index);
        close(&member.backend);
        Some(member)
    }

    /// Lets `change` alter a member (neither id nor address), then updates its live flags.
    pub(in crate::control) fn update<T>(&mut self, id: &str, change: impl FnOnce(&mut Member) -> T) -> Option<T> {
        let member = self.list.iter_mut().find(|member| &*member.entry.id == id)?;
        let value = change(member);
        member.backend.set_eligibility(member.eligibility());
        Some(value)
    }

    /// Replaces the backend by one with this address and the same live numbers. Returns `false` if nothing changed.
    pub(in crate::control) fn set_address(&mut self, id: &str, address: &str, socket: SocketAddr) -> bool {
        let Some(member) = self.list.iter_mut().find(|member| &*member.entry.id == id) else { return false };
        if member.entry.address == address && member.entry.socket == socket {
            return false;
        }
        close(&member.backend);
        member.entry.address = address.to_owned();
        member.entry.socket = socket;
        let stats = member.backend.stats.clone();
        member.backend = Backend::new(id, address, socket, stats, member.eligibility());
        true
    }

    /// A copy for [`Members::restore`].
    pub(in crate::control) fn snapshot(&self) -> Vec<Member> {
        self.list.clone()
    }

    /// Undoes the changes of membership since `snapshot`. Facts stay: outcomes of checks, and the addresses of launched
    /// processes.
    pub(in crate::control) fn restore(&mut self, snapshot: Vec<Member>) {
        let now = std::mem::replace(&mut self.list, snapshot);
        now.iter().for_each(|member| close(&member.backend));
        for member in &mut self.list {
            if let Some(same) = now.iter().find(|same| same.entry.id == member.entry.id) {
                member.standing = same.standing.clone();
                member.backend = same.backend.clone();
                member.entry.address.clone_from(&same.entry.address);
                member.entry.socket = same.entry.socket;
            }
            member.backend.set_eligibility(member.eligibility());
        }
    }

    /// The members that would result from `entries`, which are all members that there should be. New ones begin as
    /// `initial`. Changes nothing.
    pub(in crate::control) fn planned(&mut self, entries: &[Entry], initial: InitialState) -> Vec<Member> {
        let mut planned = Vec::with_capacity(self.list.len());
        for entry in entries {
            let same = self
                .get(&entry.id)
                .filter(|member| member.entry.address == entry.address && member.entry.socket == entry.socket);
            if let Some(member) = same {
                planned.push(Member { entry: entry.clone(), ..member.clone() });
                continue;
            }
            let (standing, stats) = (Standing::new(initial), self.stats(&entry.id));
            let eligibility =
                Eligibility { healthy: standing.is_healthy(), draining: entry.draining, weight: entry.weight };
            let backend = Backend::new(&entry.id, &entry.address, entry.socket, stats, eligibility);
            planned.push(Member { entry: entry.clone(), standing, backend });
        }
        planned
    }

    /// Puts the result of [`Members::planned`] in force. Launched members stay as they are. Replaced backends stay
    /// open, because they may be all that the workers' present list has.
    pub(in crate::control) fn replace(&mut self, planned: Vec<Member>) -> Replaced {
        let before = std::mem::take(&mut self.list);
        let (mut came, mut gone, mut left) = (Vec::new(), Vec::new(), Vec::new());
        for mut member in planned.into_iter().filter(|member| member.entry.origin != Origin::Launched) {
            match before.iter().find(|old| Arc::ptr_eq(&old.backend, &member.backend)) {
                Some(old) => member.standing = old.standing.clone(),
                None => came.push(member.clone()),
            }
            self.list.push(member);
        }
        for old in before {
            if old.entry.origin == Origin::Launched {
                self.list.push(old);
            } else if !self.list.iter().any(|member| Arc::ptr_eq(&member.backend, &old.backend)) {
                left.push(old.backend.clone());
                if !self.contains(&old.entry.id) {
                    gone.push(old);
                }
            }
        }
        for member in &self.list {
            member.backend.set_eligibility(member.eligibility());
        }
        Replaced { came, gone, left }
    }

    /// No member gets a new request any more, also from workers that still have the old list.
    pub(in crate::control) fn close(&mut self) {
        self.list.iter().for_each(|member| close(&member.backend));
    }

    fn stats(&mut self, id: &str) -> Arc<Stats> {
        if let Some(stats) = self.stats.get(id) {
            return stats.clone();
        }
        if self.stats.len() >= REMEMBERED_MAX + self.list.len() {
            // The map is the only owner of the numbers of a removed, idle backend.
            self.stats.retain(|_, stats| Arc::strong_count(stats) > 1);
        }
        let stats = Arc::<Stats>::default();
        self.stats.insert(id.into(), stats.clone());
        stats
    }
}

/// The backend gets no new request any more, also from workers that still have the old list.
pub(in crate::control) fn close(backend: &Backend) {
    backend.set_eligibility(Eligibility { healthy: false, draining: true, weight: 0 });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str, origin: Origin, order: usize) -> Entry {
        let (address, socket) = ("127.0.0.1:5001".to_owned(), "127.0.0.1:5001".parse().unwrap());
        Entry { id: id.into(), address, socket, weight: 1, origin, order, draining: false }
    }

    fn ids(members: &Members) -> Vec<&str> {
        members.iter().map(|member| &*member.entry.id).collect()
    }

    #[test]
    fn the_order_is_file_attached_launched_however_members_were_added() {
        let mut members = Members::default();
        for (id, origin, order) in [
            ("l1", Origin::Launched, 0),
            ("a2", Origin::Attached, 1),
            ("f2", Origin::File, 1),
            ("l2", Origin::Launched, 1),
            ("f1", Origin::File, 0),
            ("a1", Origin::Attached, 0),
        ] {
            assert!(members.insert(entry(id, origin, order)));
        }
        assert_eq!(ids(&members), ["f1", "f2", "a1", "a2", "l1", "l2"]);
        assert!(!members.insert(entry("f1", Origin::Attached, 9)), "ids are unique over all origins");
        assert_eq!(members.next_order(Origin::Launched), 2);
    }

    #[test]
    fn a_plan_has_each_member_once_and_keeps_the_backends_of_those_that_stay() {
        let mut members =
            Members::of(&[entry("f1", Origin::File, 0), entry("l1", Origin::Launched, 0)], InitialState::Up);
        let entries = [entry("f2", Origin::File, 0), entry("l1", Origin::Launched, 0)];
        let planned = members.planned(&entries, InitialState::Up);
        assert_eq!(planned.iter().map(|member| &*member.entry.id).collect::<Vec<_>>(), ["f2", "l1"]);
        assert!(Arc::ptr_eq(&planned[1].backend, &members.get("l1").unwrap().backend));
        let Replaced { came, gone, left } = members.replace(planned);
        assert_eq!((came.len(), gone.len(), left.len()), (1, 1, 1));
        assert_eq!(ids(&members), ["f2", "l1"]);
    }

    #[test]
    fn live_numbers_are_kept_over_removal_and_return_and_a_change_of_address() {
        let mut members = Members::default();
        members.insert(entry("b1", Origin::File, 0));
        members.get("b1").unwrap().backend.attempt_begins();
        let first = members.remove("b1").unwrap().backend;
        assert!(!first.is_eligible(), "a removed one takes nothing new");
        members.insert(entry("b1", Origin::File, 0));
        let second = members.get("b1").unwrap().backend.clone();
        assert_eq!(second.in_flight(), 1);
        assert!(second.is_eligible() && !first.is_eligible());
        assert!(members.set_address("b1", "127.0.0.1:6001", "127.0.0.1:6001".parse().unwrap()));
        let third = members.get("b1").unwrap().backend.clone();
        assert!(!second.is_eligible() && third.is_eligible());
        assert_eq!((third.in_flight(), third.socket.port()), (1, 6001));
        assert!(
            !members.set_address("b1", "127.0.0.1:6001", "127.0.0.1:6001".parse().unwrap()),
            "the same is no change"
        );
    }

    #[test]
    fn eligibility_acts_on_the_live_backend_at_once() {
        let mut members = Members::default();
        members.insert(entry("b1", Origin::File, 0));
        members.insert(entry("l1", Origin::Launched, 0));
        let (b1, l1) = (members.get("b1").unwrap().backend.clone(), members.get("l1").unwrap().backend.clone());
        assert!(b1.is_eligible() && !l1.is_eligible(), "a launched one waits for its first good check");
        members.update("b1", |member| member.entry.weight = 0);
        assert!(!b1.is_eligible());
        members.update("b1", |member| member.entry.weight = 2);
        assert!(b1.is_eligible());
        members.update("b1", |member| member.entry.draining = true);
        assert!(!b1.is_eligible());
        members.update("l1", |member| member.standing.trust());
        assert!(l1.is_eligible());
    }

    #[test]
    fn restoring_undoes_the_membership_but_not_the_checks() {
        let mut members = Members::default();
        members.insert(entry("b1", Origin::File, 0));
        members.insert(entry("b2", Origin::File, 1));
        let snapshot = members.snapshot();
        members.remove("b1");
        members.insert(entry("a1", Origin::Attached, 0));
        let added = members.get("a1").unwrap().backend.clone();
        members.update("b2", |member| {
            member.entry.weight = 9;
            member.standing.fell("gone".into());
        });
        members.restore(snapshot);
        assert_eq!(ids(&members), ["b1", "b2"]);
        assert!(members.get("b1").unwrap().backend.is_eligible());
        let b2 = members.get("b2").unwrap();
        assert_eq!((b2.entry.weight, b2.backend.is_eligible()), (1, false), "still down");
        assert!(!added.is_eligible());
    }

    #[test]
    fn live_numbers_of_removed_idle_backends_are_dropped_at_a_limit() {
        let mut members = Members::default();
        members.insert(entry("busy", Origin::File, 0));
        let busy = members.remove("busy").unwrap().backend;
        busy.attempt_begins();
        for n in 0..2 * REMEMBERED_MAX {
            members.insert(entry(&format!("b{n}"), Origin::Attached, n));
            members.remove(&format!("b{n}"));
        }
        assert!(members.stats.len() <= REMEMBERED_MAX + 1);
        members.insert(entry("busy", Origin::File, 0));
        assert_eq!(members.get("busy").unwrap().backend.in_flight(), 1);
    }
}
