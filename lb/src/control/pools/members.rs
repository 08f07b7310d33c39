//! The members of one pool: their ids and addresses, their order, and whether they may get requests. Pure data, owned
//! by the actor. `shares` has what slow start does.
//!
//! Invariants:
//!
//! - Ids are unique. The order is: the file's, then attached ones, then launched ones by order of start.
//! - Live numbers are kept by id, over removal and return and over a change of address.
//! - The live flags of every member's [`Backend`] always agree with its entry, its checks, its ejection and the state
//!   of the whole pool ([`PoolHealth`]). A `Backend` without a member gets no new request.

mod shares;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use lb_balance::{
    Condition, Look, OutlierEvent, OutlierRules, OutlierState, Outliers, PanicRules, PoolHealth, Ramp, SlowStart,
};
use lb_strategy_host::Stats;

use super::member::{Entry, Member, Origin};
use crate::config::InitialState;
use crate::control::health::Standing;
use crate::pool::{Backend, Eligibility};

/// How many removed backends keep their live numbers for a return. With more, the numbers of idle ones are dropped.
const REMEMBERED_MAX: usize = 4_096;

#[derive(Debug)]
pub(in crate::control) struct Members {
    list: Vec<Member>,
    stats: HashMap<Arc<str>, Arc<Stats>>,
    outliers: Outliers,
    slow_start: SlowStart,
    /// When the next look at shares is due.
    shares_due_ns: u64,
    panic: PanicRules,
    in_panic: bool,
    backups_in_use: bool,
    /// Outlier detection should look, because a member or its health has changed.
    is_look_due: bool,
    /// An eligibility, or the panic, has changed since it was last asked.
    has_changed: bool,
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

// === impl Members ===

impl Default for Members {
    fn default() -> Self {
        let panic = PanicRules::OFF;
        let outliers = Outliers::new(OutlierRules::off(), panic);
        Self {
            list: Vec::new(),
            stats: HashMap::new(),
            outliers,
            slow_start: SlowStart::new(None),
            shares_due_ns: 0,
            panic,
            in_panic: false,
            backups_in_use: false,
            is_look_due: false,
            has_changed: false,
            initial: InitialState::Up,
        }
    }
}

impl Members {
    /// New members, each with a standing of its own.
    pub(in crate::control) fn of(entries: &[Entry], initial: InitialState) -> Self {
        let mut members = Self { initial, ..Self::default() };
        for entry in entries {
            members.add(entry.clone());
        }
        members.settle();
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
        let is_new = self.add(entry);
        if is_new {
            self.settle();
        }
        is_new
    }

    fn add(&mut self, entry: Entry) -> bool {
        if self.contains(&entry.id) {
            return false;
        }
        let standing = match entry.origin {
            Origin::Launched => Standing::starting(),
            Origin::File | Origin::Attached => self.initial.standing(),
        };
        // Another server may have had this id before.
        self.forget_past(lb_strategy_host::backend_id(&entry.id));
        let (place, stats) = ((entry.origin, entry.order), self.stats(&entry.id));
        let index = self.list.partition_point(|member| (member.entry.origin, member.entry.order) <= place);
        self.list.insert(index, Member::new(entry, standing, stats));
        true
    }

    /// Removes a member; its backend gets no new request.
    pub(in crate::control) fn remove(&mut self, id: &str) -> Option<Member> {
        let index = self.list.iter().position(|member| &*member.entry.id == id)?;
        let member = self.list.remove(index);
        close(&member.backend);
        self.settle();
        Some(member)
    }

    /// Lets `change` alter a member (neither id nor address), then updates the live flags.
    pub(in crate::control) fn update<T>(&mut self, id: &str, change: impl FnOnce(&mut Member) -> T) -> Option<T> {
        let member = self.list.iter_mut().find(|member| &*member.entry.id == id)?;
        let before = member.condition();
        let value = change(member);
        if member.condition() == before {
            member.show();
        } else {
            self.settle();
        }
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
        member.backend = Backend::new(id, address, socket, stats, member.eligibility);
        // Another server has taken its place.
        let number = member.backend.number;
        self.forget_past(number);
        self.settle();
        true
    }

    /// A copy for [`Members::restore`].
    pub(in crate::control) fn snapshot(&self) -> Vec<Member> {
        self.list.clone()
    }

    /// Undoes the changes of membership since `snapshot`. Facts stay: outcomes of checks, the addresses of launched
    /// processes, and shares. With an old share, the next look would ask for the refused list again, without end. A
    /// member that comes back is as warm as before.
    pub(in crate::control) fn restore(&mut self, snapshot: Vec<Member>) {
        let now = std::mem::replace(&mut self.list, snapshot);
        for member in &mut self.list {
            let Some(same) = now.iter().find(|same| same.entry.id == member.entry.id) else {
                self.slow_start.recall(member.backend.number, member.warmth);
                continue;
            };
            (member.standing, member.share) = (same.standing.clone(), same.share);
            member.backend = same.backend.clone();
            member.entry.address.clone_from(&same.entry.address);
            member.entry.socket = same.entry.socket;
        }
        // Those that stay are never closed: requests would find no backend.
        for left in now.iter().filter(|left| !self.contains(&left.entry.id)) {
            close(&left.backend);
        }
        self.settle();
    }

