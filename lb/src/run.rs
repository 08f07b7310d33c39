//! One run of the balancer, from the loaded configuration to the last connection: the only place that knows all parts.
//!
//! The order matters. Signals are caught first, so that none kills an incomplete start. Ports are bound before anything
//! is launched, so that a second `lb` leaves no processes behind. The proxy stops before control, so that no request
//! loses its backend. Control and admin run on this thread's current-thread runtime, the workers on their own threads.
//!
//! Invariants: the ready file exists only while requests are served. A first signal drains, a second one ends lb at
//! once.

mod hangs;
mod notify;
mod parent;
mod ready_file;
mod report;
mod signals;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lb_strategy_host::crash;
use tokio::sync::mpsc;

use crate::admin;
use crate::config::{Config, Loaded, Source};
use crate::control::{self, Control, ControlError, Handle, StartError, Status, Trigger};
use crate::course;
use crate::generation::{Hall, SILENCE_MAX};
use crate::listener;
use crate::proxy::Proxy;
use crate::telemetry::{Metrics, logs};
use hangs::Hangs;
use notify::Notifier;
use ready_file::ReadyFile;
use report::{Joined, Report};
use signals::{Repeated, Signal, Signals};

/// Calls of the course's routes that may wait at the proxy's port.
const COURSE_CALLS_MAX: usize = 256;
/// How long a start waits for launched replicas before it reports that they are late.
const JOIN_TIME_MAX: Duration = Duration::from_secs(10);
/// The interval of looks whether all threads are alive.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How much longer than its drain a worker may take; one that is stuck in a plugin would take for ever.
const STUCK_TIME_MAX: Duration = Duration::from_secs(2);
/// How long writing the access log's last lines may take; the reader of a pipe may be stuck.
const FLUSH_TIME_MAX: Duration = Duration::from_secs(1);
/// How long control may take to end the processes that it launched.
const STOP_TIME_MAX: Duration = Duration::from_secs(15);

/// The options of a run that are only on the command line.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub ready_file: Option<PathBuf>,
    /// The start report as JSON.
    pub json: bool,
    /// Runtime changes of earlier runs are dropped.
    pub fresh: bool,
    /// The end of stdin is a reason to stop.
    pub exit_with_parent: bool,
    /// The source of the configuration, read again at a reload.
    pub source: Option<Source>,
}

/// The running program itself, even if its file was replaced: plugins are tried in its children.
pub const EXECUTABLE: &str = "/proc/self/exe";

/// The name in [`RunError::Died`].
const CONTROL: &str = "control";

