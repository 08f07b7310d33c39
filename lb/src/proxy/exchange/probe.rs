//! The probes of a pick: small requests of lb's own to backends, for the strategy alone.
//!
//! Each probe is a task of the worker (`flight`). It is spawned when the request has its connection. The request's task
//! then writes the head before it waits for anything, so the probe follows the request. Invariants: a pick notes its
//! probes in the exchange and allocates nothing. An instance has at most one probe on its way from this worker to a
//! backend. A backend that is not eligible gets none. No count of requests moves.

mod flight;

use lb_strategy_host::{Decision, PickRequest, Probes};

use self::flight::Flight;
use super::Exchange;
use crate::generation::PoolGeneration;
use crate::proxy::view::MemberView;
use crate::telemetry::ProbeSkip;

/// The probes that a pick asked for.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    probes: Probes,
    instance: u64,
    /// Of the list to which the indexes belong.
    epoch: u64,
}

// === impl Exchange: probes ===

impl Exchange {
    /// A pick of a strategy that wants probes.
    #[inline(never)]
    pub(super) fn pick_and_probe(&self, shared: &PoolGeneration, request: &PickRequest<'_>) -> Decision {
        let (picker, mut probes) = (&shared.picker, Probes::default());
        let decision = picker.pick_and_probe(request, &mut probes);
        if let Decision::Backend { index, .. } = decision
            && probes.refused > 0
            && let Some(current) = &*self.pool.current()
        {
            current.members[index].shard.probes_skipped(ProbeSkip::Refused, probes.refused);
        }
        let asked = Asked { probes, instance: picker.strategy().instance(), epoch: picker.backends().epoch() };
        self.asked.set(Some(asked).filter(|asked| !asked.probes.indexes().is_empty()));
        decision
    }

    /// The host has picked instead.
    #[cold]
    pub(super) fn forget_probes(&self) {
        self.asked.set(None);
    }

    /// Begins the probes of the last pick. `beside`: the backend of the request, which has its connection or will not
    /// get one.
    #[inline]
    pub(super) fn begin_probes(&self, beside: &MemberView) {
        if let Some(asked) = self.asked.take() {
            self.spawn_probes(&asked, beside);
        }
    }

    #[cold]
    #[inline(never)]
    fn spawn_probes(&self, asked: &Asked, beside: &MemberView) {
        let indexes = asked.probes.indexes();
        let current = self.pool.current();
        let same = current.as_ref().filter(|current| {
            let picker = &current.shared.picker;
            (picker.strategy().instance(), picker.backends().epoch()) == (asked.instance, asked.epoch)
        });
        let Some((current, policy)) = same.and_then(|same| Some((same, same.shared.probe.as_ref()?))) else {
            beside.shard.probes_skipped(ProbeSkip::ListChanged, indexes.len() as u32);
            return;
        };
        for index in indexes {
            let member = &current.members[*index as usize];
            match Flight::begin(&self.context.local, &self.pool, member, policy, current.shared.picker.strategy()) {
                Ok((flight, means)) => drop(tokio::task::spawn_local(flight.run(means))),
                Err(reason) => member.shard.probes_skipped(reason, 1),
            }
        }
    }
}
