//! Changed files trigger reloads, in each way in which people and programs write files.
//!
//! Unless a test sets an interval, there is no polling, so the events of the system must be enough. Invariants of every
//! test: it knows the number of attempts, exactly or as a range. A client gets a response to each of its requests
//! meanwhile. To show that nothing happened, a test waits for a later event.

mod deployments;
mod overrides;
mod pace;
mod plugins;
mod saves;

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use lb_test_support::{get, metrics, wait_for};
use serde_json::Value;
use tempfile::TempDir;

use crate::bench::Bench;

/// Longer than a test may pause between two writes that belong together.
const SETTLE: Duration = Duration::from_millis(400);
/// Polls once a day, which is never in a test.
const EVENTS_ALONE: u64 = 86_400_000;

/// A balancer that watches its files, and a client that sends requests all the time.
struct Watched {
    bench: Bench,
    client: Client,
    /// The number of the last marker.
    marker: Cell<u32>,
}

struct Client {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

/// `[reload]` with this time between polls, and without probation. A busy machine makes picks slow, and a rollback for
/// that is not the subject of these tests.
fn reload_section(poll_ms: u64) -> String {
    format!("[reload]\nsettle_ms = {}\npoll_ms = {poll_ms}\nprobation_ms = 0\n", SETTLE.as_millis())
}

/// Runs `script` in a shell, with `paths` as `$1` and on.
fn shell(script: &str, paths: &[&Path]) {
    let status = std::process::Command::new("sh").args(["-ec", script, "sh"]).args(paths).status().unwrap();
    assert!(status.success(), "{script}");
}

// === impl Watched ===

impl Watched {
    fn start(strategy: &str, files: &[(&str, &[u8])]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), &reload_section(EVENTS_ALONE), strategy, files)
    }

    /// As `start`, in a folder that may have files.
    fn start_in(folder: TempDir, reload: &str, strategy: &str, files: &[(&str, &[u8])]) -> Self {
        Self::of(Bench::start_in(folder, reload, strategy, files))
    }

    /// Returns when the contents from the start have settled.
    fn of(bench: Bench) -> Self {
        let client = Client::start(bench.lb.proxy);
        let watched = Self { bench, client, marker: Cell::new(0) };
        wait_for("the first contents to settle", || (watched.settled() > 0).then_some(()));
        assert_eq!((watched.attempts(), watched.generation()), (0, 1), "the contents from the start cause no attempt");
        assert_eq!(watched.bench.status()["watch"]["has_events"], true);
        watched
    }

    fn path(&self, name: &str) -> PathBuf {
        self.bench.lb.path(name)
    }

    /// The number of reloads by any trigger.
    fn attempts(&self) -> u64 {
        let page = get(self.bench.lb.admin, "/metrics").body;
        metrics::sum(&page, "lb_reloads_total", &[]) as u64
    }

    fn settled(&self) -> u64 {
        self.bench.status()["watch"]["settled"].as_u64().unwrap_or(0)
    }

    fn generation(&self) -> u64 {
        self.bench.status()["generation"].as_u64().unwrap()
    }

    fn sha256(&self) -> Value {
        self.bench.status()["pools"][0]["strategy_sha256"].clone()
    }

    /// Waits for the attempt of the watcher after `change`. Returns its outcome.
    fn attempt_after(&self, change: impl FnOnce()) -> Value {
        let before = self.attempts();
        change();
        wait_for("an attempt", || (self.attempts() > before).then_some(()));
        assert_eq!(self.attempts(), before + 1);
        let last = self.bench.status()["reload"]["last"].clone();
        assert_eq!(last["by"], "watcher");
        last
    }

    /// After `change`, a reload succeeds and a new generation is in force.
    fn accepted_after(&self, change: impl FnOnce()) {
        let before = self.generation();
        let last = self.attempt_after(change);
        assert_eq!((&last["result"], self.generation()), (&"done".into(), before + 1), "{last}");
    }

    /// After `change`, a reload is refused. Returns stage and reason.
    fn refused_after(&self, change: impl FnOnce()) -> (String, String) {
        let (generation, sha256) = (self.generation(), self.sha256());
        let last = self.attempt_after(change);
        assert_eq!((self.generation(), self.sha256()), (generation, sha256), "the running state is unchanged");
        let text = |key: &str| last[key].as_str().unwrap_or_else(|| panic!("not refused: {last}")).to_owned();
        (text("stage"), text("reason"))
    }

    /// The watcher sees `change` and makes no attempt.
    fn nothing_after(&self, change: impl FnOnce()) {
        let (attempts, settled) = (self.attempts(), self.settled());
        change();
        wait_for("the change to settle", || (self.settled() > settled).then_some(()));
        self.mark();
        assert_eq!(self.attempts(), attempts + 1, "only the marker");
    }

    /// Changes another setting in lb.toml. Returns when it is in force, so all earlier effects have happened.
    fn mark(&self) {
        let text = std::fs::read_to_string(self.path("lb.toml")).unwrap();
        self.write_marked(&text);
    }

    /// Writes a configuration that differs from all before. Returns when it is in force.
    fn write_marked(&self, text: &str) {
        self.marker.set(self.marker.get() + 1);
        let text = text.split("[timeouts]").next().unwrap();
        let generation = self.generation();
        let text = format!("{text}[timeouts]\nconnect_ms = {}\n", 7_000 + self.marker.get());
        std::fs::write(self.path("lb.toml"), text).unwrap();
        wait_for("the marker to be in force", || (self.generation() > generation).then_some(()));
    }

    /// Asserts that there were `attempts`, that none follows, and that the client got all its responses.
    fn end(mut self, attempts: u64) {
        self.mark();
        assert_eq!(self.attempts(), attempts + 1, "{}", self.bench.lb.printed("stderr"));
        let answered = self.client.end();
        assert!(answered > 0);
        assert_eq!(self.bench.seen(), answered, "each request reached one server once");
    }
}

// === impl Client ===

impl Client {
    fn start(proxy: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = stop.clone();
        let ask = move || {
            let mut answered = 0;
            while !is_over.load(Relaxed) {
                let answer = get(proxy, "/home");
                assert_eq!(answer.status, 200, "{answer:?}");
                answered += 1;
            }
            answered
        };
        Self { stop, thread: Some(std::thread::spawn(ask)) }
    }

    /// Stops the client. Returns the number of requests, all of which got a 200.
    fn end(&mut self) -> u64 {
        self.stop.store(true, Relaxed);
        self.thread.take().map_or(0, |thread| thread.join().expect("every response is 200"))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
    }
}
