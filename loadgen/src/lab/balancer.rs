//! The balancer under test: an lb that loadgen starts with its own configuration, or a running one.

use std::fs::File;
use std::io::Write as _;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;
use sha2::{Digest, Sha256};
use thiserror::Error;
use toml::{Table, Value};

use super::admin::{Admin, AdminError, BackendStatus, StrategyFile};
use super::interrupt::Interrupt;
use super::process::Process;
use super::programs::Programs;
use super::web::Web;
use crate::model::{SAFEGUARDS, Safeguard};

/// The settings of an lb that loadgen starts.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Its first strategy, with options.
    pub strategy: String,
    pub options: Table,
    /// The number of mock servers that it launches.
    pub replicas: u32,
    /// Flags of the mock servers, except name and port.
    pub mock_flags: Vec<String>,
    /// Further keys of lb.toml, which override the keys of loadgen.
    pub keys: Table,
}

#[derive(Debug)]
pub struct Balancer {
    /// The address for requests.
    pub target: SocketAddr,
    /// The value of the header `host`.
    pub host: String,
    pub admin: Admin,
    /// The digest of the configuration; empty for a running lb.
    pub config_sha256: String,
    process: Option<Process>,
    state: Option<PathBuf>,
}

#[derive(Debug, Error)]
pub enum BalancerError {
    #[error("cannot write {path}: {source}")]
    Write { path: PathBuf, source: std::io::Error },
    #[error("cannot start {path}: {source}")]
    Start { path: PathBuf, source: std::io::Error },
    #[error("lb did not start ({ended}): {said}")]
    Ended { ended: String, said: String },
    #[error("lb is not ready after {0} s: {1}")]
    NotReady(u64, String),
    #[error("interrupted while lb was starting")]
    Interrupted,
    #[error("{0:?} is not an address: write http://HOST:PORT")]
    Target(String),
    #[error("the target {target} cannot be reached: {reason}")]
    Unreachable { target: String, reason: String },
    #[error("{0}")]
    Strategies(String),
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Admin(#[from] AdminError),
}

#[derive(Deserialize)]
struct Ready {
    proxy: Vec<SocketAddr>,
    admin: SocketAddr,
}

/// lb tries a plugin for up to 5 s, and replicas have 10 s for their first heartbeat.
const READY_WITHIN: Duration = Duration::from_secs(40);
/// The environment variable with the token of a running lb's admin port, as for lb's own commands.
const ADMIN_TOKEN: &str = "LB_ADMIN_TOKEN";
const LOOK_EVERY: Duration = Duration::from_millis(10);

// === impl Balancer ===

impl Balancer {
    /// Starts lb with the configuration at `config` and waits until `replicas` are in rotation. The log is in the same
    /// folder.
    pub fn start(
        programs: &Programs,
        config: &Path,
        replicas: u32,
        interrupt: &Interrupt,
    ) -> Result<Self, BalancerError> {
        let write = |path: &Path, source| BalancerError::Write { path: path.to_owned(), source };
        let folder = config.parent().unwrap_or(Path::new("/"));
        let (ready, log, state) = (folder.join("ready.json"), folder.join("lb.log"), folder.join("state"));
        let text = std::fs::read(config).map_err(|source| BalancerError::Start { path: config.to_owned(), source })?;
        let out = File::create(&log).map_err(|source| write(&log, source))?;
        let err = out.try_clone().map_err(|source| write(&log, source))?;
        let mut command = Command::new(&programs.lb);
        command.arg("--config").arg(config).arg("--ready-file").arg(&ready).args(["--fresh", "--exit-with-parent"]);
        without_environment(&mut command);
        command.stdin(Stdio::piped()).stdout(out).stderr(err);
        let mut process = Process::start(&mut command)
            .map_err(|source| BalancerError::Start { path: programs.lb.clone(), source })?;
        let addresses = wait_for_ready(&mut process, &ready, &log, interrupt)?;
        let target = *addresses.proxy.first().ok_or_else(|| BalancerError::Target("lb's ready file".into()))?;
        let balancer = Self {
            target,
            host: target.to_string(),
            admin: Admin::at(&format!("http://{}", addresses.admin), &Web::new()),
            config_sha256: hex(&Sha256::digest(&text)),
            process: Some(process),
            state: Some(state),
        };
        balancer.wait_for_replicas(replicas, interrupt)?;
        Ok(balancer)
    }

    /// Attaches to a running lb: `target` is the URL for requests, `admin` that of its admin port.
    pub fn attach(target: &str, admin: &str) -> Result<Self, BalancerError> {
        let bad = || BalancerError::Target(target.to_owned());
        let host = target.strip_prefix("http://").unwrap_or(target).trim_end_matches('/').to_owned();
        let address = host.to_socket_addrs().map_err(|_| bad())?.next().ok_or_else(bad)?;
        let reach = std::net::TcpStream::connect_timeout(&address, Duration::from_secs(5));
        reach.map_err(|error| BalancerError::Unreachable { target: target.to_owned(), reason: error.to_string() })?;
        let admin = if admin.contains("://") { admin.to_owned() } else { format!("http://{admin}") };
        let admin = Admin::at(&admin, &Web::new());
        let admin = match std::env::var(ADMIN_TOKEN) {
            Ok(token) => admin.with_token(&token),
            Err(_) => admin,
        };
        admin.status()?;
        Ok(Self { target: address, host, admin, config_sha256: String::new(), process: None, state: None })
    }

