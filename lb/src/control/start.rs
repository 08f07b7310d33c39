//! Starting the control wing: state, plugins, first generation, then the actor and all that reports to it.
//!
//! Invariants: nothing is published, launched or checked before every pool's strategy has accepted its first list; no plugin runs in
//! this process before it has run in a child (where the caller names one); an error is one line that says what, where and what to do,
//! and leaves nothing running.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use lb_strategy_host::{HookError, LoadError, Loader, Staged};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::actor::{Actor, Parts};
use super::builder::Builder;
use super::command::{Handle, OverlayStatus};
use super::launcher::Launcher;
use super::members::{Entry, Members, Origin};
use super::options::Options;
use super::overlay::{Overlay, Plan};
use super::plugins::{self, LoadedStrategy, key_of};
use super::pool_state::PoolState;
use super::settings::{access_log, settings};
use super::state_dir::{Holder, StateDir};
use super::vet::{VetBackend, VetError, Vetter};
use super::watch::{Attempt, Taken, Watch};
use crate::config::{Config, OwnAddress, Pool, Reach, resolve_address};
use crate::generation::{Generation, Hall};
use crate::listener::Listener;

/// Commands that may wait for the actor.
const COMMANDS_MAX: usize = 256;

/// The running control wing.
pub struct Control {
    pub hall: Arc<Hall>,
    pub handle: Handle,
    pub started: StartReport,
    /// Ends after [`Handle::stop`].
    pub task: JoinHandle<()>,
}

/// What a start found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StartReport {
    /// By pool.
    pub strategies: Vec<LoadedStrategy>,
    /// The runtime changes in force.
    pub overlay: OverlayStatus,
    /// Runtime changes that no longer apply, in words.
    pub lapsed: Vec<String>,
    /// The replicas being launched; [`Handle::settled`] waits for them.
    pub launching: Vec<String>,
    /// What people should know though it stops nothing.
    pub warnings: Vec<String>,
}

