//! A pool in virtual time, used as the header of `outlier` says. It checks the invariants after each look.

use std::sync::Arc;

use lb_balance::{
    Backend, Condition, Eligibility, Finding, Look, OutlierEvent, OutlierRules, Outliers, PanicMode, PanicRules,
    PoolHealth,
};

pub(crate) const SECOND: u64 = 1_000_000_000;

pub(crate) struct World {
    pub(crate) now_ns: u64,
    pub(crate) rules: OutlierRules,
    pub(crate) panic: PanicRules,
    pub(crate) outliers: Outliers,
    pub(crate) members: Vec<Member>,
    /// All events so far, with their times.
    pub(crate) events: Vec<(u64, OutlierEvent)>,
    turn: usize,
}

pub(crate) struct Member {
    pub(crate) backend: Arc<Backend>,
    pub(crate) condition: Condition,
    requests: u64,
    failures: u64,
}

/// A result of one attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    Status(u16),
    Failure,
}

// === impl Member ===

impl Member {
    pub(crate) fn new(id: &str) -> Self {
        let (socket, eligibility) = ("127.0.0.1:1".parse().unwrap(), Eligibility::of(true, false, 1));
        Self {
            backend: Backend::new(id, "127.0.0.1:1", socket, Arc::default(), eligibility),
            condition: Condition { finding: Finding::Up, draining: false, weight: 1, backup: false },
            requests: 0,
            failures: 0,
        }
    }

    pub(crate) fn number(&self) -> u64 {
        self.backend.number
    }
}

// === impl World ===

impl World {
    pub(crate) fn new(members: usize, rules: OutlierRules, panic: PanicRules) -> Self {
        let members = (0..members).map(|n| Member::new(&format!("b{n}"))).collect();
        let outliers = Outliers::new(rules, panic);
        let mut world = Self { now_ns: SECOND, rules, panic, outliers, members, events: Vec::new(), turn: 0 };
        world.look();
        world
    }

    pub(crate) fn with_defaults(members: usize) -> Self {
        Self::new(members, OutlierRules::default(), PanicRules::default())
    }

    pub(crate) fn is_ejected(&self, index: usize) -> bool {
        self.outliers.is_ejected(self.members[index].number())
    }

    pub(crate) fn count(&self, index: usize) -> u32 {
        self.outliers.state(self.members[index].number()).map_or(0, |state| state.count)
    }

    pub(crate) fn health(&self) -> PoolHealth {
        let conditions: Vec<_> = self.members.iter().map(|member| member.condition).collect();
        PoolHealth::of(&self.panic, &conditions, |index| self.is_ejected(index))
    }

    /// The next backend in turn among the eligible ones.
    pub(crate) fn pick(&mut self) -> Option<usize> {
        let n = self.members.len();
        let index = (0..n).map(|step| (self.turn + step) % n).find(|i| self.members[*i].backend.is_eligible())?;
        self.turn = index + 1;
        Some(index)
    }

    /// A backend responds, and control looks if a threshold is reached.
    pub(crate) fn answer(&mut self, index: usize, answer: Answer) {
        let member = &mut self.members[index];
        let is_failure = match answer {
            Answer::Status(status) => lb_balance::is_server_error(status),
            Answer::Failure => true,
        };
        member.requests += 1;
        member.failures += u64::from(is_failure);
        let is_alert = match answer {
            Answer::Status(status) => member.backend.head_arrived(status, self.rules.thresholds),
            Answer::Failure => member.backend.attempt_failed(self.rules.thresholds),
        };
        if is_alert {
            self.look();
        }
    }

    /// Requests in turn, `per_second` for this time; `respond` gets the index of the backend and the time.
    pub(crate) fn serve(&mut self, for_ns: u64, per_second: u64, mut respond: impl FnMut(usize, u64) -> Answer) {
        let end = self.now_ns + for_ns;
        while self.now_ns < end {
            self.advance((self.now_ns + SECOND / per_second).min(end));
            if let Some(index) = self.pick() {
                let answer = respond(index, self.now_ns);
                self.answer(index, answer);
            }
        }
    }

    /// Time goes on to `to_ns`, with all looks that are due.
    pub(crate) fn advance(&mut self, to_ns: u64) {
        while self.outliers.next_look() <= to_ns {
            self.now_ns = self.now_ns.max(self.outliers.next_look());
            self.look();
            assert!(self.outliers.next_look() > self.now_ns, "the next look is later");
        }
        self.now_ns = to_ns;
    }

    /// What checks and operators say of a member changes.
    pub(crate) fn change(&mut self, index: usize, change: impl FnOnce(&mut Condition)) {
        change(&mut self.members[index].condition);
        self.look();
    }

    pub(crate) fn look(&mut self) {
        self.set_flags();
        let looks: Vec<_> = self.members.iter().map(Member::look).collect();
        let events = self.outliers.look(self.now_ns, &looks);
        self.set_flags();
        self.assert_bearable(&events);
        self.events.extend(events.into_iter().map(|event| (self.now_ns, event)));
    }

    fn set_flags(&self) {
        let health = self.health();
        for (member, eligibility) in self.members.iter().zip(&health.members) {
            member.backend.set_eligibility(*eligibility);
        }
        let open = || self.members.iter().map(|member| member.condition).filter(|condition| condition.is_open());
        let may_serve = |condition: Condition| condition.finding != Finding::Dead;
        let must_serve = match self.panic {
            PanicRules { below_percent: 0, .. } => open().any(Condition::is_usable),
            PanicRules { mode: PanicMode::UseAll, .. } => open().any(may_serve),
            PanicRules { mode: PanicMode::Fail, .. } => open().any(Condition::is_usable) && !health.panic,
        };
        let serves = self.members.iter().any(|member| member.backend.is_eligible());
        assert!(serves || !must_serve, "no member serves: {health:?}");
    }

    /// Ejections keep to the share, and leave enough members.
    fn assert_bearable(&self, events: &[OutlierEvent]) {
        let is_new = |member: &Member| {
            let is_of = |event: &OutlierEvent| matches!(event, OutlierEvent::Ejected { number, .. } if *number == member.number());
            events.iter().any(is_of)
        };
        let is_out = |member: &&Member| self.outliers.is_ejected(member.number());
        let usable = |backup: bool| {
            let members = self.members.iter().filter(move |member| member.condition.backup == backup);
            members.filter(|member| member.condition.is_usable() && !is_out(member)).count()
        };
        for backup in [false, true] {
            let kind = || self.members.iter().filter(|member| member.condition.backup == backup);
            if !kind().any(is_new) {
                continue;
            }
            let open = kind().filter(|member| member.condition.is_open()).count();
            let out = kind().filter(|member| member.condition.is_open()).filter(is_out).count();
            let share = open * usize::from(self.rules.max_ejected_percent) / 100;
            assert!(self.rules.max_ejected_percent > 0 && out <= share.max(1), "{out} of {open} are ejected");
            assert!(usable(false) + usable(true) > 0, "the last one is ejected");
            let left = usable(backup);
            let is_below = open >= self.panic.from_members && left * 100 < open * usize::from(self.panic.below_percent);
            assert!(backup || left == 0 || !is_below, "an ejection leaves {left} of {open} primaries");
        }
    }
}

impl Member {
    fn look(&self) -> Look {
        Look {
            number: self.number(),
            condition: self.condition,
            in_row: self.backend.in_row(),
            requests: self.requests,
            failures: self.failures,
        }
    }
}