    /// Whether loadgen started it, so that its backends may be killed.
    pub fn is_ours(&self) -> bool {
        self.process.is_some()
    }

    /// Its exit status in words, if it has exited.
    pub fn has_ended(&mut self) -> Option<String> {
        self.process.as_mut()?.wait(Duration::ZERO).map(str::to_owned)
    }

    /// Waits until `n` backends of the pool default are in rotation or set aside by an operator.
    pub fn wait_for_replicas(&self, n: u32, interrupt: &Interrupt) -> Result<(), BalancerError> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let is_there = |backend: &&BackendStatus| backend.eligible || backend.is_set_aside();
            let eligible = self.admin.backends()?.iter().filter(is_there).count();
            if eligible >= n as usize {
                return Ok(());
            }
            if Instant::now() > deadline {
                let what = format!("{eligible} of {n} backends are in rotation");
                return Err(BalancerError::NotReady(READY_WITHIN.as_secs(), what));
            }
            if interrupt.wait(LOOK_EVERY) {
                return Err(BalancerError::Interrupted);
            }
        }
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        drop(self.process.take());
        // it has copies of plugins and an empty overlay, which no reader of the run needs
        if let Some(state) = &self.state {
            let _ = std::fs::remove_dir_all(state);
        }
    }
}

/// Writes the configuration for `setup` into `folder`. Returns the path of the file.
pub fn write_config(programs: &Programs, setup: &Setup, folder: &Path) -> Result<PathBuf, BalancerError> {
    let write = |path: &Path, source| BalancerError::Write { path: path.to_owned(), source };
    std::fs::create_dir_all(folder).map_err(|source| write(folder, source))?;
    let folder = std::path::absolute(folder).map_err(|source| write(folder, source))?;
    let config = folder.join("lb.toml");
    std::fs::write(&config, config_text(programs, setup, &folder.join("state")))
        .map_err(|source| write(&config, source))?;
    Ok(config)
}

/// The strategies that lb finds with this configuration, with their declarations.
pub fn strategies(programs: &Programs, config: &Path) -> Result<Vec<StrategyFile>, BalancerError> {
    #[derive(Deserialize)]
    struct List {
        strategies: Vec<StrategyFile>,
    }
    let mut command = Command::new(&programs.lb);
    command.arg("--config").arg(config).args(["--json", "strategies"]).stdin(Stdio::null());
    without_environment(&mut command);
    let output = command.output().map_err(|source| BalancerError::Start { path: programs.lb.clone(), source })?;
    let refused = |error: &serde_json::Error| match String::from_utf8_lossy(&output.stderr).trim() {
        "" => BalancerError::Strategies(format!("cannot read the output of `lb strategies`: {error}")),
        said => BalancerError::Strategies(said.lines().collect::<Vec<_>>().join("; ")),
    };
    let list: List = serde_json::from_slice(&output.stdout).map_err(|error| refused(&error))?;
    Ok(list.strategies)
}

/// Whether lb would start with this configuration; the error has lb's message.
pub fn check(programs: &Programs, config: &Path) -> Result<(), BalancerError> {
    let mut command = Command::new(&programs.lb);
    command.arg("check").arg("--config").arg(config).stdin(Stdio::null());
    without_environment(&mut command);
    let output = command.output().map_err(|source| BalancerError::Start { path: programs.lb.clone(), source })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().map(|line| without_place(line, config)).collect::<Vec<_>>().join("; ");
    Err(BalancerError::Refused(if said.is_empty() { format!("`lb check` ended with {}", output.status) } else { said }))
}

/// A line of lb without `lb: ` and the place in `config`, a file that loadgen wrote and its user does not know.
fn without_place<'l>(line: &'l str, config: &Path) -> &'l str {
    let said = line.strip_prefix("lb: ").unwrap_or(line);
    let place = said.strip_prefix(&*config.to_string_lossy()).and_then(|rest| rest.strip_prefix(':'));
    let rest = place
        .and_then(|place| place.split_once(": "))
        .filter(|(line, _)| line.bytes().all(|byte| byte.is_ascii_digit() || byte == b':'));
    rest.map_or(said, |(_, rest)| rest)
}

/// Environment variables of lb must not change the measurement.
fn without_environment(command: &mut Command) {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LB_")) {
        command.env_remove(name);
    }
}

