//! Outlier detection: a backend that fails many requests gets none for a while, although its checks are good.
//!
//! The rules are those of Envoy's `outlier_detection_impl.cc`: failures in a row, and a success rate far below the
//! pool's. An ejection lasts base × count, at most `max_ns`. What differs, and why:
//!
//! - A success rate must also be 10 points below the mean. With small σ the mean − 1.9 σ alone is noise.
//! - The count falls by one for each base time served, not for each interval. With base 30 s and interval 10 s, a
//!   backend that fails every 20 s would never get a longer ejection.
//! - An ejection ends early if nothing listened meanwhile and then checks found the backend up: it was started again.
//!   A first ejection also ends early if checks found it not up otherwise. Envoy lets any good check end any ejection.
//!   Then a backend whose check alone is good would flap for ever.
//! - The pool must bear the ejection: see [`SparedBy`]. Envoy does not ask for that.
//! - If more backends fail than may be ejected, those with the most failures go first.
//!
//! **Use.** [`Outliers`] is the state of one pool. A look is due at [`Outliers::next_look`]. It is also due when a
//! worker reports a threshold, and after a change of members or of their health. [`crate::Backend::head_arrived`] and
//! [`crate::Backend::attempt_failed`] tell the worker.
//!
//! At each look, first set the flags of all members by [`crate::PoolHealth::of`] with [`Outliers::is_ejected`]. A
//! backend that becomes eligible then has no failures in a row, so that `look` does not see old ones. Then call `look`.
//! If it returns an ejection or a return, set the flags again and publish.
//!
//! State is kept by number. A member that leaves and returns within `max_ns` keeps its ejection and its count.
//!
//! Invariants: after an ejection the pool has a usable member. At most the configured share is ejected. No ejection
//! takes a pool below its panic threshold.

mod account;
mod cause;
mod success_rate;

use std::collections::HashMap;

use account::Account;

pub use cause::{Cause, ReturnReason, SparedBy};
pub use success_rate::SuccessRateRule;

use crate::pool_health::Census;
use crate::{Condition, InRow, PanicRules, Thresholds};

/// When to eject, and for how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OutlierRules {
    pub thresholds: Thresholds,
    /// `None` is off.
    pub success_rate: Option<SuccessRateRule>,
    /// The window of success rates, and the longest time between two looks.
    pub interval_ns: u64,
    /// The length of a first ejection.
    pub base_ns: u64,
    /// The length of the longest ejection without jitter.
    pub max_ns: u64,
    /// A random extra time up to this, so that backends that were ejected together do not return together.
    pub jitter_ns: u64,
    /// The largest share of the open primaries that may be ejected, and of the open backups. At least one may be, but
    /// with 0 none.
    pub max_ejected_percent: u8,
}

/// One member at a look.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// [`crate::Backend::number`].
    pub number: u64,
    pub condition: Condition,
    /// [`crate::Backend::in_row`].
    pub in_row: InRow,
    /// Attempts that ended or got a response head, since any fixed time; without those that say nothing about the
    /// backend. `look` takes differences.
    pub requests: u64,
    /// Those of `requests` that failed or for which [`crate::is_server_error`] is true.
    pub failures: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutlierEvent {
    Ejected {
        number: u64,
        cause: Cause,
        for_ns: u64,
        /// The factor of the base time.
        count: u32,
    },
    Returned {
        number: u64,
        why: ReturnReason,
    },
    /// An outlier stays in service. Told once until it is no outlier any more.
    Spared {
        number: u64,
        cause: Cause,
        by: SparedBy,
    },
}

/// The state of a backend, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutlierState {
    pub ejection: Option<Ejection>,
    /// Ejections that are not forgiven yet.
    pub count: u32,
    /// An outlier that stays in service.
    pub spared: Option<(Cause, SparedBy)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    pub cause: Cause,
    pub since_ns: u64,
    pub until_ns: u64,
}

