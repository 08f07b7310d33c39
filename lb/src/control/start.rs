//! Starts the control wing: state, plugins, first generation, then the actor and the tasks that report to it.
//!
//! Invariants: nothing is published, launched or checked before every pool's strategy has accepted its first list. No
//! plugin runs in this process before it has run in a child (if the caller names an lb for that). An error is one
//! sentence with the failure, its place and the remedy, and leaves nothing running.

mod blamed;
mod check;
mod options;
mod preflight;
mod report;
mod stages;

use std::sync::Arc;

use lb_strategy_host::Loader;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use self::blamed::{Choice, Chosen, built_in_instead};
use self::stages::{Opened, Prepared, expected, first_pickers, open, prepare};
use crate::config::{Config, Source};
use crate::control::actor::{Actor, Inbox, REPORTS_MAX, Saver};
use crate::control::api::{Reloading, RolledBack};
use crate::control::handle::{Command, Handle};
use crate::control::launcher::{Launcher, Report};
use crate::control::membership::{Launched, Membership, Overlay, Plan, Reports, taken_ports};
use crate::control::pools::{Entry, Members, Origin};
use crate::control::publish::{Builder, BuilderWatch, InForce, Publisher, access_log, awaited, reach, settings};
use crate::control::reload::{Reloads, Tools};
use crate::control::state::StateDir;
use crate::control::trust::vet::Vetter;
use crate::control::trust::{Ledger, Role, plugins};
use crate::control::watch::{Attempt, Watch};
use crate::generation::{Generation, Hall, OwnRoutes, PoolGeneration, Settings};
use crate::listener::Listener;
use crate::telemetry::Metrics;

pub use check::{CheckReport, check, list_strategies};
pub use options::Options;
pub use preflight::{Preflight, preflight, refuse_second};
pub use report::{StartError, StartReport};

/// Commands that may wait for the actor.
const COMMANDS_MAX: usize = 256;

/// The running control wing.
pub struct Control {
    pub hall: Arc<Hall>,
    pub handle: Handle,
    pub started: StartReport,
    pub reloading: watch::Receiver<Reloading>,
    pub builder: BuilderWatch,
    /// Ends after [`Handle::stop`].
    pub task: JoinHandle<()>,
}

/// The launcher, and what it reports.
struct Launching {
    launcher: Option<Launcher>,
    reports: mpsc::Receiver<Report>,
}

/// What reloads need, and what is known of strategies.
struct Trying {
    source: Option<Source>,
    loader: Loader,
    vetter: Option<Vetter>,
    attempt: Option<Attempt>,
    ledger: Ledger,
    rolled_back: Vec<RolledBack>,
}

/// The actor at work.
struct Acting {
    commands: mpsc::Sender<Command>,
    reloading: watch::Receiver<Reloading>,
    task: JoinHandle<()>,
}

