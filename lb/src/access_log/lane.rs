//! One worker's lane to the writer: filled records in one direction, empty ones in the other.
//!
//! Invariants: it is bounded, and neither end ever waits. In the steady state no memory is allocated, because records
//! and their buffers are reused.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crossbeam_queue::ArrayQueue;

use super::record::Record;

/// Records that may wait: at 80,000 requests a second of one worker, all records between two rounds of the writer.
pub(super) const RECORDS_MAX: usize = 4096;

pub(super) struct Lane {
    full: ArrayQueue<Box<Record>>,
    blank: ArrayQueue<Box<Record>>,
    /// The state of the generator; only the worker uses it.
    seed: AtomicU64,
}

// === impl Lane ===

impl Lane {
    pub(super) fn new(seed: u64) -> Self {
        let queue = || ArrayQueue::new(RECORDS_MAX);
        Self { full: queue(), blank: queue(), seed: AtomicU64::new(seed) }
    }

    /// A number from 0 to 1, 1 excluded.
    pub(super) fn draw(&self) -> f64 {
        let mut random = fastrand::Rng::with_seed(self.seed.load(Relaxed));
        let drawn = random.f64();
        self.seed.store(random.get_seed(), Relaxed);
        drawn
    }

    pub(super) fn blank(&self) -> Box<Record> {
        self.blank.pop().unwrap_or_default()
    }

    /// Returns the record if there is no room.
    pub(super) fn push(&self, record: Box<Record>) -> Result<(), Box<Record>> {
        self.full.push(record)
    }

    pub(super) fn pop(&self) -> Option<Box<Record>> {
        self.full.pop()
    }

    /// Gives the record back for its memory.
    pub(super) fn give_back(&self, mut record: Box<Record>) {
        record.clear();
        let _ = self.blank.push(record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_without_room_is_returned_and_memory_is_reused() {
        let lane = Lane::new(1);
        for number in 0..RECORDS_MAX as u64 {
            let mut record = lane.blank();
            record.bytes_in = number;
            assert!(lane.push(record).is_ok());
        }
        let late = lane.push(lane.blank()).unwrap_err();
        lane.give_back(late);
        let first = lane.pop().unwrap();
        assert_eq!(first.bytes_in, 0);
        let address = std::ptr::from_ref(&*first).addr();
        assert!(lane.push(Box::default()).is_ok(), "there is room again");
        lane.give_back(first);
        let again = [lane.blank(), lane.blank()];
        assert!(again.iter().any(|record| std::ptr::from_ref(&**record).addr() == address));
    }

    #[test]
    fn draws_follow_the_seed_and_fill_their_range_evenly() {
        let draws = |seed| {
            let lane = Lane::new(seed);
            (0..10_000).map(|_| lane.draw()).collect::<Vec<_>>()
        };
        assert_eq!(draws(815), draws(815));
        let share = draws(815).iter().filter(|draw| **draw < 0.1).count();
        // 1000 expected, standard deviation 30.
        assert!((850..=1150).contains(&share), "{share}");
        assert_ne!(draws(815)[..10], draws(816)[..10]);
    }
}