/// Outlier detection of one pool.
#[derive(Clone, Debug)]
pub struct Outliers {
    rules: OutlierRules,
    panic: PanicRules,
    interval_ends_ns: Option<u64>,
    /// When the first ejection ends, by the last look; `u64::MAX` without one.
    next_return_ns: u64,
    accounts: HashMap<u64, Account>,
}

/// A member that should be ejected, by its index.
struct Outlier {
    index: usize,
    cause: Cause,
}

// === impl OutlierRules ===

impl Default for OutlierRules {
    /// On. The numbers are those of Envoy, except the gateway failures (off there) and the share (10 %, which is no
    /// backend of a pool of three).
    fn default() -> Self {
        const SECOND: u64 = 1_000_000_000;
        Self {
            thresholds: Thresholds { gateway: 5, errors: 5 },
            success_rate: Some(SuccessRateRule::default()),
            interval_ns: 10 * SECOND,
            base_ns: 30 * SECOND,
            max_ns: 300 * SECOND,
            jitter_ns: 0,
            max_ejected_percent: 50,
        }
    }
}

impl OutlierRules {
    /// No rule ejects a backend, and ejected ones return.
    pub fn off() -> Self {
        Self { thresholds: Thresholds::OFF, success_rate: None, ..Self::default() }
    }

    pub fn is_off(&self) -> bool {
        self.thresholds == Thresholds::OFF && self.success_rate.is_none()
    }

    /// How many of `open` members may be ejected.
    fn places(&self, open: usize) -> usize {
        match self.max_ejected_percent {
            0 => 0,
            percent => (open * usize::from(percent) / 100).max(1),
        }
    }
}

// === impl OutlierEvent ===

impl OutlierEvent {
    /// The backend, see [`Look::number`].
    pub const fn number(self) -> u64 {
        match self {
            Self::Ejected { number, .. } | Self::Returned { number, .. } | Self::Spared { number, .. } => number,
        }
    }
}

// === impl Outliers ===

impl Outliers {
    pub fn new(rules: OutlierRules, panic: PanicRules) -> Self {
        Self { rules, panic, interval_ends_ns: None, next_return_ns: u64::MAX, accounts: HashMap::new() }
    }

    /// Later looks follow the new rules. Ejections of before keep their length, unless the new rules are off.
    pub fn set_rules(&mut self, rules: OutlierRules, panic: PanicRules) {
        self.rules = rules;
        self.panic = panic;
    }

    /// Takes all members of the pool, and returns what changes.
    pub fn look(&mut self, now_ns: u64, members: &[Look]) -> Vec<OutlierEvent> {
        let mut events = Vec::new();
        for member in members {
            let account = self.accounts.entry(member.number).or_default();
            if let Some(why) = account.look(now_ns, member, &self.rules) {
                events.push(OutlierEvent::Returned { number: member.number, why });
            }
        }
        self.accounts.retain(|_, account| account.is_kept(now_ns, &self.rules));
        let ends_interval = self.interval_ends_ns.is_none_or(|end| now_ns >= end);
        let outliers = self.outliers(members, ends_interval);
        if ends_interval {
            self.interval_ends_ns = Some(now_ns.saturating_add(self.rules.interval_ns.max(1)));
        }
        self.judge(now_ns, members, outliers, &mut events);
        let returns = self.accounts.values().filter_map(|account| Some(account.ejection?.until_ns));
        self.next_return_ns = returns.min().unwrap_or(u64::MAX);
        events
    }

    /// When the next look is due, if nothing else happens before.
    pub fn next_look(&self) -> u64 {
        match (self.rules.is_off(), self.next_return_ns) {
            (true, u64::MAX) => u64::MAX,
            // Ejected ones return at once.
            (true, _) => 0,
            (false, returns) => returns.min(self.interval_ends_ns.unwrap_or(0)),
        }
    }

    /// Whether a change of a member's health matters at once: a member is ejected, or an outlier is spared.
    pub fn awaits_changes(&self) -> bool {
        self.accounts.values().any(|account| account.ejection.is_some() || account.spared.is_some())
    }

    #[inline]
    pub fn is_ejected(&self, number: u64) -> bool {
        self.accounts.get(&number).is_some_and(|account| account.ejection.is_some())
    }

