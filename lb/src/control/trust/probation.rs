//! Probation: how long a new strategy is watched, and which faults fail it.
//!
//! The rules are pure functions of counts, without clock or shards, so that every bound can be tested. They add to the
//! trial in a child process, which sees ten thousand picks and no real request. Invariants: only counts from after the
//! time when every worker had the strategy are judged. A strategy without traffic is not proven: it needs
//! [`PICKS_MIN`] picks and the time of the configuration. Two kinds of picks never count as faults: one that lost a
//! race against a health check, and one for a request without a key. A wait that the strategy asks for is a fault only
//! if it ends by time-out and a backend was idle. So a strategy is not blamed for backends that are all busy.

use std::time::Duration;

use lb_strategy_host::{Hook, HookPanics};
use tokio::time::Instant;

use crate::telemetry::{PickTotals, SLOW_PICK};

/// Faults, and slow picks, that are always allowed. More are allowed as picks grow: one fault per thousand picks.
const FAULTS_FREE: u64 = 3;
const PICKS_PER_FAULT: u64 = 1_000;
/// A strategy is not proven with fewer picks.
pub(in crate::control) const PICKS_MIN: u64 = 1_000;
/// With fewer timed picks, their times are not judged.
const TIMED_MIN: u64 = 16;
/// A strategy fails if more than one in this many timed picks is slow. A worker that is not scheduled makes any pick
/// long. On a machine with ten times more work than cores, that is a quarter of them.
const TIMED_PER_SLOW: u64 = 2;

/// The state of the strategy in charge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::control) enum Tenure {
    OnProbation(Probation),
    Proven,
    /// It failed, and no predecessor could be put back. Says how.
    Failed(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::control) struct Probation {
    ends: Instant,
    /// The counts when every worker had it; `None` before.
    from: Option<PickTotals>,
}

/// The result of one look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::control) enum Opinion {
    Watching,
    Proven,
    /// Too many faults or slow picks; says how many.
    Failed(String),
}

// === impl Tenure ===

impl Tenure {
    /// For a strategy that is put in charge now.
    pub(in crate::control) fn begin(now: Instant, lasts: Duration) -> Self {
        if lasts.is_zero() { Self::Proven } else { Self::OnProbation(Probation { ends: now + lasts, from: None }) }
    }

    /// The rest of its probation.
    pub(in crate::control) fn left(&self) -> Option<Duration> {
        match self {
            Self::OnProbation(probation) => Some(probation.ends.saturating_duration_since(Instant::now())),
            Self::Proven | Self::Failed(_) => None,
        }
    }

    /// How often it was asked in its probation, if `counted` are the counts of its pool now.
    pub(in crate::control) fn picks(&self, counted: PickTotals) -> Option<u64> {
        match self {
            Self::OnProbation(probation) => Some(probation.from.map_or(0, |from| counted.since(from).picks)),
            Self::Proven | Self::Failed(_) => None,
        }
    }

    pub(in crate::control) fn as_str(&self) -> &'static str {
        match self {
            Self::OnProbation(_) => "on_probation",
            Self::Proven => "proven",
            Self::Failed(_) => "failed",
        }
    }
}

// === impl Probation ===

impl Probation {
    /// Every worker has the strategy: faults count from `counted` on.
    pub(in crate::control) fn starts_from(&mut self, counted: PickTotals) {
        self.from.get_or_insert(counted);
    }

    /// `panics` are those of the instance, in all hooks. `stuck` is the number of workers that do not respond; a pick
    /// that does not return causes that.
    pub(in crate::control) fn opinion(
        &self,
        counted: PickTotals,
        panics: &HookPanics,
        stuck: usize,
        now: Instant,
    ) -> Opinion {
        let Some(from) = self.from else { return Opinion::Watching };
        let counted = counted.since(from);
        match fault(&counted, panics) {
            Some(fault) => Opinion::Failed(fault),
            None if stuck > 0 => Opinion::Failed(format!("{stuck} workers do not respond: a pick may not return")),
            None if now >= self.ends && counted.picks >= PICKS_MIN => Opinion::Proven,
            None => Opinion::Watching,
        }
    }
}

