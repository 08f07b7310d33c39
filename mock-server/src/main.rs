//! `mock-server`: starts one server, prints its address, and stops it gracefully at a signal.
//!
//! stdout gets exactly one line, `listening on HOST:PORT`, when the server accepts connections. All else goes to
//! stderr. Exit codes: 0 stopped by a signal or the end of stdin; 2 cannot start (usage, port in use); 1 any other
//! failure.

#![forbid(unsafe_code)]

mod cli;

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, Parser};
use mock_server::{MockServer, Running, StartError, Stats};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(command) = &cli.command {
        return print(command);
    }
    // Each connection takes a descriptor; the usual soft limit of 1024 is too low for experiments.
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

fn print(command: &Command) -> ExitCode {
    let text = match command {
        Command::Completions(arguments) => arguments.text(Cli::command()),
        Command::Man(arguments) => match arguments.text(Cli::command()) {
            Ok(text) => text,
            Err(error) => {
                eprintln!("mock-server: the man pages are not complete: {error}");
                return ExitCode::from(2);
            }
        },
    };
    // A closed stdout is no failure.
    let _ = io::stdout().lock().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

/// The error in one line, with the remedy.
fn advice(error: &StartError) -> String {
    match error {
        StartError::Listen { addr, source } if source.kind() == io::ErrorKind::AddrInUse => {
            format!("port {} of {} is in use: choose another --port, or 0 for any free one", addr.port(), addr.ip())
        }
        StartError::Listen { addr, source } if source.kind() == io::ErrorKind::PermissionDenied => {
            format!("port {} needs privileges: choose a --port from 1024 on", addr.port())
        }
        StartError::Listen { addr, source } if source.kind() == io::ErrorKind::AddrNotAvailable => {
            format!("{} is not an address of this machine: choose another --host", addr.ip())
        }
        other => other.to_string(),
    }
}

fn run(cli: &Cli, running: Running) -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().build().context("no runtime for signals")?;
    runtime.block_on(async {
        // Before the ready line: its reader may send a signal at once.
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
            // At a second signal, the drop of `running` stops the server at once.
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(())
    })
}

/// Returns when stdin ends; without the option it never returns.
async fn watch_parent(is_asked: bool) {
    if !is_asked {
        return std::future::pending().await;
    }
    let (sender, ended) = oneshot::channel::<()>();
    // A separate thread, because a read from stdin cannot be interrupted. The end of the process ends it.
    let reader = std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        let mut stdin = io::stdin().lock();
        let mut buffer = [0; 4096];
        // An error counts as the end, too: without a pipe there is no parent.
        while stdin.read(&mut buffer).is_ok_and(|len| len > 0) {}
        drop(sender);
    });
    if let Err(error) = reader {
        eprintln!("mock-server: cannot watch stdin: {error}");
    }
    let _ = ended.await; // The drop of the sender is the message.
}

/// Prints the settings (stderr) and the address (stdout, ready file).
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
    // A closed stdout is no reason to stop.
    let _ = writeln!(stdout, "listening on {}", running.addr).and_then(|()| stdout.flush());
    Ok(())
}

/// Writes another file and renames it, so that a reader never sees a part of it.
fn write_ready_file(path: &Path, addr: SocketAddr) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    std::fs::write(&beside, format!("{addr}\n"))?;
    std::fs::rename(&beside, path)
}

/// Warns at the end if the service times were not exact.
fn confess(stats: &Stats) {
    let error = &stats.service_time_error;
    if let (false, Some(us)) = (error.within_limit, error.median_us) {
        eprintln!(
            "mock-server: warning: service times were not exact to 0.2 ms: median error {us} us over {} requests",
            error.count
        );
    }
}