    /// `None` for a number that the last look did not have, unless its ejections are kept.
    pub fn state(&self, number: u64) -> Option<OutlierState> {
        let account = self.accounts.get(&number)?;
        Some(OutlierState { ejection: account.ejection, count: account.count, spared: account.spared })
    }

    /// An operator returns a backend, or another server has taken its place: its ejection and its count are forgotten.
    /// Returns whether it was ejected.
    pub fn pardon(&mut self, number: u64) -> bool {
        self.accounts.remove(&number).is_some_and(|account| account.ejection.is_some())
    }

    /// Forgets all: the next look is the first. Returns the backends that were ejected. The caller also calls
    /// [`crate::Backend::clear_in_row`] for every member.
    pub fn reset(&mut self) -> Vec<u64> {
        self.interval_ends_ns = None;
        self.next_return_ns = u64::MAX;
        let ejected = |(number, account): (u64, Account)| account.ejection.map(|_| number);
        let mut numbers: Vec<_> = std::mem::take(&mut self.accounts).into_iter().filter_map(ejected).collect();
        numbers.sort_unstable();
        numbers
    }

    /// The outliers among usable members, the worst first. At the end of an interval it closes the windows.
    fn outliers(&mut self, members: &[Look], ends_interval: bool) -> Vec<Outlier> {
        let mut rates = Vec::new();
        let mut outliers = Vec::new();
        for (index, member) in members.iter().enumerate() {
            let Some(account) = self.accounts.get_mut(&member.number) else { continue };
            let window = ends_interval.then(|| account.close_window(member));
            if !account.is_judged {
                continue;
            }
            if let Some(cause) = Cause::in_row(member.in_row, self.rules.thresholds) {
                outliers.push(Outlier { index, cause });
            } else if let Some(window) = window {
                rates.push((index, window));
            }
        }
        outliers.sort_by_key(|outlier| std::cmp::Reverse(members[outlier.index].in_row.errors));
        let by_rate = self.rules.success_rate.map(|rule| rule.outliers(&rates)).unwrap_or_default();
        outliers.extend(by_rate.into_iter().map(|(index, cause)| Outlier { index, cause }));
        let mut is_outlier = vec![false; members.len()];
        outliers.iter().for_each(|outlier| is_outlier[outlier.index] = true);
        for (member, is_outlier) in members.iter().zip(is_outlier) {
            if let Some(account) = self.accounts.get_mut(&member.number).filter(|_| !is_outlier) {
                account.is_no_outlier(ends_interval);
            }
        }
        outliers
    }

    /// Ejects the outliers, as far as the pool bears it.
    fn judge(&mut self, now_ns: u64, members: &[Look], outliers: Vec<Outlier>, events: &mut Vec<OutlierEvent>) {
        let conditions: Vec<_> = members.iter().map(|member| member.condition).collect();
        let (mut primaries, mut backups) = Census::of(&conditions, |index| self.is_ejected(members[index].number));
        for Outlier { index, cause } in outliers {
            let (number, is_backup) = (members[index].number, conditions[index].backup);
            let (mut after, other) = if is_backup { (backups, primaries) } else { (primaries, backups) };
            after.eject();
            let spared = if after.usable + other.usable == 0 {
                Some(SparedBy::Last)
            } else if !is_backup && after.usable > 0 && !after.bears_its_ejections(&self.panic) {
                Some(SparedBy::Panic)
            } else {
                (after.ejected > self.rules.places(after.open)).then_some(SparedBy::Share)
            };
            let Some(account) = self.accounts.get_mut(&number) else { continue };
            if let Some(by) = spared {
                if account.spared.replace((cause, by)).is_none() {
                    events.push(OutlierEvent::Spared { number, cause, by });
                }
                continue;
            }
            let for_ns = account.eject(now_ns, number, cause, &self.rules);
            events.push(OutlierEvent::Ejected { number, cause, for_ns, count: account.count });
            *(if is_backup { &mut backups } else { &mut primaries }) = after;
        }
    }
}
