//! The data wing: one thread per core, each with its own runtime, connections and counters; the request path.
//!
//! A connection comes in at the acceptor, lives on one worker, and every request of it is told by `forward` from top to bottom:
//! generation → route → key → pick → connection → send → stream back → finish once. Invariants: nothing here locks, reads a file,
//! formats a label or waits for control (but for the course's routes, which travel by a sender in the generation); all that a worker
//! owns is `Rc`, all that workers share is the hall and atomics.

mod acceptor;
mod attempt;
mod body;
mod choose;
mod client;
mod cookies;
mod course;
mod error;
mod fields;
mod forward;
mod headers;
mod listeners;
mod notes;
mod pace;
mod request_id;
mod socket;
mod tunnel;
mod turns;
mod upstream;
mod view;
mod watchdog;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::generation::Hall;
use crate::telemetry::Metrics;

/// The running data wing: one acceptor, some workers.
pub struct Proxy {
    acceptor: acceptor::Acceptor,
    workers: Vec<worker::Running>,
}

// === impl Proxy ===

impl Proxy {
    /// Starts the workers, waits until each has taken up the hall's generation, then starts accepting where it says.
    pub fn start(hall: &Arc<Hall>, metrics: &Arc<Metrics>, workers: usize) -> std::io::Result<Self> {
        let epoch = Instant::from_std(hall.opened());
        let workers = (0..workers)
            .map(|number| worker::start(number, hall, metrics, epoch))
            .collect::<std::io::Result<Vec<_>>>()?;
        let doors = workers.iter().map(worker::Running::door).collect();
        let acceptor = acceptor::start(doors, hall, metrics)?;
        Ok(Self { acceptor, workers })
    }

    /// Whether every thread is alive.
    pub fn is_alive(&self) -> bool {
        self.acceptor.is_alive() && self.workers.iter().all(worker::Running::is_alive)
    }

    /// Stops accepting (what waits in the queue is still taken), lets requests finish, closes idle connections; after `timeout` the
    /// rest is cut off. Answers how many connections that were.
    pub async fn drain(self, timeout: Duration) -> usize {
        let deadline = Instant::now() + timeout;
        self.acceptor.stop().await;
        let mut cut = 0;
        let waiting: Vec<_> = self.workers.into_iter().map(|worker| worker.drain(deadline)).collect();
        for worker in waiting {
            cut += worker.await;
        }
        cut
    }
}
