//! Runs of the program `loadgen` in a folder of their own.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use lb_test_support::{build_programs, wait_until};
use loadgen::lab::{Balancer, Interrupt, PoolStatus, Programs, Setup, write_config};
use loadgen::model::{Folder, Run};
use tempfile::TempDir;

/// A folder for a plan and its run.
pub(crate) struct Lab {
    folder: TempDir,
}

/// An lb that the test started, not loadgen.
pub(crate) struct Theirs {
    pub(crate) target: String,
    pub(crate) admin: String,
    balancer: Balancer,
}

/// What a run of the program left.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

// === impl Lab ===

impl Lab {
    pub(crate) fn new() -> Self {
        // `loadgen` takes `lb` and `mock-server` from the folder that it lies in itself.
        build_programs();
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The run's folder.
    pub(crate) fn out(&self) -> PathBuf {
        self.path("run")
    }

    /// Writes an experiment file, with the folder of plugins.
    pub(crate) fn plan(&self, text: &str) -> PathBuf {
        let plugins = lb_strategy_built::folder();
        let text = format!("{text}\n[lb]\nplugin_dirs = [{plugins:?}]\n[lb.proxy]\nworkers = 1\n");
        let path = self.path("plan.toml");
        std::fs::write(&path, text).expect("written");
        path
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.program(arguments);
        command.arg("--out").arg(self.out());
        command
    }

    /// For what runs nothing.
    pub(crate) fn program(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
        command.args(arguments).current_dir(self.folder.path());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs an experiment file to its end.
    pub(crate) fn run(&self, plan: &str) -> Ended {
        let plan = self.plan(plan);
        let plan = plan.to_str().expect("a path in UTF-8");
        ended(self.command(&["experiment", "--seed", "7", "--plan", plan]).spawn().expect("loadgen starts"))
    }

    /// What it stored.
    pub(crate) fn stored(&self) -> Run {
        Folder::new(self.out()).read().expect("a run that can be read")
    }

    /// Waits until no process works in this folder any more, as all that loadgen starts do.
    pub(crate) fn no_process_is_left_here(&self) {
        let folder = self.folder.path().canonicalize().expect("it is there");
        let is_here = |entry: std::io::Result<std::fs::DirEntry>| {
            entry.is_ok_and(|entry| std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == folder))
        };
        wait_until("no process in this folder", || !std::fs::read_dir("/proc").expect("Linux").any(is_here));
    }

    /// Waits until none of the processes that lb's log tells of is there any more.
    pub(crate) fn nothing_is_left_running(&self) {
        self.no_process_is_left_here();
        let log = std::fs::read_to_string(self.out().join("lb/lb.log")).expect("lb's log");
        let pids = log.split(" pid=").skip(1).filter_map(|rest| rest.split_whitespace().next()?.parse::<u32>().ok());
        let own = log.split(", process ").nth(1).and_then(|rest| rest.lines().next()?.trim().parse().ok());
        let pids: Vec<u32> = pids.chain(own).collect();
        assert!(pids.len() >= 2, "lb and a server at least: {log}");
        wait_until("all are gone", || pids.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists()));
    }
}

impl Lab {
    pub(crate) fn running_balancer(&self, strategy: &str, replicas: u32) -> Theirs {
        let keys = format!("plugin_dirs = [{:?}]\n[proxy]\nworkers = 1", lb_strategy_built::folder());
        let setup = Setup {
            strategy: strategy.to_owned(),
            options: toml::Table::new(),
            replicas,
            mock_flags: Vec::new(),
            keys: toml::from_str(&keys).expect("TOML"),
        };
        let programs = Programs::find(None, None).expect("built");
        let config = write_config(&programs, &setup, &self.path("theirs")).expect("written");
        let balancer = Balancer::start(&programs, &config, replicas, &Interrupt::default()).expect("lb starts");
        let admin = balancer.admin.base().to_owned();
        Theirs { target: format!("http://{}", balancer.target), admin, balancer }
    }
}

// === impl Ended ===

impl Ended {
    /// It went to its end. On a busy machine its figures may not be valid: it says so, and ends with 1. Other doubts
    /// are no excuse: counts that disagree, or a strategy that lb gave up.
    pub(crate) fn was_carried_out(&self) {
        let doubts: Vec<&str> =
            self.err.lines().filter_map(|line| line.strip_prefix("loadgen: not to be believed (")).collect();
        let is_late = |doubt: &&str| doubt.starts_with("generator)") || doubt.starts_with("drift)");
        assert!(doubts.iter().all(is_late), "{}{}", self.out, self.err);
        assert_eq!(self.code, Some(i32::from(!doubts.is_empty())), "{}{}", self.out, self.err);
    }
}

// === impl Theirs ===

impl Theirs {
    pub(crate) fn status(&self) -> PoolStatus {
        let mut pools = self.balancer.admin.status().expect("it runs").pools;
        pools.remove(0)
    }
}

/// Reads what a child says until it ends.
pub(crate) fn ended(child: Child) -> Ended {
    let output = child.wait_with_output().expect("it ends");
    Ended {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Reads lines of a child's stderr up to one that contains `text`. The rest is read in the background, or the child
/// would stand still.
pub(crate) fn until_it_says(child: &mut Child, text: &str) {
    let mut lines = BufReader::new(child.stderr.take().expect("piped"));
    let mut said = String::new();
    while !said.contains(text) {
        let read = lines.read_line(&mut said).expect("text");
        assert!(read > 0, "it ended without saying {text:?}: {said}");
    }
    std::thread::spawn(move || lines.read_to_end(&mut Vec::new()));
}
