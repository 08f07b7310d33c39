//! A balancer with servers and a configuration file that a test rewrites, and the requests that tests send to its admin
//! port.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use lb_test_support::{Balancer, Reply, backends, folder, get, mock, send, wait_for};
use mock_server::Running;
use serde_json::{Value, json};
use tempfile::TempDir;

/// After the first, checks are as good as off.
const SLOW_HEALTH: &str = "[health]\ninterval_ms = 86400000\n";
/// Nothing happens by itself.
const UNWATCHED: &[&str] = &["--set", "reload.watch=false"];

/// So many requests show that load goes on.
const MORE: u64 = 50;

pub(crate) struct Bench {
    pub(crate) lb: Balancer,
    pub(crate) servers: Vec<Running>,
    /// The section `[reload]`, if `strategy` does not have one.
    pub(crate) reload: String,
}

/// The library of a strategy with `extra` behind its bytes, which no reader sees: another file of the same strategy.
pub(crate) fn bytes(name: &str, extra: &str) -> Vec<u8> {
    let mut bytes = std::fs::read(lb_strategy_built::library(name)).unwrap();
    bytes.extend_from_slice(extra.as_bytes());
    bytes
}

/// The library of a fixture in C under `strategies/examples/broken/`.
pub(crate) fn compiled(fixture: &str, flags: &[&str]) -> Vec<u8> {
    compiled_from(&format!("examples/broken/{fixture}"), flags)
}

/// The same for one anywhere below `strategies/`.
pub(crate) fn compiled_from(fixture: &str, flags: &[&str]) -> Vec<u8> {
    read_of(|output| lb_test_support::compile(fixture, flags, output))
}

/// A command that asks the `lb` that the configuration in `folder` names.
pub(crate) fn bare_admin_command(folder: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lb"));
    command.env_clear().current_dir(folder.path());
    if !arguments.contains(&"--config") {
        command.args(["--config", "lb.toml"]);
    }
    command.args(arguments);
    command
}

/// The library that `rustc` makes of a fixture in Rust below `strategies/`, which needs no crate.
pub(crate) fn compiled_rust(fixture: &str, flags: &[&str]) -> Vec<u8> {
    read_of(|output| lb_test_support::compile_rust(fixture, flags, output))
}

/// The bytes that `make` writes into a file.
fn read_of(make: impl FnOnce(&Path)) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("libfixture.so");
    make(&output);
    std::fs::read(output).unwrap()
}

pub(crate) fn named(name: &str) -> String {
    format!("[strategy]\nname = {name:?}\n")
}

/// The strategy in this file beside the configuration.
pub(crate) fn filed(file: &str) -> String {
    format!("[strategy]\npath = {file:?}\n")
}

/// Ends the clients of [`Bench::under_load`].
struct StopOnDrop<'a>(&'a AtomicBool);

// === impl StopOnDrop ===

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

// === impl Bench ===

impl Bench {
    /// Three servers; `strategy` begins the configuration.
    pub(crate) fn start(strategy: &str) -> Self {
        Self::start_with(strategy, &[])
    }

    /// The same with files beside the configuration.
    pub(crate) fn start_with(strategy: &str, files: &[(&str, &[u8])]) -> Self {
        Self::start_by("", strategy, |text| {
            let folder = folder(text);
            for (name, bytes) in files {
                std::fs::write(folder.path().join(name), bytes).unwrap();
            }
            Balancer::start_in(folder, UNWATCHED)
        })
    }

    /// In a folder that may have something in it, with this section `[reload]`.
    pub(crate) fn start_in(folder: TempDir, reload: &str, strategy: &str, files: &[(&str, &[u8])]) -> Self {
        Self::start_by(reload, strategy, |text| {
            std::fs::write(folder.path().join("lb.toml"), text).unwrap();
            for (name, bytes) in files {
                std::fs::write(folder.path().join(name), bytes).unwrap();
            }
            Balancer::start_in(folder, &[])
        })
    }

