//! A backend's standing: the outcomes of its checks so far, and its health by them.
//!
//! The rules are pure, without clock or socket, so that a test can cover "down after 3, up after 2" check by check.
//! Invariants: a configured or attached backend begins as its pool's `health.initial` says. A launched one is not
//! healthy before its first good check. A change of health is reported, and a first check that decides alone. A backend
//! is lost if it is down and its last check got no response. One that responds badly or refuses checks may be finishing
//! its requests.

use crate::Finding;

/// How many checks in a row change a backend's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckRules {
    pub down_after: u32,
    pub up_after: u32,
}

/// What the checks of a backend have found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    state: State,
    /// Checks in a row that contradict `state`.
    against: u32,
    /// Why the last failed check failed.
    reason: Option<String>,
    sign: Sign,
}

/// Why a check failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckFailure {
    pub reason: String,
    pub sign: Sign,
}

/// The sign of life in a failed check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It responds, but badly.
    Responds,
    /// No response came.
    Silent,
    /// Nothing listens, or the process has ended.
    Absent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No check has ended yet; counts as healthy.
    Unknown,
    Up,
    Down,
    /// Not healthy, no good check yet: one is enough.
    Starting,
    /// No check has ended yet, and lb waits for it: the first one decides.
    Waiting,
}

// === impl Standing ===

impl Standing {
    /// For a backend that counts as healthy until checks fail.
    pub fn unknown() -> Self {
        Self { state: State::Unknown, against: 0, reason: None, sign: Sign::Silent }
    }

    /// For a backend that is not healthy before its first good check.
    pub fn starting() -> Self {
        Self { state: State::Starting, against: 0, reason: None, sign: Sign::Silent }
    }

    /// For a backend whose first check decides alone.
    pub fn waiting() -> Self {
        Self { state: State::Waiting, against: 0, reason: None, sign: Sign::Silent }
    }

    pub fn is_healthy(&self) -> bool {
        matches!(self.state, State::Unknown | State::Up)
    }

    /// Whether it is useless to wait for its responses. Not if nothing listens: a process that ended has closed its
    /// connections, and one that is stopping may finish its requests.
    pub fn is_lost(&self) -> bool {
        self.state == State::Down && self.sign == Sign::Silent
    }

    /// For the rules of a pool.
    pub fn finding(&self) -> Finding {
        match self.state {
            State::Unknown | State::Up => Finding::Up,
            State::Down if self.sign != Sign::Absent => Finding::Suspect,
            State::Down | State::Starting | State::Waiting => Finding::Dead,
        }
    }

    /// Whether lb waits for the first check.
    pub fn is_waiting(&self) -> bool {
        self.state == State::Waiting
    }

    /// Whether a check has ended since the backend was added, or since an operator declared it healthy.
    pub fn is_checked(&self) -> bool {
        match self.state {
            State::Unknown => self.against > 0,
            State::Starting => self.reason.is_some(),
            State::Waiting => false,
            State::Up | State::Down => true,
        }
    }

    /// Why the backend is not healthy.
    pub fn reason(&self) -> Option<&str> {
        match self.state {
            State::Down => self.reason.as_deref(),
            State::Starting => Some(self.reason.as_deref().unwrap_or("has not passed a check yet")),
            State::Waiting => Some("its first check has not ended yet"),
            State::Unknown | State::Up => None,
        }
    }

    /// Takes the outcome of one check. Returns `Some(up)` if the health changed, or if the first check decided.
    pub fn check(&mut self, outcome: Result<(), CheckFailure>, rules: CheckRules) -> Option<bool> {
        match (self.state, outcome) {
            (State::Unknown | State::Up, Ok(())) => {
                self.state = State::Up;
                self.against = 0;
                None
            }
            (State::Unknown | State::Up, Err(failure)) => {
                self.against += 1;
                self.failed(failure);
                (self.against >= rules.down_after).then(|| self.turn(State::Down))
            }
            (State::Down, Ok(())) => {
                self.against += 1;
                (self.against >= rules.up_after).then(|| self.turn(State::Up))
            }
            (State::Down, Err(failure)) => {
                self.against = 0;
                self.failed(failure);
                None
            }
            (State::Starting | State::Waiting, Ok(())) => Some(self.turn(State::Up)),
            (State::Waiting, Err(failure)) => {
                self.failed(failure);
                Some(self.turn(State::Down))
            }
            (State::Starting, Err(failure)) => {
                self.failed(failure);
                None
            }
        }
    }

