//! The array of slots: virtual servers that are placed with probing, and for every slot the target of its requests.
//!
//! Invariants: no two virtual servers share a slot. The placement depends on the members' numbers and names, not on the
//! order of the list. Only members whose name has no number are numbered by their position.

use lb_strategy::{Backends, Error, RING_ARCS_MAX};
use serde::Deserialize;

use crate::expression::Expression;

/// The search for a free slot, for a virtual server whose slot is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Probing {
    /// The next free slot: +1, +2, +3 …
    #[default]
    Linear,
    /// +1, +4, +9 …. If squares reach no free slot, it continues as `Linear`. Of 512 slots, squares reach 87.
    Quadratic,
}

/// How to place virtual servers.
pub(crate) struct Placing<'a> {
    pub(crate) slots: usize,
    pub(crate) virtual_servers: u32,
    pub(crate) first_virtual_index: u32,
    pub(crate) probing: Probing,
    /// Phi(i, j).
    pub(crate) server: &'a Expression,
}

/// The array of one list.
pub(crate) struct Ring {
    pub(crate) members_epoch: u64,
    /// Slots of the virtual servers, ascending.
    pub(crate) points: Box<[u32]>,
    /// The owner of each: an index into every list of this members epoch.
    owners: Box<[u32]>,
    /// For each slot, the first virtual server there or after it, clockwise.
    homes: Box<[u32]>,
    /// Pairs of backends with the same number, as indexes.
    pub(crate) clashes: Vec<(usize, usize)>,
}

/// A server's number i: the digits at the end of its name ("Server 12" is 12), else its position in the list, counted
/// from 1.
pub(crate) fn number(name: &str, position: usize) -> u64 {
    let digits = &name[name.trim_end_matches(|last: char| last.is_ascii_digit()).len()..];
    // A name may end with up to 64 digits. Only the last 18 are used, which fit a u64.
    digits[digits.len().saturating_sub(18)..].parse().unwrap_or(position as u64 + 1)
}

// === impl Placing ===

impl Placing<'_> {
    pub(crate) fn ring(&self, backends: &Backends<'_>) -> Result<Ring, Error> {
        let wanted = backends.len() * self.virtual_servers as usize;
        if wanted > self.slots {
            return Err(format!(
                "{} servers × {} virtual servers do not fit {} slots: raise slots, or lower virtual_servers to {} or less",
                backends.len(),
                self.virtual_servers,
                self.slots,
                self.slots / backends.len()
            )
            .into());
        }
        let mut members: Vec<(u64, &str, usize)> =
            backends.iter().enumerate().map(|(at, backend)| (number(backend.name(), at), backend.name(), at)).collect();
        members.sort_unstable();
        let clashes = members.windows(2).filter(|pair| pair[0].0 == pair[1].0).map(|pair| (pair[0].2, pair[1].2));
        let mut taken: Vec<Option<u32>> = vec![None; self.slots];
        for &(number, name, at) in &members {
            for j in self.indexes() {
                let slot = self.slot(number, j).map_err(|fault| Error::new(format!("{fault} for {name:?}")))?;
                let free = self.free(&taken, slot).ok_or_else(|| Error::new("no slot is free"))?;
                taken[free] = Some(at as u32);
            }
        }
        Ok(Ring::new(&taken, backends.members_epoch(), clashes.collect()))
    }

    /// The numbers j of a server's virtual servers.
    pub(crate) fn indexes(&self) -> impl Iterator<Item = u32> + use<> {
        self.first_virtual_index..self.first_virtual_index + self.virtual_servers
    }

    /// Phi(i, j) modulo the number of slots.
    pub(crate) fn slot(&self, number: u64, j: u32) -> Result<usize, String> {
        let value = self.server.value(i128::from(number), i128::from(j));
        let value = value.map_err(|fault| format!("server: {fault} at i = {number}, j = {j}"))?;
        Ok(value.rem_euclid(self.slots as i128) as usize)
    }

    fn free(&self, taken: &[Option<u32>], slot: usize) -> Option<usize> {
        let slots = self.slots;
        let squares = match self.probing {
            Probing::Linear => 0,
            Probing::Quadratic => slots,
        };
        let probes = (0..squares).map(|step| (slot + step * step) % slots);
        probes.chain((0..slots).map(|step| (slot + step) % slots)).find(|&at| taken[at].is_none())
    }
}

// === impl Ring ===

impl Ring {
    fn new(taken: &[Option<u32>], members_epoch: u64, clashes: Vec<(usize, usize)>) -> Self {
        let placed = || taken.iter().enumerate().filter_map(|(slot, owner)| owner.map(|owner| (slot as u32, owner)));
        let points: Box<[u32]> = placed().map(|point| point.0).collect();
        let homes = (0..taken.len() as u32).map(|slot| {
            let next = points.partition_point(|&point| point < slot);
            if next < points.len() { next as u32 } else { 0 }
        });
        Self { members_epoch, owners: placed().map(|point| point.1).collect(), homes: homes.collect(), points, clashes }
    }

    /// Goes clockwise from `slot` to the first virtual server whose backend may serve. Returns the number of passed
    /// virtual servers and the backend's index.
    #[inline]
    pub(crate) fn walk(&self, slot: usize, may_serve: impl Fn(usize) -> bool) -> Option<(usize, usize)> {
        let home = self.homes[slot] as usize;
        let first = *self.owners.get(home)? as usize;
        if may_serve(first) {
            return Some((0, first));
        }
        let next = self.owners[home..].iter().chain(&self.owners[..home]).enumerate().skip(1);
        next.map(|(passed, &owner)| (passed, owner as usize)).find(|&(_, owner)| may_serve(owner))
    }

    /// The arcs for a picture, one for each virtual server; `None` if there are more than [`RING_ARCS_MAX`]. Each has
    /// its end as a part of the circle, its owner, and the share of requests that begin there. `at_slot` has the number
    /// of requests that begin at each slot.
    pub(crate) fn arcs(&self, at_slot: &[u32]) -> Option<Vec<(f64, u32, f64)>> {
        if self.points.len() > RING_ARCS_MAX {
            return None;
        }
        let mut begin = vec![0_u64; self.points.len()];
        self.homes.iter().zip(at_slot).for_each(|(&home, &requests)| {
            if let Some(begin) = begin.get_mut(home as usize) {
                *begin += u64::from(requests);
            }
        });
        let all: u64 = at_slot.iter().map(|&requests| u64::from(requests)).sum();
        // Ten digits are finer than any picture.
        let part = |of: u64, all: u64| (of as f64 / all as f64 * 1e10).round() / 1e10;
        let end = |slot: u32| part(u64::from(slot) + 1, self.homes.len() as u64);
        let arcs = self.points.iter().zip(&self.owners).zip(&begin);
        Some(arcs.map(|((&slot, &owner), &begin)| (end(slot), owner, part(begin, all))).collect())
    }

    /// The virtual server `passed` steps after the first one for `slot`: its slot and its backend's index.
    pub(crate) fn point(&self, slot: usize, passed: usize) -> (u32, usize) {
        let at = (self.homes[slot] as usize + passed) % self.points.len();
        (self.points[at], self.owners[at] as usize)
    }
}
