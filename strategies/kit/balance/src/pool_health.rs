//! From the condition of each member of a pool to its eligibility: checks, ejections, panic and backups at once.
//!
//! Why one function: each rule alone is simple, and two of them at once could leave a pool without a backend. So only
//! this function combines them. In this order:
//!
//! 1. A member that drains or has weight 0 gets nothing. The others are *open*; the shares below are shares of these.
//! 2. Primaries that are up and not ejected serve.
//! 3. Ejections are suspended if they alone would leave no member, or fewer primaries than the panic threshold.
//! 4. Panic: too few primaries are up by active checks. Then all that are not dead serve, also suspects and ejected
//!    ones, or none ([`PanicMode`]).
//! 5. Backups serve only if no primary does. Backups that are up come before primaries that are suspects.
//!
//! **Suspect or dead.** Panic assumes that the checks are wrong, or that the healthy rest is too small for the load.
//! That can be true of a suspect: a slow server, or one whose check alone fails. It is never true of a member where
//! nothing listens: its process ended, or its last check was refused.
//! So such a member is [`Finding::Dead`], and panic leaves it out. Otherwise a pool of three replicas, two of them
//! killed, would send two of three requests to closed ports.
//!
//! **Small pools.** With fewer open primaries than [`PanicRules::from_members`], panic begins only when none is up. Of
//! three members, two decide about "below 50 %". Two independent failures are then likelier than wrong checks. Panic
//! would send two of three requests to servers that hang. Without panic the healthy member gets all requests. The
//! limits of lb protect it, so it serves at least the third that panic would have sent to it.
//!
//! Panic and its threshold are those of Envoy (`healthy_panic_threshold`, `fail_traffic_on_panic`). Envoy has neither
//! dead members nor an exception for small pools, and its ejected hosts count as unhealthy. Here ejections alone never
//! make a panic. They are suspicions as well, so they give way before suspects serve.
//!
//! Invariants: an open member that is up exists, and panic does not fail the pool: then some member is eligible. An
//! ejection never makes a suspect eligible. The tests try all combinations of up to five members.

mod census;

pub(crate) use census::Census;

use crate::{Eligibility, PoolRule};

/// What lb knows of a member without outlier detection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    pub finding: Finding,
    pub draining: bool,
    /// With 0 it gets no new request.
    pub weight: u16,
    /// Serves only if no primary does.
    pub backup: bool,
}

/// The finding of active checks and of the supervisor of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Its checks are good, or it was not checked yet and counts as healthy.
    Up,
    /// Its checks fail, or it is starting. It may respond nevertheless.
    Suspect,
    /// Nothing can respond: its process ended, or it is down and its last check was refused.
    Dead,
}

/// What happens if too few members are up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PanicRules {
    /// Panic begins when less than this share of the open primaries is up; 0 switches panic off.
    pub below_percent: u8,
    /// In a pool with fewer open primaries, panic begins only when none is up.
    pub from_members: usize,
    pub mode: PanicMode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PanicMode {
    /// All primaries that are not dead get requests.
    UseAll,
    /// No primary gets requests: backups serve, or requests get 503. For services that fail as a whole.
    Fail,
}

/// The eligibility of all members of a pool, and facts for metrics and logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolHealth {
    /// In the order of the members.
    pub members: Vec<Eligibility>,
    /// Too few members are up, so that [`PanicRules::mode`] decides.
    pub panic: bool,
    /// Ejected members get requests in spite of their ejection.
    pub ejections_suspended: bool,
    pub backups_in_use: bool,
}

/// The members of one kind (primaries or backups) that get requests.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Serve {
    None,
    /// Up and not ejected.
    Usable,
    /// Up.
    Up,
    /// Not dead.
    All,
}

// === impl Condition ===

impl Condition {
    /// Whether an operator lets it have requests.
    pub const fn is_open(self) -> bool {
        !self.draining && self.weight > 0
    }

