//! The subject of a measurement: servers and a balancer as processes, and its admin port.
//!
//! Why not the helpers of the tests: a measurement takes the programs of the build that its user names, and reports
//! errors instead of panics. Invariant: every process ends with the value that started it. It also ends with this
//! program, if that is killed: servers end with their stdin, and the balancer has no children.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

/// The strategies that take turns.
pub(crate) const STRATEGIES: [&str; 2] = ["round_robin", "least_connections"];
const PATIENCE: Duration = Duration::from_secs(30);

/// The programs and libraries of one build.
pub(crate) struct Build {
    pub(crate) folder: PathBuf,
}

/// A server.
pub(crate) struct Mock {
    child: Child,
    address: SocketAddr,
}

/// A running balancer with a folder of its own.
pub(crate) struct Balancer {
    pub(crate) proxy: SocketAddr,
    admin: SocketAddr,
    child: Child,
    folder: TempDir,
    /// Behind the strategy.
    config: String,
    plugins: [Vec<u8>; 2],
    /// Other contents made so far.
    contents: usize,
    turn: usize,
}

/// Memory that is resident, KiB.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resident {
    pub(crate) all: i64,
    /// Written to, or never in a file.
    pub(crate) anonymous: i64,
}

// === impl Build ===

impl Build {
    /// In `folder`; without one, the build that this example is of.
    pub(crate) fn find(folder: Option<&Path>) -> Result<Self> {
        if let Some(folder) = folder {
            return Ok(Self { folder: std::path::absolute(folder)? });
        }
        let own = std::env::current_exe()?;
        let folder = own.parent().and_then(Path::parent).context("this program lies nowhere")?;
        Ok(Self { folder: folder.to_owned() })
    }

    fn file(&self, name: &str) -> Result<PathBuf> {
        let path = self.folder.join(name);
        ensure!(path.exists(), "{} is missing: run `cargo build --release` first, or name --build", path.display());
        Ok(path)
    }
}

// === impl Mock ===

