//! One member of a pool: its description, its standing by the checks, and the [`Backend`] that workers share.
//!
//! Invariants: the backend has the id and the address of the entry. Only [`Members`](super::Members) changes a member,
//! because the eligibility of one depends on the whole pool.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use lb_balance::{Condition, Loss, Warmth};
use lb_strategy_host::Stats;

use crate::config::Labels;
use crate::control::health::Standing;
use crate::pool::{Backend, Eligibility};

/// After this many failed attempts in a row, an ejected backend counts as lost.
const SILENT_FROM: u32 = 3;
/// The share of a member that does not start slowly.
const FULL_SHARE: u32 = 1000;

/// The origin of a member; also the first part of its place in the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::control) enum Origin {
    File,
    Attached,
    Launched,
}

/// The description of a member, without its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::control) struct Entry {
    pub(in crate::control) id: String,
    pub(in crate::control) address: String,
    pub(in crate::control) socket: SocketAddr,
    pub(in crate::control) weight: u16,
    pub(in crate::control) origin: Origin,
    /// The place among entries of the same origin.
    pub(in crate::control) order: usize,
    pub(in crate::control) draining: bool,
    /// Gets requests only if no other member can.
    pub(in crate::control) backup: bool,
    pub(in crate::control) labels: Labels,
}

#[derive(Clone, Debug)]
pub(in crate::control) struct Member {
    pub(in crate::control) entry: Entry,
    pub(in crate::control) standing: Standing,
    /// By the entry, the checks and the state of the whole pool; set by [`Members`](super::Members).
    pub(super) eligibility: Eligibility,
    /// The part of its weight that it gets now, in thousandths; less than 1000 while it starts slowly.
    pub(super) share: u32,
    /// What slow start knew of it at its last look.
    pub(super) warmth: Option<Warmth>,
    /// Shared with the workers; it has the entry's id and address.
    pub(in crate::control) backend: Arc<Backend>,
}

// === impl Origin ===

impl Origin {
    pub(in crate::control) fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Attached => "attached",
            Self::Launched => "launched",
        }
    }
}

// === impl Entry ===

impl Entry {
    /// A backend for the trial of a pool that has none. Nothing connects to it.
    pub(in crate::control) fn stand_in() -> Self {
        let socket = ([127, 0, 0, 1], 1).into();
        let (id, address) = ("b1".to_owned(), "127.0.0.1:1".to_owned());
        let (origin, labels) = (Origin::File, Labels::default());
        Self { id, address, socket, weight: 1, origin, order: 0, draining: false, backup: false, labels }
    }
}

// === impl Member ===

impl Member {
    pub(super) fn new(entry: Entry, standing: Standing, stats: Arc<Stats>) -> Self {
        let eligibility = Eligibility::of(standing.is_healthy(), entry.draining, entry.weight);
        let backend = Backend::new(&entry.id, &entry.address, entry.socket, stats, eligibility);
        Self { entry, standing, eligibility, share: FULL_SHARE, warmth: None, backend }
    }

    pub(in crate::control) fn eligibility(&self) -> Eligibility {
        self.eligibility
    }

    /// The part of its weight that it gets now, in thousandths.
    pub(in crate::control) fn share(&self) -> u32 {
        self.share
    }

    /// The input of the rules of the pool.
    pub(in crate::control) fn condition(&self) -> Condition {
        let Entry { draining, weight, backup, .. } = self.entry;
        Condition { finding: self.standing.finding(), draining, weight, backup }
    }

    /// Whether it gets requests, or would get them as a backup whose turn has come.
    pub(in crate::control) fn can_serve(&self) -> bool {
        self.eligibility.is_eligible()
            || (self.entry.backup && self.condition().is_usable() && !self.eligibility.ejected)
    }

    pub(in crate::control) fn id(&self) -> &Arc<str> {
        &self.backend.id
    }

    /// Updates the live flags.
    pub(super) fn show(&self) {
        self.backend.set_eligibility(self.eligibility);
        let has_failed = self.backend.stats.consecutive_errors.load(Relaxed) >= SILENT_FROM;
        self.backend.set_loss(match self.standing.is_lost() {
            true => Loss::Down,
            false if self.eligibility.ejected && has_failed => Loss::Ejected,
            false => Loss::None,
        });
    }
}
