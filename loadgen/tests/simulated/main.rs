//! Plans in virtual time: `loadgen simulate`, its files, and how it ends.
//!
//! No lb and no server runs here, so every number is the same on every machine.

mod ends;
mod runs;

use std::path::PathBuf;
use std::process::Command;

use loadgen::model::{Folder, Run};
use tempfile::TempDir;

/// A folder for a plan and its runs.
pub(crate) struct Desk {
    pub(crate) folder: TempDir,
}

/// The end of a run of the program.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Two strategies, and one of three servers that is slow for half of each block.
pub(crate) const TWO_ARMS: &str = r#"
budget = "140s"
[load]
loop = "open"
rate_rps = 400
cost = "exponential:5ms"
[backends]
n = 3
concurrency = 1
[blocks]
segment = "3s"
wash_out = "500ms"
verdicts = ["latency_p50", "latency_p90"]
[[arms]]
strategy = "round_robin"
[[arms]]
strategy = "least_connections"
[[faults]]
at = "1s"
for = "1500ms"
kind = "slow"
factor = 1.3
backend = 2
"#;

// === impl Desk ===

impl Desk {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn plan(&self, text: &str) -> String {
        let path = self.path("plan.toml");
        std::fs::write(&path, text).expect("written");
        path.to_str().expect("a path in UTF-8").to_owned()
    }

    /// Runs loadgen with these arguments.
    pub(crate) fn loadgen(&self, arguments: &[&str]) -> Ended {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
        let output = command.args(arguments).current_dir(self.folder.path()).output().expect("loadgen starts");
        Ended {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Simulates a plan with the built libraries, into the folder `out`.
    pub(crate) fn simulate(&self, plan: &str, out: &str, more: &[&str]) -> Ended {
        let plan = self.plan(plan);
        let libraries = lb_strategy_built::folder().to_str().expect("a path in UTF-8");
        let mut arguments = vec!["simulate", &plan, "--out", out, "--seed", "7", "--strategies", libraries];
        arguments.extend(more);
        self.loadgen(&arguments)
    }

    pub(crate) fn stored(&self, out: &str) -> Run {
        Folder::new(self.path(out)).read().expect("a run")
    }
}