impl Mock {
    pub(crate) fn start(build: &Build, id: usize) -> Result<Self> {
        let mut child = Command::new(build.file("mock-server")?)
            .args(["--port", "0", "--exit-with-parent", "--id", &id.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
        let address = loop {
            let line = lines.next().context("mock-server says nothing")??;
            if let Some((_, address)) = line.split_once("listening on ") {
                break address.trim().parse()?;
            }
        };
        Ok(Self { child, address })
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

// === impl Balancer ===

impl Balancer {
    /// Two pools of so many backends each, `default` and `side`, in front of `mocks`. Its configuration ends with
    /// `tables`.
    pub(crate) fn start(build: &Build, mocks: &[Mock], backends: usize, tables: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut config = String::from("[reload]\nwatch = false\n[pools.side.strategy]\nname = \"round_robin\"\n");
        for number in 0..backends {
            let address = mocks[number % mocks.len()].address;
            config += &format!("[[backends]]\nid = \"b{number}\"\naddress = \"{address}\"\n");
            config += &format!("[[pools.side.backends]]\nid = \"s{number}\"\naddress = \"{address}\"\n");
        }
        config += tables;
        let read = |name: &str| -> Result<Vec<u8>> { Ok(std::fs::read(build.file(&format!("lib{name}.so"))?)?) };
        let plugins = [read(STRATEGIES[0])?, read(STRATEGIES[1])?];
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("lb.toml"), format!("[strategy]\nname = {:?}\n{config}", STRATEGIES[0]))?;
        let mut child = Command::new(build.file("lb")?)
            .env_clear()
            .current_dir(folder.path())
            .args(["--config", "lb.toml", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .args(["--set", "state.dir=\"state\"", "--ready-file", "ready.json"])
            .arg("--set")
            .arg(format!("plugin_dirs=[{:?}]", build.folder))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(path("stderr"))?)
            .spawn()?;
        let deadline = Instant::now() + PATIENCE;
        let ready = loop {
            if let Ok(ready) = std::fs::read_to_string(path("ready.json")) {
                break serde_json::from_str::<Value>(&ready)?;
            }
            if child.try_wait()?.is_some() || Instant::now() > deadline {
                end(&mut child);
                bail!("lb does not start: {}", std::fs::read_to_string(path("stderr"))?);
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let address = |value: &Value| -> Result<SocketAddr> { Ok(value.as_str().context("no address")?.parse()?) };
        let (proxy, admin) = (address(&ready["proxy"][0])?, address(&ready["admin"])?);
        Ok(Self { proxy, admin, child, folder, config, plugins, contents: 0, turn: 0 })
    }

    /// The other strategy by the next reload, from a file that was vetted before.
    pub(crate) fn prepare_warm(&mut self) -> Result<()> {
        self.turn = 1 - self.turn;
        self.write(&format!("name = {:?}", STRATEGIES[self.turn]))
    }

    /// The other strategy by the next reload, from a file with a content that was never seen.
    pub(crate) fn prepare_cold(&mut self) -> Result<()> {
        self.turn = 1 - self.turn;
        self.contents += 1;
        let file = self.folder.path().join(format!("{}.so", self.contents));
        // Readers of an ELF file ignore bytes behind its end.
        let number = self.contents.to_le_bytes();
        std::fs::write(&file, [&self.plugins[self.turn], &number[..]].concat())?;
        self.write(&format!("path = {file:?}"))
    }

    fn write(&self, strategy: &str) -> Result<()> {
        Ok(std::fs::write(self.folder.path().join("lb.toml"), format!("[strategy]\n{strategy}\n{}", self.config))?)
    }

    /// Reloads what was prepared; answers how long that took.
    pub(crate) fn reload(&self) -> Result<Duration> {
        let began = Instant::now();
        let answer = self.ask("POST", "/reload")?;
        let took = began.elapsed();
        let report: Value = serde_json::from_str(&answer)?;
        let change = &report["pools"][0]["change"];
        ensure!(
            report["result"] == "done" && change == "strategy",
            "the reload did something else; was a strategy rolled back before? {answer}"
        );
        Ok(took)
    }

    /// The sum of the series whose line begins so.
    pub(crate) fn metric(&self, series: &str) -> Result<f64> {
        let samples = self.samples()?;
        Ok(samples.iter().filter(|(name, _)| name.starts_with(series)).map(|(_, value)| value).sum())
    }

    /// Bounds in nanoseconds, each with the number of take-ups up to it.
    pub(crate) fn take_ups(&self) -> Result<Vec<(f64, f64)>> {
        let bound = |(name, value): &(String, f64)| {
            let bound = name.strip_prefix("lb_generation_take_up_seconds_bucket{le=\"")?.strip_suffix("\"}")?;
            Some((bound.parse::<f64>().unwrap_or(f64::INFINITY) * 1e9, *value))
        };
        Ok(self.samples()?.iter().filter_map(bound).collect())
    }

    fn samples(&self) -> Result<Vec<(String, f64)>> {
        let page = self.ask("GET", "/metrics")?;
        let lines = page.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
        lines.map(|(name, value)| Ok((name.to_owned(), value.parse()?))).collect()
    }

    pub(crate) fn resident(&self) -> Result<Resident> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let field = |name: &str| -> Result<i64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
            Ok(line.trim().trim_end_matches(" kB").parse()?)
        };
        Ok(Resident { all: field("VmRSS:")?, anonymous: field("RssAnon:")? })
    }

    /// The process, and so its main thread.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the admin port answers.
    pub(crate) fn ask(&self, method: &str, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(self.admin)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let host = self.admin;
        let head =
            format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(head.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("{path} has no answer"))?;
        ensure!(head.split(' ').nth(1) == Some("200"), "{method} {path} was refused: {body}");
        Ok(body.to_owned())
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}
