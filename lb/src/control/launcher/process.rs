//! One child process: started in a group of its own, tied to lb by a pipe, ended with all its children.

use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStderr, ChildStdin, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::command_line::CommandLine;
use crate::config::Launcher;

/// From SIGTERM to SIGKILL.
pub(super) const TERM_MAX: Duration = Duration::from_secs(5);
/// The end of the process's stderr that is kept to explain its death.
const STDERR_KEPT_BYTES: usize = 512;
/// How long lb waits for the end of stderr; a grandchild may hold the pipe open.
const STDERR_WAIT: Duration = Duration::from_millis(100);

pub(super) struct Process {
    child: Child,
    pid: u32,
    /// The write end of its stdin. std opens pipes close-on-exec, so no sibling inherits it. It closes at every kind of
    /// end of lb.
    _tie: Option<ChildStdin>,
    stderr: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

/// Why no process was started.
#[derive(Debug)]
pub(super) struct SpawnError {
    pub(super) reason: String,
    /// Another try will not help.
    pub(super) is_hopeless: bool,
}

// === impl Process ===

impl Process {
    pub(super) fn start(launcher: &Launcher, name: &str, socket: SocketAddr) -> Result<Self, SpawnError> {
        let line =
            CommandLine::new(launcher, name, socket).map_err(|reason| SpawnError { reason, is_hopeless: true })?;
        let mut command = Command::new(&line.program);
        command
            .args(&line.arguments)
            .env("SERVER_ID", name)
            // A backend must not see the token.
            .env_remove("LB_ADMIN_TOKEN")
            // Only lb talks to the service manager, see sd_notify(3).
            .env_remove("NOTIFY_SOCKET")
            .env_remove("WATCHDOG_USEC")
            .env_remove("WATCHDOG_PID")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| SpawnError {
            is_hopeless: matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied),
            reason: format!("{} cannot be started: {error}", line.program.display()),
        })?;
        let pid = child.id().unwrap_or_default();
        let stderr = Arc::<Mutex<Vec<u8>>>::default();
        let reader = child.stderr.take().map(|pipe| tokio::spawn(keep_end(pipe, stderr.clone(), name.to_owned())));
        Ok(Self { _tie: child.stdin.take(), child, pid, stderr, reader })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until the process ends by itself; returns how, as one clause.
    pub(super) async fn ended(&mut self) -> String {
        let (how, gave_no_reason) = match self.child.wait().await {
            Ok(status) => (describe(status), status.signal().is_some() || status.success()),
            Err(error) => (format!("it was lost: {error}"), false),
        };
        // Its children must not outlive it: they would keep the port.
        self.signal(Signal::KILL);
        if let Some(mut reader) = self.reader.take()
            && timeout(STDERR_WAIT, &mut reader).await.is_err()
        {
            reader.abort();
        }
        // A process that was killed, or ended as it meant to, wrote no reason: its last line on stderr is unrelated.
        if gave_no_reason {
            return how;
        }
        let stderr = self.stderr.lock();
        match String::from_utf8_lossy(&stderr).lines().rev().map(str::trim).find(|line| !line.is_empty()) {
            Some(line) => format!("{how}: {line}"),
            None => how,
        }
    }

    /// Sends SIGTERM to the process and its children, and SIGKILL to those left after [`TERM_MAX`].
    pub(super) async fn stop(mut self) {
        self.signal(Signal::TERM);
        if timeout(TERM_MAX, self.child.wait()).await.is_err() {
            tracing::warn!(pid = %self.pid, waited = ?TERM_MAX, "the process did not end after SIGTERM and is killed");
        }
        self.signal(Signal::KILL);
        let _ = self.child.wait().await;
        if let Some(reader) = self.reader.take() {
            reader.abort();
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            // This fails only if no process is left.
            let _ = kill_process_group(group, signal);
        }
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("its process ended with status {code}"),
        (None, Some(signal)) => format!("its process was ended by signal {signal}"),
        (None, None) => "its process ended".to_owned(),
    }
}

async fn keep_end(mut pipe: ChildStderr, kept: Arc<Mutex<Vec<u8>>>, name: String) {
    let mut chunk = [0; 4096];
    while let Ok(read @ 1..) = pipe.read(&mut chunk).await {
        tracing::debug!(replica = name, "{}", String::from_utf8_lossy(&chunk[..read]).trim_end());
        let mut kept = kept.lock();
        kept.extend_from_slice(&chunk[..read]);
        let surplus = kept.len().saturating_sub(STDERR_KEPT_BYTES);
        kept.drain(..surplus);
    }
}
