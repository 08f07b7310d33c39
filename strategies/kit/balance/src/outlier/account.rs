//! The account of one backend: its ejection, how many of them are not forgiven, and the window of its success rate.
//!
//! Invariants: the count is at most the one with which an ejection has its full length. So forgiveness takes no longer
//! than that many base times. A window never contains requests from before a return.

use super::{Cause, Ejection, Look, OutlierRules, ReturnReason, SparedBy};
use crate::Finding;
use crate::outlier::success_rate::Window;

#[derive(Clone, Debug, Default)]
pub(super) struct Account {
    pub(super) ejection: Option<Ejection>,
    pub(super) count: u32,
    pub(super) spared: Option<(Cause, SparedBy)>,
    /// Whether it can be an outlier at this look: usable, not ejected, and not just returned.
    pub(super) is_judged: bool,
    /// Whether it was found not up during its ejection.
    was_not_up: bool,
    /// Whether nothing listened during its ejection, so that a new process serves now.
    was_dead: bool,
    /// Whether it was usable and not ejected at the last look.
    was_serving: bool,
    /// The time served that counts for the next forgiveness.
    served_ns: u64,
    looked_ns: u64,
    /// The totals at the begin of the window.
    begin: (u64, u64),
}

// === impl Account ===

impl Account {
    /// Takes the member at a look. Returns why, if its ejection ends.
    pub(super) fn look(&mut self, now_ns: u64, member: &Look, rules: &OutlierRules) -> Option<ReturnReason> {
        let why = self.ejection.and_then(|ejection| self.ends(now_ns, ejection, member, rules));
        if why.is_some() {
            self.ejection = None;
        }
        let is_serving = member.condition.is_usable() && self.ejection.is_none();
        if self.was_serving && is_serving {
            self.forgive(now_ns.saturating_sub(self.looked_ns), rules.base_ns.max(1));
        } else {
            self.begin = (member.requests, member.failures);
        }
        self.is_judged = is_serving && why.is_none();
        self.was_serving = is_serving;
        self.looked_ns = now_ns;
        why
    }

    /// Whether to keep it after a look at `now_ns`. If its backend has left, only ejections that are not forgiven are
    /// kept, for the longest time of an ejection.
    pub(super) fn is_kept(&mut self, now_ns: u64, rules: &OutlierRules) -> bool {
        if self.looked_ns == now_ns {
            return true;
        }
        self.was_serving = false;
        self.ejection = self.ejection.filter(|ejection| now_ns < ejection.until_ns && !rules.is_off());
        let age_ns = now_ns.saturating_sub(self.looked_ns);
        self.ejection.is_some() || (self.count > 0 && age_ns < rules.max_ns)
    }

    /// Returns the length.
    pub(super) fn eject(&mut self, now_ns: u64, number: u64, cause: Cause, rules: &OutlierRules) -> u64 {
        let most = rules.max_ns.div_ceil(rules.base_ns.max(1)).clamp(1, u64::from(u32::MAX));
        self.count = self.count.saturating_add(1).min(most as u32);
        let jitter_ns = match rules.jitter_ns {
            0 => 0,
            // The same for the same backend at the same time, so that a simulation can be repeated.
            most => fastrand::Rng::with_seed(number ^ now_ns).u64(0..=most),
        };
        let for_ns = rules.base_ns.saturating_mul(u64::from(self.count)).min(rules.max_ns);
        let for_ns = for_ns.saturating_add(jitter_ns);
        self.ejection = Some(Ejection { cause, since_ns: now_ns, until_ns: now_ns.saturating_add(for_ns) });
        self.spared = None;
        (self.was_not_up, self.was_dead) = (false, false);
        self.was_serving = false;
        self.served_ns = 0;
        for_ns
    }

    /// The window since the last call or since its return; the next one begins.
    pub(super) fn close_window(&mut self, member: &Look) -> Window {
        let (requests, failures) = std::mem::replace(&mut self.begin, (member.requests, member.failures));
        Window::of(member.requests.saturating_sub(requests), member.failures.saturating_sub(failures))
    }

    /// At this look it is no outlier. A bad success rate lasts until the end of the next interval.
    pub(super) fn is_no_outlier(&mut self, ends_interval: bool) {
        let is_by_rate = matches!(self.spared, Some((Cause::SuccessRate { .. }, _)));
        if !is_by_rate || ends_interval {
            self.spared = None;
        }
    }

    fn ends(&mut self, now_ns: u64, ejection: Ejection, member: &Look, rules: &OutlierRules) -> Option<ReturnReason> {
        let is_up = member.condition.finding == Finding::Up;
        self.was_not_up |= !is_up;
        self.was_dead |= member.condition.finding == Finding::Dead;
        if rules.is_off() {
            Some(ReturnReason::SwitchedOff)
        } else if now_ns >= ejection.until_ns {
            Some(ReturnReason::TimeIsOver)
        } else {
            let is_repaired = self.was_dead || (self.was_not_up && self.count == 1);
            (is_repaired && is_up).then_some(ReturnReason::Recovered)
        }
    }

    fn forgive(&mut self, served_ns: u64, base_ns: u64) {
        if self.count > 0 {
            self.served_ns = self.served_ns.saturating_add(served_ns);
            let times = (self.served_ns / base_ns).min(u64::from(self.count));
            self.count -= times as u32;
            self.served_ns = if self.count == 0 { 0 } else { self.served_ns % base_ns };
        }
    }
}
