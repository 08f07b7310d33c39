//! The child's frame: one request on stdin, steps and one verdict on what was stdout.
//!
//! The request is a sealed file in memory with a first line of ours, by which the child knows what it is for: neither its command line nor
//! its environment tells a plugin that it is on trial. Invariants: what a plugin prints cannot spoil the verdict, because stdout is moved away from where plugins write to before any of
//! it runs; the limits stand before any of it runs; the process ends with its parent.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use lb_strategy_host::PrivateCopy;
use rlimit::Resource;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::{Signal, getppid, nice, set_parent_process_death_signal};
use rustix::stdio::{dup2_stdout, stderr, stdin, stdout};

use super::confine::confine;
use super::probe;
use super::request::{Line, Verdict, VetRequest};

/// A longer request is not ours.
const REQUEST_MAX_BYTES: u64 = 64 << 20;
/// Address space: generous, so that a big table passes and a runaway does not.
const MEMORY_MAX_BYTES: u64 = 1 << 30;
/// For a plugin that spins after its parent has gone.
const CPU_MAX_SECONDS: u64 = 10;
/// Behind what serves.
const NICE: i32 = 10;

/// The first line of a request that was handed over as a file.
const FIRST_LINE: &[u8] = b"lb: try a plugin\n";

/// `request` as what a child's stdin has to be.
pub(super) fn handed_over(request: &VetRequest) -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels before 6.3 do not know the flag.
    let created = memfd_create("lb-request", flags | MemfdFlags::NOEXEC_SEAL).or_else(|error| match error {
        Errno::INVAL => memfd_create("lb-request", flags),
        error => Err(error),
    });
    let mut file = File::from(created?);
    file.write_all(FIRST_LINE)?;
    serde_json::to_writer(&mut file, request)?;
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK)?;
    file.rewind()?;
    Ok(file)
}

/// Whether this process was started to try a plugin: its stdin is what `handed_over` made.
pub fn is_asked() -> bool {
    let is_sealed = fcntl_get_seals(stdin()).is_ok_and(|seals| seals.contains(SealFlags::WRITE));
    let mut first = vec![0; FIRST_LINE.len()];
    let read = |first: &mut [u8]| File::from(io::stdin().as_fd().try_clone_to_owned()?).read_exact_at(first, 0);
    is_sealed && read(&mut first).is_ok() && first == FIRST_LINE
}

/// Reads one request, tries the plugin and prints the verdict. An error means that there was nothing to try.
pub fn answer() -> Result<(), String> {
    let parent = getppid();
    let mut told = restrict_and_take_stdout().map_err(|error| format!("vet-plugin cannot start: {error}"))?;
    let mut text = String::new();
    let read = io::stdin().lock().take(REQUEST_MAX_BYTES).read_to_string(&mut text);
    read.map_err(|error| format!("the request on stdin cannot be read: {error}"))?;
    let json = text.strip_prefix(str::from_utf8(FIRST_LINE).unwrap_or_default()).unwrap_or(&text);
    let request: VetRequest =
        serde_json::from_str(json).map_err(|error| format!("the request on stdin is not understood: {error}"))?;
    // Freed before the trial: what is open and allocated is compared before and after.
    drop(text);
    let copy = PrivateCopy::of_another_process(request.plugin.clone());
    let own = copy.clone().into_memory();
    let left = confine(own.is_err());
    // Who gives up rights is no longer told of its parent's end, which may have come meanwhile.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| format!("vet-plugin cannot start: {error}"))?;
    if getppid() != parent {
        return Err("the lb that asked has ended".to_owned());
    }
    let verdict = probe::run(&request, own.unwrap_or(copy), &mut |stage| say(&mut told, &Line::At { at: stage }));
    say(&mut told, &Line::Verdict(Verdict { left, ..verdict }));
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
