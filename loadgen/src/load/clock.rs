//! Time as nanoseconds from the start of a run: one number to compare, store and subtract.
//!
//! Pacing and lateness read the time through [`Now`], so that tests can use their own clock.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, Timespec, clock_gettime};

/// A source of the time in nanoseconds from the start of the run.
pub(super) trait Now {
    fn now(&self) -> u64;
}

/// The clock that all threads of a run share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    origin: Instant,
    /// The same moment on the kernel's monotonic clock. Timers need it, and `Instant` does not show it.
    origin_ns: u64,
}

// === impl Clock ===

impl Clock {
    pub(super) fn start() -> Self {
        // Read one after the other, both clocks agree to a few nanoseconds, unless the thread was interrupted between.
        // So take the closest pair.
        let pairs = std::iter::repeat_with(|| {
            let origin_ns = monotonic_ns();
            let origin = Instant::now();
            (monotonic_ns() - origin_ns, Self { origin, origin_ns })
        });
        let closest = pairs.take(8).min_by_key(|(apart_ns, _)| *apart_ns);
        closest.expect("eight were read").1
    }

    /// 0 for a moment before the start.
    pub(super) fn at(&self, instant: Instant) -> u64 {
        nanos(instant.saturating_duration_since(self.origin))
    }

    /// A moment in the form that the kernel uses.
    pub(super) fn timespec(&self, ns: u64) -> Timespec {
        timespec(self.origin_ns.saturating_add(ns))
    }
}

impl Now for Clock {
    fn now(&self) -> u64 {
        monotonic_ns() - self.origin_ns
    }
}

/// `u64::MAX` for a longer time; 2^64 ns are 584 years.
pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

pub(super) fn timespec(ns: u64) -> Timespec {
    Timespec { tv_sec: (ns / 1_000_000_000) as i64, tv_nsec: (ns % 1_000_000_000) as i64 }
}

fn monotonic_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
