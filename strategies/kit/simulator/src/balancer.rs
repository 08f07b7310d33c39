//! One balancer: its instance of the strategy, its view of the backends, and the state of its rules.
//!
//! Everything that decides is real: the strategy's library behind the host's checked calls, and the rules of
//! `lb-balance`. This module only brings them together, in the order of the proxy. It has one worker.
//!
//! Invariants: the list lent to the strategy, `backends` and `servers` have the same order. Live numbers and slots of a
//! backend survive its absence from the list.

mod members;

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use lb_balance::{
    Backend, Caps, Choice, Chooser, Fallback, FallbackReason, Queue, RetryBudget, RetryPlan, RetryRules, Unchosen,
};
use lb_strategy_host::{
    Answered, BackendList, BackendSpec, Finish, HookError, Lookup, Outcome, Part, PickRequest, Picker, Plugin, Probe,
    Probes, Start, Strategy, Wants,
};
use serde_json::Value;

use crate::calendar::Handle;
use crate::server::Server;
use crate::world::World;

pub(crate) use members::Members;

pub(crate) struct Balancer {
    strategy: Arc<Strategy>,
    picker: Picker,
    pub(crate) wants: Wants,
    pub(crate) members: Members,
    /// In the order of the list.
    backends: Vec<Arc<Backend>>,
    /// The server of each of them.
    servers: Vec<u32>,
    epoch: u64,
    /// Counts changes of membership.
    members_epoch: u64,
    cursor: AtomicUsize,
    fallback: Fallback,
    pub(crate) caps: Caps,
    pub(crate) retry: RetryRules,
    pub(crate) budget: RetryBudget,
    pub(crate) queue: Queue<Handle>,
    pub(crate) has_queue: bool,
    pub(crate) tally: Tally,
    /// The next planned look; `u64::MAX`: none.
    pub(crate) look_ns: u64,
    headers: BTreeMap<String, String>,
    has_probes: bool,
    /// The servers that the last pick asked to probe.
    pub(crate) asked: Vec<u32>,
    /// The servers to which a probe of a pick is on its way.
    pub(crate) probing: BTreeSet<u32>,
    /// Whether waiting requests will be asked again a second after the last time.
    pub(crate) is_wake_planned: bool,
}

/// Counts of one balancer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) picks: u64,
    pub(crate) retries: u64,
    pub(crate) retries_denied: u64,
    pub(crate) waits: u64,
    pub(crate) ejections: u64,
    pub(crate) returns: u64,
    pub(crate) health_changes: u64,
    pub(crate) lists: u64,
    pub(crate) refused_lists: u64,
    pub(crate) fallbacks: [u64; FallbackReason::COUNT],
}

/// A request as the strategy sees it.
pub(crate) struct Ask<'a> {
    pub(crate) plan: &'a RetryPlan,
    pub(crate) key: Option<u64>,
    pub(crate) random: u64,
    pub(crate) now_ns: u64,
}

/// An attempt as the strategy is told about it.
#[derive(Clone, Copy)]
pub(crate) struct Told {
    pub(crate) number: u32,
    pub(crate) token: u64,
    pub(crate) own: bool,
    pub(crate) began_ns: u64,
    pub(crate) now_ns: u64,
}

/// The parts of a simulated request that can be looked up. The text of the key is made when it is needed.
struct Parts<'a> {
    headers: &'a BTreeMap<String, String>,
    key: Option<u64>,
    digits: OnceCell<Digits>,
}

/// The decimal digits of a key.
#[derive(Clone, Copy)]
struct Digits {
    text: [u8; 20],
    start: usize,
}

/// Length of each response's body.
const RESPONSE_BYTES: u64 = 1_000;

// === impl Balancer ===