/// The fault for which a strategy fails, by its counts and the panics of its instance.
pub(in crate::control) fn fault(counted: &PickTotals, hooks: &HookPanics) -> Option<String> {
    let PickTotals { picks, timed, slow, panics, senseless, held } = *counted;
    let most = FAULTS_FREE.max(picks / PICKS_PER_FAULT);
    // Picks are counted above, without dry ones.
    let others = || Hook::ALL.into_iter().filter(|hook| *hook != Hook::Pick);
    let elsewhere: u64 = others().map(|hook| hooks.of(hook)).sum();
    if elsewhere > most {
        let hook = others().max_by_key(|hook| hooks.of(*hook)).map_or("a hook", Hook::as_str);
        return Some(format!("it panicked {elsewhere} times outside of picks, most often in {hook}"));
    }
    if panics > most {
        return Some(format!("it panicked in {panics} of {picks} picks"));
    }
    if panics + senseless > most {
        return Some(format!("it returned no usable backend in {} of {picks} picks", panics + senseless));
    }
    if held > most {
        return Some(format!("it let {held} requests wait until their time was over, although a backend was idle"));
    }
    let bad = panics + senseless;
    if bad + elsewhere + held > most {
        let waits = if held > 0 { format!(", and let {held} requests wait for too long") } else { String::new() };
        return Some(format!(
            "it failed in {bad} of {picks} picks, and panicked {elsewhere} times in other hooks{waits}"
        ));
    }
    let is_slow = timed >= TIMED_MIN && slow > timed / TIMED_PER_SLOW;
    is_slow.then(|| format!("{slow} of {timed} timed picks took longer than {SLOW_PICK:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LASTS: Duration = Duration::from_secs(10);

    fn opinion(from: PickTotals, counted: PickTotals) -> Opinion {
        let now = Instant::now();
        let mut probation = Probation { ends: now + LASTS, from: None };
        assert_eq!(
            probation.opinion(counted, &HookPanics::default(), 0, now),
            Opinion::Watching,
            "not judged before every worker has it"
        );
        probation.starts_from(from);
        probation.opinion(counted, &HookPanics::default(), 0, now)
    }

    fn is_failed(counted: PickTotals) -> bool {
        matches!(opinion(PickTotals::default(), counted), Opinion::Failed(_))
    }

    #[tokio::test]
    async fn three_faults_are_free_and_then_one_in_a_thousand() {
        let panicked = |picks, panics| PickTotals { picks, panics, ..PickTotals::default() };
        assert_eq!([3, 4].map(|panics| is_failed(panicked(40, panics))), [false, true]);
        assert_eq!([9, 10].map(|panics| is_failed(panicked(9_999, panics))), [false, true]);
        let mixed = PickTotals { picks: 40, panics: 2, senseless: 2, ..PickTotals::default() };
        assert!(is_failed(mixed), "faults of all kinds add up");
    }

    #[tokio::test]
    async fn panics_in_other_hooks_count_as_faults_of_picks_do() {
        let fault = |picks, bad, panicked: &[Hook]| {
            let hooks = HookPanics::default();
            panicked.iter().for_each(|hook| hooks.count(*hook));
            fault(&PickTotals { picks, panics: bad, ..PickTotals::default() }, &hooks)
        };
        assert_eq!(fault(40, 0, &[Hook::OnFinish; 3]), None);
        let words = fault(40, 0, &[Hook::OnFinish, Hook::Tick, Hook::Tick, Hook::Explain]).unwrap();
        assert_eq!(words, "it panicked 4 times outside of picks, most often in tick");
        let words = fault(40, 2, &[Hook::OnFinish; 2]).unwrap();
        assert_eq!(words, "it failed in 2 of 40 picks, and panicked 2 times in other hooks");
        assert_eq!(fault(40, 0, &[Hook::Pick; 9]), None, "the counts of picks have them already");
        assert_eq!(fault(9_999, 0, &[Hook::OnFinish; 9]), None, "one in a thousand picks");
    }

    #[tokio::test]
    async fn waits_that_it_is_to_blame_for_count_as_faults() {
        let fault = |senseless, held| {
            let counted = PickTotals { picks: 40, senseless, held, ..PickTotals::default() };
            fault(&counted, &HookPanics::default())
        };
        assert_eq!(fault(0, 3), None);
        let words = fault(0, 4).unwrap();
        assert_eq!(words, "it let 4 requests wait until their time was over, although a backend was idle");
        let words = fault(2, 2).unwrap();
        assert!(words.ends_with("other hooks, and let 2 requests wait for too long"), "{words}");
    }

    #[tokio::test]
    async fn a_strategy_fails_if_most_of_enough_timed_picks_are_slow() {
        let timed = |timed, slow| PickTotals { picks: timed * 128, timed, slow, ..PickTotals::default() };
        let judged = [timed(15, 15), timed(16, 8), timed(16, 9), timed(100, 50), timed(100, 51)].map(is_failed);
        assert_eq!(judged, [false, false, true, false, true]);
    }

    #[tokio::test]
    async fn faults_from_before_a_strategy_was_in_charge_do_not_count() {
        let before = PickTotals { picks: 1_000, panics: 500, senseless: 20, timed: 9, slow: 9, held: 7 };
        let after = PickTotals { picks: 2_000, panics: 503, ..before };
        assert_eq!(opinion(before, after), Opinion::Watching);
    }

    #[tokio::test(start_paused = true)]
    async fn a_strategy_is_proven_after_its_time_and_enough_picks_and_at_once_without_probation() {
        let now = Instant::now();
        let Tenure::OnProbation(mut probation) = Tenure::begin(now, LASTS) else { panic!("no probation") };
        let picked = |picks| PickTotals { picks, ..PickTotals::default() };
        probation.starts_from(picked(70));
        let looked = |picks, later| probation.opinion(picked(picks), &HookPanics::default(), 0, now + later);
        let long = LASTS * 1_000;
        assert_eq!([looked(70, long), looked(1_069, long)], [Opinion::Watching, Opinion::Watching], "too few picks");
        assert_eq!(looked(9_999, LASTS - Duration::from_millis(1)), Opinion::Watching, "too early");
        assert_eq!(looked(1_070, LASTS), Opinion::Proven);
        let stuck = probation.opinion(picked(1_070), &HookPanics::default(), 1, now + LASTS);
        assert!(matches!(stuck, Opinion::Failed(_)), "a stuck worker fails the probation");
        assert_eq!(Tenure::begin(now, Duration::ZERO), Tenure::Proven);
    }

    #[tokio::test]
    async fn picks_are_counted_from_the_time_when_every_worker_had_the_strategy() {
        let picked = |picks| PickTotals { picks, ..PickTotals::default() };
        let mut tenure = Tenure::begin(Instant::now(), LASTS);
        assert_eq!(tenure.picks(picked(500)), Some(0), "not every worker has it");
        let Tenure::OnProbation(probation) = &mut tenure else { panic!("no probation") };
        probation.starts_from(picked(500));
        assert_eq!([tenure.picks(picked(512)), Tenure::Proven.picks(picked(512))], [Some(12), None]);
    }
}