    /// Whether it may get requests if it is not ejected.
    pub const fn is_usable(self) -> bool {
        self.is_open() && matches!(self.finding, Finding::Up)
    }
}

// === impl PanicRules ===

impl Default for PanicRules {
    fn default() -> Self {
        Self { below_percent: 50, from_members: 4, mode: PanicMode::UseAll }
    }
}

impl PanicRules {
    /// Every member is judged by itself.
    pub const OFF: Self = Self { below_percent: 0, from_members: 0, mode: PanicMode::UseAll };

    /// Whether `up` of `open` members are too few.
    pub(crate) const fn are_too_few(self, up: usize, open: usize) -> bool {
        self.below_percent != 0
            && open > 0
            && (up == 0 || (open >= self.from_members && up * 100 < open * self.below_percent as usize))
    }
}

// === impl PoolHealth ===

impl PoolHealth {
    /// The eligibility that follows from `conditions`. `is_ejected` gets a member's index.
    pub fn of(rules: &PanicRules, conditions: &[Condition], is_ejected: impl Fn(usize) -> bool) -> Self {
        let (primaries, backups) = Census::of(conditions, &is_ejected);
        let is_taken_over = (primaries.usable == 0 && backups.usable > 0) || (primaries.up == 0 && backups.up > 0);
        let panic = !is_taken_over && rules.are_too_few(primaries.up, primaries.open);
        let by_primaries = match (panic, rules.mode) {
            _ if is_taken_over => Serve::None,
            (true, PanicMode::Fail) => Serve::None,
            (true, PanicMode::UseAll) => Serve::All,
            (false, _) if primaries.bears_its_ejections(rules) => Serve::Usable,
            (false, _) => Serve::Up,
        };
        let by_backups = match rules.mode {
            _ if by_primaries.of(primaries) > 0 => Serve::None,
            _ if backups.usable > 0 => Serve::Usable,
            _ if backups.up > 0 => Serve::Up,
            PanicMode::UseAll if rules.below_percent > 0 => Serve::All,
            _ => Serve::None,
        };
        let member = |(index, condition): (usize, &Condition)| {
            let serve = if condition.backup { by_backups } else { by_primaries };
            serve.eligibility(*condition, is_ejected(index))
        };
        let members: Vec<_> = conditions.iter().enumerate().map(member).collect();
        Self {
            panic: panic || (by_backups == Serve::All && backups.not_dead > 0),
            ejections_suspended: members.iter().any(|member| member.ejected && member.is_eligible()),
            backups_in_use: by_backups.of(backups) > 0,
            members,
        }
    }
}

// === impl Serve ===

impl Serve {
    /// How many of these members it lets serve.
    const fn of(self, census: Census) -> usize {
        match self {
            Self::None => 0,
            Self::Usable => census.usable,
            Self::Up => census.up,
            Self::All => census.not_dead,
        }
    }

