//! The child's frame: one request on stdin, steps and one verdict on what was stdout.
//!
//! Invariants: what a plugin prints cannot spoil the verdict, because stdout is moved away from where plugins write to before any of
//! it runs; the limits stand before any of it runs; the process ends with its parent.

use std::fs::File;
use std::io::{self, Read, Write};

use rlimit::Resource;
use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Signal, nice, set_parent_process_death_signal};
use rustix::stdio::{dup2_stdout, stderr, stdout};

use super::probe;
use super::request::{Line, VetRequest};

/// A longer request is not ours.
const REQUEST_MAX_BYTES: u64 = 64 << 20;
/// Address space: generous, so that a big table passes and a runaway does not.
const MEMORY_MAX_BYTES: u64 = 1 << 30;
/// For a plugin that spins after its parent has gone.
const CPU_MAX_SECONDS: u64 = 10;
/// Behind what serves.
const NICE: i32 = 10;

/// Reads one request, tries the plugin and prints the verdict. An error means that there was nothing to try.
pub fn answer() -> Result<(), String> {
    let mut told = restrict_and_take_stdout().map_err(|error| format!("vet-plugin cannot start: {error}"))?;
    let mut text = String::new();
    let read = io::stdin().lock().take(REQUEST_MAX_BYTES).read_to_string(&mut text);
    read.map_err(|error| format!("the request on stdin cannot be read: {error}"))?;
    let request: VetRequest =
        serde_json::from_str(&text).map_err(|error| format!("the request on stdin is not understood: {error}"))?;
    // Freed before the trial: what is open and allocated is compared before and after.
    drop(text);
    let verdict = probe::run(&request, &mut |stage| say(&mut told, &Line::At { at: stage }));
    say(&mut told, &Line::Verdict(verdict));
    Ok(())
}

/// One line; a reader that has gone has no more questions.
fn say(told: &mut File, line: &Line) {
    let mut text = serde_json::to_string(line).unwrap_or_default();
    text.push('\n');
    let _ = told.write_all(text.as_bytes());
}

fn restrict_and_take_stdout() -> io::Result<File> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let told = File::from(fcntl_dupfd_cloexec(stdout(), 3)?);
    dup2_stdout(stderr())?;
    nice(NICE)?;
    lower(Resource::CORE, 0)?;
    lower(Resource::AS, MEMORY_MAX_BYTES)?;
    lower(Resource::CPU, CPU_MAX_SECONDS)?;
    Ok(told)
}

/// A limit that is lower already stays.
fn lower(resource: Resource, limit: u64) -> io::Result<()> {
    let (_, hard) = rlimit::getrlimit(resource)?;
    let limit = limit.min(hard);
    rlimit::setrlimit(resource, limit, limit)
}