fn wait_for_ready(
    process: &mut Process,
    ready: &Path,
    log: &Path,
    interrupt: &Interrupt,
) -> Result<Ready, BalancerError> {
    let deadline = Instant::now() + READY_WITHIN;
    loop {
        if let Some(ready) = std::fs::read(ready).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
            return Ok(ready);
        }
        if let Some(ended) = process.wait(LOOK_EVERY) {
            return Err(BalancerError::Ended { ended: ended.to_owned(), said: last_words(log) });
        }
        if interrupt.is_raised() {
            return Err(BalancerError::Interrupted);
        }
        if Instant::now() > deadline {
            return Err(BalancerError::NotReady(READY_WITHIN.as_secs(), last_words(log)));
        }
    }
}

/// The last line of a log that is not empty.
fn last_words(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    match text.lines().rev().map(str::trim).find(|line| !line.is_empty()) {
        Some(line) => line.strip_prefix("lb: ").unwrap_or(line).to_owned(),
        None => silence(log),
    }
}

/// Why a log is empty. The disk may be full.
fn silence(log: &Path) -> String {
    let trial = File::options().append(true).open(log).and_then(|mut log| log.write_all(b"\n"));
    match trial {
        Ok(()) => "its log is empty".to_owned(),
        Err(error) => format!("its log {} cannot be written: {error}", log.display()),
    }
}

/// The configuration: the keys of loadgen, overridden by those of the experiment. lb does not watch files, so
/// rebuilding a library during the run does not change the arm. All safeguards are off: an experiment about them has
/// keys for them.
fn config_text(programs: &Programs, setup: &Setup, state: &Path) -> String {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let mut command = vec![text(&programs.mock_server)];
    command.extend(setup.mock_flags.iter().cloned());
    let mut config = toml::toml! {
        [proxy]
        listen = "127.0.0.1:0"
        [admin]
        listen = "127.0.0.1:0"
        [launcher]
        kind = "process"
        first_port = 0
        [timeouts]
        drain_ms = 5000
        [reload]
        watch = false
    };
    let strategy = Table::from_iter([
        ("name".to_owned(), Value::from(setup.strategy.clone())),
        ("config".to_owned(), Table::from_iter([(setup.strategy.clone(), Value::from(setup.options.clone()))]).into()),
    ]);
    let launcher = Table::from_iter([
        ("replicas".to_owned(), Value::from(i64::from(setup.replicas))),
        ("command".to_owned(), Value::from(command)),
    ]);
    let ours = Table::from_iter([
        ("strategy".to_owned(), Value::from(strategy)),
        ("launcher".to_owned(), launcher.into()),
        ("state".to_owned(), Table::from_iter([("dir".to_owned(), Value::from(text(state)))]).into()),
    ]);
    merge(&mut config, &off());
    merge(&mut config, &ours);
    merge(&mut config, &setup.keys);
    format!("# Written by loadgen for one run.\n{config}")
}

/// The keys that switch all safeguards off, by section.
pub(crate) fn off() -> Table {
    let key = |it: &Safeguard| Table::from_iter([(it.switch.to_owned(), it.off.into())]);
    SAFEGUARDS.iter().map(|safeguard| (safeguard.section.to_owned(), key(safeguard).into())).collect()
}

/// The digest of a configuration file.
pub(crate) fn digest(config: &Path) -> Result<String, BalancerError> {
    let text = std::fs::read(config).map_err(|source| BalancerError::Start { path: config.to_owned(), source })?;
    Ok(hex(&Sha256::digest(&text)))
}

/// Merges `over` into `table`, table by table.
pub(crate) fn merge(table: &mut Table, over: &Table) {
    for (key, value) in over {
        match (table.get_mut(key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => merge(below, above),
            _ => drop(table.insert(key.clone(), value.clone())),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_a_log_that_cannot_be_written() {
        let said = silence(Path::new("/dev/full"));
        assert!(said.contains("/dev/full cannot be written: No space left on device"), "{said}");
    }

    #[test]
    fn the_experiments_keys_override_ours() {
        let keys: Table = toml::from_str("[proxy]\nworkers = 2\n[timeouts]\ndrain_ms = 1").expect("TOML");
        let setup = Setup {
            strategy: "round_robin".into(),
            options: toml::from_str("a = 1").expect("TOML"),
            replicas: 3,
            mock_flags: vec!["--concurrency".into(), "4".into()],
            keys,
        };
        let programs = Programs { lb: "/x/lb".into(), mock_server: "/x/mock-server".into() };
        let config: Table = toml::from_str(&config_text(&programs, &setup, Path::new("/s"))).expect("TOML");
        assert_eq!(config["proxy"]["workers"].as_integer(), Some(2));
        assert_eq!(config["proxy"]["listen"].as_str(), Some("127.0.0.1:0"));
        assert_eq!(config["timeouts"]["drain_ms"].as_integer(), Some(1));
        assert_eq!(config["launcher"]["command"].as_array().map(Vec::len), Some(3));
        for safeguard in SAFEGUARDS {
            assert_eq!(config[safeguard.section][safeguard.switch], safeguard.off.into(), "{}", safeguard.name);
        }
        assert_eq!(config["strategy"]["config"]["round_robin"]["a"].as_integer(), Some(1));
    }
}