/// Why control cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("state directory {} cannot be used: {error}; set [state] dir to one that this user may write to", dir.display())]
    StateDir { dir: PathBuf, error: std::io::Error },
    #[error("state directory {}: {what}", dir.display())]
    StateDirUnsafe { dir: PathBuf, what: String },
    #[error(
        "another lb{pid} uses this state directory {}: stop it, or give this one another [state] dir", dir.display()
    )]
    StateDirInUse { dir: PathBuf, pid: Holder },
    #[error("pool {pool:?}, {key}: {source}")]
    Plugin { pool: String, key: String, source: Box<LoadError> },
    #[error("pool {pool:?}, {key}: {source}")]
    Vet { pool: String, key: String, source: Box<VetError> },
    #[error("pool {pool:?}, {key}: {source}")]
    Hook { pool: String, key: String, source: HookError },
    #[error(transparent)]
    AccessLog(#[from] crate::access_log::OpenError),
    #[error("launcher: {0}")]
    Launcher(String),
    #[error("the builder thread cannot be started: {0}")]
    Builder(std::io::Error),
    #[error("the watcher thread cannot be started: {0}")]
    Watcher(std::io::Error),
    #[error("the builder thread broke while {0}")]
    BuilderBroke(&'static str),
}

/// The part of a start that happens on the builder before any plugin code runs.
struct Prepared {
    state: StateDir,
    loader: Loader,
    /// As it is on disk; `None` when it is to be replaced whatever happens.
    on_disk: Option<Overlay>,
    plan: Plan,
    /// By pool.
    staged: Vec<Staged>,
    vetter: Option<Vetter>,
    warnings: Vec<String>,
}

/// The part that happens on the builder after every plugin was tried in a child.
struct Opened {
    loader: Loader,
    pools: Vec<PoolState>,
    strategies: Vec<LoadedStrategy>,
}

/// Starts control on the current runtime. Returns when generation 1 is in the hall; replicas are still being launched then.
pub async fn start(options: Options) -> Result<Control, StartError> {
    let Options { config, metrics, listeners, admin, fresh, source, loaded, vet, course } = options;
    let admin = admin.unwrap_or(config.admin.listen);
    let builder = Builder::start().map_err(StartError::Builder)?;
    let (for_builder, reach) = (config.clone(), reach(&config, &listeners, admin));
    let prepared = builder
        .run(move || prepare(&for_builder, &reach, fresh, vet))
        .await
        .ok_or(StartError::BuilderBroke("preparing the pools"))??;
    let Prepared { state, loader, on_disk, plan, staged, vetter, warnings } = prepared;
    // Here and not on the builder: a child that hangs must not hold up a thread.
    if let Some(vetter) = &vetter {
        for (number, (pool, staged)) in config.pools.iter().zip(&staged).enumerate() {
            plugins::vet(vetter, staged, pool, config.proxy.workers, expected(&plan, number)).await?;
        }
    }
    let attempt = loaded.filter(|_| source.is_some()).map(|sha256| attempt_of(&config, sha256, &staged));
    let (for_builder, members) = (config.clone(), plan.pools.iter().map(|entries| members(entries)).collect());
    let Opened { loader, mut pools, strategies } = builder
        .run(move || open(&for_builder, loader, staged, members))
        .await
        .ok_or(StartError::BuilderBroke("making the strategies"))??;
    let mut report = StartReport {
        strategies,
        overlay: in_force(&config, &plan).status(),
        lapsed: plan.lapsed.clone(),
        launching: Vec::new(),
        warnings,
    };

    let (events, event_queue) = mpsc::channel(super::actor::EVENTS_MAX);
    let mut launcher = config.launcher.clone().map(|launcher| Launcher::new(launcher, events.clone()));
    if let Some(launcher) = &mut launcher {
        launcher.avoid(&config, &listeners, pools.iter());
        for (order, replica) in plan.replicas.iter().enumerate() {
            let socket = launcher.reserve().map_err(StartError::Launcher)?;
            pools[0].members.insert(Entry {
                id: replica.name.clone(),
                address: socket.to_string(),
                socket,
                weight: replica.weight,
                origin: Origin::Launched,
                order,
                draining: replica.draining,
            });
        }
    }

    let assemblies: Vec<_> = pools.iter_mut().map(PoolState::assembly).collect();
    let built = builder
        .run(move || assemblies.into_iter().map(super::pool_state::Assembly::build).collect::<Vec<_>>())
        .await
        .ok_or(StartError::BuilderBroke("making the first pickers"))?;
    let mut parts = Vec::with_capacity(pools.len());
    for (pool, built) in pools.iter_mut().zip(built) {
        let refused = |source| {
            let pool = pool.name.to_string();
            StartError::Hook { key: key_of(&pool, "backends"), pool, source }
        };
        parts.push(pool.adopt(built.map_err(refused)?));
    }
    let settings = settings(&config, access_log(&config, None, metrics.access_log(), false)?);
    let hall = Hall::new(Generation {
        number: 1,
        pools: parts,
        routes: config.routes.clone(),
        listeners: listeners.clone(),
        settings,
        course: course.clone().filter(|_| config.course.on_proxy_port),
    });
    for loaded in &report.strategies {
        metrics.set_strategy(&loaded.pool, &loaded.strategy, &loaded.version);
    }
    metrics.set_generation(1);
    report.launching = plan.replicas.into_iter().map(|replica| replica.name).collect();
    tell(&report);

    let (commands, command_queue) = mpsc::channel(COMMANDS_MAX);
    let writer = config.state.keep.then(|| state.writer());
    let watch = attempt.zip(config.file.clone()).map(|(attempt, file)| {
        Watch::start(config.reload.clone(), file, attempt, commands.downgrade()).map_err(StartError::Watcher)
    });
    let actor = Actor::new(Parts {
        config,
        source,
        metrics,
        hall: hall.clone(),
        builder,
        listeners,
        admin,
        course,
        loader: Arc::new(loader),
        vetter: vetter.map(Arc::new),
        watch: watch.transpose()?,
        pools,
        launcher,
        state,
        writer,
        overlay: on_disk,
        commands: command_queue,
        events,
        event_queue,
    });
    let task = tokio::spawn(actor.run());
    Ok(Control { hall, handle: Handle { commands }, started: report, task })
}

/// Where no backend may be: what the configuration says, and where lb listens indeed, its ports known.
pub(super) fn reach(config: &Config, listeners: &[Arc<Listener>], admin: SocketAddr) -> Reach {
    let mut reach = Reach::of(&config.proxy, &config.admin);
    let listeners = listeners.iter().map(|listener| OwnAddress { key: "proxy.listen", address: listener.address() });
    reach.own.extend(listeners.chain([OwnAddress { key: "admin.listen", address: admin }]));
    reach
}

/// What a start has read, as a reload tells it.
fn attempt_of(config: &Config, sha256: [u8; 32], staged: &[Staged]) -> Attempt {
    let taken = |(pool, staged): (&Pool, &Staged)| Taken {
        candidates: plugins::candidates(&config.plugin_dirs, &pool.strategy.plugin),
        found: Some((staged.origin.clone(), staged.sha256)),
    };
    Attempt { config: Some(sha256), plugins: Some(config.pools.iter().zip(staged).map(taken).collect()) }
}

/// Everything that may block and runs nothing of a plugin.
fn prepare(config: &Config, reach: &Reach, fresh: bool, vet: Option<PathBuf>) -> Result<Prepared, StartError> {
    let state = StateDir::open(&config.state.dir)?;
    let mut warnings = Vec::new();
    let mut overlay = Overlay::default();
    let mut on_disk = None;
    if config.state.keep && !fresh {
        let (read, warning) = state.read_overlay();
        on_disk = Some(read.clone());
        overlay = read;
        warnings.extend(warning);
    }
    overlay.resolve(resolve_address);
    let out_of_reach = overlay.drop_out_of_reach(reach);
    let mut plan = overlay.apply(config);
    plan.lapsed.extend(out_of_reach);
    let loader = Loader::new(state.plugins(), config.proxy.workers)
        .with_images_max(config.reload.max_images)
        .with_group_writable(config.allow_group_writable);
    let staged = config.pools.iter().map(|pool| plugins::stage(&loader, &config.plugin_dirs, pool));
    let staged = staged.collect::<Result<_, _>>()?;
    let vetter = vet.map(|executable| Vetter::new(executable, Some(&config.state.dir)));
    Ok(Prepared { state, loader, on_disk, plan, staged, vetter, warnings })
}

/// Opens what was staged, and makes the strategies.
fn open(config: &Config, loader: Loader, staged: Vec<Staged>, members: Vec<Members>) -> Result<Opened, StartError> {
    let mut pools = Vec::with_capacity(config.pools.len());
    let mut strategies = Vec::with_capacity(config.pools.len());
    for ((pool, staged), members) in config.pools.iter().zip(staged).zip(members) {
        let (strategy, loaded) = plugins::open(&loader, staged, pool)?;
        strategies.push(loaded);
        pools.push(PoolState::new(pool, members, strategy));
    }
    Ok(Opened { loader, pools, strategies })
}

/// The backends that pool `number` will have. Where launched ones will listen is not known yet, and nothing connects to it.
fn expected(plan: &Plan, number: usize) -> Vec<VetBackend> {
    let mut backends = vet_backends(&plan.pools[number]);
    if number == 0 {
        backends.extend(plan.replicas.iter().map(|replica| VetBackend {
            id: replica.name.clone(),
            address: stand_in().address,
            weight: replica.weight,
        }));
    }
    backends
}

pub(super) fn vet_backends(entries: &[Entry]) -> Vec<VetBackend> {
    let backend =
        |entry: &Entry| VetBackend { id: entry.id.clone(), address: entry.address.clone(), weight: entry.weight };
    entries.iter().map(backend).collect()
}

pub(super) fn members(entries: &[Entry]) -> Members {
    let mut members = Members::default();
    for entry in entries {
        members.insert(entry.clone());
    }
    members
}

/// The overlay without what has lapsed.
fn in_force(config: &Config, plan: &Plan) -> Overlay {
    let mut pools = plan.pools.clone();
    pools[0].extend(plan.replicas.iter().enumerate().map(|(order, replica)| Entry {
        id: replica.name.clone(),
        address: String::new(),
        socket: ([127, 0, 0, 1], 0).into(),
        weight: replica.weight,
        origin: Origin::Launched,
        order,
        draining: replica.draining,
    }));
    Overlay::of(config, &pools)
}

fn tell(report: &StartReport) {
    for warning in &report.warnings {
        tracing::warn!("{warning}");
    }
    for lapsed in &report.lapsed {
        tracing::warn!("a change made at run time has lapsed: {lapsed}");
    }
    for LoadedStrategy { pool, strategy, version, sha256, file } in &report.strategies {
        let sha256 = sha256.as_deref().map_or("-", |digits| &digits[..12]);
        let file = file.as_deref().map(|file| file.display().to_string()).unwrap_or_default();
        tracing::info!("pool {pool}: strategy {strategy} {version} (sha256 {sha256}…) from {file}");
    }
    let OverlayStatus { added, removed, changed, replicas, error: _ } = &report.overlay;
    if added + removed + changed > 0 || replicas.is_some() {
        let replicas = replicas.map(|n| format!(", {n} replicas wanted")).unwrap_or_default();
        tracing::info!(
            "changes made at run time are in force: {added} backends added, {removed} removed, {changed} changed{replicas} \
             (--fresh drops them)"
        );
    }
}

/// One backend, for a pool that has none yet.
pub(super) fn stand_in() -> Entry {
    let socket = ([127, 0, 0, 1], 1).into();
    let (id, address) = ("b1".to_owned(), "127.0.0.1:1".to_owned());
    Entry { id, address, socket, weight: 1, origin: Origin::File, order: 0, draining: false }
}