impl Balancer {
    /// `present` are the servers of the pool at the start.
    pub(crate) fn new(
        world: &World,
        servers: &[Server],
        present: &[u32],
        plugin: &Arc<Plugin>,
        options: &Value,
        now_ns: u64,
    ) -> Result<Self, HookError> {
        let strategy = Strategy::new(plugin.clone(), options)?;
        let mut members = Members::new(&world.lb, servers);
        for server in present {
            members.join(*server, servers);
        }
        members.settle(now_ns);
        let (retry, budget) = world.lb.retry();
        let (specs, backends, in_list) = lent(&members, servers);
        Ok(Self {
            picker: Picker::new(strategy.clone(), BackendList::new(specs, 1, 1))?,
            wants: plugin.wants(),
            strategy,
            members,
            backends,
            servers: in_list,
            epoch: 1,
            members_epoch: 1,
            cursor: AtomicUsize::new(0),
            fallback: world.lb.fallback,
            caps: world.lb.caps(),
            retry,
            budget: RetryBudget::new(budget, 1, now_ns),
            queue: Queue::new(world.lb.queue()),
            has_queue: world.lb.queue().length_max > 0,
            tally: Tally::default(),
            look_ns: u64::MAX,
            headers: world.headers.clone(),
            has_probes: plugin.wants().probes && world.lb.probe.is_some(),
            asked: Vec::new(),
            probing: BTreeSet::new(),
            is_wake_planned: false,
        })
    }

    /// Makes a new list and a new picker for it. If the strategy refuses the list, the old one stays, as in lb.
    pub(crate) fn publish(&mut self, servers: &[Server], has_new_members: bool) {
        self.epoch += 1;
        self.members_epoch += u64::from(has_new_members);
        self.tally.lists += 1;
        let (specs, backends, in_list) = lent(&self.members, servers);
        match Picker::new(self.strategy.clone(), BackendList::new(specs, self.epoch, self.members_epoch)) {
            Ok(picker) => {
                self.picker = picker;
                (self.backends, self.servers) = (backends, in_list);
            }
            Err(_) => self.tally.refused_lists += 1,
        }
    }

    pub(crate) fn tick_ns(&self) -> u64 {
        u64::from(self.strategy.plugin().tick_ms()) * 1_000_000
    }

    /// Calls the strategy's `tick`. Returns whether it asks for a new picker.
    pub(crate) fn tick(&self, now_ns: u64) -> Result<bool, HookError> {
        self.strategy.tick(now_ns)
    }

    /// The strategy's choice for a request, checked, with the server of the choice.
    #[inline]
    pub(crate) fn choose(&mut self, ask: &Ask<'_>) -> Result<(Choice, u32), Unchosen> {
        let tried: Vec<u32> = match ask.plan.tried.is_empty() {
            true => Vec::new(),
            false => self.indexes_of(&ask.plan.tried),
        };
        let parts = Parts { headers: &self.headers, key: ask.key, digits: OnceCell::new() };
        let key = if self.wants.hash { parts.key() } else { None };
        let request = PickRequest {
            worker: Some(0),
            attempt: ask.plan.number,
            tried: &tried,
            key: key.map(|key| (key, xxhash_rust::xxh3::xxh3_64(key))),
            random: ask.random,
            now_ns: ask.now_ns,
            dry: false,
            body_length: Some(0),
            lookup: &parts,
        };
        let chooser = Chooser {
            backends: &self.backends,
            fallback: self.fallback,
            cursor: &self.cursor,
            wants_hash: self.wants.hash,
        };
        let caps = self.caps;
        let has_room = |index: usize| caps.requests.is_none() || caps.has_room(self.backends[index].in_flight(), 0, 0);
        let (picker, picks) = (&self.picker, &mut self.tally.picks);
        let (has_probes, mut probes) = (self.has_probes, Probes::default());
        let mut choice = chooser.choose(&request, has_room, |request| {
            *picks += 1;
            if has_probes { picker.pick_and_probe(request, &mut probes) } else { picker.pick(request) }
        });
        if choice == Err(Unchosen::Wait) && !self.has_queue {
            choice = chooser.choose_without_queue(&request, has_room);
        }
        let choice = choice?;
        if let Some(reason) = choice.fallback {
            self.tally.fallbacks[reason as usize] += 1;
        }
        if choice.fallback.is_none() && !probes.indexes().is_empty() {
            self.asked.extend(probes.indexes().iter().map(|index| self.servers[*index as usize]));
        }
        Ok((choice, self.servers[choice.index]))
    }

    pub(crate) fn tell_start(&self, backend: &Backend, told: Told) {
        if self.wants.start {
            self.picker.start(&Start {
                worker: Some(0),
                backend_id: backend.number,
                attempt: told.number,
                own: told.own,
                token: told.token,
                body_length: Some(0),
                now_ns: told.began_ns,
            });
        }
    }

