//! The parent's side of a trial: starts the child, reads its output, ends it.
//!
//! Invariants: the child and all its processes are killed as a group at every end of the trial. A verdict counts only
//! if the child then exits with success. The child's output is read up to a limit, so it cannot grow memory here.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::request::{Answer, Line, Verdict, VetError, VetRequest, VetStage};
use super::serve::handed_over;

/// The only variables of the environment that a child gets: search paths and language. A plugin must not see a token or
/// a password.
const ENVIRONMENT: [&str; 6] = ["PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ", "RUST_BACKTRACE"];
/// Steps and verdict take a few hundred bytes, a reason a few thousand.
const SAID_MAX_BYTES: u64 = 256 << 10;
/// The end of the child's stderr that is kept.
const STDERR_KEPT_BYTES: usize = 512;
/// How long the pipes are read after the child's end. A process that left the group may hold them open. Long, so that a
/// busy machine loses no output.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(2);
/// The time limit until the child's first step. The machine needs that time, not the plugin.
const START_TIME_MAX: Duration = Duration::from_secs(30);

/// Waiting ends in any case after this many times the limit.
const STARVED_TIMES: u32 = 6;
const LOOKS_PER_TIME: u32 = 5;
/// The unit of times in `/proc`, the same on every architecture.
const MILLISECONDS_PER_TICK: u64 = 10;

/// The child's output so far.
struct Said {
    at: VetStage,
    verdict: Option<Verdict>,
    stderr: Vec<u8>,
}

/// What the kernel reports about a process: whether it runs or wants to run, and its CPU time.
struct Run {
    is_runnable: bool,
    cpu_time: Duration,
}

/// The child's process group, killed when this is dropped.
struct Group(Option<Pid>);

/// Tries the plugin in a child of `executable`.
pub(super) async fn run(executable: &Path, request: &VetRequest, time_max: Duration) -> Result<Verdict, VetError> {
    let said = Arc::new(Mutex::new(Said { at: VetStage::Start, verdict: None, stderr: Vec::new() }));
    let refused = |stage, reason| Err(VetError { path: request.origin().to_owned(), stage, reason });
    let mut child = match handed_over(request).and_then(|request| start(executable, request)) {
        Ok(child) => child,
        Err(error) => {
            let executable = executable.display();
            return refused(VetStage::Start, format!("cannot be tried, {executable} does not start: {error}"));
        }
    };
    let group = Group::of(&child);
    let begun = Arc::new(Notify::new());
    let talk = listen_to(&mut child, &said, &begun);
    let ended_early = tokio::select! {
        ended = child.wait() => Some(ended),
        () = begun.notified() => None,
        () = tokio::time::sleep(START_TIME_MAX) => None,
    };
    let began = tokio::time::Instant::now();
    let ended = match ended_early {
        None => end_of(&mut child, time_max).await,
        ended => ended,
    };
    let took = began.elapsed();
    drop(group);
    let _ = timeout(DRAIN_TIME_MAX, talk.join_all()).await;
    // Collects the child after a time-out. If even SIGKILL does not end it at once, the runtime collects it later.
    let _ = timeout(DRAIN_TIME_MAX, child.wait()).await;

    let Said { at, verdict, stderr } =
        std::mem::replace(&mut *said.lock(), Said { at: VetStage::Start, verdict: None, stderr: Vec::new() });
    match (ended, verdict) {
        (_, Some(verdict)) if verdict.verdict == Answer::Refused => refused(verdict.stage, verdict.reason),
        (Some(Ok(status)), Some(verdict)) if status.success() => Ok(verdict),
        (Some(Ok(status)), _) => {
            refused(at, format!("{} while {}{}", describe(status), at.doing(), last_line(&stderr)))
        }
        (Some(Err(error)), _) => refused(at, format!("was lost while {}: {error}", at.doing())),
        (None, _) => {
            // By the clock it may be more on a busy machine; that says nothing about the plugin.
            tracing::debug!(clock_ms = took.as_millis() as u64, "a plugin did not finish its trial in time");
            let seconds = time_max.as_secs_f64();
            refused(at, format!("did not finish within {seconds} s while {}", at.doing()))
        }
    }
}

