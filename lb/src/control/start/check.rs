//! `lb check` and `lb strategies`: look at plugins without starting the balancer.
//!
//! Invariants: a plugin runs in a child before it runs here (if the caller names an lb for that). To list plugins, none
//! runs here at all. Private copies are removed at the end.

use std::path::PathBuf;

use lb_strategy_host::{Loader, Staged};
use serde::Serialize;

use crate::config::{Config, InitialState};
use crate::control::api::{FoundStrategy, LoadedStrategy};
use crate::control::membership::{Overlay, Plan, vet_backends};
use crate::control::pools::{Entry, Members, PoolState, ShadowChoice, ShadowState};
use crate::control::start::StartError;
use crate::control::start::blamed::forecast;
use crate::control::state::Scratch;
use crate::control::trust::plugins::{self, key_of};
use crate::control::trust::vet::Vetter;
use crate::control::trust::{PluginError, Records, Role};

/// The result of a successful `lb check`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    pub strategies: Vec<LoadedStrategy>,
    /// Problems that a start would only log, and strategies that it would not load, because they crashed. A sentence
    /// for each, with the remedy.
    pub warnings: Vec<String>,
}

/// Loads every plugin, and makes strategies and pickers on 0, 1 and all backends. Starts nothing. Before that, each
/// plugin is tried in a child of `vet`, if there is one, as at start-up. Blocks, so it must not run in a runtime;
/// plugin code runs on the calling thread.
pub fn check(config: &Config, vet: Option<PathBuf>) -> Result<CheckReport, StartError> {
    let copies = Scratch::new()?;
    let loader =
        Loader::new(copies.path().to_owned(), config.proxy.workers).with_group_writable(config.allow_group_writable);
    let vetter = vet.map(|executable| Vetter::new(executable, None));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Builder)?;
    let records = Records::peek(&config.state.dir);
    let (mut strategies, mut warnings) = (Vec::new(), Vec::new());
    for pool in &config.pools {
        let all =
            Plan::of(&Config { pools: vec![pool.clone()], launcher: None, ..config.clone() }, &Overlay::default(), &[]);
        let entries = &all.pools[0];
        let try_one = |role: &Role<'_>, staged: Staged| {
            if let Some(vetter) = &vetter {
                let workers = config.proxy.workers;
                runtime.block_on(plugins::vet(vetter, &staged, role, workers, vet_backends(entries)))?;
            }
            plugins::open(&loader, staged, role)
        };
        let role = Role::in_charge(pool);
        let staged = plugins::stage(&loader, &config.plugin_dirs, &role)?;
        warnings.extend(forecast(pool, &staged.sha256_hex(), &loader, &records));
        let (strategy, loaded) = try_one(&role, staged)?;
        warnings.extend(plugins::unsent_probes(pool, strategy.plugin()));
        let shadows = Role::shadows(pool).zip(&pool.strategy.shadows);
        let shadows: Result<Vec<_>, PluginError> = shadows
            .map(|(role, settings)| {
                let (strategy, _) = try_one(&role, plugins::stage(&loader, &config.plugin_dirs, &role)?)?;
                warnings.extend(plugins::unsent_probes_of_shadow(&pool.name, &settings.id, strategy.plugin()));
                Ok(ShadowState::new(ShadowChoice { strategy, settings: settings.clone() }))
            })
            .collect();
        // One state for all lists: the strategy may compare them by their epochs.
        let mut state = PoolState::new(pool, Members::default(), strategy);
        state.shadows = shadows?.into_iter().collect();
        for count in [0, 1, entries.len()] {
            let entries: Vec<Entry> = match count {
                1 if entries.is_empty() => vec![Entry::stand_in()],
                count => entries[..count].to_vec(),
            };
            state.members = Members::of(&entries, InitialState::Up);
            let refused =
                |source| PluginError::Hook { pool: pool.name.clone(), key: key_of(&pool.name, "backends"), source };
            let mut built = state.assembly().build().map_err(refused)?;
            built.refused.pop().map_or(Ok(()), |(_, source)| Err(refused(source)))?;
        }
        strategies.push(loaded);
    }
    Ok(CheckReport { strategies, warnings })
}

/// The strategies in the plugin folders, each opened in a child of `vet`, none in this process. Blocks like [`check`].
pub fn list_strategies(config: &Config, vet: PathBuf) -> Result<Vec<FoundStrategy>, StartError> {
    let copies = Scratch::new()?;
    let loader =
        Loader::new(copies.path().to_owned(), config.proxy.workers).with_group_writable(config.allow_group_writable);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Builder)?;
    Ok(runtime.block_on(plugins::list(&loader, &Vetter::new(vet, None), &config.plugin_dirs)))
}
