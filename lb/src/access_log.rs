//! The access log: one line for each request, or for a share of them, in a file, on stdout or in a pipe.
//!
//! A worker fills a [`Record`] while it handles a request: numbers and copied bytes, nothing formatted. Records are
//! reused for their memory. At the end of the request the record goes into the worker's lane, a bounded queue without a
//! lock. The log's own thread empties the lanes, makes lines and writes many at a time.
//!
//! Invariants:
//!
//! - A worker never waits, not even if a disk is slow, full or gone. A record without room is dropped and counted:
//!   written and dropped lines together are all lines.
//! - No byte of a client can begin a line or end a field.
//! - When the last handle is dropped, queued lines are written and the thread ends.

mod address;
mod json;
mod lane;
mod plain;
mod record;
mod sink;
mod spell;
mod text;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::Thread;
use std::time::Duration;

use crate::config;
use crate::telemetry::{AccessLogCounts, LogDropReason};
use lane::Lane;
pub use record::{Record, Text};
use sink::Sink;
use writer::Shared;

/// A handle of the log. Cheap to clone; equal if it is the same log.
#[derive(Clone)]
pub struct AccessLog(Arc<Handle>);

struct Handle {
    config: config::AccessLog,
    shared: Arc<Shared>,
    writer: Thread,
}

/// The log cannot be written to its place.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("access_log.path {} cannot be written: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("access_log.path is \"-\", and stdout cannot be written: {0}")]
    Stdout(std::io::Error),
    #[error("the access log's thread cannot be started: {0}")]
    Thread(std::io::Error),
}

// === impl AccessLog ===

impl AccessLog {
    /// Opens the file (creates it if missing) and starts the thread that writes.
    pub fn open(config: &config::AccessLog, workers: usize, counts: Arc<AccessLogCounts>) -> Result<Self, OpenError> {
        Self::open_seeded(config, workers, counts, fastrand::u64(..))
    }

    /// The same, with a seed for the choice of requests if only a share gets a line.
    pub fn open_seeded(
        config: &config::AccessLog,
        workers: usize,
        counts: Arc<AccessLogCounts>,
        seed: u64,
    ) -> Result<Self, OpenError> {
        let sink = Sink::open(config.path.as_deref()).map_err(|source| open_error(config, source))?;
        let lanes = (0..workers as u64).map(|worker| Lane::new(seed.wrapping_add(worker))).collect();
        let shared = Arc::new(Shared::new(lanes, counts));
        let writer = writer::start(shared.clone(), sink, config.format).map_err(OpenError::Thread)?;
        Ok(Self(Arc::new(Handle { config: config.clone(), shared, writer })))
    }

    /// Tests whether [`AccessLog::open`] would work, without creating a file.
    pub fn check(config: &config::AccessLog) -> Result<(), OpenError> {
        Sink::check(config.path.as_deref()).map_err(|source| open_error(config, source))
    }

    /// Its configuration.
    pub fn config(&self) -> &config::AccessLog {
        &self.0.config
    }

    /// A record for a request of this worker; `None` if the request gets no line in any case.
    #[inline]
    pub fn begin(&self, worker: u32) -> Option<Box<Record>> {
        let config = &self.0.config;
        let lane = self.lane(worker);
        let is_drawn = config.sample >= 1.0 || lane.draw() < config.sample;
        (is_drawn || config.always_errors).then(|| {
            let mut record = lane.blank();
            record.is_drawn = is_drawn;
            record
        })
    }

    /// The request is over: its record becomes a line if it was chosen or failed.
    #[inline]
    pub fn end(&self, worker: u32, record: Box<Record>) {
        let lane = self.lane(worker);
        if !(record.is_drawn || (self.0.config.always_errors && record.has_failed())) {
            lane.give_back(record);
        } else if let Err(record) = lane.push(record) {
            self.0.shared.counts.dropped(LogDropReason::QueueFull, 1);
            lane.give_back(record);
        }
    }

    /// Opens the file of this name again, because it was moved away (log rotation).
    pub fn reopen(&self) {
        self.0.shared.ask_to_reopen();
        self.0.writer.unpark();
    }

    /// Waits until all earlier lines are written, for at most `time_max`; `false` if they are not.
    pub fn flush(&self, time_max: Duration) -> bool {
        self.0.shared.flush(time_max, &self.0.writer)
    }

    fn lane(&self, worker: u32) -> &Lane {
        let lanes = &self.0.shared.lanes;
        &lanes[worker as usize % lanes.len()]
    }
}

impl PartialEq for AccessLog {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl std::fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("AccessLog").field(&self.0.config).finish()
    }
}

// === impl Handle ===

impl Drop for Handle {
    /// The last handle is gone: the thread writes the queued lines and ends.
    fn drop(&mut self) {
        self.shared.close();
        self.writer.unpark();
    }
}

fn open_error(config: &config::AccessLog, source: std::io::Error) -> OpenError {
    match &config.path {
        Some(path) => OpenError::File { path: path.clone(), source },
        None => OpenError::Stdout(source),
    }
}
