//! Counts of the members of one kind, primaries or backups.
//!
//! Why apart: outlier detection asks whether a pool bears one more ejection. It asks with the same counts that decide
//! about panic, so the two rules cannot disagree.

use super::{Condition, Finding, PanicRules};

/// Counts of open members: those that do not drain and have a weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Census {
    pub(crate) open: usize,
    pub(crate) not_dead: usize,
    pub(crate) up: usize,
    pub(crate) ejected: usize,
    /// Up and not ejected.
    pub(crate) usable: usize,
}

// === impl Census ===

impl Census {
    /// The primaries and the backups of a pool.
    pub(crate) fn of(conditions: &[Condition], is_ejected: impl Fn(usize) -> bool) -> (Self, Self) {
        let (mut primaries, mut backups) = (Self::default(), Self::default());
        for (index, condition) in conditions.iter().enumerate() {
            let kind = if condition.backup { &mut backups } else { &mut primaries };
            kind.count(*condition, is_ejected(index));
        }
        (primaries, backups)
    }

    pub(crate) fn count(&mut self, condition: Condition, is_ejected: bool) {
        if condition.is_open() {
            self.open += 1;
            self.not_dead += usize::from(condition.finding != Finding::Dead);
            self.up += usize::from(condition.is_usable());
            self.ejected += usize::from(is_ejected);
            self.usable += usize::from(condition.is_usable() && !is_ejected);
        }
    }

    /// A usable member is ejected.
    pub(crate) fn eject(&mut self) {
        self.ejected += 1;
        self.usable = self.usable.saturating_sub(1);
    }

    /// Whether enough members are left without the ejected ones.
    pub(crate) const fn bears_its_ejections(&self, rules: &PanicRules) -> bool {
        self.usable > 0 && !rules.are_too_few(self.usable, self.open)
    }
}