/// Why a run did not begin, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Proxy(#[from] listener::BindError),
    #[error(transparent)]
    Admin(#[from] admin::BindError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("--ready-file {} cannot be written: {source}", path.display())]
    ReadyFile { path: PathBuf, source: std::io::Error },
    #[error("{what}: {source}")]
    System { what: &'static str, source: std::io::Error },
    #[error("{0} exited unexpectedly; see the log")]
    Died(&'static str),
    #[error("ended at once by a second signal; {0}")]
    Cut(&'static str),
}

/// The running parts, in the order in which they end.
struct Parts {
    proxy: Proxy,
    control: Control,
    server: admin::Server,
}

/// Serves until a signal says to stop.
pub fn run(loaded: &Loaded, options: &Options) -> Result<(), RunError> {
    // Before the first thread, so that each thread gets its stack for the handler.
    crash::install().map_err(system("crashes cannot be reported"))?;
    logs::init(&loaded.config.log.level);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(system("the control runtime cannot start"))?;
    let done = runtime.block_on(start_and_serve(loaded, options));
    // A name lookup that hangs in the resolver must not delay the end.
    runtime.shutdown_background();
    done
}

/// Tests whether the ports can be bound. A port in use is an error, as at a start. If an lb with this state directory
/// is running, the port is its own and is only reported.
pub fn try_ports(config: &Config, is_running: bool) -> Result<Vec<String>, RunError> {
    let mut own = Vec::new();
    let mut in_use = |key: &str, address: &dyn std::fmt::Display| {
        own.push(format!("{key} {address} is in use at the moment"));
    };
    for address in &config.proxy.listen {
        match listener::check(&[*address], &[]) {
            Ok(()) => {}
            Err(listener::BindError::InUse(address)) if is_running => in_use("proxy.listen", &address),
            Err(error) => return Err(error.into()),
        }
    }
    match admin::bind(config.admin.listen) {
        Ok(_) => {}
        Err(admin::BindError::InUse { address }) if is_running => in_use("admin.listen", &address),
        Err(error) => return Err(error.into()),
    }
    Ok(own)
}

/// Whether the operator can correct it: exit code 2.
pub fn is_for_the_operator(error: &StartError) -> bool {
    !matches!(error, StartError::Builder(_) | StartError::BuilderBroke(_) | StartError::Watcher(_))
}

async fn start_and_serve(loaded: &Loaded, options: &Options) -> Result<(), RunError> {
    let mut signals = Signals::catch(options.exit_with_parent).map_err(system("signals cannot be caught"))?;
    let notifier = Notifier::from_environment();
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    raise_open_files();
    let started = tokio::select! {
        parts = start(loaded, options) => parts,
        signal = signals.stop() => {
            tracing::info!(%signal, "stopped while starting");
            return Ok(());
        }
    };
    let mut parts = started?;
    tokio::spawn(reload_at_hangups(signals.take_hangups(), parts.control.handle.clone()));
    tokio::spawn(reopen_at_rotations(signals.take_rotations(), parts.control.hall.clone()));
    let served = serve(loaded, options, &mut parts, &mut signals, &notifier).await;
    match served {
        Ok(signal) => stop(parts, signal, &mut signals, &notifier).await,
        Err(error) => {
            // launched processes must not outlive lb, also after a failure
            let _ = tokio::time::timeout(STOP_TIME_MAX, parts.control.handle.stop()).await;
            Err(error)
        }
    }
}

async fn start(loaded: &Loaded, options: &Options) -> Result<Parts, RunError> {
    let config = &loaded.config;
    control::refuse_second(config)?;
    let listeners = listener::open(&config.proxy.listen, &[])?;
    let admin_listener = admin::bind(config.admin.listen)?;
    if let Some(path) = &options.ready_file {
        // a killed lb may have left the file; the ports are ours now, so no running lb owns it
        ReadyFile::make_way(path).map_err(|source| RunError::ReadyFile { path: path.clone(), source })?;
    }

    let metrics = Metrics::new();
    let (course, calls) = mpsc::channel(COURSE_CALLS_MAX);
    let control = control::start(control::Options {
        config: config.clone(),
        metrics: metrics.clone(),
        listeners,
        admin: Some(admin_listener.address()),
        fresh: options.fresh,
        source: options.source.clone(),
        loaded: Some(loaded.sha256),
        vet: Some(PathBuf::from(EXECUTABLE)),
        own_routes: Some(course::own_routes(course)),
        missing_path: course::MISSING_PATH,
    })
    .await?;

    // nothing waits from here on, so the actor launches nothing before all of it has worked
    let proxy = Proxy::start(&control.hall, &metrics, config.proxy.workers);
    let proxy = proxy.map_err(system("the proxy's threads cannot start"))?;
    tokio::spawn(course::serve_calls(calls, control.handle.clone(), admin::visitors_only()));
    let (hall, handle, token) = (control.hall.clone(), control.handle.clone(), config.admin.token.as_ref());
    let shared = admin::Shared::new(hall, metrics, handle, token, &admin_listener);
    let server = admin::Server::start(admin_listener, shared).map_err(system("the admin port cannot be served"))?;
    Ok(Parts { proxy, control, server })
}

/// Reports the start, then waits for a signal or for the death of a part.
async fn serve(
    loaded: &Loaded,
    options: &Options,
    parts: &mut Parts,
    signals: &mut Signals,
    notifier: &Notifier,
) -> Result<Signal, RunError> {
    let report_of = |status| Report::new(loaded, parts.server.address(), status);
    if !options.json {
        report::print(&report_of(status(&parts.control).await?).to_string());
    }
    let joined = tokio::select! {
        joined = wait_for_replicas(&parts.control) => joined?,
        signal = signals.stop() => return Ok(signal),
    };
    let report = report_of(status(&parts.control).await?);
    report::print(&if options.json { report.to_json() } else { joined.to_string() });

    let ready_file = options.ready_file.as_ref().map(|path| {
        ReadyFile::write(path, &report).map_err(|source| RunError::ReadyFile { path: path.clone(), source })
    });
    // removed at every return of this function
    let _ready_file = ready_file.transpose()?;
    notifier.ready(&report.status);
    let Control { reloading, hall, handle, .. } = &parts.control;
    let (reloading, hall, handle) = (reloading.clone(), hall.clone(), handle.clone());
    tokio::select! {
        signal = signals.stop() => Ok(signal),
        died = wait_for_death(parts) => Err(died),
        () = notifier.follow(reloading, &hall, &handle) => unreachable!("it follows until lb stops"),
    }
}

async fn stop(parts: Parts, signal: Signal, signals: &mut Signals, notifier: &Notifier) -> Result<(), RunError> {
    // The time of the last reload.
    let drain = parts.control.hall.current().settings.timeouts.drain;
    tracing::info!(%signal, drain_ms = drain.as_millis() as u64, "stopping: no new connections, requests may finish");
    notifier.stopping(drain + STUCK_TIME_MAX + FLUSH_TIME_MAX + STOP_TIME_MAX);
    parts.server.announce_stop();
    let drained = tokio::select! {
        drained = tokio::time::timeout(drain + STUCK_TIME_MAX, parts.proxy.drain(drain)) => drained,
        _ = signals.again() => return Err(RunError::Cut("requests were cut off")),
    };
    match drained {
        Ok(0) => {}
        Ok(cut) => tracing::warn!(connections = cut, "cut off: they did not finish in time"),
        Err(_) => tracing::error!("a worker does not respond; lb ends without it"),
    }
    if let Some(log) = parts.control.hall.current().settings.access_log.clone()
        && !log.flush(FLUSH_TIME_MAX)
    {
        tracing::warn!("the access log could not be written to its end in time");
    }
    let Control { handle, task, .. } = parts.control;
    let control_stops = async {
        handle.stop().await;
        let _ = task.await;
    };
    tokio::select! {
        stopped = tokio::time::timeout(STOP_TIME_MAX, control_stops) => if stopped.is_err() {
            tracing::warn!("control did not end in time");
        },
        _ = signals.again() => return Err(RunError::Cut("launched processes may still run")),
    }
    parts.server.stop().await;
    tracing::info!("stopped");
    Ok(())
}

/// Each SIGHUP reloads; signals during a reload count as one. Control logs the outcome.
async fn reload_at_hangups(hangups: Option<Repeated>, handle: Handle) {
    let Some(mut hangups) = hangups else { return };
    while hangups.next().await {
        let _ = handle.reload_when_free(Trigger::Signal).await;
    }
}

/// Each SIGUSR1 makes the access log open the file that has its name now.
async fn reopen_at_rotations(rotations: Option<Repeated>, hall: Arc<Hall>) {
    let Some(mut rotations) = rotations else { return };
    while rotations.next().await {
        match &hall.current().settings.access_log {
            Some(log) => log.reopen(),
            None => tracing::info!("SIGUSR1: there is no access log to reopen ([access_log] in the configuration)"),
        }
    }
}

/// Waits a limited time until the launched replicas may get requests; returns their outcome.
async fn wait_for_replicas(control: &Control) -> Result<Joined, RunError> {
    let count = control.started.launching.len();
    match tokio::time::timeout(JOIN_TIME_MAX, control.handle.all_joined()).await {
        Ok(Ok(())) => Ok(Joined::All(count)),
        Ok(Err(ControlError::Stopping)) => Err(RunError::Died(CONTROL)),
        Ok(Err(error)) => Ok(Joined::Failing(error.to_string())),
        Err(_) => Ok(Joined::Late),
    }
}

/// Returns only if a part has died. Asks workers that hang, and the builder, which plugin they are in.
async fn wait_for_death(parts: &mut Parts) -> RunError {
    let mut look = tokio::time::interval(LOOK_INTERVAL);
    let mut hangs = Hangs::default();
    loop {
        tokio::select! {
            _ = &mut parts.control.task => return RunError::Died(CONTROL),
            _ = look.tick() => {
                if !parts.proxy.is_alive() {
                    return RunError::Died("a thread of the proxy");
                }
                let mut stuck = parts.control.hall.stuck_threads(SILENCE_MAX);
                stuck.extend(parts.control.builder.hanging());
                hangs.look(stuck).into_iter().for_each(crash::ask);
            },
        }
    }
}

async fn status(control: &Control) -> Result<Status, RunError> {
    control.handle.status().await.map_err(|_| RunError::Died(CONTROL))
}

/// A client with a request costs two descriptors; the usual soft limit of 1024 is for programs that use select.
fn raise_open_files() {
    let raised = rlimit::getrlimit(rlimit::Resource::NOFILE)
        .and_then(|(_, hard)| rlimit::setrlimit(rlimit::Resource::NOFILE, hard, hard).map(|()| hard));
    match raised {
        Ok(limit) => tracing::debug!(limit, "open files"),
        Err(error) => tracing::warn!(%error, "the limit of open files cannot be raised"),
    }
}

fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> RunError {
    move |source| RunError::System { what, source }
}

// === impl RunError ===

impl RunError {
    /// The key of the configuration that the error is about.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Proxy(_) => Some("proxy.listen"),
            Self::Admin(_) => Some("admin.listen"),
            Self::Start(error) => error.key(),
            Self::ReadyFile { .. } | Self::System { .. } | Self::Died(_) | Self::Cut(_) => None,
        }
    }

    /// Whether the operator can correct it: exit code 2.
    pub fn is_for_the_operator(&self) -> bool {
        match self {
            Self::Proxy(_) | Self::Admin(_) | Self::ReadyFile { .. } => true,
            Self::Start(error) => is_for_the_operator(error),
            Self::System { .. } | Self::Died(_) | Self::Cut(_) => false,
        }
    }
}
