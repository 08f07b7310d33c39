//! AnchorHash: even shares and minimal moves for any change, from a short memory of the changes.
//!
//! Source: Mendelson et al., "AnchorHash: A Scalable Consistent Hash", IEEE/ACM Transactions on Networking, 2021,
//! arXiv 1812.09674, section IV. This is the variant with two arrays, A and K.
//!
//! Idea: there are `capacity` buckets, more than backends. Some work, and the others are removed, in a known order. A
//! hash leads to one of all buckets. If it is removed, the key is hashed again, to one of the buckets that worked right
//! after that removal. That is repeated until a working one is found. So a key moves only if its bucket is removed, or
//! if a bucket returns that it would have had.
//!
//! What it cannot do: a bucket that is added is always the one that was removed last. So the owner of a bucket depends
//! on the order of all changes. Two processes with the same backends and other histories disagree about keys. Each
//! change still moves only the keys that must move. It declares `"consistent":"history"` for that reason. A swap and a
//! restart with `[state] keep` keep the history. A process without one gives the buckets out in order of id.
//!
//! Buckets: a backend has as many as its weight. A pick needs about 1 + ln(capacity / buckets in use) hashes, so the
//! capacity should be some times the sum of all weights. It can only change with a new history.
//!
//! Outages: a backend that is down keeps its buckets. A key whose backend may not serve goes on to spare places, see
//! `choose` of lb-hashing. So an outage moves only the keys of that backend, and they return.
//!
//! Invariants: at least one bucket works. If all members have left, it is vacant until one comes. A refused list
//! changes no history.

mod anchor;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use lb_hashing::{Choice, choose};
use lb_strategy::{Backends, Error, Host, Pick, Request, StateSchema, Strategy};
use serde::Deserialize;
use serde_json::json;

use anchor::{Anchor, CAPACITY_MAX};

pub struct AnchorHash {
    capacity: u32,
    /// The history. Only the builder thread takes this lock; a pick has a copy.
    owned: Mutex<Owned>,
}

/// `[strategy.config.anchor_hash]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The number of buckets. The sum of all weights must never be above it.
    #[serde(default = "default_capacity")]
    capacity: u32,
}

/// The buckets, and the owners of those that work.
#[derive(Clone)]
struct Owned {
    anchor: Anchor,
    /// The working buckets of each backend, by id, in the order in which it got them.
    buckets: BTreeMap<u64, Vec<u32>>,
    /// The only working bucket, if it has no owner.
    vacant: Option<u32>,
}

/// The view of one list.
pub struct View {
    anchor: Anchor,
    /// The owner of each bucket, as an index into the list. `NO_OWNER` if it does not work.
    owners: Box<[u32]>,
}

const NO_OWNER: u32 = u32::MAX;
const STATE_VERSION: u32 = 1;

lb_strategy::export!(AnchorHash);

fn default_capacity() -> u32 {
    1024
}

// === impl AnchorHash ===

impl Strategy for AnchorHash {
    const NAME: &'static str = "anchor_hash";
    const WANTS_HASH: bool = true;
    const EXPLAINS: bool = true;
    const STATE: Option<StateSchema> = Some(StateSchema { schema: "anchor_hash", version: STATE_VERSION });
    const EXPECTATION: &'static str = r#"{"balance":"multinomial","weights":true,"consistent":"history"}"#;
    type Config = Options;
    type Picker = View;

    fn new(options: Options, _: Host) -> Result<Self, Error> {
        let capacity = options.capacity;
        if !(1..=CAPACITY_MAX).contains(&capacity) {
            return Err(format!("capacity is {capacity}: it may be 1 to {CAPACITY_MAX}").into());
        }
        Ok(Self { capacity, owned: Mutex::new(Owned::new(capacity)) })
    }

    fn picker(&self, backends: &Backends<'_>) -> Result<View, Error> {
        let mut owned = self.owned.lock().unwrap_or_else(PoisonError::into_inner);
        let members: BTreeMap<u64, (u32, u32)> =
            (0..).zip(backends.iter()).map(|(index, backend)| (backend.id(), (index, backend.weight()))).collect();
        owned.follow(&members)?;
        let mut owners = vec![NO_OWNER; self.capacity as usize].into_boxed_slice();
        for (id, buckets) in &owned.buckets {
            let index = members.get(id).map_or(NO_OWNER, |(index, _)| *index);
            buckets.iter().for_each(|bucket| owners[*bucket as usize] = index);
        }
        Ok(View { anchor: owned.anchor.clone(), owners })
    }

    fn pick(&self, view: &View, backends: &Backends<'_>, request: &Request<'_>) -> Pick {
        let Some(hash) = request.hash() else { return Pick::Fallback };
        view.choose(hash, backends, request).map_or(Pick::NoBackend, |choice| Pick::Backend(choice.backend))
    }

    fn explain(&self, view: &View, backends: &Backends<'_>, request: &Request<'_>) -> String {
        let Some(hash) = request.hash() else {
            return json!({ "pick": "fallback", "reason": "the request has no key" }).to_string();
        };
        let name = |index: usize| backends.get(index).map_or("", |backend| backend.name());
        let choice = view.choose(hash, backends, request);
        json!({
            "bucket": view.anchor.bucket(hash),
            "owner": view.owner(hash).map(name),
            "passed": choice.map(|choice| choice.passed),
            "backend": choice.map(|choice| name(choice.backend)),
            "buckets": view.anchor.working(),
            "capacity": view.owners.len(),
        })
        .to_string()
    }

    fn export(&self) -> Vec<u8> {
        self.owned.lock().unwrap_or_else(PoisonError::into_inner).export()
    }

