//! The parent's side of a trial: starts the child, listens to it, ends it.
//!
//! Invariants: the child and all that it started are killed as a group when the trial ends, however it ends; a verdict counts only
//! when the child then ended well by itself; what a child says is read to a bound, and memory here does not depend on it.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::request::{Answer, Line, Verdict, VetError, VetRequest, VetStage};

/// The hidden command of `lb`.
const COMMAND: &str = "vet-plugin";
/// Steps and verdict are a few hundred bytes and a reason of a few thousand.
const SAID_MAX_BYTES: u64 = 256 << 10;
/// Of what it wrote to stderr, so much of the end is kept.
const STDERR_KEPT_BYTES: usize = 512;
/// How long the pipes are read after the end; a process that left the group may hold them open.
const DRAIN_TIME_MAX: Duration = Duration::from_millis(100);

/// What the child has said so far.
struct Said {
    at: VetStage,
    verdict: Option<Verdict>,
    stderr: Vec<u8>,
}

/// The child's process group, killed when this is dropped.
struct Group(Option<Pid>);

/// Tries the plugin in a child of `executable`.
pub(super) async fn run(executable: &Path, request: &VetRequest, time_max: Duration) -> Result<Verdict, VetError> {
    let said = Arc::new(Mutex::new(Said { at: VetStage::Start, verdict: None, stderr: Vec::new() }));
    let refused = |stage, reason| Err(VetError { path: request.origin().to_owned(), stage, reason });
    let mut child = match start(executable) {
        Ok(child) => child,
        Err(error) => {
            let executable = executable.display();
            return refused(VetStage::Start, format!("cannot be tried, {executable} does not start: {error}"));
        }
    };
    let group = Group::of(&child);
    let talk = converse(&mut child, request, &said);
    let ended = timeout(time_max, child.wait()).await;
    drop(group);
    let _ = timeout(DRAIN_TIME_MAX, talk.join_all()).await;
    // Collects the child when time ran out. One that even SIGKILL does not end at once is left to the runtime.
    let _ = timeout(DRAIN_TIME_MAX, child.wait()).await;

    let Said { at, verdict, stderr } =
        std::mem::replace(&mut *said.lock(), Said { at: VetStage::Start, verdict: None, stderr: Vec::new() });
    match (ended, verdict) {
        (_, Some(verdict)) if verdict.verdict == Answer::Refused => refused(verdict.stage, verdict.reason),
        (Ok(Ok(status)), Some(verdict)) if status.success() => Ok(verdict),
        (Ok(Ok(status)), _) => refused(at, format!("{} while {}{}", describe(status), at.doing(), last_words(&stderr))),
        (Ok(Err(error)), _) => refused(at, format!("was lost while {}: {error}", at.doing())),
        (Err(_), _) => refused(at, format!("did not finish within {} s while {}", time_max.as_secs_f64(), at.doing())),
    }
}

fn start(executable: &Path) -> std::io::Result<Child> {
    Command::new(executable)
        .arg0("lb")
        .arg(COMMAND)
        // A plugin has no business with it.
        .env_remove("LB_ADMIN_TOKEN")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
}

/// Hands over the request and listens, in tasks that end with the returned set.
fn converse(child: &mut Child, request: &VetRequest, said: &Arc<Mutex<Said>>) -> JoinSet<()> {
    let mut talk = JoinSet::new();
    if let Some(mut stdin) = child.stdin.take() {
        let text = serde_json::to_vec(request).unwrap_or_default();
        talk.spawn(async move {
            // One that died before it had read all is told of by its end.
            let _ = stdin.write_all(&text).await;
        });
    }
    if let Some(stdout) = child.stdout.take() {
        talk.spawn(listen(stdout, said.clone()));
    }
    if let Some(stderr) = child.stderr.take() {
        talk.spawn(keep_end(stderr, said.clone()));
    }
    talk
}

async fn listen(stdout: impl AsyncRead + Unpin, said: Arc<Mutex<Said>>) {
    let mut lines = BufReader::new(stdout.take(SAID_MAX_BYTES)).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let mut said = said.lock();
        match serde_json::from_str(&line) {
            Ok(Line::At { at }) => said.at = at,
            Ok(Line::Verdict(verdict)) => {
                said.at = VetStage::End;
                said.verdict = Some(verdict);
            }
            Err(_) => {}
        }
    }
}

async fn keep_end(mut stderr: impl AsyncRead + Unpin, said: Arc<Mutex<Said>>) {
    let mut chunk = [0; 4096];
    while let Ok(read @ 1..) = stderr.read(&mut chunk).await {
        let mut said = said.lock();
        said.stderr.extend_from_slice(&chunk[..read]);
        let surplus = said.stderr.len().saturating_sub(STDERR_KEPT_BYTES);
        said.stderr.drain(..surplus);
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended its process with status {code}"),
        (None, Some(signal)) => match signal_name(signal) {
            Some(name) => format!("died with signal {signal} ({name})"),
            None => format!("died with signal {signal}"),
        },
        (None, None) => "ended its process".to_owned(),
    }
}

/// Those that broken code dies of; the numbers are the same on x86-64 and aarch64 Linux.
fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        31 => "SIGSYS",
        _ => return None,
    })
}

fn last_words(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty());
    line.map(|line| format!("; its last words: {line}")).unwrap_or_default()
}

// === impl Group ===

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // The only failure is that nobody is left.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