    /// Whether the last check contradicted the state, so that the next ones decide.
    pub fn is_in_doubt(&self) -> bool {
        self.against > 0
    }

    /// Sets the backend down at once, whatever its checks were: its process ended. Returns `Some(false)` if it was up.
    pub fn fell(&mut self, reason: String) -> Option<bool> {
        let was_healthy = self.is_healthy();
        self.failed(CheckFailure { reason, sign: Sign::Absent });
        self.turn(State::Down);
        was_healthy.then_some(false)
    }

    /// A new process was started for the backend: not healthy until its first good check.
    pub fn restarts(&mut self) {
        self.turn(State::Starting);
    }

    /// An operator declares the backend healthy; the next checks may change that. Returns `Some(true)` if it was down.
    pub fn trust(&mut self) -> Option<bool> {
        let was_healthy = self.is_healthy();
        self.against = 0;
        if !was_healthy {
            self.state = State::Unknown;
        }
        (!was_healthy).then_some(true)
    }

    fn failed(&mut self, failure: CheckFailure) {
        let CheckFailure { reason, sign } = failure;
        (self.reason, self.sign) = (Some(reason), sign);
    }

    fn turn(&mut self, state: State) -> bool {
        self.state = state;
        self.against = 0;
        self.is_healthy()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: CheckRules = CheckRules { down_after: 3, up_after: 2 };

    fn failure(reason: &str, sign: Sign) -> Result<(), CheckFailure> {
        Err(CheckFailure { reason: reason.into(), sign })
    }

    fn bad() -> Result<(), CheckFailure> {
        failure("connection refused", Sign::Absent)
    }

    #[test]
    fn three_bad_checks_in_a_row_take_it_down_and_two_good_ones_bring_it_back() {
        let mut standing = Standing::unknown();
        let mut check = |outcome| standing.check(outcome, RULES);
        assert_eq!([check(bad()), check(bad()), check(Ok(())), check(bad()), check(bad())], [None; 5]);
        assert_eq!(check(bad()), Some(false));
        assert_eq!([check(bad()), check(Ok(())), check(bad()), check(Ok(()))], [None; 4]);
        assert_eq!(check(Ok(())), Some(true));
        assert!(standing.is_healthy());
    }

    #[test]
    fn a_configured_backend_is_healthy_before_its_first_check_and_a_launched_one_after_it() {
        assert!(Standing::unknown().is_healthy());
        let mut launched = Standing::starting();
        assert_eq!(launched.check(bad(), RULES), None);
        assert!(!launched.is_healthy());
        assert_eq!(launched.reason(), Some("connection refused"));
        assert_eq!(launched.check(Ok(()), RULES), Some(true), "one good check is enough");
        assert_eq!(launched.reason(), None);
    }

    #[test]
    fn a_backend_that_begins_down_is_up_with_its_first_good_check() {
        let mut standing = Standing::starting();
        assert!(!standing.is_healthy() && !standing.is_waiting());
        assert_eq!([standing.check(bad(), RULES), standing.check(bad(), RULES)], [None; 2]);
        assert_eq!(standing.check(Ok(()), RULES), Some(true));
    }

    #[test]
    fn the_first_check_of_a_backend_that_waits_decides_alone() {
        let waiting = Standing::waiting;
        assert!(!waiting().is_healthy() && waiting().is_waiting());
        let (mut good, mut bad_one) = (waiting(), waiting());
        assert_eq!(good.check(Ok(()), RULES), Some(true));
        assert_eq!(bad_one.check(bad(), RULES), Some(false), "one bad check is enough");
        assert!(!good.is_waiting() && !bad_one.is_waiting());
        assert_eq!(bad_one.check(Ok(()), RULES), None, "later checks follow the rules: two good ones");
        assert_eq!(bad_one.check(Ok(()), RULES), Some(true));
        let mut trusted = waiting();
        assert_eq!((trusted.trust(), trusted.is_healthy()), (Some(true), true), "an operator need not wait");
    }

    #[test]
    fn a_backend_is_unchecked_until_its_first_check_has_ended() {
        for outcome in [bad(), Ok(())] {
            for mut new in [Standing::unknown(), Standing::starting(), Standing::waiting()] {
                assert!(!new.is_checked());
                new.check(outcome.clone(), RULES);
                assert!(new.is_checked());
            }
        }
    }

    #[test]
    fn a_backend_is_lost_if_it_is_down_and_its_last_check_got_no_response() {
        let mut standing = Standing::unknown();
        let mut is_lost = |outcome| {
            standing.check(outcome, RULES);
            standing.is_lost()
        };
        let unwell = || failure("/ returned 503", Sign::Responds);
        assert_eq!([is_lost(bad()), is_lost(bad()), is_lost(unwell())], [false; 3], "down, but it responds");
        assert!(!is_lost(bad()), "nothing listens: it may be stopping");
        assert!(is_lost(failure("no response within 1s", Sign::Silent)));
        assert_eq!([is_lost(Ok(())), is_lost(Ok(()))], [true, false], "up with the second good check");
    }

    #[test]
    fn a_backend_is_dead_if_nothing_listens_and_suspect_if_it_is_silent_or_responds_badly() {
        let mut standing = Standing::unknown();
        assert_eq!(standing.finding(), Finding::Up);
        for (sign, finding) in
            [(Sign::Silent, Finding::Suspect), (Sign::Responds, Finding::Suspect), (Sign::Absent, Finding::Dead)]
        {
            for _ in 0..3 {
                standing.check(failure("it is unwell", sign), RULES);
            }
            assert_eq!(standing.finding(), finding, "{sign:?}");
        }
        assert_eq!(Standing::starting().finding(), Finding::Dead);
    }

    #[test]
    fn a_dead_process_is_down_at_once_and_back_with_its_first_good_check() {
        let mut standing = Standing::unknown();
        assert_eq!(standing.fell("its process was ended by signal 9".into()), Some(false));
        assert_eq!(standing.fell("again".into()), None, "no news");
        standing.restarts();
        assert!(!standing.is_healthy());
        assert_eq!(standing.check(Ok(()), RULES), Some(true));
    }

    #[test]
    fn an_operators_ready_holds_until_checks_in_a_row_fail() {
        let mut standing = Standing::unknown();
        for _ in 0..3 {
            standing.check(bad(), RULES);
        }
        assert_eq!(standing.trust(), Some(true));
        assert_eq!([standing.check(bad(), RULES), standing.check(bad(), RULES)], [None; 2]);
        assert_eq!(standing.check(bad(), RULES), Some(false));
    }

    #[test]
    fn a_contradicting_check_is_a_doubt_until_the_rules_decide() {
        let mut standing = Standing::unknown();
        let mut doubts = |outcomes: &str| -> String {
            let told = outcomes.chars().map(|outcome| {
                standing.check(if outcome == '+' { Ok(()) } else { bad() }, RULES);
                if standing.is_in_doubt() { '?' } else { '.' }
            });
            told.collect()
        };
        assert_eq!(doubts("++-+--+"), "..?.??.", "one or two bad ones are forgiven");
        assert_eq!(doubts("----"), "??..", "down with the third");
        assert_eq!(doubts("+-++"), "?.?.", "up again with the second in a row");
        assert_eq!(doubts("+-"), ".?");
    }
}
