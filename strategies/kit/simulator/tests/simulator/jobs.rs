//! Simulations in child processes: the same results, and a library that crashes or loops is told.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lb_strategy_simulator::{Job, JobError, Results};
use serde_json::{Value, json};

use crate::common::{run, world};

/// Set in a child: it serves a job, and its outcome goes to this file descriptor's path.
const SERVES: &str = "LB_SIMULATOR_SERVES";

/// Serves a job if it runs as the child of another test.
#[test]
fn a_child_serves_its_job() {
    if let Ok(copies) = std::env::var(SERVES) {
        // The test harness writes to standard output, too.
        let output = std::fs::OpenOptions::new().write(true).open("/dev/stderr").unwrap();
        Job::serve(std::io::stdin(), output, Path::new(&copies)).unwrap();
    }
}

/// The results of a job in a child, which has this limit of time.
fn in_child(job: &Job, limit: Duration) -> Result<Results, JobError> {
    let folder = tempfile::tempdir().unwrap();
    // The outcome goes to standard error in the child, and the shell makes that the pipe.
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" --exact jobs::a_child_serves_its_job --nocapture 2>&1 >/dev/null"]);
    command.arg(std::env::current_exe().unwrap()).env(SERVES, folder.path().join("copies"));
    job.run_in(&mut command, limit)
}

fn job(library: PathBuf, strategy: &str, options: Value) -> Job {
    let mut world = world(3, "exponential:10ms");
    world.headers.insert("x-real".to_owned(), "1".to_owned());
    Job { world, library, strategy: strategy.to_owned(), options, seed: 3, allow_group_writable: true }
}

/// A library in C that crashes or loops at its hundredth request.
fn crashes_late(folder: &Path, way: &str) -> Job {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/broken/crashes_late.c");
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("../api/include");
    let library = folder.join("liblate.so");
    let mut compiler = Command::new("cc");
    compiler.args(["-std=c11", "-shared", "-fPIC", "-fvisibility=hidden", "-pthread", "-I"]).arg(include);
    assert!(compiler.arg("-o").arg(&library).arg(source).status().unwrap().success());
    job(library, "late", json!({"way": way, "at": "100"}))
}

const LONG: Duration = Duration::from_secs(300);

#[test]
fn a_child_gives_the_results_of_this_process() {
    let job = job(lb_strategy_built::library("round_robin"), "round_robin", json!({}));
    let theirs = in_child(&job, LONG).unwrap();
    let ours = run("round_robin", &job.world, job.seed);
    assert_eq!(theirs.to_json(), ours.to_json());
    assert_eq!(theirs.latency.quantile_ns(0.99), ours.latency.quantile_ns(0.99));
}

#[test]
fn a_library_that_crashes_is_told_with_its_signal() {
    let folder = tempfile::tempdir().unwrap();
    let told = in_child(&crashes_late(folder.path(), "abort"), LONG).unwrap_err().to_string();
    assert_eq!(told, "the strategy's library ended its process: signal 6");
}

#[test]
fn a_library_that_does_not_return_is_ended_at_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let limit = Duration::from_secs(2);
    let told = in_child(&crashes_late(folder.path(), "spin"), limit).unwrap_err();
    assert!(matches!(told, JobError::TookTooLong(found) if found == limit), "{told}");
}

#[test]
fn a_job_that_cannot_run_is_refused_with_the_reason() {
    let mut absent = job("/nowhere/libx.so".into(), "x", json!({}));
    let told = in_child(&absent, LONG).unwrap_err().to_string();
    assert!(told.contains("plugin /nowhere/libx.so") && told.contains("[stage read]"), "{told}");
    absent.library = lb_strategy_built::library("round_robin");
    "round_robin".clone_into(&mut absent.strategy);
    absent.world.balancers = 0;
    let told = in_child(&absent, LONG).unwrap_err().to_string();
    assert_eq!(told, "world.balancers: 0 is not from 1 to 10000");
    absent.world.balancers = 1;
    absent.options = json!({"no_such_option": 1});
    let told = in_child(&absent, LONG).unwrap_err().to_string();
    assert!(told.contains("no_such_option"), "{told}");
}
