//! The data wing: one thread per core, each with its own runtime, connections and counters; the request path.
//!
//! The acceptor accepts a connection, which then stays on one worker. `downstream` reads its requests and writes the
//! responses, `exchange` handles one request, `upstream` is a connection to a backend. They name each other in this
//! order only; the tidy test holds that. Invariants: nothing here locks, reads a file, formats a label or waits for
//! control. The exception are the course's routes, which use a sender in the generation. A worker's own data is `Rc`;
//! workers share only the hall and atomics.

mod acceptor;
#[cfg(any(test, feature = "bench"))]
#[doc(hidden)]
pub mod bench;
mod body;
mod downstream;
mod exchange;
mod fault;
mod interim;
mod listeners;
mod local;
mod owner;
mod peer;
mod queue;
mod reply;
mod sessions;
mod shown;
#[cfg(any(test, feature = "bench"))]
mod stand;
mod upstream;
mod view;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use self::owner::Owner;
use self::queue::Lobbies;
use crate::generation::Hall;
use crate::net::Descriptors;
use crate::telemetry::Metrics;

/// The running data wing: one acceptor and the workers.
pub struct Proxy {
    acceptor: acceptor::Acceptor,
    workers: Vec<worker::Running>,
}

// === impl Proxy ===

impl Proxy {
    /// Starts the workers, waits until each has taken up the hall's generation, then starts accepting on its listeners.
    pub fn start(hall: &Arc<Hall>, metrics: &Arc<Metrics>, workers: usize) -> std::io::Result<Self> {
        let epoch = Instant::from_std(hall.opened());
        let descriptors = Descriptors::of_process(workers);
        let lobbies = Lobbies::new(workers);
        let workers = (0..workers)
            .map(|number| worker::start(Owner { number, workers, epoch }, hall, metrics, &descriptors, &lobbies))
            .collect::<std::io::Result<Vec<_>>>()?;
        let doors = workers.iter().map(worker::Running::door).collect();
        let acceptor = acceptor::start(doors, hall, metrics, descriptors)?;
        Ok(Self { acceptor, workers })
    }

    /// Whether every thread is alive.
    pub fn is_alive(&self) -> bool {
        self.acceptor.is_alive() && self.workers.iter().all(worker::Running::is_alive)
    }

    /// Stops accepting (connections in the queue are still taken), lets requests finish and closes idle connections.
    /// After `timeout`, cuts off the rest. Returns how many connections were cut off.
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
