//! The members of a balancer's pool: their checks, ejections and shares, and whether they may get requests.
//!
//! All rules are those of `lb-balance`. Invariant: after [`Members::settle`] the live flags of every backend agree with
//! its checks, its ejection and the state of the whole pool.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use lb_balance::{
    Backend, CheckFailure, CheckRules, Condition, Eligibility, Look, OutlierEvent, Outliers, PanicRules, PoolHealth,
    Sign, SlowStart, Standing, Thresholds, is_server_error,
};
use lb_strategy_host::Slot;

use crate::calendar::CheckSign;
use crate::server::Server;
use crate::world::{Initial, Rules};

pub(crate) struct Members {
    /// In the order of joining.
    list: Vec<Member>,
    /// Of every server, also of those that are no members now.
    known: Vec<Known>,
    outliers: Outliers,
    slow_start: SlowStart,
    panic: PanicRules,
    checks: CheckRules,
    initial: Option<Initial>,
    pub(crate) thresholds: Thresholds,
}

pub(crate) struct Member {
    pub(crate) server: u32,
    pub(crate) backend: Arc<Backend>,
    pub(crate) slot: Arc<Slot>,
    standing: Standing,
    weight: u16,
    backup: bool,
    pub(crate) eligibility: Eligibility,
    /// The part of the weight to pick by, in thousandths.
    pub(crate) share: u32,
}

struct Known {
    backend: Arc<Backend>,
    slot: Arc<Slot>,
    /// For success rates: attempts that say something about the backend, and failed ones.
    requests: u64,
    failures: u64,
}

/// What a look changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Looked {
    pub(crate) ejections: u64,
    pub(crate) returns: u64,
    /// An eligibility or a share has changed.
    pub(crate) has_changed: bool,
}

// === impl Members ===

