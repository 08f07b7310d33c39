//! `mock-server`: starts one server, says where it listens, and ends it well.
//!
//! stdout gets exactly one line, `listening on HOST:PORT`, when connections are taken; all else goes to stderr. Exit codes:
//! 0 ended as asked, 2 cannot start so (usage, port in use), 1 anything else.

#![forbid(unsafe_code)]

mod cli;

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use mock_server::{MockServer, Running, StartError, Stats};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::cli::Cli;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // One connection is one descriptor; a soft limit of 1024 is no limit to experiment with.
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        eprintln!("mock-server: cannot raise the limit of open files: {error}");
    }
    let running = match MockServer::start(cli.options()) {
        Ok(running) => running,
        Err(error) => {
            eprintln!("mock-server: {}", advice(&error));
            return ExitCode::from(2);
        }
    };
    match run(&cli, running) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mock-server: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The error in one line, with what to do about it.
fn advice(error: &StartError) -> String {
    match error {
        StartError::Listen { addr, source } if source.kind() == io::ErrorKind::AddrInUse => {
            format!("port {} of {} is in use: choose another --port, or 0 for any free one", addr.port(), addr.ip())
        }
        StartError::Listen { addr, source } if source.kind() == io::ErrorKind::PermissionDenied => {
            format!("port {} needs privileges: choose a --port from 1024 on", addr.port())
        }
        StartError::Listen { addr, source } if source.kind() == io::ErrorKind::AddrNotAvailable => {
            format!("{} is no address of this machine: choose another --host", addr.ip())
        }
        other => other.to_string(),
    }
}

fn run(cli: &Cli, running: Running) -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().build().context("no runtime for signals")?;
    runtime.block_on(async {
        // Before the ready line: whoever reads it may send a signal at once.
        let mut terminate = signal(SignalKind::terminate()).context("no handler for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("no handler for SIGINT")?;
        let parent_gone = watch_parent(cli.exit_with_parent);
        announce(cli.ready_file.as_deref(), &running)?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = parent_gone => {}
        }
        confess(&running.stats());
        tokio::select! {
            () = running.shutdown() => {}
            // Asked twice: at once. The drop of `running` does it.
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(())
    })
}

/// Ready when stdin ends, or never if nobody asked.
async fn watch_parent(is_asked: bool) {
    if !is_asked {
        return std::future::pending().await;
    }
    let (sender, ended) = oneshot::channel::<()>();
    // A plain thread, as a read from stdin cannot be broken off; the process's end ends it.
    let reader = std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        let mut stdin = io::stdin().lock();
        let mut buffer = [0; 4096];
        // An error is taken for the end as well: without a pipe there is no parent.
        while stdin.read(&mut buffer).is_ok_and(|len| len > 0) {}
        drop(sender);
    });
    if let Err(error) = reader {
        eprintln!("mock-server: cannot watch stdin: {error}");
    }
    let _ = ended.await; // the drop of the sender is the message
}

/// Says what was started (stderr) and where it listens (stdout, file).
fn announce(ready_file: Option<&Path>, running: &Running) -> anyhow::Result<()> {
    let stats = running.stats();
    eprintln!(
        "mock-server: id {:?}, service time {}, concurrency {} (0 = no bound), queue {}, failure rate {}, seed {}",
        stats.id, stats.service_time, stats.concurrency, stats.queue, stats.switches.failure_rate, stats.seed
    );
    let error = &stats.service_time_error;
    if let (false, Some(us)) = (error.within_limit, error.calibration_us) {
        eprintln!(
            "mock-server: warning: service times are not exact to 0.2 ms on this machine: the timer's median error is {us} us"
        );
    }
    if let Some(path) = ready_file {
        write_ready_file(path, running.addr).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let mut stdout = io::stdout().lock();
    // A closed stdout is no reason to end: whoever closed it does not want to know.
    let _ = writeln!(stdout, "listening on {}", running.addr).and_then(|()| stdout.flush());
    Ok(())
}

/// Written beside and renamed, so that a reader finds nothing or all of it.
fn write_ready_file(path: &Path, addr: SocketAddr) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    std::fs::write(&beside, format!("{addr}\n"))?;
    std::fs::rename(&beside, path)
}

/// Says at the end if the service times were not what was asked for.
fn confess(stats: &Stats) {
    let error = &stats.service_time_error;
    if let (false, Some(us)) = (error.within_limit, error.median_us) {
        eprintln!(
            "mock-server: warning: service times were not exact to 0.2 ms: median error {us} us over {} requests",
            error.count
        );
    }
}