    /// With this section `[reload]`; `start` starts a balancer with the configuration that it is given.
    pub(crate) fn start_by(reload: &str, strategy: &str, start: impl FnOnce(&str) -> Balancer) -> Self {
        let servers: Vec<Running> = ["1", "2", "3"].map(mock).into_iter().collect();
        let lb = start(&text(strategy, reload, &servers));
        Self { lb, servers, reload: reload.to_owned() }
    }

    /// Rewrites the configuration file.
    pub(crate) fn write(&self, strategy: &str) {
        std::fs::write(self.lb.path("lb.toml"), self.text(strategy)).unwrap();
    }

    /// A configuration that begins with `strategy`.
    pub(crate) fn text(&self, strategy: &str) -> String {
        text(strategy, &self.reload, &self.servers)
    }

    pub(crate) fn reload(&self) -> Reply {
        post(self.lb.admin, "/reload", "")
    }

    /// A reload that must work.
    pub(crate) fn reloaded(&self) -> Value {
        let answer = self.reload();
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    }

    /// Rewrites, and reloads what must work.
    pub(crate) fn change(&self, strategy: &str) -> Value {
        self.write(strategy);
        self.reloaded()
    }

    pub(crate) fn status(&self) -> Value {
        get(self.lb.admin, "/status").json()
    }

    /// What the ready file says.
    pub(crate) fn ready(&self) -> Value {
        serde_json::from_str(&std::fs::read_to_string(self.lb.path("ready.json")).unwrap()).unwrap()
    }

    pub(crate) fn strategy(&self) -> Value {
        self.status()["pools"][0]["strategy"].clone()
    }

    /// The id of the server that responds.
    pub(crate) fn server(&self) -> String {
        let answer = get(self.lb.proxy, "/home");
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.header("x-server-id").unwrap().to_owned()
    }

    /// Sends requests from `clients` clients, one after the other each, during `change`. All must succeed.
    /// Returns their number.
    pub(crate) fn under_load(&self, clients: usize, change: impl FnOnce(&dyn Fn())) -> u64 {
        let (stop, answered) = (AtomicBool::new(false), AtomicU64::new(0));
        let more = || {
            let enough = answered.load(Relaxed) + MORE;
            wait_for("more requests", || (answered.load(Relaxed) >= enough || stop.load(Relaxed)).then_some(()));
        };
        std::thread::scope(|scope| {
            for _ in 0..clients {
                scope.spawn(|| {
                    while !stop.load(Relaxed) {
                        let answer = get(self.lb.proxy, "/home");
                        if answer.status != 200 {
                            stop.store(true, Relaxed);
                            panic!("{answer:?}");
                        }
                        answered.fetch_add(1, Relaxed);
                    }
                });
            }
            // Also after a failed assertion of the test: the scope waits for the clients.
            let _stops = StopOnDrop(&stop);
            more();
            change(&more);
            more();
        });
        answered.into_inner()
    }

    /// Requests that the servers have seen.
    pub(crate) fn seen(&self) -> u64 {
        self.servers.iter().map(|server| server.stats().requests).sum()
    }
}

pub(crate) fn post(admin: SocketAddr, path: &str, body: &str) -> Reply {
    send(admin, "POST", path, &[], body)
}

/// What tells one state of a balancer from another: generation, strategies and sums of counters.
pub(crate) fn fingerprint(bench: &Bench) -> Value {
    let status = bench.status();
    let pool = &status["pools"][0];
    let mut backends = pool["backends"].clone();
    // The first health check may end at any time.
    backends.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut).for_each(|one| {
        one.remove("checked");
    });
    json!([status["generation"], pool["strategy"], pool["strategy_sha256"], backends])
}

fn text(strategy: &str, reload: &str, servers: &[Running]) -> String {
    let names = ["b1", "b2", "b3"];
    let servers: Vec<_> = names.into_iter().zip(servers.iter().map(|server| server.addr)).collect();
    format!("{strategy}\n{SLOW_HEALTH}{reload}{}", backends(&servers))
}
