//! The share of each member: the part of its weight that it gets, which slow start changes.
//!
//! Invariant: a list that is built after a look has the shares of that look. So a member that joins or returns never
//! gets its full share first.

use std::sync::Arc;

use super::{Member, Members};

/// A share that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::control) struct ShareChange {
    pub(in crate::control) id: Arc<str>,
    /// In thousandths.
    pub(in crate::control) before: u32,
    pub(in crate::control) after: u32,
}

// === impl Members: shares ===

impl Members {
    /// Brings the shares up to date, and returns those that changed.
    pub(in crate::control) fn look_at_shares(&mut self, now_ns: u64) -> Vec<ShareChange> {
        self.slow_start.look(now_ns, self.list.iter().map(|member| (member.backend.number, member.eligibility)));
        self.shares_due_ns = self.slow_start.next_change(now_ns).unwrap_or(u64::MAX);
        let mut changes = Vec::new();
        for member in &mut self.list {
            let (before, after) = (member.share, self.slow_start.factor(member.backend.number, now_ns));
            if before != after {
                member.share = after;
                changes.push(ShareChange { id: member.id().clone(), before, after });
            }
        }
        changes
    }

    /// When the next [look](Self::look_at_shares) is due, if no member changes before.
    pub(in crate::control) fn shares_due_ns(&self) -> u64 {
        self.shares_due_ns
    }

    /// How long a member still has less than its full share; `None` if it has it.
    pub(in crate::control) fn slow_start_left_ns(&self, member: &Member, now_ns: u64) -> Option<u64> {
        self.slow_start.left(member.backend.number, now_ns)
    }
}
