//! The thread that writes: it empties the lanes, makes lines, and writes them in large pieces.
//!
//! It polls the lanes and is not woken by them, so that logging costs a worker no system call. Invariants: only this
//! thread uses the sink. When it is told to flush or to end, it first writes every queued line or counts it as dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::AcqRel, Ordering::Acquire, Ordering::Release};
use std::thread::Thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::{Condvar, Mutex};

use super::lane::{Lane, RECORDS_MAX};
use super::sink::Sink;
use super::spell::Stamp;
use super::{json, text};
use crate::config::LogFormat;
use crate::telemetry::{AccessLogCounts, LogDropReason};

/// How long a line may stay in its lane: long enough to write many at once.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The size of one write, plus at most one line.
const PIECE_BYTES: usize = 64 * 1024;

/// Shared by the workers, the thread and its callers.
pub(super) struct Shared {
    /// One for each worker.
    pub(super) lanes: Box<[Lane]>,
    pub(super) counts: Arc<AccessLogCounts>,
    closing: AtomicBool,
    reopen: AtomicBool,
    flushes: Mutex<Flushes>,
    flushed: Condvar,
}

/// Numbers of requests to flush.
#[derive(Default)]
struct Flushes {
    asked: u64,
    done: u64,
}

/// Lines before they are written.
struct Piece {
    bytes: Vec<u8>,
    lines: usize,
}

/// Both clocks at one moment: the time of day at any other moment follows from them.
struct Clock {
    now: Instant,
    /// The time of day, since 1970.
    unix_ns: u64,
}

pub(super) fn start(shared: Arc<Shared>, sink: Sink, format: LogFormat) -> std::io::Result<Thread> {
    let thread = std::thread::Builder::new().name("lb-access-log".to_owned());
    Ok(thread.spawn(move || run(&shared, sink, format))?.thread().clone())
}

fn run(shared: &Shared, mut sink: Sink, format: LogFormat) {
    let mut stamp = Stamp::new(format);
    let line = match format {
        LogFormat::Json => json::line,
        LogFormat::Text => text::line,
    };
    let mut piece = Piece { bytes: Vec::with_capacity(PIECE_BYTES + 4096), lines: 0 };
    loop {
        // All three are read before the lanes, so lines that were queued before are done after this round.
        let is_closing = shared.closing.load(Acquire);
        let asked = shared.flushes.lock().asked;
        if shared.reopen.swap(false, AcqRel) {
            sink.reopen();
        }
        let clock = Clock::read();
        let mut most = 0;
        for lane in &shared.lanes {
            // Limited, so that a lane that fills as fast as it empties holds up neither other lanes nor callers.
            let mut found = 0;
            while found < RECORDS_MAX
                && let Some(record) = lane.pop()
            {
                line(&mut piece.bytes, &record, stamp.of(clock.unix_ms(record.started)));
                lane.give_back(record);
                piece.lines += 1;
                found += 1;
                if piece.bytes.len() >= PIECE_BYTES {
                    piece.write(&mut sink, &shared.counts);
                }
            }
            most = most.max(found);
        }
        piece.write(&mut sink, &shared.counts);
        shared.say_done(asked);
        if is_closing {
            return;
        }
        // If lines arrive this fast, they do not wait that long.
        if most < RECORDS_MAX / 2 {
            std::thread::park_timeout(LOOK_EVERY);
        }
    }
}

// === impl Clock ===

impl Clock {
    fn read() -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { now: Instant::now(), unix_ns: since_1970.as_nanos() as u64 }
    }

    /// The time of day at `at`, in milliseconds since 1970.
    #[inline]
    fn unix_ms(&self, at: Instant) -> u64 {
        let unix_ns = match self.now.checked_duration_since(at) {
            Some(before) => self.unix_ns.saturating_sub(before.as_nanos() as u64),
            None => self.unix_ns.saturating_add((at - self.now).as_nanos() as u64),
        };
        unix_ns / 1_000_000
    }
}

// === impl Piece ===

impl Piece {
    fn write(&mut self, sink: &mut Sink, counts: &AccessLogCounts) {
        if self.lines == 0 {
            return;
        }
        let written = sink.write(&self.bytes, self.lines);
        counts.wrote(written as u64);
        counts.dropped(LogDropReason::WriteFailed, (self.lines - written) as u64);
        self.bytes.clear();
        self.lines = 0;
    }
}

// === impl Shared ===

impl Shared {
    pub(super) fn new(lanes: Box<[Lane]>, counts: Arc<AccessLogCounts>) -> Self {
        Self {
            lanes,
            counts,
            closing: AtomicBool::new(false),
            reopen: AtomicBool::new(false),
            flushes: Mutex::default(),
            flushed: Condvar::new(),
        }
    }

    pub(super) fn close(&self) {
        self.closing.store(true, Release);
    }

    pub(super) fn ask_to_reopen(&self) {
        self.reopen.store(true, Release);
    }

    pub(super) fn flush(&self, time_max: Duration, writer: &Thread) -> bool {
        let bound = Instant::now() + time_max;
        let mut flushes = self.flushes.lock();
        flushes.asked += 1;
        let own = flushes.asked;
        writer.unpark();
        while flushes.done < own && !self.flushed.wait_until(&mut flushes, bound).timed_out() {}
        flushes.done >= own
    }

    fn say_done(&self, asked: u64) {
        let mut flushes = self.flushes.lock();
        if flushes.done < asked {
            flushes.done = asked;
            self.flushed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_day_follows_from_the_distance_to_now() {
        let now = Instant::now() + Duration::from_secs(10);
        let clock = Clock { now, unix_ns: 5_000_900_000 };
        let at = |us: i64| match us < 0 {
            true => now - Duration::from_micros(us.unsigned_abs()),
            false => now + Duration::from_micros(us as u64),
        };
        let times = [0, -900, -901, 99, 100, -1_000_000, 1_000_000, -6_000_000].map(|us| clock.unix_ms(at(us)));
        assert_eq!(times, [5000, 5000, 4999, 5000, 5001, 4000, 6000, 0]);
    }
}
