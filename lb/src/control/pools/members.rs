//! The members of one pool: who they are, in which order, and whether they may get requests. Pure data; the actor owns it.
//!
//! Invariants: ids are unique; the order is the file's, then attached ones, then launched ones by order of start; live numbers are
//! kept by id, over removal and return and over another address; the live flags of every member's [`Backend`] say at any time what
//! its entry says, and a `Backend` that is no member's takes nothing new.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use lb_strategy_host::Stats;

use crate::control::health::Standing;
use crate::pool::{Backend, Eligibility};

/// Live numbers of removed backends that are remembered, for their return. Beyond it, idle ones are forgotten.
const REMEMBERED_MAX: usize = 4_096;

/// Where a member comes from; also the first part of its place in the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::control) enum Origin {
    File,
    Attached,
    Launched,
}

/// A member to be: what is decided about it from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::control) struct Entry {
    pub(in crate::control) id: String,
    pub(in crate::control) address: String,
    pub(in crate::control) socket: SocketAddr,
    pub(in crate::control) weight: u16,
    pub(in crate::control) origin: Origin,
    /// The place among those of the same origin.
    pub(in crate::control) order: usize,
    pub(in crate::control) draining: bool,
}

#[derive(Clone, Debug)]
pub(in crate::control) struct Member {
    pub(in crate::control) entry: Entry,
    pub(in crate::control) standing: Standing,
    /// What workers hold; it has the entry's id and address.
    pub(in crate::control) backend: Arc<Backend>,
}

#[derive(Debug, Default)]
pub(in crate::control) struct Members {
    list: Vec<Member>,
    stats: HashMap<Arc<str>, Arc<Stats>>,
}

/// What a replacement of members changed.
#[derive(Debug)]
pub(in crate::control) struct Replaced {
    /// Also those under another address.
    pub(in crate::control) came: Vec<Member>,
    pub(in crate::control) gone: Vec<Member>,
    /// Backends that are no member's any more; to be [closed](close) when no worker has them in its view.
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
    /// A backend for a trial of a pool that has none. Nothing connects to it.
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
    pub(in crate::control) fn of(entries: &[Entry]) -> Self {
        let mut members = Self::default();
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

    /// The place after all of this origin.
    pub(in crate::control) fn next_order(&self, origin: Origin) -> usize {
        self.list.iter().filter(|member| member.entry.origin == origin).map(|m| m.entry.order + 1).max().unwrap_or(0)
    }

    /// Takes a new member in at its place; `false` when the id is taken.
    pub(in crate::control) fn insert(&mut self, entry: Entry) -> bool {
        if self.contains(&entry.id) {
            return false;
        }
        let standing = match entry.origin {
            Origin::Launched => Standing::starting(),
            Origin::File | Origin::Attached => Standing::unknown(),
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

    /// Takes a member out; from now on its backend gets nothing new.
    pub(in crate::control) fn remove(&mut self, id: &str) -> Option<Member> {
        let index = self.list.iter().position(|member| &*member.entry.id == id)?;
        let member = self.list.remove(index);
        close(&member.backend);
        Some(member)
    }

    /// Lets `change` alter a member (neither id nor address) and brings its live flags up to date.
    pub(in crate::control) fn update<T>(&mut self, id: &str, change: impl FnOnce(&mut Member) -> T) -> Option<T> {
        let member = self.list.iter_mut().find(|member| &*member.entry.id == id)?;
        let value = change(member);
        member.backend.set_eligibility(member.eligibility());
        Some(value)
    }

    /// Another address is another backend with the same numbers. `false` when nothing changed.
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

    /// A copy to return to.
    pub(in crate::control) fn snapshot(&self) -> Vec<Member> {
        self.list.clone()
    }

    /// Undoes what happened to the membership since `snapshot`. Facts stand: what checks said since then, and where a process of ours
    /// listens now.
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

    /// The members that there would be with these in place of all that were not launched. Nothing changes, nobody sees it.
    pub(in crate::control) fn planned(&mut self, entries: &[Entry]) -> Vec<Member> {
        let mut planned = Vec::with_capacity(self.list.len());
        for entry in entries {
            let same = self
                .get(&entry.id)
                .filter(|member| member.entry.address == entry.address && member.entry.socket == entry.socket);
            if let Some(member) = same {
                planned.push(Member { entry: entry.clone(), ..member.clone() });
                continue;
            }
            let (standing, stats) = (Standing::unknown(), self.stats(&entry.id));
            let eligibility =
                Eligibility { healthy: standing.is_healthy(), draining: entry.draining, weight: entry.weight };
            let backend = Backend::new(&entry.id, &entry.address, entry.socket, stats, eligibility);
            planned.push(Member { entry: entry.clone(), standing, backend });
        }
        planned.extend(self.list.iter().filter(|member| member.entry.origin == Origin::Launched).cloned());
        planned
    }

    /// Makes what [`Members::planned`] answered true, but for launched ones, which are those that there are now. What was replaced is
    /// still open: all of a list may be, and until workers have the new one they have nobody else.
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

    /// None of them gets anything new any more, for whoever still holds a list of them.
    pub(in crate::control) fn close(&mut self) {
        self.list.iter().for_each(|member| close(&member.backend));
    }

    fn stats(&mut self, id: &str) -> Arc<Stats> {
        if let Some(stats) = self.stats.get(id) {
            return stats.clone();
        }
        if self.stats.len() >= REMEMBERED_MAX + self.list.len() {
            // Nobody but the map holds those of a backend that is gone and idle.
            self.stats.retain(|_, stats| Arc::strong_count(stats) > 1);
        }
        let stats = Arc::<Stats>::default();
        self.stats.insert(id.into(), stats.clone());
        stats
    }
}

/// Nothing new from now on, for whoever still holds a list with it.
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
    fn the_order_is_file_then_attached_then_launched_whenever_they_came() {
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
    fn numbers_are_kept_over_removal_and_return_and_over_another_address() {
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
    fn idle_numbers_of_long_gone_backends_are_forgotten_at_a_limit() {
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