/// Starts control on the current runtime. Returns when generation 1 is in the hall. Replicas are still starting then.
pub async fn start(options: Options) -> Result<Control, StartError> {
    let Options { config, metrics, listeners, admin, fresh, source, loaded, vet, own_routes, missing_path } = options;
    let admin = admin.unwrap_or(config.admin.listen);
    let builder = Builder::start().map_err(StartError::Builder)?;
    let reach = reach(&config, &listeners, admin);
    let loaded = loaded.filter(|_| source.is_some());
    let prepared = builder
        .run(move || prepare(config, &reach, fresh, vet, loaded))
        .await
        .ok_or(StartError::BuilderBroke("preparing the pools"))??;
    let Prepared { state, loader, on_disk, overlay, plan, attempt, records, saved, mut chosen, vetter, warnings } =
        prepared;
    try_plugins(&mut chosen, vetter.as_ref(), &plan).await?;
    let Chosen { config, choices, shadows, found, rolled_back } = chosen.reported(&metrics);

    let (reports, report_queue) = mpsc::channel(REPORTS_MAX);
    let launcher = config.launcher.clone().map(|launcher| Launcher::new(launcher, reports));
    let launched =
        Launched::new(launcher.as_ref().map_or(Ok(Vec::new()), |one| reserve(one, &config, &listeners, &plan))?);
    let (lapsed, plan) = (plan.lapsed, Plan::of(&config, &overlay, &[&launched]));

    let (for_builder, members) = (config.clone(), members_of(&plan, &config));
    let Opened { loader, mut pools, strategies, warnings } = builder
        .run(move || open(&for_builder, loader, (choices, shadows), members, (saved, warnings)))
        .await
        .ok_or(StartError::BuilderBroke("making the strategies"))??;
    let parts = first_pickers(&builder, &mut pools).await?;
    let settings = settings(&config, access_log(&config, None, metrics.access_log(), false)?, missing_path);
    let awaited = awaited(pools.iter());
    let hall = Hall::new(first(&config, parts, listeners.clone(), settings, own_routes.clone(), awaited));
    metrics.set_generation(1);
    let overlay = Overlay::of(&config, &plan.pools).status();
    let report = report(&metrics, StartReport { strategies, overlay, lapsed, launching: plan.launched(), warnings });

    let watched = builder.watch();
    let in_force =
        InForce { config, metrics, hall: hall.clone(), builder, pools, listeners, admin, own_routes, missing_path };
    let ledger = Ledger::new(records, found, state.proven().writer());
    let launching = Launching { launcher, reports: report_queue };
    let trying = Trying { source, loader, vetter, attempt, ledger, rolled_back };
    let Acting { commands, reloading, task } = act(in_force, state, on_disk, launching, trying)?;
    Ok(Control { hall, handle: Handle { commands }, started: report, reloading, builder: watched, task })
}

/// Starts the actor with everything that is in force.
fn act(
    in_force: InForce,
    state: StateDir,
    on_disk: Option<Overlay>,
    Launching { launcher, reports }: Launching,
    Trying { source, loader, vetter, attempt, ledger, rolled_back }: Trying,
) -> Result<Acting, StartError> {
    let (commands, command_queue) = mpsc::channel(COMMANDS_MAX);
    let keep = in_force.config.state.keep;
    let writer = keep.then(|| state.overlay().writer());
    let saver = keep.then(|| Saver::new(state.learnt().writer(), in_force.config.state.save_every));
    let watch = watch(&in_force.config, attempt, &commands)?;
    let (prepared, prepared_queue) = mpsc::channel(REPORTS_MAX);
    let tools = Tools { source, loader: Arc::new(loader), vetter: vetter.map(Arc::new), watch, prepared };
    let mut desk = Publisher::new(in_force);
    let (checked, checked_queue) = mpsc::channel(REPORTS_MAX);
    let (resolved, resolved_queue) = mpsc::channel(REPORTS_MAX);
    let (drained, drained_queue) = mpsc::channel(REPORTS_MAX);
    let mut reloads = Reloads::new(tools, ledger, rolled_back);
    reloads.begin_probation(&mut desk);
    let membership = Membership::new(&mut desk, launcher, on_disk, writer, Reports { checked, resolved, drained });
    let inbox = Inbox {
        commands: command_queue,
        checked: checked_queue,
        reports,
        resolved: resolved_queue,
        drained: drained_queue,
        prepared: prepared_queue,
    };
    let reloading = reloads.progress();
    let task = tokio::spawn(Actor::new(inbox, desk, membership, reloads, (state, saver)).run());
    Ok(Acting { commands, reloading, task })
}

fn first(
    config: &Config,
    pools: Vec<Arc<PoolGeneration>>,
    listeners: Vec<Arc<Listener>>,
    settings: Arc<Settings>,
    own_routes: Option<OwnRoutes>,
    awaited: usize,
) -> Generation {
    Generation {
        number: 1,
        pools,
        routes: config.routes.clone(),
        policies: config.policies.clone(),
        awaited,
        listeners,
        settings,
        own_routes: own_routes.filter(|_| config.course.on_proxy_port),
    }
}