/// Waits for the child's end; `None` if its time is up. The limit is `time_max`, and more for a child that runs or
/// wants to run but has not had `time_max` of CPU time.
async fn end_of(child: &mut Child, time_max: Duration) -> Option<std::io::Result<ExitStatus>> {
    let mut before = Duration::ZERO;
    for look in 1..=STARVED_TIMES * LOOKS_PER_TIME {
        if let Ok(ended) = timeout(time_max / LOOKS_PER_TIME, child.wait()).await {
            return Some(ended);
        }
        let run = child.id().and_then(Run::of)?;
        let is_starved = run.cpu_time < time_max && (run.is_runnable || run.cpu_time > before);
        if look >= LOOKS_PER_TIME && !is_starved {
            return None;
        }
        before = run.cpu_time;
    }
    None
}

fn start(executable: &Path, request: File) -> std::io::Result<Child> {
    let environment = ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    Command::new(executable)
        // The command line looks like that of any lb, also to the plugin.
        .arg0("lb")
        .env_clear()
        .envs(environment)
        // Only a process with one thread may enter a user namespace, and jemalloc would start another thread.
        .env("_RJEM_MALLOC_CONF", "background_thread:false")
        .process_group(0)
        .stdin(request)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
}

/// Reads the child's output in tasks that end with the returned set; `begun` is notified at the first step.
fn listen_to(child: &mut Child, said: &Arc<Mutex<Said>>, begun: &Arc<Notify>) -> JoinSet<()> {
    let mut talk = JoinSet::new();
    if let Some(stdout) = child.stdout.take() {
        talk.spawn(listen(stdout, said.clone(), begun.clone()));
    }
    if let Some(stderr) = child.stderr.take() {
        talk.spawn(keep_end(stderr, said.clone()));
    }
    talk
}

async fn listen(stdout: impl AsyncRead + Unpin, said: Arc<Mutex<Said>>, begun: Arc<Notify>) {
    let mut lines = BufReader::new(stdout.take(SAID_MAX_BYTES)).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let mut said = said.lock();
        match serde_json::from_str(&line) {
            Ok(Line::At { at }) => {
                said.at = at;
                begun.notify_one();
            }
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

/// The signals that faulty code dies of. Their numbers are the same on x86-64 and aarch64 Linux.
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

fn last_line(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty());
    line.map(|line| format!("; the last line on stderr: {line}")).unwrap_or_default()
}

// === impl Run ===

impl Run {
    fn of(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in brackets may contain anything. After it come the state, as the third field, and ticks at 14 and
        // 15 (proc(5)).
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let ticks = |number: usize| fields.get(number - 3).and_then(|text| text.parse::<u64>().ok());
        let ran = (ticks(14)? + ticks(15)?).saturating_mul(MILLISECONDS_PER_TICK);
        // A process that waits for the disk waits for the machine, too.
        Some(Self { is_runnable: matches!(fields[0], "R" | "D"), cpu_time: Duration::from_millis(ran) })
    }
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
            // This fails only if no process is left.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn child(script: &str) -> Child {
        Command::new("sh").args(["-c", script]).kill_on_drop(true).spawn().unwrap()
    }

    #[tokio::test]
    async fn a_sleeping_child_gets_its_time_and_no_more() {
        let mut sleeper = child("exec sleep 3600");
        let time = Duration::from_millis(100);
        assert!(timeout(time * STARVED_TIMES, end_of(&mut sleeper, time)).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_busy_child_has_run_before_it_is_given_up() {
        let mut runner = child("while :; do :; done");
        let time = Duration::from_millis(200);
        assert!(end_of(&mut runner, time).await.is_none());
        let run = Run::of(runner.id().unwrap()).unwrap();
        assert!(run.is_runnable && run.cpu_time > Duration::from_millis(10), "it got to run at all");
    }

    #[tokio::test]
    async fn an_ended_child_is_collected_and_a_missing_process_has_no_run() {
        let mut quick = child("exit 3");
        let status = end_of(&mut quick, Duration::from_secs(30)).await.unwrap().unwrap();
        assert_eq!(status.code(), Some(3));
        assert!(Run::of(u32::MAX).is_none());
    }
}
