//! The backend list that is lent to a strategy, and the live numbers that outlive every list.
//!
//! Why the list owns everything it points to: a picker may read it at any time until the picker is freed. Invariant: a
//! list does not change, except for the atomics behind `stats` and `slot`.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use lb_strategy::abi::{LB_BACKEND_ELIGIBLE, LbBackend, LbBackends, LbSlot, LbStats, LbStr};

/// Live statistics of one backend, on cache lines of their own because every worker writes them.
#[repr(align(128))]
#[derive(Debug, Default)]
pub struct Stats(LbStats);

/// A strategy's own eight words for one backend.
#[derive(Debug, Default)]
pub struct Slot(pub(crate) LbSlot);

/// The data of one backend, from which the list is made.
#[derive(Clone, Debug)]
pub struct BackendSpec {
    /// The configured id.
    pub name: Arc<str>,
    /// "host:port".
    pub address: Arc<str>,
    /// A JSON object; "" if the backend has no labels.
    pub labels: Arc<str>,
    /// 0 to 256.
    pub weight: u32,
    /// The weight to pick by, in thousandths; 0 means no new request.
    pub effective: u32,
    /// `LB_BACKEND_*`.
    pub flags: u32,
    pub stats: Arc<Stats>,
    pub slot: Arc<Slot>,
}

/// An immutable list, ready to be lent.
pub struct BackendList {
    /// Points to `items` and `_eligible`, whose heap memory does not move with the list.
    raw: LbBackends,
    items: Box<[LbBackend]>,
    /// The indexes of the eligible backends, ascending.
    _eligible: Box<[u32]>,
    /// The targets of the pointers in `items`.
    owners: Box<[BackendSpec]>,
    /// (id, index), sorted: a finish names its backend by id.
    by_id: Box<[(u64, u32)]>,
}

/// A backend's id in the contract: the XXH3 64-bit hash of its name, so it is the same on every machine and after each
/// restart.
pub fn backend_id(name: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(name.as_bytes())
}

// === impl Stats ===

impl Deref for Stats {
    type Target = LbStats;
    fn deref(&self) -> &LbStats {
        &self.0
    }
}

// === impl Slot ===

impl Slot {
    pub fn words(&self) -> &[AtomicU64; 8] {
        &self.0.word
    }
}

// === impl BackendList ===

impl BackendList {
    /// `epoch` changes with every list, `members_epoch` only if ids, addresses, weights, labels or their order change.
    /// Both are counted per pool. If the members of two lists for one strategy differ, so must their `members_epoch`.
    pub fn new(specs: Vec<BackendSpec>, epoch: u64, members_epoch: u64) -> Self {
        let owners = specs.into_boxed_slice();
        let items: Box<[LbBackend]> = owners
            .iter()
            .map(|spec| LbBackend {
                id: backend_id(&spec.name),
                name: LbStr::new(spec.name.as_bytes()),
                addr: LbStr::new(spec.address.as_bytes()),
                weight: spec.weight,
                effective: spec.effective,
                flags: spec.flags,
                reserved: 0,
                stats: &spec.stats.0,
                slot: &spec.slot.0,
                labels_json: LbStr::new(spec.labels.as_bytes()),
            })
            .collect();
        let is_eligible = |(_, item): &(usize, &LbBackend)| item.flags & LB_BACKEND_ELIGIBLE != 0;
        let eligible: Box<[u32]> =
            items.iter().enumerate().filter(is_eligible).map(|(index, _)| index as u32).collect();
        let mut by_id: Box<[(u64, u32)]> =
            items.iter().enumerate().map(|(index, item)| (item.id, index as u32)).collect();
        by_id.sort_unstable();
        let raw = LbBackends {
            size: size_of::<LbBackends>() as u32,
            len: items.len() as u32,
            stride: size_of::<LbBackend>() as u32,
            reserved: 0,
            base: items.as_ptr().cast(),
            epoch,
            members_epoch,
            eligible: eligible.as_ptr(),
            n_eligible: eligible.len() as u32,
            reserved_1: 0,
        };
        Self { raw, items, _eligible: eligible, owners, by_id }
    }

    pub fn len(&self) -> usize {
        self.items.len()
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub fn specs(&self) -> &[BackendSpec] {
        &self.owners
    }

    pub fn epoch(&self) -> u64 {
        self.raw.epoch
    }

    pub fn members_epoch(&self) -> u64 {
        self.raw.members_epoch
    }

    /// Whether the backend was eligible when the list was made. Health may have changed since, so the proxy checks the
    /// live flag after the pick.
    pub fn is_eligible(&self, index: usize) -> bool {
        self.items[index].flags & LB_BACKEND_ELIGIBLE != 0
    }

    pub(crate) fn raw(&self) -> &LbBackends {
        &self.raw
    }

    /// The slot of the backend with this id, if it is in the list.
    pub(crate) fn slot(&self, id: u64) -> Option<&LbSlot> {
        let at = self.by_id.binary_search_by_key(&id, |entry| entry.0).ok()?;
        Some(&self.owners[self.by_id[at].1 as usize].slot.0)
    }
}
