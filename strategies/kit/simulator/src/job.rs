//! One simulation as data, so that a child process can run it.
//!
//! Why a child: a strategy's library may crash or never return. Then only the child is lost, and the report has a row
//! that says so. The job is JSON on the child's standard input, the results are JSON on its standard output.
//!
//! Invariant: [`Job::run_in`] returns within its limit, and the child has ended then.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use lb_strategy_host::{LoadError, Loader, Wanted};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::record::Results;
use crate::simulation::{Simulation, SimulationError};
use crate::world::World;

/// A world, a library with options, and a seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    pub world: World,
    pub library: PathBuf,
    /// The name that must be in the library.
    pub strategy: String,
    pub options: Value,
    pub seed: u64,
    /// As in `lb.toml`: whether a group with other members may change the library.
    #[serde(default)]
    pub allow_group_writable: bool,
}

/// Why a job has no results.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    #[error("{0}")]
    Load(#[from] LoadError),
    #[error(transparent)]
    Simulation(#[from] SimulationError),
    /// The words of the child.
    #[error("{0}")]
    Refused(String),
    #[error("the strategy's library ended its process: {0}")]
    Crashed(String),
    #[error("no results after {0:?}: the library does not return, or the world is too large for this limit")]
    TookTooLong(Duration),
    #[error("the process of the simulation cannot be used: {0}")]
    Process(#[from] io::Error),
}

/// What the child writes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Results(Box<Results>),
    Refused(String),
}

// === impl Job ===

impl Job {
    /// Runs it in this process. `copies` is the folder for private copies of the library.
    pub fn run(&self, copies: &Path) -> Result<Results, JobError> {
        let loader = Loader::new(copies.to_owned(), 1).with_group_writable(self.allow_group_writable);
        let plugin = loader.load(&Wanted { path: &self.library, name: Some(&self.strategy), sha256: None })?;
        Ok(Simulation::new(&self.world, &plugin, &self.options, self.seed)?.run()?)
    }

    /// The part of the child: reads a job, runs it and writes the outcome.
    pub fn serve(mut input: impl Read, mut output: impl Write, copies: &Path) -> io::Result<()> {
        let mut text = String::new();
        input.read_to_string(&mut text)?;
        let outcome = match serde_json::from_str::<Self>(&text) {
            Ok(job) => match job.run(copies) {
                Ok(results) => Outcome::Results(Box::new(results)),
                Err(error) => Outcome::Refused(error.to_string()),
            },
            Err(error) => Outcome::Refused(format!("the job cannot be read: {error}")),
        };
        serde_json::to_writer(&mut output, &outcome)?;
        output.flush()
    }

    /// Runs it in a child, which `command` starts and which calls [`Job::serve`].
    pub fn run_in(&self, command: &mut Command, limit: Duration) -> Result<Results, JobError> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let output = output_of(&mut child);
        let sent = self.send_to(&mut child);
        let received = output.recv_timeout(limit);
        if matches!(received, Err(RecvTimeoutError::Timeout)) {
            child.kill()?;
        }
        let status = child.wait()?;
        let text = match received {
            Err(RecvTimeoutError::Timeout) => return Err(JobError::TookTooLong(limit)),
            Err(RecvTimeoutError::Disconnected) => Vec::new(),
            Ok(text) => text?,
        };
        match serde_json::from_slice(&text) {
            Ok(Outcome::Results(results)) => Ok(*results),
            Ok(Outcome::Refused(reason)) => Err(JobError::Refused(reason)),
            Err(_) if !status.success() => Err(JobError::Crashed(in_words(status))),
            Err(error) => Err(sent.err().unwrap_or_else(|| io::Error::other(error)).into()),
        }
    }

    fn send_to(&self, child: &mut Child) -> io::Result<()> {
        let Some(mut input) = child.stdin.take() else { return Ok(()) };
        serde_json::to_writer(&mut input, self)?;
        input.flush()
    }
}

/// All output of the child, when it has closed its end.
fn output_of(child: &mut Child) -> Receiver<io::Result<Vec<u8>>> {
    let (sender, receiver) = channel();
    let output = child.stdout.take();
    thread::spawn(move || {
        let mut text = Vec::new();
        let read = output.map_or(Ok(0), |mut output| output.read_to_end(&mut text));
        // The receiver is gone if the limit was over.
        let _ = sender.send(read.map(|_| text));
    });
    receiver
}

fn in_words(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match status.signal() {
        Some(signal) => format!("signal {signal}"),
        None => status.to_string(),
    }
}
