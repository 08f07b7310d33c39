//! What the tests start and how they ask it: a balancer as a process, and HTTP by hand.
//!
//! The client is a socket and no library, so that what is checked is bytes, and so that broken requests can be sent.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use mock_server::{MockServer, Options, Running};
use serde_json::Value;
use tempfile::TempDir;

/// No wait is longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// An admin token that lb takes.
#[allow(dead_code, reason = "the reload tests, which share this file, may have no use for it")]
pub(crate) const TOKEN: &str = "b9c1f6b2d34f0a7e5c8890712de4ab63";

/// A running `lb`, killed when dropped.
pub(crate) struct Balancer {
    pub(crate) proxy: SocketAddr,
    pub(crate) admin: SocketAddr,
    child: Child,
    folder: TempDir,
}

/// An answer, taken apart.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

/// A server that answers, with this id.
pub(crate) fn mock(id: &str) -> Running {
    MockServer::start(Options { id: id.to_owned(), ..Options::default() }).unwrap()
}

/// `[[backends]]` entries for these servers.
pub(crate) fn backends(servers: &[(&str, SocketAddr)]) -> String {
    servers.iter().map(|(id, address)| format!("[[backends]]\nid = \"{id}\"\naddress = \"{address}\"\n")).collect()
}

/// `lb` with the configuration in `folder` and plugins at hand, in an environment with nothing in it.
pub(crate) fn bare_command(folder: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lb"));
    let plugins = lb_strategy_built::folder();
    command
        .env_clear()
        .env("HOME", folder.path())
        .current_dir(folder.path())
        .args(["--config", "lb.toml", "--set", "proxy.workers=1", "--set"])
        .arg(format!("plugin_dirs=[{plugins:?}]"))
        .args(arguments);
    command
}

/// The same, on ports of the kernel's choice.
pub(crate) fn command(folder: &TempDir, arguments: &[&str]) -> Command {
    let mut command = bare_command(folder, &["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
    command.args(arguments);
    command
}

/// A folder with `config` as `lb.toml`.
pub(crate) fn folder(config: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("lb.toml"), config).unwrap();
    folder
}

/// Runs `lb` to its end.
pub(crate) fn run(config: &str, arguments: &[&str]) -> Output {
    let folder = folder(config);
    finish(command(&folder, arguments))
}

/// What a command has said when it has ended by itself.
pub(crate) fn finish(mut command: Command) -> Output {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() >= deadline {
            child.kill().unwrap();
            panic!("it did not end by itself: {:?}", child.wait_with_output().unwrap());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().unwrap()
}

/// Asks until `probe` gives something.
pub(crate) fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sends bytes as they are and reads to the end of the connection.
pub(crate) fn exchange(address: SocketAddr, request: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // what is refused early may be answered before it is sent whole
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8(answer).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer but {text:?}"));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

/// One request with these extra header lines.
pub(crate) fn send(address: SocketAddr, method: &str, path: &str, headers: &[&str], body: &str) -> Answer {
    let host = match headers.iter().any(|line| line.to_lowercase().starts_with("host:")) {
        true => String::new(),
        false => format!("host: {address}\r\n"),
    };
    let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let length = body.len();
    let request =
        format!("{method} {path} HTTP/1.1\r\n{host}connection: close\r\ncontent-length: {length}\r\n{lines}\r\n{body}");
    exchange(address, request.as_bytes())
}

pub(crate) fn get(address: SocketAddr, path: &str) -> Answer {
    send(address, "GET", path, &[], "")
}

// === impl Answer ===

impl Answer {
    /// The value of a header field.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        fields.into_iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }
}

// === impl Balancer ===

impl Balancer {
    pub(crate) fn start(config: &str) -> Self {
        Self::start_with(config, &[])
    }

    pub(crate) fn start_with(config: &str, arguments: &[&str]) -> Self {
        Self::start_in(folder(config), arguments)
    }

    /// Starts with the configuration, and the state, that is in `folder`.
    pub(crate) fn start_in(folder: TempDir, arguments: &[&str]) -> Self {
        let stderr = std::fs::File::create(folder.path().join("stderr")).unwrap();
        Self::start_logging_to(stderr, folder, arguments)
    }

    /// The same with its stderr somewhere else.
    pub(crate) fn start_logging_to(stderr: impl Into<Stdio>, folder: TempDir, arguments: &[&str]) -> Self {
        let mut command = command(&folder, &[]);
        command.args(arguments);
        Self::start_command(command, stderr, folder)
    }

    /// Where the file says, and not the command line, which goes before it at every reload.
    #[allow(dead_code, reason = "of the reload tests, which share this file")]
    pub(crate) fn start_where_the_file_says(folder: TempDir) -> Self {
        let stderr = std::fs::File::create(folder.path().join("stderr")).unwrap();
        let command = bare_command(&folder, &["--admin-listen", "127.0.0.1:0"]);
        Self::start_command(command, stderr, folder)
    }

    /// Starts this command, which is to find its configuration in `folder`.
    pub(crate) fn start_command(command: Command, stderr: impl Into<Stdio>, folder: TempDir) -> Self {
        Self::start_between(Stdio::null(), command, stderr, folder)
    }

    /// Starts with a stdin that is more than nothing.
    #[allow(dead_code, reason = "the reload tests, which share this file, have no use for it")]
    pub(crate) fn start_reading(stdin: impl Into<Stdio>, folder: TempDir, arguments: &[&str]) -> Self {
        let stderr = std::fs::File::create(folder.path().join("stderr")).unwrap();
        let mut command = command(&folder, &[]);
        command.args(arguments);
        Self::start_between(stdin, command, stderr, folder)
    }

    fn start_between(stdin: impl Into<Stdio>, mut command: Command, stderr: impl Into<Stdio>, folder: TempDir) -> Self {
        let file = |name: &str| std::fs::File::create(folder.path().join(name)).unwrap();
        let mut child = command
            .args(["--ready-file", "ready.json"])
            .stdin(stdin)
            .stdout(file("stdout"))
            .stderr(stderr)
            .spawn()
            .unwrap();
        let ready = wait_for("the ready file", || {
            if let Some(status) = child.try_wait().unwrap() {
                let said = std::fs::read_to_string(folder.path().join("stderr")).unwrap_or_default();
                panic!("lb ended with {status}: {said}");
            }
            std::fs::read_to_string(folder.path().join("ready.json")).ok()
        });
        let ready: Value = serde_json::from_str(&ready).unwrap();
        assert_eq!(ready["pid"], child.id());
        let address = |value: &Value| value.as_str().unwrap().parse().unwrap();
        Self { proxy: address(&ready["proxy"][0]), admin: address(&ready["admin"]), child, folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What it has printed to `stdout` or `stderr` so far.
    pub(crate) fn printed(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("sh").args(["-c", "kill -$0 $1", signal, &pid]).status().unwrap().success());
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits until it ends by itself.
    pub(crate) fn end(&mut self) -> ExitStatus {
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
