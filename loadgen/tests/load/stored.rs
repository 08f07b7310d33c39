//! `loadgen run --out DIR` stores a run in the format of experiments, so that the other commands can read it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use loadgen::model::{Completeness, Folder, Load, Scenario, Severity};
use mock_server::{Options, Running};
use tempfile::TempDir;

use crate::support::mock;

struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

fn loadgen(arguments: &[&str]) -> Ended {
    let output = Command::new(env!("CARGO_BIN_EXE_loadgen")).args(arguments).output().expect("loadgen starts");
    let Output { status, stdout, stderr } = output;
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Ended { code: status.code(), out: text(stdout), err: text(stderr) }
}

/// A folder, and a server for the load.
struct Rig {
    folder: TempDir,
    server: Running,
}

impl Rig {
    fn new() -> Self {
        let server = mock(Options { id: "Server 1".to_owned(), ..Options::default() });
        Self { folder: tempfile::tempdir().expect("a folder"), server }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a closed loop and stores it as `name`. It has few requests, so that other work rarely makes it invalid.
    fn run(&self, name: &str, more: &[&str]) -> Ended {
        let (out, url) = (self.path(name), format!("http://{}/home", self.server.addr));
        let arguments = [&["run", "-n", "400", "-c", "4", "--out", text(&out)][..], more, &[&url]].concat();
        loadgen(&arguments)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Asserts that the run ended normally. On a busy machine, it may report an invalid result.
fn was_carried_out(ended: &Ended) {
    let is_doubtful = ended.out.contains("NOT VALID");
    assert_eq!(ended.code, Some(i32::from(is_doubtful)), "{}{}", ended.out, ended.err);
}

#[test]
fn a_stored_run_is_read_back_with_its_counts_its_load_and_its_reports() {
    let rig = Rig::new();
    let ended = rig.run("a", &["--warm-up", "10ms", "-H", "authorization: Bearer s3cret"]);
    was_carried_out(&ended);
    if ended.code == Some(0) {
        let report = std::fs::read_to_string(rig.path("a/report.md")).expect("written");
        let answer = format!("**{} gave 400 good responses, ", rig.server.addr);
        assert!(report.contains(&answer) && report.contains("Latency: p50 "), "{report}");
    }
    let page = rig.path("a/report.html");
    assert!(ended.out.ends_with(&format!("\nreport: {}\n", page.display())), "{}", ended.out);
    let run = Folder::new(rig.path("a")).read().expect("a run that can be read");
    let manifest = &run.manifest;
    assert_eq!((manifest.scenario, &manifest.completeness), (Scenario::Own, &Completeness::Complete));
    assert_eq!(manifest.load, Load::Closed { connections: 4, requests: 400 });
    assert_eq!((manifest.arms.len(), &*manifest.arms[0].label, manifest.is_single_load()), (1, "target", true));
    assert!(manifest.backends.description.contains("GET /home with authorization (sha256 "), "{manifest:?}");
    assert!(manifest.marks.iter().any(|mark| mark.check == "generator"), "{:?}", manifest.marks);
    let cell = &run.results.cells[0];
    assert_eq!((cell.requests, cell.errors, cell.n, cell.counts()), (400, 0, 1, vec![400]));
    assert_eq!((run.latencies[&cell.key()].latency.len(), run.series.len()), (400, 1));
    for file in ["report.html", "report.md", "results.csv", "run.json"] {
        let text = std::fs::read_to_string(rig.path("a").join(file)).expect("written");
        assert!(!text.contains("s3cret"), "a secret is in {file}");
    }
}

#[test]
fn with_json_stdout_has_nothing_but_json() {
    let rig = Rig::new();
    let ended = rig.run("a", &["--json"]);
    serde_json::from_str::<serde_json::Value>(&ended.out).expect("JSON alone");
    assert!(ended.err.contains(&format!("loadgen: stored, report: {}", rig.path("a/report.html").display())));
}

#[test]
fn a_folder_that_holds_a_run_is_refused_before_the_first_request() {
    let rig = Rig::new();
    was_carried_out(&rig.run("a", &[]));
    let (before, stored) = (rig.server.stats().requests, std::fs::read(rig.path("a/run.json")).expect("stored"));
    let ended = rig.run("a", &[]);
    let line = format!("loadgen: {} holds a run already: choose another folder with --out\n", rig.path("a").display());
    assert_eq!((ended.code, &*ended.out, ended.err), (Some(2), "", line));
    assert_eq!(rig.server.stats().requests, before);
    assert_eq!(std::fs::read(rig.path("a/run.json")).expect("still there"), stored);
}

#[test]
fn a_run_that_cannot_be_stored_is_printed_and_is_exit_code_1() {
    let rig = Rig::new();
    std::fs::create_dir_all(rig.path("a/results.json")).expect("a folder in the place of a file");
    let ended = rig.run("a", &[]);
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    assert!(ended.out.contains("backend Server 1") && !ended.out.contains("report: "), "{}", ended.out);
    let lines: Vec<&str> = ended.err.lines().filter(|line| line.contains("results.json")).collect();
    assert!(matches!(lines[..], [line] if line.ends_with("printed above and is not stored")), "{}", ended.err);
    assert!(!rig.path("a/run.json").exists(), "an incomplete folder is no run");
}

#[test]
fn two_stored_runs_of_the_same_load_are_compared_and_others_are_refused() {
    let rig = Rig::new();
    let names = ["a", "b", "path", "closed"];
    let url = format!("http://{}/home?x", rig.server.addr);
    for (name, more) in names.into_iter().zip([&[][..], &[], &[], &["-c", "5"]]) {
        let out = rig.path(name);
        let url = if name == "path" { url.clone() } else { format!("http://{}/home", rig.server.addr) };
        let connections: &[&str] = if more.is_empty() { &["-c", "4"] } else { more };
        let arguments = [&["run", "-n", "400", "--out", text(&out)][..], connections, &[&url]].concat();
        let ended = loadgen(&arguments);
        was_carried_out(&ended);
        if ended.code == Some(1) {
            return; // An invalid run is not compared. Another test covers that.
        }
    }
    let diff = |one: &str, other: &str| loadgen(&["report", "--diff", text(&rig.path(one)), text(&rig.path(other))]);
    let same = diff("a", "b");
    assert_eq!(same.code, Some(0), "{}", same.err);
    assert!(same.out.contains("latency p50, ms"), "{}", same.out);
    for (other, word) in [("path", "the backends differs"), ("closed", "the load differs")] {
        let ended = diff("a", other);
        assert_eq!((ended.code, ended.err.lines().count()), (Some(2), 1), "{}", ended.err);
        assert!(ended.err.contains(word), "{other}: {}", ended.err);
    }
    let (new, old) = (rig.path("b"), rig.path("a"));
    let check = loadgen(&["check", text(&new), "--baseline", text(&old), "--threshold", "errors<1%"]);
    assert_eq!(check.code, Some(0), "{}", check.err);
}

#[test]
fn a_replay_of_a_stored_run_is_refused_in_one_line() {
    let rig = Rig::new();
    was_carried_out(&rig.run("a", &[]));
    let ended = loadgen(&["replay", text(&rig.path("a"))]);
    assert_eq!((ended.code, &*ended.out, ended.err.lines().count()), (Some(2), "", 1), "{}", ended.err);
    assert!(ended.err.contains("has no plan to replay: run its command again: "), "{}", ended.err);
}

#[test]
fn a_run_without_responses_is_stored_with_its_errors() {
    let rig = Rig::new();
    let change = mock_server::Change { stall: Some(true), ..mock_server::Change::default() };
    rig.server.change(&change).expect("a switch");
    let ended = rig.run("a", &["-t", "50ms"]);
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    let run = Folder::new(rig.path("a")).read().expect("a run that can be read");
    let cell = &run.results.cells[0];
    assert_eq!((cell.requests, cell.errors, cell.error_kinds["timeout"], cell.n), (400, 400, 400, 1));
    assert!(run.manifest.marks.iter().all(|mark| mark.severity != Severity::Warning || mark.check == "host"));
    assert_eq!(loadgen(&["report", text(&rig.path("a"))]).code, Some(0));
}