    /// The members that would result from `entries`, which are all members that there should be. New ones begin as
    /// `initial`, and slowly by `ramp`. Changes nothing.
    pub(in crate::control) fn planned(
        &mut self,
        entries: &[Entry],
        initial: InitialState,
        ramp: Option<Ramp>,
    ) -> Vec<Member> {
        let mut planned = Vec::with_capacity(self.list.len());
        for entry in entries {
            let same = self
                .get(&entry.id)
                .filter(|member| member.entry.address == entry.address && member.entry.socket == entry.socket);
            if let Some(member) = same {
                planned.push(Member { entry: entry.clone(), ..member.clone() });
                continue;
            }
            let stats = self.stats(&entry.id);
            planned.push(Member::new(entry.clone(), initial.standing(), stats));
        }
        self.judge(&mut planned);
        for member in &mut planned {
            let is_present = self.list.iter().any(|present| Arc::ptr_eq(&present.backend, &member.backend));
            let number = is_present.then_some(member.backend.number);
            if let Some(ramp) = ramp.filter(|_| self.slow_start.begins(number, member.eligibility)) {
                member.share = ramp.factor(0);
            }
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
        for member in &came {
            self.forget_past(member.backend.number);
        }
        self.settle();
        Replaced { came, gone, left }
    }

    /// Follows these rules from now on. Returns whether the eligibility of a member changed.
    pub(in crate::control) fn set_rules(
        &mut self,
        outlier: OutlierRules,
        panic: PanicRules,
        ramp: Option<Ramp>,
    ) -> bool {
        self.panic = panic;
        self.outliers.set_rules(outlier, panic);
        self.slow_start.set_ramp(ramp);
        let has_changed = self.settle();
        // A worker reports that a threshold is reached, not that it was lowered below the present count.
        self.is_look_due = true;
        has_changed
    }

    /// Lets outlier detection look at all members; `counts` are a member's requests and failures so far. Returns what
    /// changed, with the member's id.
    pub(in crate::control) fn look(
        &mut self,
        now_ns: u64,
        counts: impl Fn(&Member) -> (u64, u64),
    ) -> Vec<(Arc<str>, OutlierEvent)> {
        let look = |member: &Member| {
            let (requests, failures) = counts(member);
            let (number, in_row) = (member.backend.number, member.backend.in_row());
            Look { number, condition: member.condition(), in_row, requests, failures }
        };
        let looks: Vec<Look> = self.list.iter().map(look).collect();
        let events = self.outliers.look(now_ns, &looks);
        self.settle();
        self.is_look_due = false;
        let with_id = |event: OutlierEvent| {
            let number = event.number();
            let member = self.list.iter().find(|member| member.backend.number == number)?;
            Some((member.id().clone(), event))
        };
        events.into_iter().filter_map(with_id).collect()
    }

    /// When the next [`look`](Self::look) is due, if no worker reports failures before.
    pub(in crate::control) fn next_look_ns(&self) -> u64 {
        if self.is_look_due { 0 } else { self.outliers.next_look() }
    }

    /// What outlier detection knows of a member.
    pub(in crate::control) fn outlier_state(&self, member: &Member) -> Option<OutlierState> {
        self.outliers.state(member.backend.number)
    }

    /// An operator returns a member before its time. Returns whether it was ejected.
    pub(in crate::control) fn pardon(&mut self, id: &str) -> bool {
        let Some(backend) = self.get(id).map(|member| member.backend.clone()) else { return false };
        // Also if its ejection is suspended.
        backend.clear_in_row();
        let was_ejected = self.outliers.pardon(backend.number);
        if was_ejected {
            self.settle();
        }
        was_ejected
    }

    /// Whether so few members are up that the panic rules decide.
    pub(in crate::control) fn is_in_panic(&self) -> bool {
        self.in_panic
    }

    /// Whether backups get requests, because no other member can.
    pub(in crate::control) fn has_backups_in_use(&self) -> bool {
        self.backups_in_use
    }

    /// No member gets a new request any more, also from workers that still have the old list.
    pub(in crate::control) fn close(&mut self) {
        self.list.iter().for_each(|member| close(&member.backend));
    }

    /// Brings the live flags of all members up to date. Returns whether the eligibility of one changed.
    fn settle(&mut self) -> bool {
        let mut list = std::mem::take(&mut self.list);
        let before: Vec<Eligibility> = list.iter().map(|member| member.eligibility).collect();
        let was_in_panic = self.in_panic;
        (self.in_panic, self.backups_in_use) = self.judge(&mut list);
        list.iter().for_each(Member::show);
        self.list = list;
        let has_changed = before.into_iter().ne(self.list.iter().map(|member| member.eligibility));
        self.has_changed |= has_changed || was_in_panic != self.in_panic;
        self.is_look_due |= self.outliers.awaits_changes();
        self.shares_due_ns = 0;
        has_changed
    }

    /// Whether an eligibility, or the panic, has changed since the last call.
    pub(in crate::control) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.has_changed)
    }

    /// Sets the eligibility of each member of `list` by the rules for the whole pool. Returns whether the pool is in
    /// panic, and whether backups serve.
    fn judge(&self, list: &mut [Member]) -> (bool, bool) {
        let conditions: Vec<Condition> = list.iter().map(Member::condition).collect();
        let is_ejected = |index: usize| self.outliers.is_ejected(list[index].backend.number);
        let health = PoolHealth::of(&self.panic, &conditions, is_ejected);
        for (member, eligibility) in list.iter_mut().zip(&health.members) {
            member.eligibility = *eligibility;
        }
        (health.panic, health.backups_in_use)
    }

    /// Another server may have had this number before.
    fn forget_past(&mut self, number: u64) {
        self.outliers.pardon(number);
        self.slow_start.forget(number);
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
    backend.set_eligibility(Eligibility::of(false, true, 0));
}

#[cfg(test)]
mod tests;