fn members_of(plan: &Plan, config: &Config) -> Vec<Members> {
    let pools = plan.pools.iter().zip(&config.pools);
    pools.map(|(entries, pool)| Members::of(entries, pool.health.initial)).collect()
}

/// Shows the strategies in the metrics, and logs the report.
fn report(metrics: &Metrics, report: StartReport) -> StartReport {
    for loaded in &report.strategies {
        metrics.set_strategy(&loaded.pool, &loaded.strategy, &loaded.version);
    }
    report.log();
    report
}

/// Tries every plugin in a child process. Not on the builder: a child that hangs must not hold up its thread.
async fn try_plugins(chosen: &mut Chosen, vetter: Option<&Vetter>, plan: &Plan) -> Result<(), StartError> {
    let Some(vetter) = vetter else { return Ok(()) };
    let Chosen { config, choices, shadows, found, .. } = chosen;
    for (number, (pool, choice)) in config.pools.iter().zip(choices.iter_mut()).enumerate() {
        let (Choice::Wanted(staged) | Choice::LastProven(staged)) = choice else { continue };
        let tried =
            plugins::vet(vetter, staged, &Role::in_charge(pool), config.proxy.workers, expected(plan, number)).await;
        match (tried, &choice) {
            (Err(error), Choice::LastProven(_)) => {
                tracing::warn!(pool = pool.name, %error, "the last proven strategy is refused");
                *choice = Choice::BuiltIn;
                found.iter_mut().filter(|one| one.pool == pool.name).for_each(built_in_instead);
            }
            (tried, _) => tried?,
        }
    }
    let pools = config.pools.iter().enumerate();
    let roles = pools.flat_map(|(number, pool)| Role::shadows(pool).map(move |role| (number, role)));
    let mut passed = Vec::new();
    for ((number, role), shadow) in roles.zip(shadows.iter()) {
        let tried = plugins::vet(vetter, &shadow.staged, &role, config.proxy.workers, expected(plan, number)).await;
        if let Err(error) = &tried {
            tracing::warn!(%error, "a shadow is left out, because its trial failed: lb reload tries it again");
        }
        passed.push(tried.is_ok());
    }
    // Requests need no shadow, so lb starts without it.
    let mut is_left = passed.iter().copied();
    config.pools.iter_mut().for_each(|pool| pool.strategy.shadows.retain(|_| is_left.next().unwrap_or(true)));
    let mut is_left = passed.into_iter();
    shadows.retain(|_| is_left.next().unwrap_or(true));
    Ok(())
}

/// A port for each replica of the plan.
fn reserve(
    launcher: &Launcher,
    config: &Config,
    listeners: &[Arc<Listener>],
    plan: &Plan,
) -> Result<Vec<Entry>, StartError> {
    launcher.avoid(taken_ports(config, listeners, plan.pools.iter().flatten()));
    let sockets = launcher.reserve_all(plan.replicas.len()).map_err(StartError::Launcher)?;
    let entry =
        |(order, (replica, socket)): (usize, (&crate::control::membership::Replica, std::net::SocketAddr))| Entry {
            id: replica.name.clone(),
            address: socket.to_string(),
            socket,
            weight: replica.weight,
            origin: Origin::Launched,
            order,
            draining: replica.draining,
            backup: false,
            labels: replica.labels.clone(),
        };
    Ok(plan.replicas.iter().zip(sockets).enumerate().map(entry).collect())
}

/// Watches the files of `attempt`, if there is one.
fn watch(
    config: &Config,
    attempt: Option<Attempt>,
    commands: &mpsc::Sender<Command>,
) -> Result<Option<Watch>, StartError> {
    let start = |(attempt, file)| Watch::start(config.reload.clone(), file, attempt, commands.downgrade());
    attempt.zip(config.file.clone()).map(start).transpose().map_err(StartError::Watcher)
}
