//! The child's frame: one request on stdin, steps and one verdict on the former stdout.
//!
//! The request is a sealed file in memory. Its first line tells the child its purpose, so neither command line nor
//! environment shows a plugin that it is on trial. Invariants: a plugin's output cannot damage the verdict, because
//! stdout is moved before any plugin code runs. The limits are set before any plugin code runs. The process ends with
//! its parent.

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

/// A longer request was not written by lb.
const REQUEST_MAX_BYTES: u64 = 64 << 20;
/// Address space: large enough for big tables, small enough to stop a leak.
const MEMORY_MAX_BYTES: u64 = 1 << 30;
/// For a plugin that spins after its parent has ended.
const CPU_MAX_SECONDS: u64 = 10;
/// A lower priority than a serving lb.
const NICE: i32 = 10;

/// The first line of a request in memory.
const FIRST_LINE: &[u8] = b"lb: try a plugin\n";

/// Makes the stdin of a child from `request`.
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

/// Whether this process was started to try a plugin: its stdin was made by `handed_over`.
pub fn is_asked() -> bool {
    let is_sealed = fcntl_get_seals(stdin()).is_ok_and(|seals| seals.contains(SealFlags::WRITE));
    let mut first = vec![0; FIRST_LINE.len()];
    let read = |first: &mut [u8]| File::from(io::stdin().as_fd().try_clone_to_owned()?).read_exact_at(first, 0);
    is_sealed && read(&mut first).is_ok() && first == FIRST_LINE
}

/// Reads one request, tries the plugin and prints the verdict. Fails if there is no valid request.
pub fn answer() -> Result<(), String> {
    let parent = getppid();
    let mut told = restrict_and_take_stdout().map_err(|error| format!("vet-plugin cannot start: {error}"))?;
    let mut text = String::new();
    let read = io::stdin().lock().take(REQUEST_MAX_BYTES).read_to_string(&mut text);
    read.map_err(|error| format!("the request on stdin cannot be read: {error}"))?;
    let json = text.strip_prefix(str::from_utf8(FIRST_LINE).unwrap_or_default()).unwrap_or(&text);
    let request: VetRequest =
        serde_json::from_str(json).map_err(|error| format!("the request on stdin is not valid: {error}"))?;
    // Freed before the trial, because descriptors and allocations are compared before and after.
    drop(text);
    let copy = PrivateCopy::of_another_process(request.plugin.clone());
    let own = copy.clone().into_memory();
    let left = confine(own.is_err());
    // A change of credentials clears the signal for the parent's end. The parent may have ended meanwhile.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| format!("vet-plugin cannot start: {error}"))?;
    if getppid() != parent {
        return Err("the parent lb has ended".to_owned());
    }
    let verdict = probe::run(&request, own.unwrap_or(copy), &mut |stage| say(&mut told, &Line::At { at: stage }));
    say(&mut told, &Line::Verdict(Verdict { left, ..verdict }));
    Ok(())
}

/// Writes one line. If the reader is gone, the line is lost.
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

/// Keeps a limit that is lower already.
fn lower(resource: Resource, limit: u64) -> io::Result<()> {
    let (_, hard) = rlimit::getrlimit(resource)?;
    let limit = limit.min(hard);
    rlimit::setrlimit(resource, limit, limit)
}