    fn import(&self, version: u32, bytes: &[u8]) -> Result<(), Error> {
        if version != STATE_VERSION {
            return Err(format!("it knows version {STATE_VERSION} of its history, not {version}").into());
        }
        let owned = Owned::import(self.capacity, bytes)?;
        *self.owned.lock().unwrap_or_else(PoisonError::into_inner) = owned;
        Ok(())
    }
}

// === impl View ===

impl View {
    #[inline]
    fn owner(&self, hash: u64) -> Option<usize> {
        let owner = self.owners[self.anchor.bucket(hash) as usize];
        (owner != NO_OWNER).then_some(owner as usize)
    }

    #[inline]
    fn choose(&self, hash: u64, backends: &Backends<'_>, request: &Request<'_>) -> Option<Choice> {
        choose(hash, backends, request, |hash| self.owner(hash))
    }
}

// === impl Owned ===

impl Owned {
    /// Before the first list: one bucket works, and it is vacant.
    fn new(capacity: u32) -> Self {
        Self { anchor: Anchor::new(capacity), buckets: BTreeMap::new(), vacant: Some(0) }
    }

    /// Takes up a new list: id → (index, weight). Backends that left lose their buckets first, then the others get
    /// theirs, in order of id.
    fn follow(&mut self, members: &BTreeMap<u64, (u32, u32)>) -> Result<(), Error> {
        let sum: u64 = members.values().map(|(_, weight)| u64::from(*weight)).sum();
        if sum > u64::from(self.anchor.capacity()) {
            return Err(format!(
                "the weights of its backends sum to {sum}, and it has {} buckets: set capacity to {} or more",
                self.anchor.capacity(),
                sum.next_power_of_two() * 2
            )
            .into());
        }
        let mut lost: Vec<u32> = Vec::new();
        for (id, buckets) in &mut self.buckets {
            let weight = members.get(id).map_or(0, |(_, weight)| *weight as usize);
            lost.extend(buckets.drain(weight.min(buckets.len())..));
        }
        self.buckets.retain(|_, buckets| !buckets.is_empty());
        // The highest first: mostly those that were added last, so that their removal restores what was before.
        lost.sort_unstable_by(|one, two| two.cmp(one));
        for bucket in lost {
            if self.anchor.working() == 1 {
                self.vacant = Some(bucket);
            } else {
                self.anchor.remove(bucket);
            }
        }
        for (id, &(_, weight)) in members.iter().filter(|(_, (_, weight))| *weight > 0) {
            let buckets = self.buckets.entry(*id).or_default();
            while buckets.len() < weight as usize {
                let next = self.vacant.take().or_else(|| self.anchor.add());
                buckets.push(next.expect("the sum of the weights is at most the capacity"));
            }
        }
        Ok(())
    }

    /// Numbers in little endian:
    ///
    /// - the capacity;
    /// - how many of the highest buckets were removed first, in descending order;
    /// - how many buckets were removed after them, and which;
    /// - each working bucket with its owner.
    ///
    /// The arrays follow from the order of removals.
    fn export(&self) -> Vec<u8> {
        let removed = self.anchor.removed();
        let descending = (0..self.anchor.capacity()).rev();
        let first = removed.iter().zip(descending).take_while(|(bucket, highest)| *bucket == highest).count();
        let mut bytes = Vec::new();
        bytes.extend(self.anchor.capacity().to_le_bytes());
        bytes.extend((first as u32).to_le_bytes());
        bytes.extend(((removed.len() - first) as u32).to_le_bytes());
        removed[first..].iter().for_each(|bucket| bytes.extend(bucket.to_le_bytes()));
        for (id, buckets) in &self.buckets {
            for bucket in buckets {
                bytes.extend(bucket.to_le_bytes());
                bytes.extend(id.to_le_bytes());
            }
        }
        bytes
    }

    fn import(capacity: u32, bytes: &[u8]) -> Result<Self, Error> {
        let damaged = || Error::new("its history is damaged");
        let mut rest = bytes;
        let of = take(&mut rest).map(u32::from_le_bytes).ok_or_else(damaged)?;
        if of != capacity {
            return Err(format!("its history has {of} buckets and not {capacity}: it starts without a history").into());
        }
        let first = take(&mut rest).map(u32::from_le_bytes).filter(|first| *first < capacity).ok_or_else(damaged)?;
        let count = take(&mut rest).map(u32::from_le_bytes).ok_or_else(damaged)?;
        let mut anchor = Anchor::full(capacity);
        (capacity - first..capacity).rev().for_each(|bucket| anchor.remove(bucket));
        for _ in 0..count {
            let bucket = take(&mut rest).map(u32::from_le_bytes).ok_or_else(damaged)?;
            if !anchor.works(bucket) || anchor.working() == 1 {
                return Err(damaged());
            }
            anchor.remove(bucket);
        }
        let mut owned = Self { anchor, buckets: BTreeMap::new(), vacant: None };
        let mut is_owned = vec![false; capacity as usize];
        while let Some(bucket) = take(&mut rest).map(u32::from_le_bytes) {
            let id = take(&mut rest).map(u64::from_le_bytes).ok_or_else(damaged)?;
            if !owned.anchor.works(bucket) || std::mem::replace(&mut is_owned[bucket as usize], true) {
                return Err(damaged());
            }
            owned.buckets.entry(id).or_default().push(bucket);
        }
        let unowned = (0..capacity).filter(|bucket| owned.anchor.works(*bucket) && !is_owned[*bucket as usize]);
        let unowned: Vec<u32> = unowned.collect();
        match unowned[..] {
            [] if rest.is_empty() => {}
            [vacant] if rest.is_empty() && owned.anchor.working() == 1 => owned.vacant = Some(vacant),
            _ => return Err(damaged()),
        }
        Ok(owned)
    }
}

/// The next `N` bytes.
fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*first)
}

#[cfg(test)]
mod tests;
