//! The steps of a start that block or run plugin code. The builder runs them.

use std::path::PathBuf;

use lb_strategy_host::{Loader, Staged, crash};

use super::StartError;
use super::blamed::{Choice, Chosen, StagedShadow, choose, choose_shadows};
use crate::config::{Config, PoolConfig, Reach, Shadow, resolve_address};
use crate::control::api::LoadedStrategy;
use crate::control::membership::{Overlay, Plan, vet_backends};
use crate::control::pools::{Assembly, Entry, Members, PoolState, Saved, ShadowChoice, ShadowState};
use crate::control::publish::Builder;
use crate::control::state::StateDir;
use crate::control::trust::plugins::{self, key_of};
use crate::control::trust::vet::{VetBackend, Vetter};
use crate::control::trust::{PluginError, Records, Role, built_in};
use crate::control::watch::{Attempt, Taken};
use crate::generation::PoolGeneration;

/// The state before any plugin code runs.
pub(super) struct Prepared {
    pub(super) state: StateDir,
    pub(super) loader: Loader,
    /// The overlay on disk; `None` if it is to be replaced in any case.
    pub(super) on_disk: Option<Overlay>,
    pub(super) overlay: Overlay,
    /// Without launched replicas.
    pub(super) plan: Plan,
    /// The files that were read, for the watcher.
    pub(super) attempt: Option<Attempt>,
    pub(super) records: Records,
    /// What strategies have learnt in earlier runs.
    pub(super) saved: Saved,
    pub(super) chosen: Chosen,
    pub(super) vetter: Option<Vetter>,
    pub(super) warnings: Vec<String>,
}

/// The state after every plugin was tried in a child process and opened here.
pub(super) struct Opened {
    pub(super) loader: Loader,
    pub(super) pools: Vec<PoolState>,
    pub(super) strategies: Vec<LoadedStrategy>,
    /// Those of the preparation, and what was lost of the state of earlier runs.
    pub(super) warnings: Vec<String>,
}

/// All steps that may block and run no plugin code. `loaded`: the digest of the configuration, if files are watched.
pub(super) fn prepare(
    config: Config,
    reach: &Reach,
    fresh: bool,
    vet: Option<PathBuf>,
    loaded: Option<[u8; 32]>,
) -> Result<Prepared, StartError> {
    let state = StateDir::open(&config.state.dir)?;
    let mut warnings = blame_crashes(&state);
    let mut records = Records::read(&state);
    let mut overlay = Overlay::default();
    let mut on_disk = None;
    let mut saved = Saved::default();
    if config.state.keep && !fresh {
        let (read, warning) = state.learnt().read(Saved::from_json);
        saved = read;
        warnings.extend(warning);
        let (read, warning) = state.overlay().read(Overlay::from_json);
        on_disk = Some(read.clone());
        overlay = read;
        warnings.extend(warning);
    }
    overlay.resolve(resolve_address);
    let out_of_reach = overlay.drop_out_of_reach(reach, &config.pools[0].health);
    let mut plan = Plan::of(&config, &overlay, &[]);
    plan.lapsed.extend(out_of_reach);
    let loader = Loader::new(state.plugins(), config.proxy.workers)
        .with_images_max(config.reload.max_images)
        .with_group_writable(config.allow_group_writable);
    let staged = config.pools.iter().map(|pool| plugins::stage(&loader, &config.plugin_dirs, &Role::in_charge(pool)));
    let staged = staged.collect::<Result<Vec<_>, _>>()?;
    let shadows = config.pools.iter().flat_map(Role::shadows);
    let shadows = shadows.map(|role| plugins::stage(&loader, &config.plugin_dirs, &role));
    let shadows = shadows.collect::<Result<Vec<_>, _>>()?;
    let attempt = loaded.map(|sha256| attempt_of(&config, sha256, staged.iter().chain(&shadows)));
    let vetter = vet.map(|executable| Vetter::new(executable, Some(&config.state.dir)));
    let chosen = choose_shadows(choose(config, staged, &loader, &records), shadows, &records);
    records.settle();
    warnings.append(&mut records.warnings);
    warnings.extend(records.others(&chosen.found));
    Ok(Prepared { state, loader, on_disk, overlay, plan, attempt, records, saved, chosen, vetter, warnings })
}

/// Lets the handler of crashes write to the state directory. Returns a warning if it cannot.
fn blame_crashes(state: &StateDir) -> Vec<String> {
    if !crash::is_installed() {
        return Vec::new();
    }
    let blame = state.blame();
    let opened = blame.open().map(crash::blame_into);
    let warning = |error| format!("{blame} cannot be opened ({error}): the next start will not know of a crash");
    opened.map_err(warning).err().into_iter().collect()
}

