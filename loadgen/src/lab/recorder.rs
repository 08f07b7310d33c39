//! A scrape of the balancer each second, from the start of a run to its end, for a replay in Grafana.
//!
//! A thread scrapes by an absolute schedule, in all experiments. Invariants: one scrape is before the first request and
//! one after the last response. So the last counters minus the first are those of the run. A failed scrape is recorded
//! as failed. A write error ends the recording, not the run.

use std::io;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::admin::Admin;
use crate::model::{RecordingWriter, Taken};

/// A running recording.
#[derive(Debug)]
pub struct Recorder {
    /// A message completes the recording; a closed channel abandons it.
    going_on: Option<Sender<()>>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

const EVERY: Duration = Duration::from_secs(1);

// === impl Recorder ===

impl Recorder {
    /// Returns after the first scrape.
    pub fn start(admin: &Admin, run: &Path) -> io::Result<Self> {
        let mut writer = RecordingWriter::create(run)?;
        let admin = admin.clone();
        record(&admin, &mut writer)?;
        let (going_on, ended) = mpsc::channel::<()>();
        let work = move || {
            let mut next = Instant::now();
            loop {
                // scrapes whose time passed during a slow response are left out
                while next <= Instant::now() {
                    next += EVERY;
                }
                let is_end = match ended.recv_timeout(next.saturating_duration_since(Instant::now())) {
                    Err(RecvTimeoutError::Timeout) => false,
                    Ok(()) => true,
                    Err(RecvTimeoutError::Disconnected) => return Ok(()),
                };
                record(&admin, &mut writer)?;
                if is_end {
                    return writer.finish();
                }
            }
        };
        let thread = std::thread::Builder::new().name("records-scrapes".to_owned()).spawn(work)?;
        Ok(Self { going_on: Some(going_on), thread: Some(thread) })
    }

    /// Takes a last scrape and moves the recording to its final name.
    pub fn finish(mut self) -> io::Result<()> {
        if let Some(going_on) = &self.going_on {
            let _ = going_on.send(()); // the thread has already ended if it could not write
        }
        self.join()
    }

    fn join(&mut self) -> io::Result<()> {
        let panicked = |_| io::Error::other("the thread that records ended in a panic; this is a fault of loadgen");
        self.thread.take().map_or(Ok(()), |thread| thread.join().map_err(panicked)?)
    }
}

/// Without `finish`, the file is removed.
impl Drop for Recorder {
    fn drop(&mut self) {
        self.going_on = None;
        let _ = self.join();
    }
}

fn record(admin: &Admin, writer: &mut RecordingWriter) -> io::Result<()> {
    let (began, at) = (Instant::now(), SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
    let answer = admin.metrics();
    let base = admin.base();
    let taken = Taken {
        at_unix_ms: u64::try_from(at.as_millis()).unwrap_or(u64::MAX),
        took_us: u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
        instance: base.split_once("://").map_or(base, |(_, address)| address).to_owned(),
        error: answer.as_ref().err().map(ToString::to_string),
    };
    writer.push(&taken, answer.as_deref().unwrap_or_default())
}