    fn eligibility(self, condition: Condition, ejected: bool) -> Eligibility {
        let healthy = condition.finding == Finding::Up;
        let serves = match self {
            Self::None => false,
            Self::Usable => healthy && !ejected,
            Self::Up => healthy,
            Self::All => condition.finding != Finding::Dead,
        };
        let pool = match (serves, healthy && !ejected) {
            (true, false) => PoolRule::Include,
            (false, true) => PoolRule::Exclude,
            _ => PoolRule::Follow,
        };
        Eligibility { healthy, draining: condition.draining, weight: condition.weight, ejected, pool }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which members serve, and the facts. A pool is a word. Its letters mean:
    ///
    /// - `u` up, `s` suspect, `d` dead
    /// - `e` up and ejected, `x` suspect and ejected
    /// - `o` up with weight 0, `r` up and draining
    ///
    /// Capital letters are backups.
    fn serving(letters: &str, rules: &PanicRules) -> String {
        let condition = |letter: char| Condition {
            finding: match letter.to_ascii_lowercase() {
                's' | 'x' => Finding::Suspect,
                'd' => Finding::Dead,
                _ => Finding::Up,
            },
            draining: letter == 'r',
            weight: u16::from(letter != 'o'),
            backup: letter.is_ascii_uppercase(),
        };
        let conditions: Vec<_> = letters.chars().map(condition).collect();
        let is_ejected = |index: usize| b"exEX".contains(&letters.as_bytes()[index]);
        let health = PoolHealth::of(rules, &conditions, is_ejected);
        let members = health.members.iter().map(|member| if member.is_eligible() { '+' } else { '-' });
        let facts =
            [(health.panic, " panic"), (health.ejections_suspended, " suspended"), (health.backups_in_use, " backups")];
        members.collect::<String>() + &facts.map(|(is, name)| if is { name } else { "" }).concat()
    }

    fn assert_serving(rules: &PanicRules, pools: &[(&str, &str)]) {
        for (letters, expected) in pools {
            assert_eq!(serving(letters, rules), *expected, "{letters} with {rules:?}");
        }
    }

    #[test]
    fn open_members_that_are_up_and_not_ejected_serve() {
        let pools = [("", ""), ("uuus", "+++-"), ("uuue", "+++-"), ("uorde", "+----"), ("uuxd", "++--")];
        assert_serving(&PanicRules::default(), &pools);
    }

    #[test]
    fn below_the_threshold_all_but_the_dead_serve() {
        let pools = [
            ("uuss", "++--"),
            ("usss", "++++ panic"),
            ("ussd", "+++- panic"),
            ("usssro", "++++-- panic"),
            ("uddd", "+--- panic"),
            ("essx", "++++ panic suspended"),
        ];
        assert_serving(&PanicRules::default(), &pools);
        assert_serving(&PanicRules { below_percent: 30, ..PanicRules::default() }, &[("uusssss", "+++++++ panic")]);
        let fails = PanicRules { mode: PanicMode::Fail, ..PanicRules::default() };
        assert_serving(&fails, &[("usss", "---- panic"), ("uuss", "++--"), ("s", "- panic")]);
    }

    #[test]
    fn a_small_pool_panics_only_when_none_is_up() {
        let pools = [("uss", "+--"), ("udd", "+--"), ("sss", "+++ panic"), ("ssd", "++- panic"), ("s", "+ panic")];
        assert_serving(&PanicRules::default(), &pools);
        let from_one = PanicRules { from_members: 1, ..PanicRules::default() };
        assert_serving(&from_one, &[("uss", "+++ panic"), ("udd", "+-- panic")]);
    }

    #[test]
    fn without_panic_rules_each_member_is_judged_by_itself() {
        let pools = [("usss", "+---"), ("ssss", "----"), ("e", "+ suspended"), ("uees", "+---"), ("S", "-")];
        assert_serving(&PanicRules::OFF, &pools);
    }

    #[test]
    fn ejections_give_way_before_suspects_serve() {
        let pools = [
            ("eess", "++-- suspended"),
            ("uess", "++-- suspended"),
            ("uues", "++--"),
            ("uessss", "++++++ panic suspended"),
            ("ess", "+-- suspended"),
            ("ues", "+--"),
        ];
        assert_serving(&PanicRules::default(), &pools);
    }

    #[test]
    fn backups_serve_only_if_no_primary_does() {
        let pools = [
            ("uUU", "+--"),
            ("ssU", "--+ backups"),
            ("eU", "-+ backups"),
            ("esUE", "--+- backups"),
            ("eE", "+- suspended"),
            ("sE", "-+ suspended backups"),
            ("dE", "-+ suspended backups"),
            ("dS", "-+ panic backups"),
            ("usssU", "++++- panic"),
            ("oU", "-+ backups"),
            ("D", "-"),
        ];
        assert_serving(&PanicRules::default(), &pools);
        let fails = PanicRules { mode: PanicMode::Fail, ..PanicRules::default() };
        assert_serving(&fails, &[("usssU", "----+ panic backups"), ("usssS", "----- panic"), ("dS", "-- panic")]);
    }
}