/// The backends that pool `number` will have. The ports of launched replicas are not known yet. Nothing connects to
/// them.
pub(super) fn expected(plan: &Plan, number: usize) -> Vec<VetBackend> {
    let mut backends = vet_backends(&plan.pools[number]);
    if number == 0 {
        backends.extend(plan.replicas.iter().map(|replica| VetBackend {
            id: replica.name.clone(),
            address: Entry::stand_in().address,
            weight: replica.weight,
            labels: replica.labels.json().to_string(),
        }));
    }
    backends
}

/// Opens the staged plugins, and makes the strategies.
pub(super) fn open(
    config: &Config,
    loader: Loader,
    (chosen, shadows): (Vec<Choice>, Vec<StagedShadow>),
    members: Vec<Members>,
    (mut saved, mut warnings): (Saved, Vec<String>),
) -> Result<Opened, StartError> {
    let mut pools = Vec::with_capacity(config.pools.len());
    let mut strategies = Vec::with_capacity(config.pools.len());
    let mut shadows = shadows.into_iter();
    for ((pool, choice), members) in config.pools.iter().zip(chosen).zip(members) {
        let (strategy, loaded) = match choice {
            Choice::Wanted(staged) | Choice::LastProven(staged) => {
                plugins::open(&loader, staged, &Role::in_charge(pool))?
            }
            Choice::BuiltIn => {
                let strategy = built_in(&pool.name, config.proxy.workers);
                let loaded = plugins::loaded(&pool.name, &strategy);
                (strategy, loaded)
            }
        };
        strategies.push(loaded);
        warnings.extend(plugins::unsent_probes(pool, strategy.plugin()));
        let mut state = PoolState::new(pool, members, strategy);
        warnings.extend(state.take_up(&mut saved));
        state.shadows = open_shadows(pool, &loader, &mut shadows)?.into_iter().collect();
        let unsent = |one: &ShadowState| plugins::unsent_probes_of_shadow(&pool.name, &one.id, one.strategy.plugin());
        warnings.extend(state.shadows.iter().filter_map(unsent));
        pools.push(state);
    }
    Ok(Opened { loader, pools, strategies, warnings })
}

/// Opens the shadows of `pool`, which are the next ones of `staged`.
fn open_shadows(
    pool: &PoolConfig,
    loader: &Loader,
    staged: &mut impl Iterator<Item = StagedShadow>,
) -> Result<Vec<ShadowState>, PluginError> {
    let open = |((role, settings), StagedShadow { staged, blamed }): ((Role<'_>, &Shadow), StagedShadow)| {
        let (strategy, _) = plugins::open(loader, staged, &role)?;
        Ok(ShadowState::new(ShadowChoice { strategy, settings: settings.clone() }).off(blamed))
    };
    Role::shadows(pool).zip(&pool.strategy.shadows).zip(staged).map(open).collect()
}

/// The first pickers of all pools.
pub(super) async fn first_pickers(
    builder: &Builder,
    pools: &mut [PoolState],
) -> Result<Vec<std::sync::Arc<PoolGeneration>>, StartError> {
    let assemblies: Vec<_> = pools.iter_mut().map(PoolState::assembly).collect();
    let built = builder
        .run(move || assemblies.into_iter().map(Assembly::build).collect::<Vec<_>>())
        .await
        .ok_or(StartError::BuilderBroke("making the first pickers"))?;
    let mut generations = Vec::with_capacity(pools.len());
    for (pool, built) in pools.iter_mut().zip(built) {
        let refused = |source| {
            let pool = pool.name.to_string();
            PluginError::Hook { key: key_of(&pool, "backends"), pool, source }
        };
        let mut built = built.map_err(refused)?;
        let refused = std::mem::take(&mut built.refused);
        generations.push(pool.adopt(built));
        for (instance, error) in refused {
            let reason = format!("it refused the first list: {error}");
            if let Some((id, strategy)) = pool.shadows.switch_off(instance, reason.clone()) {
                tracing::error!(pool = %pool.name, shadow = %id, strategy, reason, "shadow is off: requests go on without it");
            }
        }
    }
    Ok(generations)
}

/// The files that a start has read, in the form of a reload's report to the watcher: pools, then shadows.
fn attempt_of<'a>(config: &Config, sha256: [u8; 32], staged: impl Iterator<Item = &'a Staged>) -> Attempt {
    let roles = config.pools.iter().map(Role::in_charge).chain(config.pools.iter().flat_map(Role::shadows));
    let taken = |(role, staged): (Role<'_>, &Staged)| Taken {
        candidates: plugins::candidates(&config.plugin_dirs, role.plugin),
        found: Some((staged.origin.clone(), staged.sha256)),
    };
    Attempt { config: Some(sha256), plugins: Some(roles.zip(staged).map(taken).collect()) }
}
