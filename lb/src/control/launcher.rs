//! The launcher: keeps the wanted replicas running as child processes of lb.
//!
//! Each replica has a supervisor task ([`supervisor`]), which starts the process and learns of its death from `wait()`.
//! It then starts the process again under the same name, which is the same place on a hash ring. Invariants: a process
//! ends with lb. Its stdin is a pipe that closes even after `kill -9`, and a stop signals its whole process group.
//! Every process is waited for, so there is no zombie. Two replicas never get one port.

mod command_line;
mod ports;
mod process;
mod supervisor;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use self::command_line::CommandLine;
use self::ports::Ports;
use self::supervisor::Supervisor;
use crate::config;

/// A report of one supervisor.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) supervisor: u64,
    /// The replica's name.
    pub(super) name: Arc<str>,
    pub(super) news: News,
}

/// What a supervisor reports.
#[derive(Debug)]
pub(super) enum News {
    /// A process runs that will listen on `socket`.
    Started { socket: SocketAddr, pid: u32 },
    /// It ended, or could not be started. It will be started again.
    Died(Death),
    /// The supervisor was told to stop, and its process is gone.
    Ended,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Death {
    /// How it ended, one clause.
    pub(super) reason: String,
    /// Quick deaths in a row, this one included.
    pub(super) in_a_row: u32,
    /// Another start will not help: the command is missing.
    pub(super) is_hopeless: bool,
    pub(super) next_try: Duration,
}

pub(super) struct Launcher {
    plan: Arc<config::Launcher>,
    ports: Arc<Ports>,
    reports: mpsc::Sender<Report>,
    running: HashMap<u64, Running>,
    next_number: u64,
}

struct Running {
    name: Arc<str>,
    /// The process that runs now.
    pid: Option<u32>,
    /// Asked to end; another supervisor may have the name now.
    is_ending: bool,
    /// Sending or dropping it ends the replica.
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

/// Whether a replica could be started: its program exists, and a port on its host is free.
pub(super) fn check(plan: &config::Launcher) -> Result<(), String> {
    let socket = Ports::new(plan.host, plan.first_port).reserve(None)?;
    CommandLine::new(plan, "", socket)?.check_program()
}

// === impl Launcher ===

impl Launcher {
    pub(super) fn new(plan: config::Launcher, reports: mpsc::Sender<Report>) -> Self {
        let ports = Arc::new(Ports::new(plan.host, plan.first_port));
        Self { plan: Arc::new(plan), ports, reports, running: HashMap::new(), next_number: 1 }
    }

    pub(super) fn plan(&self) -> &config::Launcher {
        &self.plan
    }

    /// Ports that replicas must not get, whether or not a server listens there now.
    pub(super) fn avoid(&self, ports: impl Iterator<Item = u16>) {
        self.ports.avoid(ports);
    }

    fn reserve(&self) -> Result<SocketAddr, String> {
        self.ports.reserve(None)
    }

    /// `n` ports, or none and the reason.
    pub(super) fn reserve_all(&self, n: usize) -> Result<Vec<SocketAddr>, String> {
        let mut sockets = Vec::with_capacity(n);
        for _ in 0..n {
            match self.reserve() {
                Ok(socket) => sockets.push(socket),
                Err(reason) => {
                    sockets.iter().for_each(|socket: &SocketAddr| self.ports.release(socket.port()));
                    return Err(reason);
                }
            }
        }
        Ok(sockets)
    }

    /// Starts `name` on the reserved `socket`, and again after every death.
    pub(super) fn launch(&mut self, name: &Arc<str>, socket: SocketAddr) {
        let number = self.next_number;
        self.next_number += 1;
        let (stop, stopped) = oneshot::channel();
        let supervisor =
            Supervisor::new(number, name.clone(), self.plan.clone(), self.ports.clone(), self.reports.clone());
        let task = tokio::spawn(supervisor.run(socket, stopped));
        let running = Running { name: name.clone(), pid: None, is_ending: false, stop: Some(stop), task };
        self.running.insert(number, running);
    }

    /// The supervisor in charge of `name`.
    pub(super) fn current(&self, name: &str) -> Option<u64> {
        let mut in_charge = self.running.iter().filter(|(_, running)| &*running.name == name && !running.is_ending);
        in_charge.next().map(|(number, _)| *number)
    }

    pub(super) fn is_up(&self, name: &str) -> bool {
        self.pid(name).is_some()
    }

    /// The process of `name` that runs now.
    pub(super) fn pid(&self, name: &str) -> Option<u32> {
        self.current(name).and_then(|number| self.running[&number].pid)
    }

    /// Records a supervisor's news. Returns `true` if it is the one in charge of its name.
    pub(super) fn note(&mut self, supervisor: u64, news: &News) -> bool {
        if matches!(news, News::Ended) {
            self.running.remove(&supervisor);
            return false;
        }
        let Some(running) = self.running.get_mut(&supervisor) else { return false };
        running.pid = match news {
            News::Started { pid, .. } => Some(*pid),
            News::Died(_) | News::Ended => None,
        };
        !running.is_ending
    }

    /// Frees the name; the process ends when [`Launcher::stop`] is called.
    pub(super) fn give_up(&mut self, supervisor: u64) {
        if let Some(running) = self.running.get_mut(&supervisor) {
            running.is_ending = true;
        }
    }

    /// Undoes [`Launcher::give_up`].
    pub(super) fn keep(&mut self, supervisor: u64) {
        if let Some(running) = self.running.get_mut(&supervisor) {
            running.is_ending = false;
        }
    }

    /// Ends the process: SIGTERM, then SIGKILL if it does not end. [`News::Ended`] follows.
    pub(super) fn stop(&mut self, supervisor: u64) {
        if let Some(running) = self.running.get_mut(&supervisor) {
            running.is_ending = true;
            running.stop = None;
        }
    }

    /// Ends all processes and waits until they are gone.
    pub(super) async fn stop_all(mut self) {
        for running in self.running.values_mut() {
            running.stop = None;
        }
        // Supervisors report when they are done, and the actor no longer receives.
        drop(self.reports);
        let bound = tokio::time::Instant::now() + supervisor::STOP_MAX;
        for (_, mut running) in self.running {
            if tokio::time::timeout_at(bound, &mut running.task).await.is_err() {
                tracing::error!(replica = %running.name, "the replica did not end in time and is killed");
                // Its process is killed with the task.
                running.task.abort();
            }
        }
    }
}