impl Members {
    pub(crate) fn new(rules: &Rules, servers: &[Server]) -> Self {
        let known = |server: &Server| {
            let socket = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
            let eligibility = Eligibility::of(true, false, server.group.weight);
            let backend = Backend::new(&server.name, "127.0.0.1:9", socket, Arc::default(), eligibility);
            Known { backend, slot: Arc::default(), requests: 0, failures: 0 }
        };
        let outlier = rules.outlier();
        Self {
            list: Vec::new(),
            known: servers.iter().map(known).collect(),
            outliers: Outliers::new(outlier, rules.panic()),
            slow_start: SlowStart::new(rules.ramp()),
            panic: rules.panic(),
            checks: rules.health().map_or(CheckRules { down_after: 1, up_after: 1 }, |health| health.rules()),
            initial: rules.health().map(|health| health.initial),
            thresholds: outlier.thresholds,
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.list.iter()
    }

    #[inline]
    pub(crate) fn backend(&self, server: u32) -> &Arc<Backend> {
        &self.known[server as usize].backend
    }

    /// A server becomes a member. Returns `false` if it is one.
    pub(crate) fn join(&mut self, server: u32, servers: &[Server]) -> bool {
        if self.list.iter().any(|member| member.server == server) {
            return false;
        }
        let known = &self.known[server as usize];
        // Another process may have had its place.
        self.outliers.pardon(known.backend.number);
        self.slow_start.forget(known.backend.number);
        let group = &servers[server as usize].group;
        self.list.push(Member {
            server,
            backend: known.backend.clone(),
            slot: known.slot.clone(),
            standing: match self.initial {
                None | Some(Initial::Up) => Standing::unknown(),
                Some(Initial::Down) => Standing::starting(),
                Some(Initial::Wait) => Standing::waiting(),
            },
            weight: group.weight,
            backup: group.backup,
            eligibility: Eligibility::of(true, false, group.weight),
            share: 1_000,
        });
        true
    }

    /// A server is no member any more. Returns `false` if it was none.
    pub(crate) fn leave(&mut self, server: u32) -> bool {
        let Some(index) = self.list.iter().position(|member| member.server == server) else { return false };
        let member = self.list.remove(index);
        member.backend.set_eligibility(Eligibility::of(false, true, 0));
        true
    }

    /// Brings the live flags and shares up to date. Returns whether one has changed.
    pub(crate) fn settle(&mut self, now_ns: u64) -> bool {
        let conditions: Vec<Condition> = self.list.iter().map(Member::condition).collect();
        let is_ejected = |index: usize| self.outliers.is_ejected(self.list[index].backend.number);
        let health = PoolHealth::of(&self.panic, &conditions, is_ejected);
        let mut has_changed = false;
        for (member, eligibility) in self.list.iter_mut().zip(health.members) {
            has_changed |= member.eligibility != eligibility;
            member.eligibility = eligibility;
            member.backend.set_eligibility(eligibility);
        }
        self.slow_start.look(now_ns, self.list.iter().map(|member| (member.backend.number, member.eligibility)));
        for member in &mut self.list {
            let share = self.slow_start.factor(member.backend.number, now_ns);
            has_changed |= share != member.share;
            member.share = share;
        }
        has_changed
    }

    /// Outlier detection looks at all members.
    pub(crate) fn look(&mut self, now_ns: u64) -> Looked {
        self.settle(now_ns);
        let look = |member: &Member| {
            let Known { requests, failures, .. } = self.known[member.server as usize];
            let (number, in_row) = (member.backend.number, member.backend.in_row());
            Look { number, condition: member.condition(), in_row, requests, failures }
        };
        let looks: Vec<Look> = self.list.iter().map(look).collect();
        let events = self.outliers.look(now_ns, &looks);
        let count = |wanted: fn(&OutlierEvent) -> bool| events.iter().filter(|event| wanted(event)).count() as u64;
        Looked {
            ejections: count(|event| matches!(event, OutlierEvent::Ejected { .. })),
            returns: count(|event| matches!(event, OutlierEvent::Returned { .. })),
            has_changed: self.settle(now_ns),
        }
    }

    /// When the next look is due, if no threshold is reached before.
    pub(crate) fn next_look_ns(&self, now_ns: u64) -> u64 {
        let shares = self.slow_start.next_change(now_ns).unwrap_or(u64::MAX);
        self.outliers.next_look().min(shares)
    }

    /// Takes the outcome of a check. Returns `None` if the server is no member, else whether its health changed.
    pub(crate) fn checked(&mut self, server: u32, sign: CheckSign) -> Option<bool> {
        let rules = self.checks;
        let member = self.list.iter_mut().find(|member| member.server == server)?;
        let failure = |sign| Err(CheckFailure { reason: String::new(), sign });
        let outcome = match sign {
            CheckSign::Good => Ok(()),
            CheckSign::Bad => failure(Sign::Responds),
            CheckSign::Silent => failure(Sign::Silent),
            CheckSign::Absent => failure(Sign::Absent),
        };
        Some(member.standing.check(outcome, rules).is_some())
    }

    /// Whether the last check of a member contradicted its state, and whether waiting for its responses is useless.
    pub(crate) fn doubt_and_loss(&self, server: u32) -> (bool, bool) {
        let member = self.list.iter().find(|member| member.server == server);
        member.map_or((false, false), |member| (member.standing.is_in_doubt(), member.standing.is_lost()))
    }

    /// A response head arrived. Returns whether a look is due at once.
    #[inline]
    pub(crate) fn head_arrived(&mut self, server: u32, status: u16) -> bool {
        let known = &mut self.known[server as usize];
        known.requests += 1;
        known.failures += u64::from(is_server_error(status));
        known.backend.head_arrived(status, self.thresholds)
    }

    /// An attempt failed because of the backend. Returns whether a look is due at once.
    pub(crate) fn attempt_failed(&mut self, server: u32) -> bool {
        let known = &mut self.known[server as usize];
        known.requests += 1;
        known.failures += 1;
        known.backend.failed();
        known.backend.attempt_failed(self.thresholds)
    }
}

// === impl Member ===

impl Member {
    fn condition(&self) -> Condition {
        let finding = self.standing.finding();
        Condition { finding, draining: false, weight: self.weight, backup: self.backup }
    }
}
