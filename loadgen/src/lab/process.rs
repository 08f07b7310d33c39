//! A child process of loadgen.
//!
//! Invariants: it has its own process group, so Ctrl-C in a terminal reaches only loadgen, which ends the child in
//! order. When this value is dropped, the child gets SIGTERM. If it still runs after [`PATIENCE`], its whole group is
//! killed. A piped stdin stays open until then, so that the child sees the end of loadgen in any case.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{ChildStdin, Command, ExitStatus};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

#[derive(Debug)]
pub struct Process {
    pid: Pid,
    exit: Receiver<io::Result<ExitStatus>>,
    ended: Option<String>,
    /// Taken from the child, because its `wait` would close it.
    _tie: Option<ChildStdin>,
}

/// The time between SIGTERM and SIGKILL.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

// === impl Process ===

impl Process {
    pub fn start(command: &mut Command) -> io::Result<Self> {
        let mut child = command.process_group(0).spawn()?;
        let (pid, tie) = (Pid::from_child(&child), child.stdin.take());
        let (sender, exit) = mpsc::channel();
        let waiter = std::thread::Builder::new().name("waits-for-child".to_owned()).spawn(move || {
            let _ = sender.send(child.wait());
        });
        let process = Self { pid, exit, ended: None, _tie: tie };
        waiter.map(|_| process)
    }

    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Waits at most this long for its exit. Returns its exit status in words.
    pub fn wait(&mut self, time: Duration) -> Option<&str> {
        if self.ended.is_none() {
            self.ended = match self.exit.recv_timeout(time) {
                Ok(Ok(status)) => Some(status.to_string()),
                Ok(Err(error)) => Some(error.to_string()),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => Some("its end was missed".to_owned()),
            };
        }
        self.ended.as_deref()
    }

    /// Sends SIGTERM and waits.
    pub fn stop(&mut self) {
        if self.wait(Duration::ZERO).is_some() {
            return;
        }
        let _ = kill_process(self.pid, Signal::TERM); // it may have exited already
        if self.wait(PATIENCE).is_none() {
            let _ = kill_process_group(self.pid, Signal::KILL);
            self.wait(PATIENCE);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    fn is_there(pid: u32) -> bool {
        rustix::process::test_kill_process(Pid::from_raw(pid.cast_signed()).expect("a pid")).is_ok()
    }

    #[test]
    fn a_dropped_process_is_gone() {
        let process = Process::start(Command::new("tail").args(["-f", "/dev/null"])).expect("tail starts");
        let pid = process.pid();
        assert!(is_there(pid));
        drop(process);
        assert!(!is_there(pid));
    }

    #[test]
    fn its_pipe_stays_open_until_it_is_dropped() {
        let mut process = Process::start(Command::new("cat").stdin(Stdio::piped())).expect("cat starts");
        assert_eq!(process.wait(Duration::from_millis(50)), None, "it waits for input, and stdin is open");
        process._tie = None;
        assert_eq!(process.wait(Duration::from_secs(30)), Some("exit status: 0"));
    }

    #[test]
    fn the_exit_status_is_reported() {
        let mut process = Process::start(Command::new("sh").args(["-c", "exit 3"])).expect("sh starts");
        assert_eq!(process.wait(Duration::from_secs(30)), Some("exit status: 3"));
        assert_eq!(process.wait(Duration::ZERO), Some("exit status: 3"));
    }
}
