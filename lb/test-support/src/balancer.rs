//! `lb` as a process.
//!
//! Invariant: its environment is empty, and its folder holds configuration, ready file, stdout and stderr.

use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::commands::{bare_command, command};
use crate::folder::folder;
use crate::wait::wait_for;

/// An admin token that lb takes.
pub const TOKEN: &str = "b9c1f6b2d34f0a7e5c8890712de4ab63";

/// A running `lb`, killed when dropped.
pub struct Balancer {
    pub proxy: SocketAddr,
    pub admin: SocketAddr,
    child: Child,
    folder: TempDir,
}

// === impl Balancer ===

impl Balancer {
    pub fn start(config: &str) -> Self {
        Self::start_with(config, &[])
    }

    pub fn start_with(config: &str, arguments: &[&str]) -> Self {
        Self::start_in(folder(config), arguments)
    }

    /// Starts with the configuration, and the state, that is in `folder`.
    pub fn start_in(folder: TempDir, arguments: &[&str]) -> Self {
        Self::start_logging_to(stderr_in(&folder), folder, arguments)
    }

    /// The same with another stderr.
    pub fn start_logging_to(stderr: impl Into<Stdio>, folder: TempDir, arguments: &[&str]) -> Self {
        Self::start_command(command(&folder, arguments), stderr, folder)
    }

    /// Starts on the addresses of the configuration file. The command line would go before the file at every reload.
    pub fn start_where_the_file_says(folder: TempDir) -> Self {
        let command = bare_command(&folder, &["--admin-listen", "127.0.0.1:0"]);
        Self::start_command(command, stderr_in(&folder), folder)
    }

    /// Starts this command, which finds its configuration in `folder`.
    pub fn start_command(command: Command, stderr: impl Into<Stdio>, folder: TempDir) -> Self {
        Self::start_between(Stdio::null(), command, stderr, folder)
    }

    /// Starts with this stdin.
    pub fn start_reading(stdin: impl Into<Stdio>, folder: TempDir, arguments: &[&str]) -> Self {
        Self::start_between(stdin, command(&folder, arguments), stderr_in(&folder), folder)
    }

    fn start_between(stdin: impl Into<Stdio>, mut command: Command, stderr: impl Into<Stdio>, folder: TempDir) -> Self {
        let stdout = File::create(folder.path().join("stdout")).unwrap();
        command.args(["--ready-file", "ready.json"]).stdin(stdin).stdout(stdout).stderr(stderr);
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        // From here on the process ends with the value, also if a wait fails.
        let mut lb = Self { proxy: any, admin: any, child: command.spawn().unwrap(), folder };
        let ready = wait_for("the ready file", || {
            if let Some(status) = lb.ended() {
                panic!("lb ended with {status}");
            }
            std::fs::read_to_string(lb.path("ready.json")).ok()
        });
        let ready: Value = serde_json::from_str(&ready).unwrap();
        assert_eq!(ready["pid"], lb.child.id());
        let address = |value: &Value| value.as_str().unwrap().parse().unwrap();
        (lb.proxy, lb.admin) = (address(&ready["proxy"][0]), address(&ready["admin"]));
        lb
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// All that it has printed to `stdout` or `stderr` so far.
    pub fn printed(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("sh").args(["-c", "kill -$0 $1", signal, &pid]).status().unwrap().success());
    }

    /// Its status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits until it ends by itself.
    pub fn end(&mut self) -> ExitStatus {
        wait_for("the end of lb", || self.ended())
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- lb said:\n{}{}", self.printed("stdout"), self.printed("stderr"));
        }
    }
}

fn stderr_in(folder: &TempDir) -> File {
    File::create(folder.path().join("stderr")).unwrap()
}
