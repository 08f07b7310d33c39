//! The buckets of AnchorHash: which of them work, and which one a hash leads to.
//!
//! The names are those of the paper's pseudocode (section IV, algorithm 3, without the arrays W and L):
//!
//! - A\[b\] is 0 if bucket `b` works. Otherwise it is the number of buckets that worked right after its removal.
//! - K\[b\] is the bucket that took the place of `b` at its removal; `b` itself if it works.
//! - R are the removed buckets, the last one at the end.
//!
//! Invariants: the arrays follow from R alone, because `add` takes back the last `remove`. At least one bucket works,
//! so A of a removed bucket is above 0.

use lb_hashing::{mix, part_of};

/// The limit of buckets. So many need 12 MB.
pub(crate) const CAPACITY_MAX: u32 = 1 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Anchor {
    /// A and K of each bucket, side by side, because a lookup needs both.
    buckets: Box<[Bucket]>,
    removed: Vec<u32>,
    working: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bucket {
    /// A: 0 while it works.
    worked_after: u32,
    /// K.
    successor: u32,
}

// === impl Anchor ===

impl Anchor {
    /// All `capacity` buckets work.
    pub(crate) fn full(capacity: u32) -> Self {
        let buckets = (0..capacity).map(|number| Bucket { worked_after: 0, successor: number });
        Self { buckets: buckets.collect(), removed: Vec::with_capacity(capacity as usize), working: capacity }
    }

    /// Bucket 0 works. The others will be added in ascending order.
    pub(crate) fn new(capacity: u32) -> Self {
        let mut anchor = Self::full(capacity);
        (1..capacity).rev().for_each(|bucket| anchor.remove(bucket));
        anchor
    }

    pub(crate) fn capacity(&self) -> u32 {
        self.buckets.len() as u32
    }

    pub(crate) fn working(&self) -> u32 {
        self.working
    }

    pub(crate) fn removed(&self) -> &[u32] {
        &self.removed
    }

    pub(crate) fn works(&self, bucket: u32) -> bool {
        self.buckets.get(bucket as usize).is_some_and(|bucket| bucket.worked_after == 0)
    }

    /// Removes a bucket that works. Another one must work, too.
    pub(crate) fn remove(&mut self, bucket: u32) {
        let last = self.at_view(self.working - 1, self.working);
        self.working -= 1;
        self.buckets[bucket as usize] = Bucket { worked_after: self.working, successor: last };
        self.removed.push(bucket);
    }

    /// Adds the bucket that was removed last. `None` if all work.
    pub(crate) fn add(&mut self) -> Option<u32> {
        let bucket = self.removed.pop()?;
        self.buckets[bucket as usize] = Bucket { worked_after: 0, successor: bucket };
        self.working += 1;
        Some(bucket)
    }

    /// The working bucket of a hash.
    #[inline]
    pub(crate) fn bucket(&self, hash: u64) -> u32 {
        let mut bucket = part_of(hash, self.buckets.len() as u64) as u32;
        loop {
            let view = self.buckets[bucket as usize].worked_after;
            if view == 0 {
                return bucket;
            }
            let place = part_of(mix(hash, u64::from(bucket)), u64::from(view)) as u32;
            bucket = self.at_view(place, view);
        }
    }

    /// The bucket at `place` when `view` buckets worked.
    #[inline]
    fn at_view(&self, mut place: u32, view: u32) -> u32 {
        loop {
            let Bucket { worked_after, successor } = self.buckets[place as usize];
            if worked_after < view {
                return place;
            }
            place = successor;
        }
    }
}
