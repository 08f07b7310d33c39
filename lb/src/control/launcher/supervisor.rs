//! The supervisor of one replica: start, wait, start again, until told to stop.
//!
//! Invariants: the first restart is immediate; then pauses grow from 1 s to 30 s while it keeps dying quickly. The port
//! stays the same if it is free, otherwise the next one is taken. The port is freed only when the process has ended.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};

use super::ports::Ports;
use super::process::{Process, SpawnError, TERM_MAX};
use super::{Death, News, Report};
use crate::config;

/// A death after less time counts as quick.
const QUICK: Duration = Duration::from_secs(10);
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// The longest time that a supervisor takes to stop.
pub(super) const STOP_MAX: Duration = TERM_MAX.saturating_add(Duration::from_secs(2));

pub(super) struct Supervisor {
    number: u64,
    name: Arc<str>,
    plan: Arc<config::Launcher>,
    ports: Arc<Ports>,
    reports: mpsc::Sender<Report>,
}

/// The port that a supervisor holds; free again when dropped.
struct Held {
    ports: Arc<Ports>,
    socket: SocketAddr,
}

// === impl Supervisor ===

impl Supervisor {
    pub(super) fn new(
        number: u64,
        name: Arc<str>,
        plan: Arc<config::Launcher>,
        ports: Arc<Ports>,
        reports: mpsc::Sender<Report>,
    ) -> Self {
        Self { number, name, plan, ports, reports }
    }

    /// Runs until `stopped` receives a message or its sender is gone.
    pub(super) async fn run(self, socket: SocketAddr, mut stopped: oneshot::Receiver<()>) {
        let mut held = Held { ports: self.ports.clone(), socket };
        let mut in_a_row = 0;
        loop {
            let began = Instant::now();
            let death = match Process::start(&self.plan, &self.name, held.socket) {
                Ok(mut process) => {
                    self.tell(News::Started { socket: held.socket, pid: process.pid() }).await;
                    tokio::select! {
                        reason = process.ended() => SpawnError { reason, is_hopeless: false },
                        _ = &mut stopped => {
                            process.stop().await;
                            break;
                        }
                    }
                }
                Err(error) => error,
            };
            in_a_row = if began.elapsed() < QUICK { in_a_row + 1 } else { 1 };
            let next_try = pause(in_a_row);
            let SpawnError { reason, is_hopeless } = death;
            self.tell(News::Died(Death { reason, in_a_row, is_hopeless, next_try })).await;
            tokio::select! {
                () = sleep(next_try) => {}
                _ = &mut stopped => break,
            }
            held.move_on();
        }
        drop(held);
        self.tell(News::Ended).await;
    }

    async fn tell(&self, news: News) {
        let report = Report { supervisor: self.number, name: self.name.clone(), news };
        // The receiver is gone when lb is stopping. Then no report is needed.
        let _ = self.reports.send(report).await;
    }
}

/// The pause after the `n`-th quick death in a row: none, 1 s, 2 s, 4 s … 30 s.
fn pause(in_a_row: u32) -> Duration {
    match in_a_row {
        0 | 1 => Duration::ZERO,
        n => PAUSE_MIN.saturating_mul(1 << (n - 2).min(8)).min(PAUSE_MAX),
    }
}

// === impl Held ===

impl Held {
    /// Reserves the same port if it is free, else another. If none is free the old one stays, and the process will
    /// report that.
    fn move_on(&mut self) {
        self.ports.release(self.socket.port());
        match self.ports.reserve(Some(self.socket.port())) {
            Ok(socket) => self.socket = socket,
            Err(reason) => tracing::error!(reason, "no other port for the replica"),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.ports.release(self.socket.port());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restart_is_immediate_and_pauses_grow_to_half_a_minute() {
        let seconds: Vec<u64> = (0..9).map(|n| pause(n).as_secs()).collect();
        assert_eq!(seconds, [0, 0, 1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(pause(u32::MAX), PAUSE_MAX);
    }
}