    pub(crate) fn tell_finish(&self, backend: &Backend, told: Told, outcome: Outcome, status: Option<u16>) {
        if !self.wants.finish {
            return;
        }
        let took_ns = told.now_ns - told.began_ns;
        let finish = Finish {
            worker: Some(0),
            backend_id: backend.number,
            outcome,
            http_status: status,
            attempt: told.number,
            own: told.own,
            upgraded: false,
            token: told.token,
            time_to_head_ns: if status.is_some() { took_ns } else { 0 },
            total_ns: took_ns,
            now_ns: told.now_ns,
        };
        match status {
            Some(_) if self.wants.answer => {
                let answered =
                    Answered { bytes_out: RESPONSE_BYTES, first_body_ns: took_ns.max(1), ..Answered::default() };
                self.picker.finish_with(&finish, &answered);
            }
            _ => self.picker.finish(&finish),
        }
    }

    /// The time between two periodic probes of a backend; 0: none.
    pub(crate) fn probe_ns(&self) -> u64 {
        u64::from(self.strategy.plugin().probe_ms()) * 1_000_000
    }

    /// The names of the headers whose values the strategy gets.
    pub(crate) fn response_headers(&self) -> &[Box<[u8]>] {
        self.strategy.plugin().response_headers()
    }

    pub(crate) fn tell_probe(&self, probe: &Probe<'_>) {
        self.picker.probe(probe);
    }

    /// The backends in the list, for the rules of retries.
    pub(crate) fn backends(&self) -> &[Arc<Backend>] {
        &self.backends
    }

    /// The room of all backends that may serve; `None`: no limit.
    pub(crate) fn room(&self) -> Option<usize> {
        let mut sum = Some(0_usize);
        for backend in self.backends.iter().filter(|backend| backend.is_eligible()) {
            sum = sum.zip(self.caps.room(backend.in_flight(), 0, 0)).map(|(sum, more)| sum + more);
        }
        sum
    }

    #[cold]
    fn indexes_of(&self, numbers: &[u64]) -> Vec<u32> {
        let index_of = |number: &u64| self.backends.iter().position(|backend| backend.number == *number);
        numbers.iter().filter_map(index_of).map(|index| index as u32).collect()
    }
}

/// The list to lend, its backends and their servers.
fn lent(members: &Members, servers: &[Server]) -> (Vec<BackendSpec>, Vec<Arc<Backend>>, Vec<u32>) {
    let of = |member: &members::Member| {
        let (backend, group) = (&member.backend, &servers[member.server as usize].group);
        let labels = match group.labels.is_empty() {
            true => String::new(),
            false => serde_json::to_string(&group.labels).unwrap_or_default(),
        };
        BackendSpec {
            name: backend.id.clone(),
            address: backend.address.clone(),
            labels: labels.into(),
            weight: u32::from(group.weight),
            effective: u32::from(group.weight) * member.share,
            flags: member.eligibility.flags(),
            stats: backend.stats.clone(),
            slot: member.slot.clone(),
        }
    };
    let specs = members.iter().map(of).collect();
    let backends = members.iter().map(|member| member.backend.clone()).collect();
    (specs, backends, members.iter().map(|member| member.server).collect())
}

// === impl Parts ===

impl Parts<'_> {
    fn key(&self) -> Option<&[u8]> {
        self.key.map(|key| self.digits.get_or_init(|| Digits::of(key)).bytes())
    }
}

impl Lookup for Parts<'_> {
    fn header(&self, name: &[u8], nth: usize) -> Option<&[u8]> {
        if nth > 0 {
            return None;
        }
        if name.eq_ignore_ascii_case(b"x-key") {
            return self.key();
        }
        let is_named = |(known, _): &(&String, &String)| known.as_bytes().eq_ignore_ascii_case(name);
        self.headers.iter().find(is_named).map(|(_, value)| value.as_bytes())
    }

    fn part(&self, part: Part) -> Option<&[u8]> {
        match part {
            Part::Method => Some(b"GET"),
            Part::Path => Some(b"/"),
            Part::Host => Some(b"simulated.example"),
            Part::Body => self.key(),
            _ => None,
        }
    }
}

// === impl Digits ===

impl Digits {
    fn of(mut number: u64) -> Self {
        let (mut text, mut start) = ([0; 20], 20);
        loop {
            start -= 1;
            text[start] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return Self { text, start };
            }
        }
    }

    fn bytes(&self) -> &[u8] {
        &self.text[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_its_decimal_digits() {
        for number in [0, 7, 10, 123_456, u64::MAX] {
            assert_eq!(Digits::of(number).bytes(), number.to_string().as_bytes());
        }
    }
}
